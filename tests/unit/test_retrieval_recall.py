"""The ranker's measurement of recall, compared with brute force in NumPy."""

import asyncio
import threading
from collections.abc import Collection, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import recsys.adapters.local_ranker
from ranker_service.endpoints import is_off_the_request_path
from recsys.adapters.local_ranker import LocalRanker
from recsys.contracts.recall import RecallMeasurement, RecallRequest, Retrieval
from recsys.errors import InvalidRequest, Overloaded, ReleaseMismatch
from recsys.model.release import Release
from recsys.model.retrieval_recall import SCORE_TOLERANCE, measure_recall
from tests import toy
from training.release_manifest import describe_release

HISTORY = np.array([1, 2, 3])
ITEM_IDS = toy.ITEM_IDS


@pytest.fixture(scope="module")
def directory(tmp_path_factory: pytest.TempPathFactory) -> Path:
    directory = toy.write_model(toy.job_settings(tmp_path_factory.mktemp("data")), "first", seed=1)
    describe_release(directory)
    return directory


@pytest.fixture
def release(directory: Path) -> Release:
    release = Release.load(1, directory)
    release.candidate_embeddings = release.candidate_embeddings.copy()  # writable, for tests that change it
    return release


def retrieval(
    release: Release, retrieved: Sequence[str], num_candidates: int = 10, exclude: Collection[str] = (), **fields: Any
) -> Retrieval:
    query = release.encode_indices(HISTORY).tolist()
    request = Retrieval(release.version, release.manifest.weights_hash, query, num_candidates, exclude, retrieved)
    return request._replace(**fields)


def best_first(release: Release, exclude: Collection[str] = ()) -> list[str]:
    scores = release.candidate_embeddings @ release.encode_indices(HISTORY)
    return [ITEM_IDS[row] for row in np.argsort(-scores, kind="stable") if ITEM_IDS[row] not in exclude]


@pytest.mark.parametrize("num_candidates", [1, 10, 40])
@pytest.mark.parametrize("kept", [0.0, 0.5, 1.0])
def test_missing_and_wrong_items_lower_recall(release: Release, num_candidates: int, kept: float) -> None:
    ranked = best_first(release)
    right = ranked[: int(kept * num_candidates)]
    wrong = ranked[num_candidates : 2 * num_candidates - len(right)]
    expected = RecallMeasurement(num_nearest=num_candidates, num_found=len(right))
    assert measure_recall(release, retrieval(release, right, num_candidates)) == expected
    assert measure_recall(release, retrieval(release, [*wrong, *right], num_candidates)) == expected
    assert expected.recall == len(right) / num_candidates


@pytest.mark.parametrize("seed", range(20))
def test_recall_equals_brute_force(release: Release, seed: int) -> None:
    random = np.random.default_rng(seed)
    exclude = random.choice(ITEM_IDS, random.integers(0, 30), replace=False).tolist()
    retrieved = random.choice(ITEM_IDS, random.integers(0, 40), replace=False).tolist()
    num_candidates = int(random.integers(1, 60))
    nearest = set(best_first(release, exclude)[:num_candidates])
    measured = measure_recall(release, retrieval(release, retrieved, num_candidates, [*exclude, "unknown"]))
    assert measured == RecallMeasurement(num_nearest=len(nearest), num_found=len(nearest & set(retrieved)))


def test_items_that_tie_with_the_last_of_the_nearest_count_as_found(release: Release) -> None:
    tenth, eleventh = best_first(release)[9:11]
    rows = [ITEM_IDS.index(item_id) for item_id in (tenth, eleventh)]
    release.candidate_embeddings[rows[1]] = release.candidate_embeddings[rows[0]]
    release.candidate_embeddings[rows[1], -1] -= SCORE_TOLERANCE / 2 / release.encode_indices(HISTORY)[-1]
    without_tenth = [*best_first(release)[:9], eleventh]
    assert measure_recall(release, retrieval(release, without_tenth)).recall == 1.0
    release.candidate_embeddings[rows[1], -1] -= SCORE_TOLERANCE * 2 / release.encode_indices(HISTORY)[-1]
    assert measure_recall(release, retrieval(release, without_tenth)).recall == 0.9


def test_an_excluded_item_does_not_count_as_found(release: Release) -> None:
    ranked = best_first(release)
    assert measure_recall(release, retrieval(release, ranked[:10], exclude=ranked[:4])).num_found == 6


def test_an_item_without_a_vector_is_neither_expected_nor_found(release: Release) -> None:
    first, *others = best_first(release)
    release.searchable[ITEM_IDS.index(first)] = False
    assert measure_recall(release, retrieval(release, others[:10])).recall == 1.0
    assert measure_recall(release, retrieval(release, [first, *others[:9]])).recall == 0.9


def test_unknown_and_repeated_items_do_not_count(release: Release) -> None:
    nearest = best_first(release)[:5]
    assert measure_recall(release, retrieval(release, [*nearest, *nearest, "?"])).num_found == 5


def test_all_items_are_expected_if_there_are_fewer_than_requested(release: Release) -> None:
    ranked = best_first(release)
    measured = measure_recall(release, retrieval(release, ranked[50:], 100, exclude=ranked[:50]))
    assert measured == RecallMeasurement(num_nearest=10, num_found=10)


def test_recall_is_1_if_there_is_nothing_to_find(release: Release) -> None:
    measured = measure_recall(release, retrieval(release, [], exclude=ITEM_IDS))
    assert (measured.num_nearest, measured.recall) == (0, 1.0)


def test_a_query_of_other_weights_or_another_dimension_is_an_error(release: Release) -> None:
    with pytest.raises(ReleaseMismatch, match="other weights"):
        measure_recall(release, retrieval(release, [], weights_hash="other weights"))
    with pytest.raises(InvalidRequest, match="expected 16"):
        measure_recall(release, retrieval(release, [], query_embedding=[1.0] * 7))


def test_a_request_contains_the_whole_retrieval(release: Release) -> None:
    request = retrieval(release, ITEM_IDS[:3], 5, ITEM_IDS[3:6])
    assert RecallRequest.model_validate_json(RecallRequest.of(request).model_dump_json()).retrieval == request


def test_only_requests_off_the_request_path_bypass_admission() -> None:
    paths = ("/v1/recall", "/v1/releases/12/items", "/v1/recall/", "/v1/releases", "/v1/encode", "/v1/rank")
    assert [is_off_the_request_path(path) for path in paths] == [True, True, False, True, False, False]


async def test_one_measurement_runs_at_a_time_even_after_its_caller_is_cancelled(
    release: Release, monkeypatch: pytest.MonkeyPatch
) -> None:
    started, may_end = threading.Event(), threading.Event()

    def measure(*_: object) -> RecallMeasurement:
        started.set()
        may_end.wait(10)
        return RecallMeasurement(num_nearest=1, num_found=1)

    monkeypatch.setattr(recsys.adapters.local_ranker, "measure_recall", measure)
    ranker = LocalRanker()
    ranker.add(release)
    request = retrieval(release, [])
    first = asyncio.create_task(ranker.recall(request))
    assert await asyncio.to_thread(started.wait, 10), "the measurement did not start in a thread"
    with pytest.raises(Overloaded):
        await ranker.recall(request)
    first.cancel()
    await asyncio.gather(first, return_exceptions=True)
    with pytest.raises(Overloaded):
        await ranker.recall(request)
    may_end.set()
    async with asyncio.timeout(10):
        while True:
            try:
                assert (await ranker.recall(request)).recall == 1.0
                break
            except Overloaded:
                await asyncio.sleep(0.01)
