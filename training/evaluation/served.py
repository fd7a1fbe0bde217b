"""Replay the test users through services that serve a validation fit; `local.evaluate_served` runs them.

Every test user's history is sent to `POST /v1/recommendations` as the session of an unknown user, so the stores are
neither used nor changed. The served ranks are compared with the offline ranks of the same users; a loss in the index,
the filters or the ids shows as a difference.
"""

import asyncio
import json
import uuid
from collections import Counter
from pathlib import Path
from typing import Any, NamedTuple

import httpx
import numpy as np
from numpy.typing import NDArray
from tqdm import tqdm

from recsys.contracts.base import EVALUATION_PLACEMENT, MAX_EXCLUDED, MAX_HISTORY
from recsys.contracts.recommendation import RecommendationResponse
from recsys.errors import JobError, UpstreamUnavailable
from recsys.model.release_manifest import weights_of
from recsys.model.vocabulary import Vocabulary
from recsys.stages import COMPLETE
from training.atomic import atomic_file
from training.datasets.sequences import Example, History, load_sequences
from training.evaluation.held_out import release_scorer
from training.evaluation.metrics import Ranks, bootstrap_interval, hr_at_k, mrr_at_k, ndcg_at_k, ndcg_gains
from training.evaluation.ranking import rank_held_out
from training.evaluation.sample import sample_users, tested_users
from training.model_directory import read_training
from training.settings import JobSettings

CUTOFFS = [10, 50]
TOP_K = CUTOFFS[-1]
"""Not more than LEAST_RETRIEVED: the towers retrieve at least a page, and evaluation knows of no page."""
REQUESTS_AT_A_TIME = 2
TIMEOUT_SECONDS = 30
DEADLINE_MS = 2000
"""Long, because a replay needs complete responses rather than fast ones."""
SERVED_FILE = "served.json"
SERVED_PAGE = "served.md"


class Replay(NamedTuple):
    ranks: Ranks
    """[users]: the served rank of the test item; infinite if it was not recommended."""
    tiers: Counter[str]
    releases: set[int | None]
    weights: set[str]
    """The weights that any part of a response was computed with."""
    latencies_ms: NDArray[np.float64]
    """[users], measured by the services."""


def compare_served(settings: JobSettings, directory: Path, url: str, most_users: int) -> dict[str, Any]:
    """Replay the test users of the split through the orchestrator at `url`; compare with the model in `directory`.

    Writes both to its report, as `served.json` and `served.md`. Raises UpstreamUnavailable if the services cannot be
    reached, JobError if they serve another model.
    """
    exclude_seen = bool(read_training(directory)["exclude_seen"])
    sequences = load_sequences(settings.processed_dir, settings.models_dir, settings.split, settings.shares)
    users = sample_users(tested_users(sequences, settings.seed), settings.seed, most_users)
    examples = [sequences.test(int(user)) for user in users]
    weights = weights_of(directory)
    replay = asyncio.run(_replay(url, sequences.vocabulary, examples, exclude_seen, weights))
    if replay.weights != {weights} or len(replay.releases - {None}) != 1:
        raise JobError(
            f"the responses came from releases {replay.releases} with the weights {replay.weights or 'of no model'} "
            f"and have the tiers {dict(replay.tiers)}; expected is one release with the weights {weights}"
        )
    offline = rank_held_out(release_scorer(directory, exclude_seen=exclude_seen), examples, exclude_seen).ranks
    compared = _compare(replay, offline, settings.seed)
    report = settings.reports_dir / directory.name
    for name, text in ((SERVED_FILE, json.dumps(compared, indent=2) + "\n"), (SERVED_PAGE, _page(directory, compared))):
        with atomic_file(report / name) as path:
            path.write_text(text, encoding="utf-8")
    return compared


def line_about(settings: JobSettings, directory: Path, compared: dict[str, Any]) -> str:
    return (
        f"served NDCG@10 {compared['served']['ndcg_at_10']:.4f}, offline {compared['offline']['ndcg_at_10']:.4f} "
        f"({compared['relative_difference']:+.2%}), for {compared['num_users']:,} users of release "
        f"{compared['release']}; responses by tier {compared['tiers']}; report in "
        f"{settings.reports_dir / directory.name / SERVED_PAGE}"
    )


def request_for(history: list[str], user_id: str, *, exclude_seen: bool) -> dict[str, Any]:
    """The request body for this history, oldest first, of an unknown user.

    If the release excludes seen items, the items that are too old for the session are excluded as well.
    """
    session, older = history[-MAX_HISTORY:], history[:-MAX_HISTORY]
    return {
        "user_id": user_id,
        "placement": EVALUATION_PLACEMENT,
        "session_items": session,
        "exclude_items": list(dict.fromkeys(older))[-MAX_EXCLUDED:] if exclude_seen else [],
        "top_k": TOP_K,
        "debug": True,
    }


