from pathlib import Path

import polars as pl

from training.models.content_features import MAX_WORDS, content_features


def test_features_are_bounded_and_in_the_order_asked_for(tmp_path: Path) -> None:
    path = tmp_path / "items.parquet"
    pl.DataFrame(
        {
            "item_id": ["a", "b", "c"],
            "title": ["Red shoes", None, "Blue shoes"],
            "categories": [["shoes", "red"], None, ["shoes"]],
            "year": [1994, None, 1999],
            "price": [10.0, None, 0.0],
        },
        schema={
            "item_id": pl.String,
            "title": pl.String,
            "categories": pl.List(pl.String),
            "year": pl.Int32,
            "price": pl.Float64,
        },
    ).write_parquet(path)
    features = content_features(path, ["c", "a", "b"])
    # One category stands twice, two five-year buckets, one price (0 is none); no word stands in five titles.
    assert features.tolist() == [[0, 0, 0, 0], [1, 0, 1, 0], [1, 1, 0, 1], [0, 0, 0, 0]]


def test_missing_columns_are_no_features(tmp_path: Path) -> None:
    path = tmp_path / "items.parquet"
    pl.DataFrame({"item_id": ["a", "b"]}).write_parquet(path)
    assert content_features(path, ["a", "b"]).shape == (3, 0)


def test_width_is_bounded_whatever_the_titles(tmp_path: Path) -> None:
    path = tmp_path / "items.parquet"
    titles = [f"w{number} x{number // 2} everywhere" for number in range(400) for _ in range(6)]
    pl.DataFrame({"item_id": [str(row) for row in range(len(titles))], "title": titles}).write_parquet(path)
    features = content_features(path, [str(row) for row in range(len(titles))])
    assert features.shape[1] == MAX_WORDS
    assert features.max() == 1
    # The word of every title tells nothing apart; those of twelve titles go before those of six.
    assert set(features[1:].sum(axis=0).tolist()) == {12, 6}
