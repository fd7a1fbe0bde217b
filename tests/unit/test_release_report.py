"""The report, on logs written by hand."""

from datetime import UTC, datetime
from math import log, sqrt
from pathlib import Path

import pytest

from events.attribution.attribute import AttributionRules
from events.attribution.day_tallies import DayTallies
from events.reports.build import build_report
from events.reports.confidence import radius
from events.reports.page import page
from recsys.contracts.event_log import Impression
from recsys.contracts.recommendation import Exploration, Tier
from recsys.contracts.release_report import MAX_TALLIES, ReleasesReport
from recsys.experiment import Experiment, sample_ratio_p_value
from tests.event_logs import NOON, LogByHand, event, impression

RULES = AttributionRules()
NO_EXPERIMENT = Experiment()
TODAY = datetime.fromtimestamp(NOON, UTC).date()


@pytest.fixture
def log_by_hand(tmp_path: Path) -> LogByHand:
    return LogByHand(tmp_path)


def report(log_by_hand: LogByHand, experiment: Experiment = NO_EXPERIMENT) -> ReleasesReport:
    tallies = DayTallies(str(log_by_hand.root), RULES).read([TODAY])
    return build_report(tallies, RULES, experiment, first_day=TODAY, last_day=TODAY, computed_at=NOON)


def served(name: str, number: int, *, release: int, at: float = NOON, tier: Tier = Tier.PERSONALIZED) -> Impression:
    return impression(name, at + number, user=f"user {number}", release=release, tier=tier)


def test_a_release_has_its_counts_rates_positions_and_items(log_by_hand: LogByHand) -> None:
    log_by_hand.show(
        impression("r1", items="abc", user="u"),
        impression("r2", items="abd", user="u"),
        impression("r3", items="abc", user="v"),
        impression("r4", items="abd", user="w", placement="basket"),
        impression("r5", items="xyz", user="w", release=2),
    )
    log_by_hand.record(event("r1", "a"), event("r1", "c"), event("r2", "a"), event("r3", "a", kind="purchase"))
    log_by_hand.record(event("r4", "a", kind="dislike"), event("unknown", "a"))
    made = report(log_by_hand)
    assert (made.events, made.attributed, made.last_impression_at, made.last_event_at) == (6, 5, NOON, NOON + 60)
    assert [each.release_version for each in made.releases] == [2, 1]
    of_all = made.releases[1]
    assert (of_all.variant, of_all.placement, of_all.tier) == (None, None, None)
    assert (of_all.users, of_all.impressions, of_all.clicked) == (3, 4, 3)
    # Users clicked 2 of 2, 1 of 1 and 0 of 1, expected 1.5, 0.75 and 0.75: squares of 0.5, 0.25 and -0.75.
    half_width = radius(0.25 + 0.0625 + 0.5625) / 4
    assert of_all.click_through.mean == 0.75
    assert (of_all.click_through.low, of_all.click_through.high) == (max(0, 0.75 - half_width), 1)
    kinds = {kind.event: (kind.impressions, kind.rate.mean) for kind in of_all.conversions}
    assert kinds == {"click": (2, 0.5), "purchase": (1, 0.25), "dislike": (1, 0.25)}
    assert [(at.position, at.impressions, at.clicked) for at in of_all.positions] == [(1, 4, 3), (2, 4, 0), (3, 4, 1)]
    assert of_all.items_shown == 4
    entropy = -(2 * 1 / 3 * log(1 / 3) + 2 * 1 / 6 * log(1 / 6))
    assert of_all.diversity == pytest.approx(entropy / log(4))
    segments = {(each.release_version, each.placement): (each.users, each.impressions) for each in made.tallies}
    assert segments == {(1, "home"): (2, 3), (1, "basket"): (1, 1), (2, "home"): (1, 1)}


def test_releases_are_compared_at_the_times_at_which_both_served(log_by_hand: LogByHand) -> None:
    """By hand. First slot: release 2 served 1 of 4 with 1 click, release 1 three with 1. Second slot: three with 2, one
    with 1. So all weights are 3/4 and 1/4, and both sums are 1.5."""
    later = NOON + 600
    log_by_hand.show(
        served("n1", 1, release=2),
        *(served(f"o{number}", number, release=1) for number in (2, 3, 4)),
        *(served(f"n{number}", number, release=2, at=later) for number in (5, 6, 7)),
        served("o8", 8, release=1, at=later),
        *(served(f"before{number}", number, release=1, at=NOON - 3600) for number in range(10, 20)),
        served("popular", 20, release=1, tier=Tier.POPULAR),
    )
    clicked = ["n1", "o2", "n5", "n6", "o8", *(f"before{number}" for number in range(10, 20)), "popular"]
    log_by_hand.record(*(event(name, "a", NOON + 700) for name in clicked if not name.startswith("before")))
    log_by_hand.record(*(event(name, "a", NOON) for name in clicked if name.startswith("before")))
    [found] = report(log_by_hand).comparisons
    assert (found.release_version, found.reference_version) == (2, 1)
    assert (found.since, found.until) == (NOON, NOON + 1200)
    assert (found.users, found.impressions, found.clicked) == (4, 4, 3)
    assert (found.reference_users, found.reference_impressions, found.reference_clicked) == (4, 4, 2)
    new, old = (0.75 + 2 * 0.25) / 1.5, (0.25 + 0.75) / 1.5
    assert (found.click_through, found.reference_click_through) == (pytest.approx(new), pytest.approx(old))
    of_new = (0.75 * (1 - new)) ** 2 + 2 * (0.25 * (1 - new)) ** 2 + (0.25 * new) ** 2
    of_old = (0.25 * (1 - old)) ** 2 + 2 * (0.25 * old) ** 2 + (0.75 * (1 - old)) ** 2
    half_width = radius(of_new + of_old) / 1.5
    assert found.difference.mean == pytest.approx(new - old)
    assert found.difference.low == pytest.approx(max(-1, new - old - half_width))


