"""The tables of the second stage for the final fit: the same trees, and counts of the whole log."""

import shutil
from dataclasses import replace
from pathlib import Path

import polars as pl

from recsys.model.files import SECOND_STAGE_FILE
from recsys.model.ranking_tables import RankingTables
from training.datasets.sequences import Sequences
from training.models.activity_log import ActivityLog
from training.models.ranking_tables import ranking_tables


def write_final_tables(fitted: Path, sequences: Sequences, catalogue: pl.DataFrame, output: Path) -> None:
    """Copy the trees in `fitted`, and count their tables anew. sequences: the whole log; catalogue: in its order.

    The trees cannot be fitted again: they learn from examples that neither towers nor tables have seen. Nor need they
    be, because they know items by their features only. The numbers of candidates per source stay as well.
    """
    chosen = RankingTables.load(fitted)
    activity = ActivityLog(sequences)
    tables = replace(
        ranking_tables(sequences, catalogue, activity.as_of(activity.end)),
        sources=chosen.sources,
        activity_base=activity.base(activity.end),
        feature_distribution=chosen.feature_distribution,
    )
    tables.save(output)
    shutil.copyfile(fitted / SECOND_STAGE_FILE, output / SECOND_STAGE_FILE)
