"""A release: a trained model, its vocabulary and its feature schema, described by its manifest and checked by hash.

The train job writes the model's files, and the register job describes and uploads them. The index job and the ranker
load releases that this module has verified.
"""

import mmap
from collections.abc import Callable, Sequence
from copy import copy
from pathlib import Path
from typing import Any, Self

import numpy as np
import torch
from numpy.typing import NDArray

from recsys.errors import ReleaseDamaged
from recsys.model.candidate_file import mapped_candidates
from recsys.model.candidate_sources import CandidateSources
from recsys.model.exact_search import nearest_items, searchable_items
from recsys.model.feature_distribution import FeatureSample
from recsys.model.files import ITEMS_FILE, VOCABULARY_FILE
from recsys.model.live_activity import ActivityBase, LiveDay
from recsys.model.neighbours import Indices
from recsys.model.query_cache import QueryCache
from recsys.model.query_encoder import QueryEncoder
from recsys.model.ranking_features import RankingFeatures
from recsys.model.ranking_tables import RankingTables
from recsys.model.release_manifest import ReleaseManifest, verify_release
from recsys.model.release_memory import resident_bytes
from recsys.model.second_stage import SecondStage
from recsys.model.two_tower import TwoTower, load_model
from recsys.model.vocabulary import Vocabulary
from recsys.steps import latest_steps

Embedding = NDArray[np.float32]
NEAR_COSINE = 0.5
"""Of a disliked item's near neighbours. In the generated shop, half of the items have more than 9 of 2,072 items that
near, and 84% of these are in the same category."""


def _computed_candidates(model: TwoTower) -> Embedding:
    with torch.inference_mode():
        computed: Embedding = model.candidate_tower().numpy()
    return computed


def _mapped(path: Path) -> memoryview:
    with path.open("rb") as file:
        return memoryview(mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ))


