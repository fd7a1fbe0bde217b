"""A generated log of any size: items of categories, Zipf-distributed popularity, users with favourite categories."""

import shutil
from pathlib import Path

import numpy as np
import polars as pl

ITEMS_PER_CATEGORY = 100
FAVOURITES = 3
MEAN_EVENTS = 15
LONGEST = 300
FOLLOWS, IN_FAVOURITES = 0.3, 0.5
"""Shares of events: the item after the last one, and one of a favourite category. The rest follows popularity."""
ZIPF_OFFSET = 10
START, YEAR_SECONDS = 1_735_689_600, 31_536_000


def write_log(folder: Path, num_items: int, num_users: int) -> Path:
    """Write `interactions.csv` and `items.csv` for DATASET=csv, unless they exist."""
    if folder.is_dir():
        return folder
    rng = np.random.default_rng(0)
    counts = np.clip(rng.geometric(1 / MEAN_EVENTS, num_users) + 2, 3, LONGEST)
    users = np.repeat(np.arange(num_users), counts)
    weights = 1 / (np.arange(num_items) + ZIPF_OFFSET)
    popular = rng.choice(num_items, len(users), p=weights / weights.sum())
    category_of = rng.permutation(num_items) // ITEMS_PER_CATEGORY
    by_category = np.argsort(category_of, kind="stable")
    favourites = category_of[rng.choice(num_items, (num_users, FAVOURITES), p=weights / weights.sum())]
    category = favourites[users, rng.integers(0, FAVOURITES, len(users))]
    within = (ITEMS_PER_CATEGORY * rng.beta(1, 3, len(users))).astype(np.int64)  # the first ones are more popular
    places = np.minimum(category * ITEMS_PER_CATEGORY + within, num_items - 1)
    kind = rng.random(len(users))
    items = np.where(kind < FOLLOWS + IN_FAVOURITES, by_category[places], popular)
    follows = (kind < FOLLOWS) & (users == np.roll(users, 1))
    place_of = np.empty(num_items, dtype=np.int64)
    place_of[by_category] = np.arange(num_items)
    items[follows] = by_category[(place_of[np.roll(items, 1)[follows]] + 1) % num_items]
    times = START + rng.integers(0, YEAR_SECONDS, len(users))
    times = times[np.lexsort((times, users))]
    partial = folder.with_name(f"{folder.name}.partial")
    shutil.rmtree(partial, ignore_errors=True)
    partial.mkdir(parents=True)
    pl.DataFrame({"user_id": users, "item_id": items, "timestamp": times}).with_columns(
        pl.format("u{}", "user_id").alias("user_id"), pl.format("i{}", "item_id").alias("item_id")
    ).write_csv(partial / "interactions.csv")
    pl.DataFrame({"item_id": np.arange(num_items), "category": category_of}).select(
        pl.format("i{}", "item_id").alias("item_id"),
        pl.format("Thing {} of kind {}", "item_id", "category").alias("title"),
        pl.format("kind {}", "category").alias("category"),
    ).write_csv(partial / "items.csv")
    partial.rename(folder)
    return folder
