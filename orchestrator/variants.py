"""Which release serves whom: the experiment and the ramp in the request path, their metrics, and shadow requests."""

import asyncio
import hashlib
from collections import OrderedDict

import structlog
from prometheus_client import Counter, Gauge

from orchestrator.release_monitor import ReleaseMonitor
from recsys.contracts.events import Event
from recsys.contracts.recommendation import RecommendationRequest, RecommendationResponse
from recsys.deadline import LONGEST_MS, Deadline
from recsys.errors import InvalidRequest
from recsys.experiment import (
    ARMS,
    CHALLENGER,
    CHAMPION,
    HOLDBACK,
    VARIANTS,
    Experiment,
    recommended_by,
    sample_ratio_p_value,
)
from recsys.pipeline import RecommendationPipeline

MAX_SHADOWS = 4
"""Maximum number of concurrent shadow requests. Further ones are skipped, not queued."""
MAX_COUNTED_USERS = 200_000
"""Users counted per process for the sample-ratio check. This many are enough for the test."""
MAX_COUNTED_EVENTS = 50_000
"""Counted events remembered per process, about 10 MB. A repeat of an older one counts again."""
DIGEST_BYTES = 8

EXPOSURES = Counter("tandem_exposures_total", "Responses by variant and tier.", ["variant", "tier"])
EVENTS = Counter("tandem_attributed_events_total", "Events attributed to a recommendation, by variant.", ["variant"])
COUNTED = Gauge("tandem_counted_events", "Attributed events that are remembered, so that a repeat does not count.")
USERS = Gauge("tandem_experiment_users", "Distinct users by variant since this process started.", ["variant"])
SAMPLE_RATIO = Gauge("tandem_sample_ratio_p_value", "Below 0.0005 the traffic split differs from the configured one.")
SHADOWS = Counter("tandem_shadows_total", "Shadow requests by outcome.", ["outcome"])

log = structlog.get_logger()


class Variants:
    def __init__(
        self, pipeline: RecommendationPipeline, release_monitor: ReleaseMonitor, experiment: Experiment, shadow: bool
    ) -> None:
        self._pipeline = pipeline
        self._release_monitor = release_monitor
        self._experiment = experiment
        self._shadow = shadow
        self._shadows: set[asyncio.Task[None]] = set()
        self._counted: OrderedDict[bytes, None] = OrderedDict()
        self._users: dict[str, set[bytes]] = {arm: set() for arm in ARMS}

    async def recommend(self, request: RecommendationRequest, override: str | None) -> RecommendationResponse:
        """Recommend with the release of the user's variant. Raises `InvalidRequest` for an unknown `override`."""
        if override is not None and override not in VARIANTS:
            raise InvalidRequest(f"x-variant: expected {', '.join(VARIANTS)}; got {override!r}")
        monitor = self._release_monitor
        variant = override or self._variant_of(request.user_id)
        challenger = monitor.challenger
        release_version = {CHALLENGER: challenger, HOLDBACK: monitor.holdback}.get(variant)
        if release_version is None:  # also if there is no challenger, or no ramp
            variant, release_version = CHAMPION, monitor.champion
        response = await self._pipeline.recommend(request, variant, release_version)
        EXPOSURES.labels(response.variant, response.tier).inc()
        if override is None and self._experiment.runs:
            self._count_user(request.user_id, response.variant)
        if self._shadow and challenger is not None and response.variant == CHAMPION:
            self._start_shadow(request, response, challenger)
        return response

    def count_events(self, events: list[Event]) -> None:
        """Attribute newly recorded events to the variant in their recommendation ids.

        An id counts only if it has the form that is issued and names the variant that the experiment gives the user.
        Each kind of event counts once per recommended item.
        """
        for event in events:
            variant = recommended_by(event.recommendation_id)
            if variant and _arm(variant) == self._experiment.variant_of(event.user_id) and self._is_first(event):
                EVENTS.labels(variant).inc()

    async def close(self) -> None:
        for task in self._shadows:
            task.cancel()
        await asyncio.gather(*self._shadows, return_exceptions=True)

    def _variant_of(self, user_id: str) -> str:
        """A challenger's users are not part of a ramp, so an experiment goes on while a promotion ramps."""
        if self._experiment.variant_of(user_id) == CHALLENGER and self._release_monitor.challenger is not None:
            return CHALLENGER
        return HOLDBACK if self._release_monitor.is_held_back(user_id) else CHAMPION

    def _is_first(self, event: Event) -> bool:
        """Whether no event of this kind was counted for the item of the recommendation. Remembers the event."""
        parts = "\0".join((event.recommendation_id or "", event.event, event.item_id))
        digest = hashlib.blake2b(parts.encode(), digest_size=DIGEST_BYTES).digest()
        if digest in self._counted:
            return False
        self._counted[digest] = None
        if len(self._counted) > MAX_COUNTED_EVENTS:
            self._counted.popitem(last=False)
        COUNTED.set(len(self._counted))
        return True

    def _count_user(self, user_id: str, variant: str) -> None:
        users = self._users[_arm(variant)]
        if sum(map(len, self._users.values())) >= MAX_COUNTED_USERS:
            return
        users.add(hashlib.blake2b(user_id.encode(), digest_size=DIGEST_BYTES).digest())
        USERS.labels(_arm(variant)).set(len(users))
        share = self._experiment.challenger_percent / 100
        observed = [len(self._users[CHAMPION]), len(self._users[CHALLENGER])]
        SAMPLE_RATIO.set(sample_ratio_p_value(observed, [1 - share, share]))

    def _start_shadow(self, request: RecommendationRequest, response: RecommendationResponse, challenger: int) -> None:
        if len(self._shadows) >= MAX_SHADOWS:
            SHADOWS.labels("skipped").inc()
            return
        task = asyncio.create_task(self._compare(request, response, challenger))
        self._shadows.add(task)
        task.add_done_callback(self._shadows.discard)

    async def _compare(self, request: RecommendationRequest, response: RecommendationResponse, challenger: int) -> None:
        """Send the request to the challenger and log how its list differs. The response does not wait for it."""
        with Deadline(LONGEST_MS / 1000).activate():
            shadow = await self._pipeline.recommend(request, CHALLENGER, challenger, shadow=True)
        ours = [each.item_id for each in response.recommendations]
        theirs = [each.item_id for each in shadow.recommendations]
        log.info(
            "shadow_compared",
            recommendation_id=response.recommendation_id,
            release=response.release_version,
            shadow_release=shadow.release_version,
            shadow_tier=shadow.tier,
            overlap=round(len(set(ours) & set(theirs)) / max(1, len(ours)), 3),
            same_first=ours[:1] == theirs[:1],
            shadow_ms=shadow.timings_ms["total"],
        )
        SHADOWS.labels("compared").inc()


def _arm(variant: str) -> str:
    """The experiment's arm that a variant is part of."""
    return CHALLENGER if variant == CHALLENGER else CHAMPION
