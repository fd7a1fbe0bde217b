"""Which events count for a variant of the experiment."""

import uuid
from types import SimpleNamespace

import pytest
from prometheus_client import REGISTRY

from orchestrator import variants as variants_module
from orchestrator.variants import Variants
from recsys.contracts.events import Event
from recsys.contracts.recommendation import RecommendationRequest
from recsys.deadline import Deadline
from recsys.experiment import ARMS, CHALLENGER, CHAMPION, HOLDBACK, VARIANTS, Experiment, recommended_by
from tests.unit.pipeline_case import DEADLINE_SECONDS, RELEASE, open_pipeline, recommend

EXPERIMENT = Experiment(challenger_percent=50.0)
USERS = [f"user-{number}" for number in range(20)]
CHALLENGED = next(user for user in USERS if EXPERIMENT.variant_of(user) == CHALLENGER)
OTHER = next(user for user in USERS if EXPERIMENT.variant_of(user) == CHAMPION)


@pytest.fixture
async def variants() -> Variants:
    monitor = SimpleNamespace(champion=RELEASE, challenger=None, holdback=None, is_held_back=lambda _: False)
    return Variants(await open_pipeline(), monitor, EXPERIMENT, shadow=False)


class Counted:
    """The events counted since it was made, by variant."""

    def __init__(self) -> None:
        self._before = {variant: self._total(variant) for variant in ARMS}

    def __call__(self) -> tuple[int, int]:
        champion, challenger = (int(self._total(variant) - self._before[variant]) for variant in ARMS)
        return champion, challenger

    @staticmethod
    def _total(variant: str) -> float:
        return REGISTRY.get_sample_value("tandem_attributed_events_total", {"variant": variant}) or 0.0


def issued(variant: str) -> str:
    return f"{uuid.uuid4().hex}.{variant}"


def click(user_id: str, recommendation_id: str | None, item_id: str = "i1", event: str = "click") -> Event:
    return Event(user_id=user_id, item_id=item_id, event=event, recommendation_id=recommendation_id)


async def test_an_event_counts_for_the_variant_of_its_recommendation(variants: Variants) -> None:
    counted = Counted()
    variants.count_events([click(CHALLENGED, issued(CHALLENGER)), click(OTHER, issued(CHAMPION)), click(OTHER, None)])
    assert counted() == (1, 1)


async def test_the_id_of_a_response_counts(variants: Variants) -> None:
    counted = Counted()
    response = await recommend(await open_pipeline(), OTHER)
    variants.count_events([click(OTHER, response.recommendation_id)])
    assert counted() == (1, 0)


async def test_an_event_does_not_count_for_a_variant_that_its_user_does_not_get(variants: Variants) -> None:
    counted = Counted()
    variants.count_events([click(CHALLENGED, issued(CHAMPION)), click(OTHER, issued(CHALLENGER))])
    assert counted() == (0, 0)


MALFORMED = [
    "",
    ".champion",
    "champion",
    "made-up.champion",
    "0123456789ABCDEF0123456789ABCDEF.champion",
    "0123456789abcdef0123456789abcde.champion",
    "0123456789abcdef0123456789abcdef0.champion",
    "0123456789abcdef0123456789abcdef.champion.champion",
    "0123456789abcdef0123456789abcdef.champion\n",
    "0123456789abcdef0123456789abcdef.nobody",
    "0123456789abcdef0123456789abcdef",
]


@pytest.mark.parametrize("recommendation_id", MALFORMED)
async def test_an_id_that_was_never_issued_does_not_count(variants: Variants, recommendation_id: str) -> None:
    counted = Counted()
    variants.count_events([click(OTHER, recommendation_id)])
    assert counted() == (0, 0)
    assert recommended_by(recommendation_id) is None


async def test_the_same_kind_of_event_on_the_same_recommended_item_counts_once(variants: Variants) -> None:
    counted, recommendation_id = Counted(), issued(CHAMPION)
    first, again = click(OTHER, recommendation_id), click(OTHER, recommendation_id)
    assert first.event_id != again.event_id
    variants.count_events([first, again])
    variants.count_events([again])
    assert counted() == (1, 0)
    variants.count_events(
        [
            click(OTHER, recommendation_id, "i2"),
            click(OTHER, recommendation_id, event="purchase"),
            click(OTHER, issued(CHAMPION)),
        ]
    )
    assert counted() == (4, 0)


async def test_the_counted_events_that_are_remembered_are_bounded(
    variants: Variants, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(variants_module, "MAX_COUNTED_EVENTS", 100)
    counted, ids = Counted(), [issued(CHAMPION) for _ in range(150)]
    variants.count_events([click(OTHER, recommendation_id) for recommendation_id in ids])
    assert counted() == (150, 0)
    assert REGISTRY.get_sample_value("tandem_counted_events") == 100
    variants.count_events([click(OTHER, ids[-1])])  # remembered
    assert counted() == (150, 0)
    variants.count_events([click(OTHER, ids[0])])  # forgotten, so it counts again
    assert counted() == (151, 0)


# --- while a promotion ramps ------------------------------------------------------------------------------------------


class Ramping:
    """A release monitor whose champion serves the users of even numbers."""

    champion, challenger, holdback = RELEASE, RELEASE, RELEASE

    def is_held_back(self, user_id: str) -> bool:
        return bool(int(user_id.rpartition("-")[2]) % 2)


async def served_to(variants: Variants, user_id: str, override: str | None = None) -> str:
    with Deadline(DEADLINE_SECONDS).activate():
        response = await variants.recommend(RecommendationRequest(user_id=user_id), override)
    assert response.recommendation_id.endswith(f".{response.variant}")
    assert recommended_by(response.recommendation_id) == response.variant
    return response.variant


async def test_a_ramp_divides_the_users_that_the_experiment_leaves_to_the_champion() -> None:
    variants = Variants(await open_pipeline(), Ramping(), EXPERIMENT, shadow=False)
    for number, user_id in enumerate(USERS):
        expected = HOLDBACK if number % 2 else CHAMPION
        expected = CHALLENGER if EXPERIMENT.variant_of(user_id) == CHALLENGER else expected
        assert await served_to(variants, user_id) == expected
    assert {await served_to(variants, USERS[0], each) for each in VARIANTS} == set(VARIANTS)


async def test_a_user_of_a_challenger_that_is_not_loaded_is_part_of_the_ramp() -> None:
    monitor = Ramping()
    monitor.challenger = None
    variants = Variants(await open_pipeline(), monitor, Experiment(challenger_percent=100), shadow=False)
    assert [await served_to(variants, user_id) for user_id in USERS[:2]] == [CHAMPION, HOLDBACK]


async def test_without_a_ramp_nobody_is_held_back(variants: Variants) -> None:
    assert await served_to(variants, OTHER, HOLDBACK) == CHAMPION


async def test_events_of_a_ramp_count_also_after_its_share_has_moved(variants: Variants) -> None:
    counted = HeldBack()
    variants.count_events([click(OTHER, issued(HOLDBACK)), click(CHALLENGED, issued(HOLDBACK))])
    assert counted() == 1


class HeldBack:
    """The events counted for the release before the champion, since it was made."""

    def __init__(self) -> None:
        self._before = self._total()

    def __call__(self) -> float:
        return self._total() - self._before

    @staticmethod
    def _total() -> float:
        return REGISTRY.get_sample_value("tandem_attributed_events_total", {"variant": HOLDBACK}) or 0.0
