"""The rank stage: candidates in the order of their scores, or in another order if the ranker fails."""

import asyncio
from collections.abc import Sequence

from recsys import same_release
from recsys.candidates import Found, merged
from recsys.contracts.recommendation import Provenance, Tier
from recsys.contracts.retrieval import QueryEmbedding
from recsys.exclusions import Exclusions
from recsys.fallback import Fallback
from recsys.ports import Ranker
from recsys.rules import Shortlist, best_first, by_similarity
from recsys.stages import RequestRun, Stage


async def rank_retrieved(
    run: RequestRun,
    ranker: Ranker,
    query: QueryEmbedding,
    recent_items: Sequence[str],
    found: Found,
    exclusions: Exclusions,
) -> Shortlist:
    """Retrieved candidates and those of other sources; if the ranker fails, the retrieved ones by similarity.

    Meanwhile, seen ones are looked up. The ranker says which are near what the user does not want.
    """
    item_ids = merged((candidate.item_id for candidate in found.retrieved), found.others)
    ranking = run.run_stage(Stage.RANK, same_release.rank(ranker, query, recent_items, item_ids, exclusions.disliked))
    if exclusions.complete:
        scores = await ranking
    else:
        scores, _ = await asyncio.gather(ranking, exclusions.look_up(run, item_ids))
    if scores:
        exclusions.add(scores.near_disliked)
    ranked = best_first(item_ids, scores.scores) if scores else by_similarity(found.retrieved)
    ranked_by = scores.weights_hash if scores else None
    provenance = Provenance(query=query.weights_hash, collection=found.retrieved[0].weights_hash, rank=ranked_by)
    return Shortlist(ranked, query.release_version, provenance)


async def rank_given(
    run: RequestRun,
    ranker: Ranker,
    fallback: Fallback,
    recent_items: Sequence[str],
    item_ids: Sequence[str],
    release_version: int | None,
) -> Shortlist:
    """The caller's candidates, by popularity if the ranker fails."""
    scores = await run.run_stage(Stage.RANK, ranker.rank(recent_items, item_ids, release_version))
    if scores is None:
        return await fallback.by_popularity(run, item_ids, release_version)
    if not scores.personalized:
        run.degrade_to(Tier.POPULAR, "no_known_items")
    ranked = best_first(item_ids, scores.scores)
    return Shortlist(ranked, scores.release_version, Provenance(rank=scores.weights_hash))
