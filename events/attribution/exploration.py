"""The places of pages that could be explored, with the weights that inverse propensities give them.

A place of a page is evidence of what two other ways to fill all places would have earned: with the ranker's choice, and
with a uniform draw from the rest of the shortlist. It weighs how much more often that way shows the item there than the
pages that were served did: 1 / propensity for the ranker's choice, and (1 / drawn_from) / propensity for a draw. So
places that were rarely explored count as much as those that often were.
"""

import polars as pl

from events.attribution.attribute import positions


def weighted_places(shown: pl.DataFrame, clicks: pl.DataFrame, segment: list[str]) -> pl.DataFrame:
    """[places]: the columns of `segment`, user_id, explored, weight, weight_2 (its square) and weight_clicked.

    shown: impressions; those without exploration are left out. clicks: recommendation_id and position.
    """
    clicked = clicks.select("recommendation_id", "position", clicked=pl.lit(1.0)).unique()
    explored = pl.col("exploration").struct.field("explored")
    weight = 1 / pl.col("propensities") / pl.when("explored").then("drawn_from").otherwise(1)
    return (
        shown.filter(explored.list.len() > 0)
        .select("recommendation_id", *segment, "user_id", "exploration", positions().alias("position"))
        .unnest("exploration")
        .explode("explored", "propensities", "position")
        .join(clicked, on=["recommendation_id", "position"], how="left")
        .with_columns(weight.alias("weight"))
        .select(
            *segment,
            "user_id",
            "explored",
            "weight",
            (pl.col("weight") ** 2).alias("weight_2"),
            (pl.col("weight") * pl.col("clicked").fill_null(0.0)).alias("weight_clicked"),
        )
    )