def places(propensity: float, drawn_from: int, explored: list[bool]) -> Exploration:
    """`propensity`: that of a draw."""
    chances = [propensity if drawn else 1 - propensity * drawn_from for drawn in explored]
    return Exploration(explored=explored, propensities=chances, drawn_from=drawn_from)


def test_random_items_are_judged_as_if_all_places_showed_them(log_by_hand: LogByHand) -> None:
    """By hand, with half of the pages explored. Eight short pages have one place; its draws, from four items, are all
    clicked, and its ranked items never. Eight long pages have four places, of which an explored page explores two; its
    draws, from two items, are never clicked, and the ranked item at the first place always.

    So random items earn 8 clicks on 40 places, and the ranked ones 8, too. But 4 of 12 draws were clicked, because the
    places of short pages are explored twice as often: that average is wrong."""
    short_draw, long_draw = 0.5 / 4, 0.5 * 2 / 4 / 2
    shown = [
        *(impression(f"s{n}", user=f"s{n}", items="a", exploration=places(short_draw, 4, [n < 4])) for n in range(8)),
        *(
            impression(f"l{n}", user=f"l{n}", items="abcd", exploration=places(long_draw, 2, explored))
            for n, explored in enumerate(
                [[True, True, False, False], [True, False, False, True], [False, True, True, False]]
                + [[False, False, True, True]]
                + [[False] * 4] * 4
            )
        ),
        impression("other", user="w", items="ab"),
    ]
    log_by_hand.show(*shown)
    clicked = ["s0", "s1", "s2", "s3", *(f"l{n}" for n in range(2, 8)), "other"]
    log_by_hand.record(*(event(name, "a") for name in clicked))
    [release] = report(log_by_hand).releases
    found = release.exploration
    assert found is not None
    assert found.drawn == 12
    assert (found.random.mean, found.ranked.mean) == (pytest.approx(8 / 40), pytest.approx(8 / 40))
    assert found.difference.mean == pytest.approx(0)
    # A draw on a short page weighs 2 and one on a long page 4: 4 * 2 + 8 * 4 = 40 in all.
    effective = 40**2 / (4 * 2**2 + 8 * 4**2)
    errors = [2 * (1 - 0.2)] * 4 + [2 * 4 * 0.2] * 4
    half_width = radius(sum(error**2 for error in errors) / 40**2 * effective**2) / effective
    assert found.random.high == pytest.approx(min(1, 0.2 + half_width))
    assert found.difference.low < found.ranked.low - found.random.mean, "the errors of both add up"
    assert "| 1 | 12 | 20.00% (" in page(report(log_by_hand))


def test_without_exploration_nothing_is_said_about_it(log_by_hand: LogByHand) -> None:
    log_by_hand.show(impression("r1"))
    assert [each.exploration for each in report(log_by_hand).releases] == [None]


def test_a_release_that_is_clearly_worse_is_found_so(log_by_hand: LogByHand) -> None:
    log_by_hand.show(*(served(f"{number}", number % 600, release=1 + number % 2) for number in range(1200)))
    log_by_hand.record(*(event(f"{number}", "a", NOON + 600) for number in range(1200) if number % 2 == 0))
    [found] = report(log_by_hand).comparisons
    assert found.difference.mean == pytest.approx(-1, abs=0.01)
    assert found.difference.high < -0.9


def test_releases_that_never_served_at_the_same_time_are_not_compared(log_by_hand: LogByHand) -> None:
    log_by_hand.show(impression("r1"), impression("r2", NOON + 600, release=2))
    assert report(log_by_hand).comparisons == []


def test_the_users_of_the_day_are_compared_with_the_experiment(log_by_hand: LogByHand) -> None:
    shares = {"champion": 60, "holdback": 20, "challenger": 40}
    numbered = [variant for variant, users in shares.items() for _ in range(users)]
    users = [impression(f"r{n}", user=f"user {n}", variant=variant) for n, variant in enumerate(numbered)]
    log_by_hand.show(*users, impression("again", user="user 0"))
    assert report(log_by_hand).sample_ratio_p_value is None
    expected = sample_ratio_p_value([80, 40], [0.5, 0.5])
    assert report(log_by_hand, Experiment(50)).sample_ratio_p_value == expected < 0.0005


def test_a_report_is_bounded_and_says_what_it_leaves_out(log_by_hand: LogByHand) -> None:
    log_by_hand.show(*(impression(f"r{number}", placement=f"place-{number}") for number in range(MAX_TALLIES + 3)))
    made = report(log_by_hand)
    assert (len(made.tallies), made.left_out) == (MAX_TALLIES, 3)


def test_a_log_without_anything_gives_an_empty_report(log_by_hand: LogByHand) -> None:
    made = report(log_by_hand)
    assert (made.releases, made.tallies, made.comparisons, made.last_impression_at) == ([], [], [], None)
    assert sqrt(made.events) == made.attributed == 0
