"""The generated shop: the same for the same seed, believable, and worth a sequence model."""

import math
from collections import Counter, defaultdict
from itertools import pairwise
from pathlib import Path

import polars as pl
import pytest

from tests.unit.prepare_case import Prepared, run, settings
from training.datasets.bad_rows import REJECTS_FILE, BadRows, BadRowsPolicy
from training.datasets.shop import Shop
from training.jobs.prepare import prepare


@pytest.fixture(scope="module")
def shop(tmp_path_factory: pytest.TempPathFactory) -> Prepared:
    return run(tmp_path_factory.mktemp("shop"), "shop")


def test_its_size_and_its_year(shop: Prepared) -> None:
    assert 180_000 < shop.manifest.rows < 220_000
    assert shop.manifest.users == 4_000
    assert 1_900 < shop.manifest.items <= 2_100
    assert shop.manifest.warnings == {}
    assert shop.line.startswith("shop: ")
    assert "2025-01-01 to 2025-12-" in shop.line


def test_the_seed_decides_every_byte(tmp_path: Path, shop: Prepared) -> None:
    assert run(tmp_path, "shop").manifest.content_hash == shop.manifest.content_hash
    other = settings(tmp_path, "shop").model_copy(update={"seed": 43})
    assert "up to date" not in prepare(other)
    no_bad_rows = BadRows(BadRowsPolicy.REFUSE, max_share=0, rejects=tmp_path / REJECTS_FILE)
    with no_bad_rows as bad_rows, Shop(43).open(bad_rows) as raw:
        rows = raw.log.rows.collect()
    assert rows.height != shop.manifest.rows


def test_its_items_are_described(shop: Prepared) -> None:
    items = shop.items
    assert items["title"].n_unique() == items.height
    assert items["categories"].list.len().unique().to_list() == [2]
    assert items["price"].min() > 0  # type: ignore[operator]
    assert items["year"].max() == 2025
    assert items["price"].null_count() == items["year"].null_count() == 0


def test_events_repeat_little_and_popularity_has_a_long_tail(shop: Prepared) -> None:
    log = shop.interactions
    assert set(log["event"].unique()) == {"view", "add_to_cart", "purchase", "not_interested"}
    refused = log.filter(pl.col("event") == "not_interested")
    assert 1_000 < refused.height < 5_000
    assert shop.manifest.event_kinds.of("not_interested").negative
    liked = log.filter(pl.col("event") != "not_interested")
    assert refused.join(liked, on=["user_id", "item_id"], how="semi").is_empty()
    pairs = log.group_by("user_id", "item_id").len()["len"]
    assert pairs.max() == 2
    assert (pairs == 1).mean() > 0.9  # type: ignore[operator]
    counts = log["item_id"].value_counts(sort=True)["count"]
    assert counts.head(counts.len() // 10).sum() > 0.3 * log.height


def test_nobody_buys_what_is_not_yet_on_sale(shop: Prepared) -> None:
    new = shop.items.filter(pl.col("year") == 2025).select("item_id")
    first = shop.interactions.group_by("item_id").agg(pl.col("timestamp").min()).join(new, on="item_id", how="semi")
    start = shop.manifest.first_timestamp
    assert first.height > 300
    assert (first["timestamp"] > start + 30 * 86_400).mean() > 0.5  # type: ignore[operator]


def test_what_follows_what_beats_popularity_five_times(shop: Prepared) -> None:
    by_user = shop.interactions.group_by("user_id", maintain_order=True).agg("item_id")
    sequences: list[list[str]] = by_user["item_id"].to_list()
    popularity = Counter(item for items in sequences for item in items[:-1])
    follows: defaultdict[str, Counter[str]] = defaultdict(Counter)
    for items in sequences:
        for one, other in pairwise(items[:-1]):
            follows[one][other] += 1
    ranked = [item for item, _ in popularity.most_common()]

    def ndcg(candidates: list[str], history: list[str], target: str) -> float:
        seen = set(history)
        top = [item for item in candidates if item not in seen][:10]
        return 1 / math.log2(top.index(target) + 2) if target in top else 0.0

    by_popularity = sum(ndcg(ranked[:400], items[:-1], items[-1]) for items in sequences) / len(sequences)
    by_follower = sum(
        ndcg([item for item, _ in follows[items[-2]].most_common()], items[:-1], items[-1]) for items in sequences
    ) / len(sequences)
    assert by_popularity > 0.005
    assert by_follower > 5 * by_popularity
    assert by_follower < 0.5
