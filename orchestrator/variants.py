"""Which release answers whom: the traffic split, its metrics, and the shadow that asks the challenger beside."""

import asyncio
import hashlib

import structlog
from prometheus_client import Counter, Gauge

from orchestrator.release_monitor import ReleaseMonitor
from recsys.contracts.events import Event
from recsys.contracts.recommendation import RecommendationRequest, RecommendationResponse
from recsys.deadline import LONGEST_MS, Deadline, current_deadline
from recsys.errors import InvalidRequest
from recsys.experiment import CHALLENGER, CHAMPION, VARIANTS, Experiment, sample_ratio_p_value
from recsys.pipeline import RecommendationPipeline

MAX_SHADOWS = 4
"""Shadow requests under way at once; beyond that the next ones are skipped rather than queued."""
MAX_COUNTED_USERS = 200_000
"""Per process, for the sample-ratio check; the first so many tell as much as all."""

EXPOSURES = Counter("tandem_exposures_total", "Responses by variant and tier.", ["variant", "tier"])
EVENTS = Counter("tandem_attributed_events_total", "Events that name the recommendation they follow.", ["variant"])
USERS = Gauge("tandem_experiment_users", "Different users by variant, since this process started.", ["variant"])
SAMPLE_RATIO = Gauge("tandem_sample_ratio_p_value", "Below 0.0005 the traffic is not split as it was asked for.")
SHADOWS = Counter("tandem_shadows_total", "Shadow requests by what became of them.", ["outcome"])

log = structlog.get_logger()


class Variants:
    def __init__(
        self, pipeline: RecommendationPipeline, release_monitor: ReleaseMonitor, experiment: Experiment, shadow: bool
    ) -> None:
        self._pipeline = pipeline
        self._lookout = release_monitor
        self._experiment = experiment
        self._shadow = shadow
        self._shadows: set[asyncio.Task[None]] = set()
        self._users: dict[str, set[bytes]] = {variant: set() for variant in VARIANTS}

    async def recommend(self, request: RecommendationRequest, override: str | None) -> RecommendationResponse:
        """The answer by the release that the user's variant has. Raises InvalidRequest for an override that is none."""
        if override is not None and override not in VARIANTS:
            raise InvalidRequest(f"x-variant: expected {' or '.join(VARIANTS)}; got {override!r}")
        deadline = current_deadline()
        variant = override or self._experiment.variant_of(request.user_id)
        challenger = self._lookout.challenger
        if variant == CHALLENGER and challenger is not None:
            answer = await self._pipeline.recommend(request, deadline, CHALLENGER, challenger)
        else:  # the champion stands in for a challenger that there is not
            answer = await self._pipeline.recommend(request, deadline, CHAMPION, self._lookout.champion)
        EXPOSURES.labels(answer.variant, answer.tier).inc()
        if override is None and self._experiment.runs:
            self._count_user(request.user_id, answer.variant)
        if self._shadow and challenger is not None and answer.variant == CHAMPION:
            self._start_shadow(request, answer, challenger)
        return answer

    def count_events(self, events: list[Event]) -> None:
        """Attribute events to the variant that their recommendation ids carry."""
        for event in events:
            _, _, variant = (event.recommendation_id or "").partition(".")
            if variant in VARIANTS:
                EVENTS.labels(variant).inc()

    async def close(self) -> None:
        for task in self._shadows:
            task.cancel()
        await asyncio.gather(*self._shadows, return_exceptions=True)

    def _count_user(self, user_id: str, variant: str) -> None:
        users = self._users[variant]
        if sum(map(len, self._users.values())) >= MAX_COUNTED_USERS:
            return
        users.add(hashlib.blake2b(user_id.encode(), digest_size=8).digest())
        USERS.labels(variant).set(len(users))
        share = self._experiment.challenger_percent / 100
        observed = [len(self._users[CHAMPION]), len(self._users[CHALLENGER])]
        SAMPLE_RATIO.set(sample_ratio_p_value(observed, [1 - share, share]))

    def _start_shadow(self, request: RecommendationRequest, answer: RecommendationResponse, challenger: int) -> None:
        if len(self._shadows) >= MAX_SHADOWS:
            SHADOWS.labels("skipped").inc()
            return
        task = asyncio.create_task(self._compare(request, answer, challenger))
        self._shadows.add(task)
        task.add_done_callback(self._shadows.discard)

    async def _compare(self, request: RecommendationRequest, answer: RecommendationResponse, challenger: int) -> None:
        """Ask the challenger for the same, and log how the lists differ; the answer itself is long on its way."""
        shadow = await self._pipeline.recommend(request, Deadline(LONGEST_MS / 1000), CHALLENGER, challenger)
        ours = [each.item_id for each in answer.recommendations]
        theirs = [each.item_id for each in shadow.recommendations]
        log.info(
            "shadow_compared",
            recommendation_id=answer.recommendation_id,
            release=answer.release_version,
            shadow_release=shadow.release_version,
            shadow_tier=shadow.tier,
            overlap=round(len(set(ours) & set(theirs)) / max(1, len(ours)), 3),
            same_first=ours[:1] == theirs[:1],
            shadow_ms=shadow.timings_ms["total"],
        )
        SHADOWS.labels("compared").inc()
