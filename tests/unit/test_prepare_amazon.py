"""Amazon Reviews 2023, in small files of the same make."""

import gzip
import json
import re
from pathlib import Path

import pytest

from recsys.errors import DataError
from tests.unit.prepare_case import folder_of, run

NAME = "amazon-Gift_Cards"


def review(user: str, product: str, moment: int) -> dict[str, object]:
    details = {"rating": 5.0, "title": "good", "text": "…", "images": [], "asin": "variant", "verified_purchase": True}
    return details | {"parent_asin": product, "user_id": user, "timestamp": moment}


def lines(*objects: object) -> bytes:
    return "".join(json.dumps(one) + "\n" for one in objects).encode()


REVIEWS = lines(review("U2", "B2", 1_600_000_001_999), review("U1", "B1", 1_600_000_000_000), review("U1", "B3", 5))
PRODUCTS = lines(
    {
        "parent_asin": "B1",
        "title": "Card — Gold",
        "main_category": "Gifts",
        "categories": ["Gift Cards", "All"],
        "price": 10.5,
    },
    {
        "parent_asin": "B2",
        "title": None,
        "main_category": "Gifts",
        "categories": [],
        "price": "from 12.99",
        "details": {"a": [1]},
    },
    {"parent_asin": "B9", "title": "Unsold", "main_category": None, "categories": [], "price": "—"},
    {"parent_asin": "B8", "title": "Odd", "categories": [], "price": "ask us"},
)


@pytest.mark.parametrize("packed", [False, True])
def test_reviews_and_products(tmp_path: Path, packed: bool) -> None:
    files = {"Gift_Cards__jsonl": REVIEWS, "meta_Gift_Cards__jsonl": PRODUCTS}
    if packed:
        files = {f"{name}__gz": gzip.compress(content) for name, content in files.items()}
    prepared = run(tmp_path, NAME, folder_of(tmp_path, **files))
    assert prepared.interactions.rows() == [
        ("U1", "B3", 5, "review"),
        ("U1", "B1", 1_600_000_000, "review"),
        ("U2", "B2", 1_600_000_001, "review"),
    ]
    assert prepared.items.rows() == [
        ("B1", "Card — Gold", ["Gift Cards", "All"], None, 10.5),
        ("B2", "B2", ["Gifts"], None, 12.99),
        ("B3", "B3", [], None, None),
        ("B8", "Odd", [], None, None),
        ("B9", "Unsold", [], None, None),
    ]
    assert prepared.manifest.warnings == {
        "items_without_description": 1,
        "items_without_title": 1,
        "unreadable_prices": 1,
    }


def test_one_packed_file_of_reviews_is_enough(tmp_path: Path) -> None:
    source = folder_of(tmp_path, Gift_Cards__jsonl__gz=gzip.compress(REVIEWS)) / "Gift_Cards.jsonl.gz"
    prepared = run(tmp_path, NAME, source)
    assert prepared.manifest.rows == 3
    assert prepared.manifest.warnings == {"items_without_description": 3}


@pytest.mark.parametrize(
    ("reviews", "message"),
    [
        (b"", "Gift_Cards.jsonl: the file is empty"),
        (REVIEWS + b'{"user_id": "a\n', "Gift_Cards.jsonl, line 4: this is not JSON"),
        (REVIEWS + b"[1]\n", "Gift_Cards.jsonl, line 4: an object is expected"),
        (REVIEWS + lines({"user_id": "a", "timestamp": 5}), "line 4, column 'parent_asin': the value is missing"),
        (REVIEWS + b"\n" + lines(review("", "B1", 5)), "line 5, column 'user_id': the id is empty"),
        (REVIEWS + lines(review("a", "B1", 5) | {"timestamp": "x"}), "line 4, column 'timestamp': 'x' cannot be read"),
    ],
)
def test_bad_reviews_are_refused_by_line(tmp_path: Path, reviews: bytes, message: str) -> None:
    with pytest.raises(DataError, match=re.escape(message)):
        run(tmp_path, NAME, folder_of(tmp_path, Gift_Cards__jsonl=reviews, meta_Gift_Cards__jsonl=PRODUCTS))


def test_a_product_without_an_id_is_refused(tmp_path: Path) -> None:
    products = PRODUCTS + lines({"title": "Nameless"})
    with pytest.raises(DataError, match=r"meta_Gift_Cards\.jsonl, line 5, column 'parent_asin': the id is empty"):
        run(tmp_path, NAME, folder_of(tmp_path, Gift_Cards__jsonl=REVIEWS, meta_Gift_Cards__jsonl=products))


def test_broken_compression_is_refused(tmp_path: Path) -> None:
    broken = gzip.compress(REVIEWS * 1000)[:-30]
    with pytest.raises(DataError, match=r"Gift_Cards\.jsonl\.gz: the compressed file is broken"):
        run(tmp_path, NAME, folder_of(tmp_path, Gift_Cards__jsonl__gz=broken))