async def _replay(
    url: str, vocabulary: Vocabulary, examples: list[Example], exclude_seen: bool, expected: str
) -> Replay:
    """Raises JobError at the first response that was computed with other weights than the expected ones."""
    ranks = np.full(len(examples), np.inf)
    latencies = np.zeros(len(examples))
    tiers: Counter[str] = Counter()
    releases: set[int | None] = set()
    weights: set[str] = set()
    slots = asyncio.Semaphore(REQUESTS_AT_A_TIME)
    unknown_user = f"replay-{uuid.uuid4().hex}"

    async def replay_one(place: int, history: History, target: int) -> None:
        item_ids = [vocabulary.item_id(int(index)) for index in history]
        body = request_for(item_ids, f"{unknown_user}-{place}", exclude_seen=exclude_seen)
        async with slots:
            response = await _recommend(client, body)
        recommended = [each.item_id for each in response.recommendations]
        wanted = vocabulary.item_id(target)
        if wanted in recommended:
            ranks[place] = 1.0 + recommended.index(wanted)
        latencies[place] = response.timings_ms["total"]
        tier = str(response.tier)
        tiers[tier if response.tier_reason == COMPLETE else f"{tier}, {response.tier_reason}"] += 1
        releases.add(response.release_version)
        used = weights_behind(response)
        if used - {expected}:
            raise JobError(
                f"release {response.release_version} has the weights {', '.join(sorted(used))} instead of {expected}"
            )
        weights.update(used)
        progress.update(1)

    client = httpx.AsyncClient(base_url=url, headers={"X-Deadline-Ms": str(DEADLINE_MS)}, timeout=TIMEOUT_SECONDS)
    with tqdm(total=len(examples), unit="user", desc="replay", mininterval=1.0) as progress:
        try:
            async with client, asyncio.TaskGroup() as group:
                for place, (history, target) in enumerate(examples):
                    group.create_task(replay_one(place, history, target))
        except ExceptionGroup as errors:  # the first one ended the others
            raise errors.exceptions[0] from errors
    return Replay(ranks, tiers, releases, weights, latencies)


def weights_behind(response: RecommendationResponse) -> set[str]:
    """The weights that any part of a response was computed with; empty for a response of popular items."""
    if response.debug is None:
        return set()
    made_by = (response.debug.query, response.debug.collection, response.debug.rank)
    return {weights for weights in made_by if weights is not None}


async def _recommend(client: httpx.AsyncClient, body: dict[str, Any]) -> RecommendationResponse:
    try:
        response = await client.post("/v1/recommendations", json=body)
        response.raise_for_status()
    except httpx.HTTPError as error:
        raise UpstreamUnavailable(f"the orchestrator at {client.base_url}: {error!r}") from error
    return RecommendationResponse.model_validate_json(response.content)


def _compare(replay: Replay, offline: Ranks, seed: int) -> dict[str, Any]:
    served_metrics, offline_metrics = _metrics(replay.ranks), _metrics(offline)
    return {
        "num_users": len(offline),
        "release": next(iter(replay.releases - {None})),
        "served": served_metrics,
        "served_ndcg_at_10_interval": bootstrap_interval(ndcg_gains(replay.ranks, 10), seed),
        "offline": offline_metrics,
        "relative_difference": served_metrics["ndcg_at_10"] / max(offline_metrics["ndcg_at_10"], 1e-9) - 1.0,
        "tiers": dict(replay.tiers),
        "latency_ms": {f"p{share}": float(np.percentile(replay.latencies_ms, share)) for share in (50, 95, 99)},
    }


def _metrics(ranks: Ranks) -> dict[str, float]:
    by_name = (("ndcg", ndcg_at_k), ("hr", hr_at_k), ("mrr", mrr_at_k))
    return {f"{name}_at_{k}": metric(ranks, k) for name, metric in by_name for k in CUTOFFS}


def _page(directory: Path, compared: dict[str, Any]) -> str:
    low, high = compared["served_ndcg_at_10_interval"]
    rows = [
        f"| {name.split('_')[0].upper()}@{name.split('_')[-1]} | {served:.4f} | {compared['offline'][name]:.4f} |"
        for name, served in compared["served"].items()
    ]
    tiers = ", ".join(f"{count:,} {tier}" for tier, count in compared["tiers"].items())
    latency = ", ".join(f"{name} {value:.1f} ms" for name, value in compared["latency_ms"].items())
    lines = [
        f"# Through the services: model {directory.name}, release {compared['release']}",
        "",
        f"The histories of {compared['num_users']:,} test users, replayed through `POST /v1/recommendations` and "
        "compared with the offline ranks of the same users.",
        "",
        "| metric | served | offline |",
        "| --- | --- | --- |",
        *rows,
        "",
        f"Served NDCG@10 differs by {compared['relative_difference']:+.2%}; its 95% interval is {low:.4f} to "
        f"{high:.4f}. Responses by tier: {tiers}. The pipeline took {latency}.",
        "",
    ]
    return "\n".join(lines)
