"""The ports QueryEncoder, Ranker, RecallReference and ReleaseSource in this process, using the loaded releases."""

import asyncio
from collections.abc import Collection, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor

from recsys.contracts.event_kinds import DEFAULT_KINDS
from recsys.contracts.ranking import RankedScores
from recsys.contracts.recall import RecallMeasurement, Retrieval
from recsys.contracts.retrieval import QueryEmbedding, SearchSettings, ServingReleases
from recsys.errors import Overloaded, ReleaseNotLoaded
from recsys.model.feature_distribution import FeatureSample
from recsys.model.release import Release
from recsys.model.retrieval_recall import measure_recall
from recsys.ramp import EVERYBODY

KEPT_RETIRED = 1
"""Retired releases kept loaded for in-flight requests."""


class LocalRanker:
    def __init__(self) -> None:
        self._releases: dict[int, Release] = {}
        self._champion: int | None = None
        self._challenger: int | None = None
        self._holdback: int | None = None
        self._champion_percent = EVERYBODY
        self.search: Mapping[int, SearchSettings] = {}
        """Search settings by release version, reported by `releases`."""
        self.problems: list[str] = []
        """Why releases are not loaded, reported by `releases`."""
        self._recall_thread = ThreadPoolExecutor(max_workers=1, thread_name_prefix="recall")
        self._recall_running: Future[RecallMeasurement] | None = None

    @property
    def champion(self) -> int | None:
        return self._champion

    @property
    def loaded(self) -> list[int]:
        return list(self._releases)

    @property
    def releases_in_memory(self) -> list[Release]:
        return list(self._releases.values())

    @property
    def champion_features(self) -> FeatureSample | None:
        """What the champion ranks by; None without a champion, or if it has nothing to compare that with."""
        return None if self._champion is None else self._release(self._champion).feature_sample

    @property
    def cached_bytes(self) -> int:
        """Of the cached query embeddings of all loaded releases."""
        return sum(release.cached_bytes for release in self._releases.values())

    def weights_of(self, version: int) -> str | None:
        """The hash of a loaded release's weights; None if it is not loaded."""
        release = self._releases.get(version)
        return None if release is None else release.manifest.weights_hash

    def add(self, release: Release) -> None:
        """Warm a release up, then serve requests for its version."""
        release.score(release.encode_empty_history(), release.vocabulary.item_ids[:1])
        release.rank(release.vocabulary.item_ids[:1], release.vocabulary.item_ids[:1])
        release.other_candidates(release.vocabulary.item_ids[:1])
        others = {version: kept for version, kept in self._releases.items() if version != release.version}
        self._releases = {**others, release.version: release}

    def replace(self, release: Release, successor: Release) -> None:
        """Serve another state of a loaded release, unless it was unloaded or replaced meanwhile."""
        if self._releases.get(release.version) is release:
            self._releases = {**self._releases, release.version: successor}

    def set_roles(
        self,
        champion: int,
        challenger: int | None = None,
        *,
        holdback: int | None = None,
        champion_percent: float = EVERYBODY,
    ) -> None:
        """Assign the roles to loaded releases. While a promotion ramps, `holdback` serves the users that are not among
        the champion's share. Requests in flight finish with the release they started with."""
        new_champion = self._release(champion).version
        if self._champion not in (None, new_champion):
            outgoing = self._releases.pop(self._champion)
            self._releases = {**self._releases, outgoing.version: outgoing}  # now the last to be evicted
        self._champion = new_champion
        self._challenger = None if challenger is None else self._release(challenger).version
        self._holdback = None if holdback is None else self._release(holdback).version
        self._champion_percent = champion_percent

    def evict(self, needed: Collection[int]) -> None:
        """Unload all but the needed releases, those with a role, and the most recently retired."""
        roles = (self._champion, self._challenger, self._holdback)
        retired = [version for version in self._releases if version not in needed and version not in roles]
        for version in retired[:-KEPT_RETIRED]:
            del self._releases[version]

    def make_room(self, missing_bytes: int, expendable: Sequence[int]) -> list[int]:
        """Unload expendable releases without a role, in their order, until that frees enough. Returns the unloaded.

        Unloads none if all of them are not enough.
        """
        roles = (self._champion, self._challenger, self._holdback)
        chosen: list[int] = []
        for version in expendable:
            if missing_bytes > 0 and version in self._releases and version not in roles:
                missing_bytes -= self._releases[version].resident_bytes
                chosen.append(version)
        if missing_bytes > 0:
            return []
        for version in chosen:
            del self._releases[version]
        return chosen

    async def encode(
        self, recent_items: Sequence[str], release_version: int | None = None, unseen_items: Sequence[str] = ()
    ) -> QueryEmbedding:
        chosen = self._release(release_version)
        embedding = chosen.encode(recent_items)
        return QueryEmbedding(
            release_version=chosen.version,
            weights_hash=chosen.manifest.weights_hash,
            query_embedding=None if embedding is None else embedding.tolist(),
            exclude_seen=chosen.manifest.policy.exclude_seen,
            other_candidates=chosen.other_candidates(recent_items, unseen_items),
        )

    async def releases(self) -> ServingReleases:
        champion = None if self._champion is None else self._release(self._champion)
        return ServingReleases(
            champion=self._champion,
            challenger=self._challenger,
            holdback=self._holdback,
            champion_percent=self._champion_percent,
            loaded=sorted(self._releases),
            vocabulary_hash=None if champion is None else champion.manifest.vocabulary_hash,
            event_kinds=DEFAULT_KINDS if champion is None else champion.manifest.policy.event_kinds,
            weights_hashes={version: release.manifest.weights_hash for version, release in self._releases.items()},
            search={version: settings for version, settings in self.search.items() if version in self._releases},
            problems=self.problems,
        )

    async def item_lines(self, release_version: int) -> bytes:
        return bytes(self.mapped_item_lines(release_version))

    def mapped_item_lines(self, release_version: int) -> memoryview:
        """The items file, without copying it. Raises `ReleaseNotLoaded`."""
        return self._release(release_version).item_lines

    async def rank(
        self,
        recent_items: Sequence[str],
        candidate_items: Sequence[str],
        release_version: int | None = None,
        disliked_items: Sequence[str] = (),
    ) -> RankedScores:
        chosen = self._release(release_version)
        scores = chosen.rank(recent_items, candidate_items)
        personalized = scores is not None
        if scores is None:
            scores = chosen.score(chosen.encode_empty_history(), candidate_items)
        return RankedScores(
            release_version=chosen.version,
            weights_hash=chosen.manifest.weights_hash,
            personalized=personalized,
            scores=scores,
            near_disliked=chosen.near(disliked_items, candidate_items) if disliked_items else [],
        )

    async def recall(self, retrieval: Retrieval) -> RecallMeasurement:
        chosen = self._release(retrieval.release_version)
        # Tracks the thread and not its caller, whose request may be cancelled while the thread still computes.
        if self._recall_running is not None and not self._recall_running.done():
            raise Overloaded("another recall is being measured")
        self._recall_running = self._recall_thread.submit(measure_recall, chosen, retrieval)
        return await asyncio.wrap_future(self._recall_running)

    def _release(self, version: int | None) -> Release:
        version = self._champion if version is None else version
        if version is None:
            raise ReleaseNotLoaded("no release is loaded yet; train, register, index and promote one")
        if version not in self._releases:
            raise ReleaseNotLoaded(f"release {version} is not loaded; loaded releases: {sorted(self._releases)}")
        return self._releases[version]