class Release:
    """A verified release. Immutable, and safe to share between requests.

    Nothing of it refers back to it, so its memory is free as soon as the last reference is gone. Its files are mapped
    into memory, not read: they may be deleted, but must not be changed.
    """

    def __init__(
        self, version: int, manifest: ReleaseManifest, directory: Path, *, keep_candidates: bool = False
    ) -> None:
        """`keep_candidates` stores the candidate embeddings in `directory` and maps them into memory."""
        self.version = version
        self.manifest = manifest
        self.items_file = directory / ITEMS_FILE
        """Line n describes the item with item_index n."""
        self.item_lines = _mapped(self.items_file)
        """The same file, memory-mapped: it stays readable after the local copy is deleted."""
        self.vocabulary = Vocabulary.load(directory / VOCABULARY_FILE)
        model = load_model(directory)
        self.candidate_embeddings = (
            mapped_candidates(model, directory) if keep_candidates else _computed_candidates(model)
        )
        """[num_items, embedding_dim]; row r is the item with item_index r + 1."""
        self.searchable = searchable_items(self.candidate_embeddings)
        """[num_items]: whether the item can be found by its vector."""
        if len(self.vocabulary) != len(self.candidate_embeddings):
            raise ReleaseDamaged(
                f"{directory}: {len(self.vocabulary)} items in the vocabulary, "
                f"{len(self.candidate_embeddings)} embeddings"
            )
        self._encoder = QueryEncoder(model, self.candidate_embeddings)
        content = model.content.numpy()
        self._second_stage: SecondStage | None = None
        self._sources: CandidateSources | None = None
        self._activity_base: ActivityBase | None = None
        self.feature_sample: FeatureSample | None = None
        """Some of the features that it ranks by."""
        self.live_events = 0
        """How many live events are in the activity of its items."""
        if manifest.has_second_stage:
            tables = RankingTables.load(directory)
            features = RankingFeatures(tables, self.candidate_embeddings, content)
            if tables.feature_distribution is not None:
                self.feature_sample = FeatureSample(tables.feature_distribution)
            self._second_stage = SecondStage.load(directory, features, self.feature_sample)
            self._sources = CandidateSources(tables, exclude_seen=manifest.policy.exclude_seen)
            self._activity_base = tables.activity_base
        self._queries = QueryCache()
        self.resident_bytes = resident_bytes(manifest.num_items, directory)
        """Memory that unloading it frees, estimated."""

    @classmethod
    def load(cls, version: int, directory: Path, *, keep_candidates: bool = False) -> "Release":
        """Raises `ReleaseDamaged` if a file differs from the manifest."""
        return cls(version, verify_release(directory), directory, keep_candidates=keep_candidates)

    @property
    def cached_bytes(self) -> int:
        """Of the cached query embeddings."""
        return self._queries.num_bytes

    @property
    def num_searchable(self) -> int:
        return int(self.searchable.sum())

    @property
    def live_since(self) -> int | None:
        """The first UTC day whose live events count; None if the release has no counts that they could be added to."""
        return None if self._activity_base is None else self._activity_base.last_day.day

    def with_live_activity(self, days: Sequence[LiveDay], moment: float) -> Self:
        """The same release with the activity of its items at a Unix time. days: ascending, those since `live_since`."""
        if self._activity_base is None or self._second_stage is None or self._sources is None:
            return self
        activity = self._activity_base.activity([day.of_items(self.vocabulary) for day in days], moment)
        copied = copy(self)
        copied._second_stage = self._second_stage.at(activity)
        copied._sources = self._sources.at(activity)
        copied.live_events = sum(day.events for day in days)
        return copied

    def encode(self, recent_items: Sequence[str]) -> Embedding | None:
        """Recent items, newest last -> [embedding_dim]; None if none of them is known."""
        steps = self._steps(recent_items)
        return self._encode_indices(steps) if steps else None

    def encode_indices(self, history: Indices) -> Embedding:
        """Item indices, oldest first -> [embedding_dim]."""
        return self._encode_indices(self._latest_steps(history.tolist()))

    def nearest(self, query_embedding: Embedding, num_candidates: int, exclude: Indices) -> Indices:
        """The item indices nearest to the query by exact search, best first. `exclude` contains item indices."""
        scores = self.candidate_embeddings @ query_embedding
        scores[~self.searchable] = -np.inf
        scores[exclude - 1] = -np.inf
        return nearest_items(scores, num_candidates)

    def other_candidates(self, recent_items: Sequence[str], unseen_items: Sequence[str] = ()) -> dict[str, list[str]]:
        """The items of each source besides the towers, best first; none without a second stage to rank them.

        `unseen_items` are those of the recent items that do not count as seen.
        """
        steps = self._steps(recent_items)
        if self._sources is None or not steps:
            return {}
        history = np.array(steps, dtype=np.int64)
        seen = np.setdiff1d(history, self.vocabulary.indices(unseen_items)) if unseen_items else None
        found = self._sources.find(history, seen)
        item_ids = self.vocabulary.item_ids
        return {str(source): [item_ids[index - 1] for index in indices.tolist()] for source, indices in found.items()}

    def near(self, disliked_items: Sequence[str], item_ids: Sequence[str]) -> list[str]:
        """Those of the items whose vectors have a cosine above NEAR_COSINE with that of a disliked item."""
        disliked = np.array(self.vocabulary.indices(disliked_items), dtype=np.int64)
        known = [item_id for item_id in item_ids if item_id in self.vocabulary]
        if not len(disliked) or not known:
            return []
        # Vectors have length 1, apart from the last dimension, the bias.
        vectors = self.candidate_embeddings[np.array(self.vocabulary.indices(known)) - 1, :-1]
        cosines = vectors @ self.candidate_embeddings[disliked - 1, :-1].T
        near = cosines.max(axis=1) > NEAR_COSINE
        return [item_id for item_id, is_near in zip(known, near.tolist(), strict=True) if is_near]

    def encode_empty_history(self) -> Embedding:
        """[embedding_dim]: the query whose scores are the items' biases, which rank by popularity."""
        return self._encode_indices(())

    def score(self, query_embedding: Embedding, item_ids: Sequence[str]) -> list[float | None]:
        """The dot product of the query with each item's candidate embedding; None for unknown items."""
        return self._scores(item_ids, lambda indices: self.candidate_embeddings[indices - 1] @ query_embedding)

    def rank(self, recent_items: Sequence[str], item_ids: Sequence[str]) -> list[float | None] | None:
        """Each candidate's score from the release's last stage; None for unknown items.

        Returns None if no recent item is known.
        """
        steps = self._steps(recent_items)
        if not steps:
            return None
        query_embedding, second_stage = self._encode_indices(steps), self._second_stage
        if second_stage is None:
            return self.score(query_embedding, item_ids)
        return self._scores(item_ids, lambda indices: second_stage.score(np.array(steps), indices, query_embedding))

    def _scores(
        self, item_ids: Sequence[str], score: Callable[[Indices], NDArray[np.floating[Any]]]
    ) -> list[float | None]:
        """One score per item, None if unknown. `score` is called with the known items, without repeats."""
        indices = self.vocabulary.indices_or_none(item_ids)
        known = [index for index in dict.fromkeys(indices) if index is not None]
        if not known:
            return [None] * len(indices)
        if len(known) == len(indices):  # nearly always: retrieval returns items of the release
            return list(score(np.array(known)).tolist())
        by_index = dict(zip(known, score(np.array(known)).tolist(), strict=True))
        return [None if index is None else by_index[index] for index in indices]

    def _steps(self, recent_items: Sequence[str]) -> tuple[int, ...]:
        """The recent items as the model's input: the latest known ones, without consecutive repeats."""
        return self._latest_steps(self.vocabulary.indices(recent_items))

    def _latest_steps(self, indices: Sequence[int]) -> tuple[int, ...]:
        return tuple(latest_steps(indices, self.manifest.policy.max_history))

    def _encode_indices(self, indices: tuple[int, ...]) -> Embedding:
        cached = self._queries.get(indices)
        if cached is None:
            cached = self._encoder.encode(np.array(indices, dtype=np.int64))
            self._queries.put(indices, cached)
        return cached
