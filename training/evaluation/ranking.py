"""Rank held-out items among all items, for any model that scores the catalogue given histories."""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import NamedTuple, Protocol, runtime_checkable

import numpy as np
import torch
from numpy.typing import NDArray

from recsys.model.exact_search import searchable_items
from recsys.model.two_tower import TwoTower
from training.datasets.sequences import Example, History
from training.evaluation.metrics import Ranks, target_ranks
from training.models.histories import encode_histories, mask_seen_items

TOP_K = 10
MAX_USERS_PER_CHUNK = 256
MAX_SCORES_PER_CHUNK = 8_000_000


class Scorer(Protocol):
    """Scores every item for each history; higher is better."""

    num_items: int

    def scores(self, histories: list[History]) -> NDArray[np.float32]:
        """-> [histories, num_items]; column c belongs to item_index c + 1."""


@runtime_checkable
class ChoosingScorer(Scorer, Protocol):
    """A scorer that chooses candidates, and so needs to know which items are excluded."""

    def scores_without(self, histories: list[History], seen: list[History]) -> NDArray[np.float32]:
        """The same as `scores`, with the candidates chosen without the seen items of each history."""


@dataclass(frozen=True)
class Ranking:
    ranks: Ranks
    """[examples]: rank of each target among the unseen items, from 1."""
    recommended: NDArray[np.int64]
    """[examples, TOP_K]: columns of the best unseen items, best first."""


class TwoTowerScorer:
    """The dot product of query embedding and candidate embeddings, as exact search in the index computes it.

    Items that are not in the index have the score -inf. With `encode_in` the query tower runs in that precision, as in
    training. That is faster and precise enough to choose between rounds, but it is not what is served.
    """

    @torch.inference_mode()
    def __init__(self, model: TwoTower, encode_in: torch.dtype | None = None) -> None:
        self.num_items = model.config.num_items
        self.model = model.eval()
        self._encode_in = encode_in
        candidates = model.candidate_tower()
        self._candidates = candidates.T.contiguous()
        self._unsearchable = ~searchable_items(candidates.cpu().numpy())
        self.num_unsearchable = int(self._unsearchable.sum())
        """The number of items that are not in the index."""

    @torch.inference_mode()
    def scores(self, histories: list[History]) -> NDArray[np.float32]:
        dtype, device = self._encode_in, self._candidates.device
        with torch.autocast(device.type, dtype=dtype or torch.bfloat16, enabled=dtype is not None):
            queries = encode_histories(self.model, histories)
        scores: NDArray[np.float32] = (queries @ self._candidates).float().cpu().numpy()
        scores[:, self._unsearchable] = -np.inf
        return scores


class _Chunk(NamedTuple):
    places: NDArray[np.int64]
    """[chunk]: which of the examples these are."""
    scores: NDArray[np.float32]
    """[chunk, num_items], -inf for excluded items."""
    ranks: Ranks
    """[chunk]"""


def rank_held_out(
    scorer: Scorer,
    examples: list[Example],
    exclude_seen: bool = True,
    shown: list[History] | None = None,
    seen: list[History] | None = None,
) -> Ranking:
    """Rank each example's target among all items; without the seen items of its history if `exclude_seen`.

    `shown` holds what the scorer gets in place of each history, such as the last basket alone; `seen`, the items of
    each history that count as seen, by default all. The rank of an excluded target is infinite. MAX_SCORES_PER_CHUNK
    bounds the memory.
    """
    top_k = min(TOP_K, scorer.num_items)
    ranks = np.empty(len(examples))
    recommended = np.empty((len(examples), top_k), dtype=np.int64)
    for places, scores, of_chunk in _scored(scorer, examples, exclude_seen, shown, seen):
        ranks[places] = of_chunk
        best = np.argpartition(-scores, top_k - 1, axis=1)[:, :top_k]
        order = np.argsort(-np.take_along_axis(scores, best, axis=1), axis=1, kind="stable")
        recommended[places] = np.take_along_axis(best, order, axis=1)
    return Ranking(ranks, recommended)


def ranks_of_held_out(
    scorer: Scorer,
    examples: list[Example],
    exclude_seen: bool = True,
    shown: list[History] | None = None,
    seen: list[History] | None = None,
) -> Ranks:
    """Only the ranks of `rank_held_out`, in a fraction of its time for large catalogues."""
    ranks = np.empty(len(examples))
    for places, _, of_chunk in _scored(scorer, examples, exclude_seen, shown, seen):
        ranks[places] = of_chunk
    return ranks


def rank_by_shared_scores(
    scores: NDArray[np.float32],
    examples: list[Example],
    exclude_seen: bool = True,
    seen: list[History] | None = None,
) -> Ranking:
    """What `rank_held_out` gives for scores [num_items] that are the same for all users, in a fraction of its time.

    Items with equal scores may be recommended in another order.
    """
    num_items, top_k = len(scores), min(TOP_K, len(scores))
    order, ascending = np.argsort(-scores, kind="stable"), np.sort(scores)
    not_above = np.searchsorted(ascending, scores, side="right")
    equal_others = not_above - np.searchsorted(ascending, scores, side="left") - 1
    ranks = np.empty(len(examples))
    recommended = np.empty((len(examples), top_k), dtype=np.int64)
    for place, (history, target) in enumerate(examples):
        item = target - 1
        excluded_items = history if seen is None else seen[place]
        own = np.unique(excluded_items - 1) if exclude_seen else history[:0]
        of_seen, of_target = scores[own], scores[item]
        greater = num_items - not_above[item] - (of_seen > of_target).sum()
        equal = equal_others[item] - (of_seen == of_target).sum()
        ranks[place] = np.inf if item in own else 1.0 + greater + equal / 2.0
        first = order[: top_k + len(own)]
        excluded = np.isin(first, own)
        recommended[place] = np.concatenate([first[~excluded], first[excluded]])[:top_k]
    return Ranking(ranks, recommended)


def _scored(
    scorer: Scorer,
    examples: list[Example],
    exclude_seen: bool,
    shown: list[History] | None,
    seen: list[History] | None,
) -> Iterator[_Chunk]:
    users_per_chunk = max(1, min(MAX_USERS_PER_CHUNK, MAX_SCORES_PER_CHUNK // scorer.num_items))
    # Histories of similar length share a chunk, to keep the padding small.
    by_length = np.argsort([len(history) for history, _ in examples], kind="stable")
    for start in range(0, len(examples), users_per_chunk):
        chunk = by_length[start : start + users_per_chunk]
        histories = [examples[i][0] for i in chunk]
        targets = np.array([examples[i][1] for i in chunk], dtype=np.int64) - 1
        excluded_items = histories if seen is None else [seen[i] for i in chunk]
        if isinstance(scorer, ChoosingScorer):
            scores = scorer.scores_without(histories, excluded_items)
        else:
            scores = scorer.scores(histories if shown is None else [shown[i] for i in chunk])
        if exclude_seen:
            mask_seen_items(scores, excluded_items)
        excluded = np.isneginf(scores[np.arange(len(chunk)), targets])
        yield _Chunk(chunk, scores, np.where(excluded, np.inf, target_ranks(scores, targets)))
