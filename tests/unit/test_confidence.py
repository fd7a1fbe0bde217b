"""The confidence sequence: its closed form, and its coverage when looked at again and again."""

from math import exp, log, sqrt

import numpy as np
import polars as pl
import pytest

from events.attribution.tally import Measure
from events.reports.comparison import compare
from events.reports.confidence import ALPHA, MIXTURE_VARIANCE, TUNED_FOR, estimate, radius


@pytest.mark.parametrize("variance", [0.0, 1.0, 100.0, 1e6])
def test_at_the_boundary_the_mixture_of_martingales_is_one_over_alpha(variance: float) -> None:
    """Robbins: the mean of exp(x S - x^2 V / 2) for x from N(0, 1 / v) is sqrt(v / (V + v)) exp(S^2 / 2(V + v))."""
    total = variance + MIXTURE_VARIANCE
    mixture = sqrt(MIXTURE_VARIANCE / total) * exp(radius(variance) ** 2 / (2 * total))
    assert mixture == pytest.approx(1 / ALPHA)


@pytest.mark.parametrize("t", [10, 1000])
def test_it_is_the_boundary_of_the_paper(t: int) -> None:
    rho_2 = 1 / MIXTURE_VARIANCE
    of_unit_variance = sqrt(2 * (t * rho_2 + 1) / (t**2 * rho_2) * log(sqrt(t * rho_2 + 1) / ALPHA))
    assert estimate(0.0, t, t, low=-1, high=1).high == pytest.approx(min(1.0, of_unit_variance))


def test_it_is_narrowest_about_where_it_is_tuned() -> None:
    def at_tuned(mixture_variance: float) -> float:
        total = TUNED_FOR + mixture_variance
        return sqrt(total * log(total / (mixture_variance * ALPHA**2)))

    best = min(np.geomspace(0.1, 1000, 400), key=at_tuned)
    assert pytest.approx(best, rel=0.1) == MIXTURE_VARIANCE
    assert radius(TUNED_FOR) / sqrt(TUNED_FOR) == pytest.approx(3.03, abs=0.01), "1.96 if looked at once"


def test_without_impressions_nothing_is_known() -> None:
    assert estimate(0, 0, 0, low=-1, high=1).model_dump() == {"mean": 0, "low": -1, "high": 1}


def served(seed: int) -> pl.DataFrame:
    """An A/A experiment: 5,000 impressions to 100 users who come back, half of whom are served by release 2. Their own
    click-through differs from user to user, with a mean of 0.1."""
    random = np.random.default_rng(seed)
    user = random.integers(100, size=5000)
    clicked = random.random(5000) < random.beta(1, 9, size=100)[user]
    release = np.where(random.random(100) < 0.5, 2, 1)[user]
    return pl.DataFrame(
        {"release": release, "tier": "personalized", "slot": 0, "user_id": user, "amount": 1.0, "clicked": clicked}
    )


def as_tallies(shown: pl.DataFrame) -> pl.DataFrame:
    clicked = shown.filter("clicked").with_columns(measure=pl.lit(str(Measure.CLICKED)))
    return pl.concat([shown.with_columns(measure=pl.lit(str(Measure.IMPRESSIONS))), clicked])


def test_an_equal_release_is_hardly_ever_judged_different_at_any_of_many_looks() -> None:
    by_user, by_impression = 0, 0
    for seed in range(30):
        shown = served(seed)
        as_if_users_differ = shown.with_columns(user_id=pl.int_range(pl.len()))
        looks = range(500, 5001, 900)
        by_user += any(_differ(shown.head(n)) for n in looks)
        by_impression += any(_differ(as_if_users_differ.head(n)) for n in looks)
    assert by_user <= 30 * ALPHA
    assert by_impression >= 5, "which is why users are the units"


def _differ(shown: pl.DataFrame) -> bool:
    [found] = compare(as_tallies(shown), [1, 2])
    return not found.difference.low <= 0 <= found.difference.high
