"""The contract of every encoder and ranker: in memory, with torch in this process, and over HTTP."""

import json
from collections.abc import AsyncIterator, Collection
from contextlib import asynccontextmanager

import numpy as np
import pytest

from recsys.adapters.http_clients import HttpRanker
from recsys.adapters.http_pool import HttpPool
from recsys.adapters.in_memory import InMemoryRanker
from recsys.adapters.local_ranker import LocalRanker
from recsys.adapters.ranker_pool import RankerPool
from recsys.contracts.base import MAX_CANDIDATES, MAX_HISTORY
from recsys.contracts.recall import MAX_TOTAL_EXCLUDED, Retrieval
from recsys.deadline import Deadline
from recsys.errors import InvalidRequest, ReleaseMismatch, ReleaseNotLoaded
from recsys.model.files import ITEMS_FILE
from recsys.model.release import Release
from tests import toy
from tests.conftest import Stack

RELEASE = 1
A, B, C, D = toy.ITEM_IDS[:4]


@asynccontextmanager
async def in_memory(stack: Stack) -> AsyncIterator[InMemoryRanker]:
    embeddings = Release.load(RELEASE, stack.model_dir).candidate_embeddings
    yield InMemoryRanker(RELEASE, dict(zip(toy.ITEM_IDS, embeddings.tolist(), strict=True)))


@asynccontextmanager
async def by_torch(stack: Stack) -> AsyncIterator[LocalRanker]:
    ranker = LocalRanker()
    ranker.add(Release.load(RELEASE, stack.model_dir))
    ranker.set_roles(RELEASE)
    yield ranker


@asynccontextmanager
async def over_http(stack: Stack) -> AsyncIterator[HttpRanker]:
    async with HttpPool(stack.settings.ranker_url) as pool:
        yield HttpRanker(pool)


@asynccontextmanager
async def through_a_pool(stack: Stack) -> AsyncIterator[RankerPool]:
    pool = RankerPool(stack.settings.ranker_url, lambda url: HttpRanker(HttpPool(url)))
    try:
        await pool.releases()
        yield pool
    finally:
        await pool.close()


@pytest.fixture(params=[in_memory, by_torch, over_http, through_a_pool], ids=lambda adapter: adapter.__name__)
async def ranker(request: pytest.FixtureRequest, stack: Stack) -> AsyncIterator[LocalRanker]:
    async with request.param(stack) as opened:
        yield opened


@pytest.fixture(scope="module")
def embeddings(stack: Stack) -> dict[str, np.ndarray]:
    """Item id -> candidate embedding, as the index has it."""
    return dict(zip(toy.ITEM_IDS, Release.load(RELEASE, stack.model_dir).candidate_embeddings, strict=True))


async def test_every_candidate_gets_a_score_in_its_position(ranker: LocalRanker) -> None:
    one_way = await ranker.rank([A], [B, C, D])
    other_way = await ranker.rank([A], [D, B, C])
    b, c, d = one_way.scores
    assert other_way.scores == pytest.approx([d, b, c], abs=1e-5)
    assert len({b, c, d}) == 3


async def test_an_unknown_candidate_has_no_score_and_does_not_affect_others(ranker: LocalRanker) -> None:
    known = await ranker.rank([A], [B, C])
    mixed = await ranker.rank([A], ["?", B, "unknown", C])
    assert mixed.scores == [None, pytest.approx(known.scores[0]), None, pytest.approx(known.scores[1])]


async def test_candidates_may_all_be_unknown(ranker: LocalRanker) -> None:
    assert (await ranker.rank([A], ["x", "y"])).scores == [None, None]


async def test_a_candidate_may_be_repeated(ranker: LocalRanker) -> None:
    first, other, again = (await ranker.rank([A], [B, C, B])).scores
    assert first == pytest.approx(again)
    assert other != pytest.approx(first)


