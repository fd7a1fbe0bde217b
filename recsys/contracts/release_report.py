"""The report on releases: what users did with the recommendations of each."""

from typing import Annotated

from pydantic import Field

from recsys.contracts.base import ResponseModel

MAX_RELEASES = 20
"""Releases in a report, the newest."""
MAX_TALLIES = 200
"""Tallies in a report, of the releases, variants, placements and tiers with the most impressions."""
MAX_COMPARISONS = 50
MAX_KINDS = 20
"""Kinds of events in a tally, those with the most conversions."""
MAX_POSITIONS = 20

Rate = Annotated[float, Field(ge=0, le=1)]


class Estimate(ResponseModel):
    """A number with its 95% confidence sequence: an interval that stays valid however often one looks at it."""

    mean: float
    low: float
    high: float


class KindTally(ResponseModel):
    """The impressions that an event of one kind followed."""

    event: str
    impressions: int
    rate: Estimate = Field(description="Of all impressions of the tally.")


class PositionTally(ResponseModel):
    position: int = Field(description="From 1.")
    impressions: int = Field(description="Pages that had an item there.")
    clicked: int = Field(description="Those whose item there was clicked.")


class ExplorationTally(ResponseModel):
    """What the ranking is worth, estimated from the pages that could be explored, by inverse propensities."""

    drawn: int = Field(description="Places that showed a random item of the shortlist.")
    ranked: Estimate = Field(description="Clicks per place, if every place showed what the ranker put there.")
    random: Estimate = Field(
        description="Clicks per place, if every place showed a random item of the rest of the shortlist."
    )
    difference: Estimate = Field(description="`ranked` - `random`.")


class ReleaseTally(ResponseModel):
    """What was shown by a release, and what users did with it, within the report's days."""

    release_version: int | None = Field(description="Null for responses without any release.")
    variant: str | None = Field(description="Null for all together, and so are `placement` and `tier`.")
    placement: str | None
    tier: str | None
    users: int
    impressions: int
    clicked: int = Field(
        description="Impressions with a click: an event that was attributed to them, of a kind that is positive by the "
        "release that served when it came."
    )
    click_through: Estimate = Field(description="`clicked` per impression; the interval takes users as the units.")
    exploration: ExplorationTally | None = Field(default=None, description="Null if no page could be explored.")
    conversions: list[KindTally] = Field(max_length=MAX_KINDS)
    positions: list[PositionTally] = Field(max_length=MAX_POSITIONS)
    items_shown: int = Field(description="Distinct items.")
    diversity: Rate = Field(
        description="Entropy of the shown items, relative to the logarithm of their number: 1 if all were shown "
        "equally often, 0 if there was one."
    )


class ReleaseComparison(ResponseModel):
    """Click-through of a release and of an earlier one, while both served.

    Only impressions that the releases themselves made count: of the tiers `personalized` and `retrieved`.
    """

    release_version: int
    reference_version: int
    since: float = Field(description="Unix time in seconds of the first slot of time in which both served.")
    until: float = Field(description="The end of the last one.")
    users: int
    reference_users: int
    impressions: int
    reference_impressions: int
    clicked: int
    reference_clicked: int
    click_through: Rate = Field(description="With weights that make the times of both releases alike.")
    reference_click_through: Rate
    difference: Estimate = Field(description="`click_through` - `reference_click_through`.")


class ReleasesReport(ResponseModel):
    """Everything that is known of the releases that served within some days. Empty before the first report."""

    computed_at: float | None = Field(default=None, description="Unix time in seconds; null before the first report.")
    first_day: str | None = Field(default=None, description="The first UTC date of impressions that it counts.")
    last_day: str | None = None
    window_seconds: float = Field(default=0.0, description="How long after an impression an event is attributed to it.")
    last_impression_at: float | None = Field(default=None, description="The newest impression that was collected.")
    last_event_at: float | None = Field(default=None, description="The newest event that was collected.")
    events: int = Field(default=0, description="Events that carried a recommendation_id.")
    attributed: int = Field(
        default=0,
        description="Distinct events of them, by recommendation, item and kind, that belong to an impression.",
    )
    releases: list[ReleaseTally] = Field(
        default=[],
        max_length=MAX_RELEASES,
        description="One per release, all variants, placements and tiers together; the newest first.",
    )
    tallies: list[ReleaseTally] = Field(
        default=[], max_length=MAX_TALLIES, description="By release, variant, placement and tier."
    )
    left_out: int = Field(default=0, description="Tallies beyond the limit.")
    comparisons: list[ReleaseComparison] = Field(
        default=[], max_length=MAX_COMPARISONS, description="Of every two releases that served at the same time."
    )
    sample_ratio_p_value: float | None = Field(
        default=None, description="Below 0.0005 the users are not split as the experiment says; null without one."
    )
