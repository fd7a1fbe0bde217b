"""A report on releases as a page of Markdown."""

from collections.abc import Iterable, Sequence
from datetime import UTC, datetime

from recsys.contracts.release_report import Estimate, ExplorationTally, ReleaseComparison, ReleasesReport, ReleaseTally

ALL = "all"


def page(report: ReleasesReport) -> str:
    return "\n".join(
        [
            "# Releases",
            "",
            f"Impressions from {report.first_day} to {report.last_day} in UTC; {report.attributed:,} of "
            f"{report.events:,} events with a recommendation_id came within {report.window_seconds / 60:g} minutes of "
            "an impression of the item. The intervals hold at 95%, however often one looks at them.",
            "",
            *releases_table(report),
            "",
            "## By variant, placement and tier",
            "",
            *_table(TALLY_COLUMNS, map(_tally_cells, report.tallies)),
            "",
            "## Releases that served at the same time",
            "",
            *_table(COMPARISON_COLUMNS, map(_comparison_cells, report.comparisons)),
            "",
            *_explorations(report.releases),
        ]
    )


def _explorations(releases: Sequence[ReleaseTally]) -> list[str]:
    explored = [(str(each.release_version), each.exploration) for each in releases if each.exploration]
    if not explored:
        return []
    return [
        "## What the ranking is worth",
        "",
        "Clicks per place, if all places showed what the ranker put there, and if all showed random items of the "
        "shortlist; estimated from the pages that could be explored, by inverse propensities.",
        "",
        *_table(EXPLORATION_COLUMNS, [_exploration_cells(*each) for each in explored]),
        "",
    ]


def releases_table(report: ReleasesReport) -> list[str]:
    return _table(TALLY_COLUMNS, map(_tally_cells, report.releases))


TALLY_COLUMNS = (
    *("release", "variant", "placement", "tier", "users", "impressions", "click-through", "conversions"),
    *("items", "diversity"),
)
COMPARISON_COLUMNS = ("release", "against", "since", "until", "impressions", "click-through", "difference")
EXPLORATION_COLUMNS = ("release", "random items shown", "by the ranker", "random", "difference")


def _tally_cells(each: ReleaseTally) -> Sequence[str]:
    conversions = ", ".join(f"{kind.event} {kind.rate.mean:.2%}" for kind in each.conversions)
    parts = (each.variant, each.placement, each.tier)
    segment = (str(each.release_version or "none"), *(part or ALL for part in parts))
    counts = (f"{each.users:,}", f"{each.impressions:,}", _percent(each.click_through), conversions)
    return (*segment, *counts, f"{each.items_shown:,}", f"{each.diversity:.3f}")


def _comparison_cells(each: ReleaseComparison) -> Sequence[str]:
    rates = f"{each.click_through:.2%} and {each.reference_click_through:.2%}"
    return (
        *(str(each.release_version), str(each.reference_version), _minute(each.since), _minute(each.until)),
        *(f"{each.impressions:,} and {each.reference_impressions:,}", rates, _percent(each.difference)),
    )


def _exploration_cells(release: str, each: ExplorationTally) -> Sequence[str]:
    return (release, f"{each.drawn:,}", _percent(each.ranked), _percent(each.random), _percent(each.difference))


def _percent(each: Estimate) -> str:
    return f"{each.mean:.2%} ({each.low:.2%} to {each.high:.2%})"


def _minute(time: float) -> str:
    return f"{datetime.fromtimestamp(time, UTC):%Y-%m-%d %H:%M}"


def _table(columns: Sequence[str], rows: Iterable[Sequence[str]]) -> list[str]:
    lines = [columns, ["---"] * len(columns), *rows]
    return [f"| {' | '.join(cells)} |" for cells in lines]