async def test_an_item_with_an_odd_id_is_ranked_like_others(ranker: LocalRanker) -> None:
    assert (await ranker.rank([toy.ODD_ITEM], [toy.ODD_ITEM])).scores[0] is not None
    assert (await ranker.encode([toy.ODD_ITEM])).query_embedding is not None


async def test_the_largest_allowed_request_is_ranked(ranker: LocalRanker) -> None:
    scores = await ranker.rank([A, B] * (MAX_HISTORY // 2), [C] * MAX_CANDIDATES)
    assert len(scores.scores) == MAX_CANDIDATES


async def test_recent_items_change_the_scores(ranker: LocalRanker) -> None:
    assert (await ranker.rank([A], [C, D])).scores != (await ranker.rank([B], [C, D])).scores


async def test_responses_name_the_release(ranker: LocalRanker) -> None:
    assert (await ranker.rank([A], [B])).release_version == RELEASE
    assert (await ranker.rank([A], [B], RELEASE)).release_version == RELEASE
    assert (await ranker.encode([A])).release_version == RELEASE
    assert (await ranker.encode([A], RELEASE)).release_version == RELEASE
    serving = await ranker.releases()
    assert (serving.champion, serving.challenger, RELEASE in serving.loaded) == (RELEASE, None, True)


async def test_responses_tell_whether_seen_items_are_excluded(ranker: LocalRanker) -> None:
    assert (await ranker.encode([A])).exclude_seen is True


async def test_a_release_that_is_not_loaded_is_an_error(ranker: LocalRanker) -> None:
    with pytest.raises(ReleaseNotLoaded, match="999"):
        await ranker.rank([A], [B], 999)
    with pytest.raises(ReleaseNotLoaded, match="999"):
        await ranker.encode([A], 999)


async def test_query_and_scores_name_the_same_weights(ranker: LocalRanker) -> None:
    assert (await ranker.encode([A])).weights_hash == (await ranker.rank([A], [B])).weights_hash


async def test_with_known_recent_items_scores_are_personalized(ranker: LocalRanker) -> None:
    assert (await ranker.rank([A], [B])).personalized is True


@pytest.mark.parametrize("recent_items", [[], ["?"], ["?", "??"]])
async def test_without_a_known_recent_item_scores_are_popularity_and_not_personalized(
    ranker: LocalRanker, embeddings: dict[str, np.ndarray], recent_items: list[str]
) -> None:
    answer = await ranker.rank(recent_items, [A, B, C])
    bias_scale = (await ranker.encode([A])).query_embedding[-1]
    assert answer.personalized is False
    assert answer.scores == pytest.approx([embeddings[item][-1] * bias_scale for item in (A, B, C)], abs=1e-5)


async def test_unknown_recent_items_are_ignored(ranker: LocalRanker) -> None:
    assert (await ranker.rank(["?", A, "??"], [B, C])).scores == pytest.approx((await ranker.rank([A], [B, C])).scores)
    assert (await ranker.encode(["?", A])).query_embedding == pytest.approx((await ranker.encode([A])).query_embedding)


async def test_without_a_known_recent_item_there_is_no_query_embedding(ranker: LocalRanker) -> None:
    answer = await ranker.encode(["?"])
    assert (answer.release_version, answer.query_embedding) == (RELEASE, None)


async def test_every_query_embedding_ends_in_the_same_bias_scale(ranker: LocalRanker) -> None:
    one, other = [(await ranker.encode(recent)).query_embedding for recent in ([A, B], [C])]
    assert len(one) == toy.EMBEDDING_DIM
    assert one[-1] == other[-1] > 0


async def test_scores_are_dot_products_with_the_candidate_embeddings(
    ranker: LocalRanker, embeddings: dict[str, np.ndarray]
) -> None:
    recent = [A, C, A, B]
    query = np.asarray((await ranker.encode(recent)).query_embedding)
    expected = [float(embeddings[item] @ query) for item in toy.ITEM_IDS]
    assert (await ranker.rank(recent, toy.ITEM_IDS, RELEASE)).scores == pytest.approx(expected, abs=1e-4)


async def test_the_release_says_whether_seen_items_may_come_again(ranker: LocalRanker) -> None:
    assert (await ranker.encode([A])).exclude_seen is True


async def test_item_lines_contain_one_item_per_line(ranker: LocalRanker) -> None:
    lines = bytes(await ranker.item_lines(RELEASE)).splitlines()
    assert [json.loads(line)["item_id"] for line in lines] == toy.ITEM_IDS
    with pytest.raises(ReleaseNotLoaded, match="999"):
        await ranker.item_lines(999)


async def test_releases_names_the_weights_of_every_loaded_release(ranker: LocalRanker) -> None:
    serving = await ranker.releases()
    assert set(serving.weights_hashes) == set(serving.loaded)
    assert serving.weights_hashes[RELEASE] == (await ranker.encode([A])).weights_hash


async def test_the_service_sends_the_items_file_unchanged(stack: Stack) -> None:
    async with over_http(stack) as ranker:
        assert await ranker.item_lines(RELEASE) == (stack.model_dir / ITEMS_FILE).read_bytes()


async def test_the_service_reports_the_search_settings_of_a_verified_release(stack: Stack) -> None:
    async with over_http(stack) as ranker:
        assert RELEASE in (await ranker.releases()).search


# --- recall -----------------------------------------------------------------------------------------------------------


@pytest.fixture(params=[by_torch, over_http, through_a_pool], ids=lambda adapter: adapter.__name__)
async def reference(request: pytest.FixtureRequest, stack: Stack) -> AsyncIterator[LocalRanker]:
    async with request.param(stack) as opened:
        yield opened


async def retrieval_by(
    ranker: LocalRanker, embeddings: dict[str, np.ndarray], num_candidates: int = 10, exclude: Collection[str] = ()
) -> Retrieval:
    """A retrieval with recall 1."""
    query = await ranker.encode([A])
    scores = {item: float(embeddings[item] @ query.query_embedding) for item in toy.ITEM_IDS if item not in exclude}
    nearest = sorted(scores, key=lambda item: -scores[item])[:num_candidates]
    return Retrieval(RELEASE, query.weights_hash, query.query_embedding, num_candidates, exclude, nearest)


async def test_an_exact_retrieval_has_recall_1(reference: LocalRanker, embeddings: dict[str, np.ndarray]) -> None:
    measured = await reference.recall(await retrieval_by(reference, embeddings, 20, [A, toy.ODD_ITEM, "?"]))
    assert (measured.num_nearest, measured.recall) == (20, 1.0)


async def test_missing_items_lower_recall(reference: LocalRanker, embeddings: dict[str, np.ndarray]) -> None:
    whole = await retrieval_by(reference, embeddings, 20, [A])
    assert (await reference.recall(whole._replace(retrieved=whole.retrieved[::2]))).recall == 0.5
    assert (await reference.recall(whole._replace(retrieved=[]))).recall == 0.0


async def test_the_largest_allowed_retrieval_is_measured(
    reference: LocalRanker, embeddings: dict[str, np.ndarray]
) -> None:
    whole = await retrieval_by(reference, embeddings)
    unknown = [f"unknown-{number}" for number in range(MAX_TOTAL_EXCLUDED)]
    most = whole._replace(num_candidates=MAX_CANDIDATES, exclude=unknown, retrieved=unknown[:MAX_CANDIDATES])
    assert (await reference.recall(most)).num_nearest == len(toy.ITEM_IDS)


async def test_recall_requires_the_release_and_the_weights_of_the_query(
    reference: LocalRanker, embeddings: dict[str, np.ndarray]
) -> None:
    whole = await retrieval_by(reference, embeddings)
    with pytest.raises(ReleaseNotLoaded, match="999"):
        await reference.recall(whole._replace(release_version=999))
    with pytest.raises(ReleaseMismatch, match="others"):
        await reference.recall(whole._replace(weights_hash="others"))
    with pytest.raises(InvalidRequest, match="expected 16"):
        await reference.recall(whole._replace(query_embedding=[1.0]))


async def test_measuring_recall_ignores_the_deadline_of_the_request(
    reference: LocalRanker, embeddings: dict[str, np.ndarray]
) -> None:
    whole = await retrieval_by(reference, embeddings)
    with Deadline(-1).activate():
        assert (await reference.recall(whole)).recall == 1.0


async def test_the_order_of_recent_items_affects_the_towers(stack: Stack) -> None:
    async with by_torch(stack) as ranker:
        assert (await ranker.rank([A, B], [C, D])).scores != (await ranker.rank([B, A], [C, D])).scores


async def test_torch_and_the_service_return_the_same_scores(stack: Stack) -> None:
    async with by_torch(stack) as here, over_http(stack) as there:
        expected = (await here.rank([A, B, C], toy.ITEM_IDS)).scores
        assert (await there.rank([A, B, C], toy.ITEM_IDS)).scores == pytest.approx(expected, abs=1e-5)


async def test_without_a_release_every_request_is_an_error() -> None:
    ranker = LocalRanker()
    for asked in (ranker.encode([A]), ranker.rank([A], [B])):
        with pytest.raises(ReleaseNotLoaded):
            await asked


async def test_a_ranker_without_a_champion_says_what_it_has_loaded(stack: Stack) -> None:
    ranker = LocalRanker()
    ranker.problems = ["MLflow: upstream_unavailable"]
    empty = await ranker.releases()
    assert (empty.champion, empty.loaded, empty.vocabulary_hash) == (None, [], None)
    assert empty.problems == ["MLflow: upstream_unavailable"]
    ranker.add(Release.load(RELEASE, stack.model_dir))
    waiting = await ranker.releases()
    assert (waiting.champion, waiting.loaded) == (None, [RELEASE])


def with_releases(stack: Stack, *versions: int) -> LocalRanker:
    ranker = LocalRanker()
    for version in versions:
        ranker.add(Release.load(version, stack.model_dir))
    return ranker


async def test_an_added_release_serves_requests_for_its_version(stack: Stack) -> None:
    ranker = with_releases(stack, 1, 2)
    assert (await ranker.rank([A], [B], 2)).release_version == 2
    with pytest.raises(ReleaseNotLoaded, match="no release"):
        await ranker.rank([A], [B])


async def test_the_champion_serves_requests_without_a_version(stack: Stack) -> None:
    ranker = with_releases(stack, 1, 2)
    ranker.set_roles(2, challenger=1)
    assert (await ranker.encode([A])).release_version == 2
    serving = await ranker.releases()
    assert (serving.champion, serving.challenger, serving.loaded) == (2, 1, [1, 2])
    ranker.set_roles(1)
    assert (await ranker.rank([A], [B])).release_version == 1
    assert (await ranker.releases()).challenger is None


async def test_the_previous_champion_is_evicted_last(stack: Stack) -> None:
    ranker = with_releases(stack, 1, 2, 3)
    ranker.set_roles(1)
    ranker.set_roles(3)
    ranker.evict([])
    assert (await ranker.releases()).loaded == [1, 3]


async def test_only_a_loaded_release_can_get_a_role(stack: Stack) -> None:
    ranker = with_releases(stack, 1)
    ranker.set_roles(1)
    with pytest.raises(ReleaseNotLoaded, match="2"):
        ranker.set_roles(2)
    assert (await ranker.rank([A], [B])).release_version == 1


async def test_eviction_keeps_needed_releases_those_with_roles_and_one_retired(stack: Stack) -> None:
    ranker = with_releases(stack, 1, 2, 3, 4, 5)
    ranker.set_roles(4, challenger=1)
    ranker.evict([5])
    assert (await ranker.releases()).loaded == [1, 3, 4, 5]
    with pytest.raises(ReleaseNotLoaded):
        await ranker.rank([A], [B], 2)
