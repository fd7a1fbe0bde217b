"""The parts of the experiment that are compared, and what the visitors of each policy did in them."""

from enum import StrEnum

import numpy as np
import polars as pl
from numpy.typing import NDArray

from simulation.plan import Plan
from simulation.policies import PolicyName


class Phase(StrEnum):
    BEFORE = "before"
    """The first release, before the season changes."""
    DRIFT = "drift"
    """The first release after it."""
    FIRST = "after_first_retraining"
    SECOND = "after_second_retraining"


AFTER_DRIFT = (Phase.DRIFT, Phase.FIRST, Phase.SECOND)


def days_of(phase: Phase, plan: Plan) -> range:
    ends = (plan.opening_day, plan.season_day, plan.first_retraining, plan.second_retraining, plan.bad_day)
    place = list(Phase).index(phase)
    return range(ends[place], ends[place + 1])


Pages = NDArray[np.float64]
"""[..., phases, 2]: pages that were looked at, and those with a click."""


def pages_of(views: pl.DataFrame, policy: PolicyName, plan: Plan) -> Pages:
    """[users, phases, 2], without users who looked at no page in any phase."""
    of_policy = views.filter(policy=policy).with_columns(pl.col("day").floor())
    users = of_policy["user_id"].unique(maintain_order=True)
    pages: Pages = np.zeros((len(users), len(Phase), 2))
    for place, phase in enumerate(Phase):
        counts = (
            of_policy.filter(pl.col("day").is_in([*map(float, days_of(phase, plan))]))
            .group_by("user_id")
            .agg(pl.len(), pl.col("clicked").sum())
        )
        by_user = pl.DataFrame({"user_id": users}).join(counts, on="user_id", how="left", maintain_order="left")
        pages[:, place] = by_user.select("len", "clicked").fill_null(0).to_numpy()
    of_those_who_came: Pages = pages[pages[:, :, 0].sum(axis=1) > 0]
    return of_those_who_came


def click_through(totals: Pages, *phases: Phase) -> NDArray[np.float64]:
    """totals [..., phases, 2] -> [...]: the share of the pages in these phases that were clicked."""
    places = [list(Phase).index(phase) for phase in phases]
    shown, clicked = np.moveaxis(totals[..., places, :].sum(axis=-2), -1, 0)
    share: NDArray[np.float64] = clicked / np.maximum(1.0, shown)
    return share
