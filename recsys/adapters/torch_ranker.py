"""The ports QueryEncoder and Ranker done here, by the releases that are loaded."""

from collections.abc import Sequence

from recsys.contracts.ranking import RankedScores
from recsys.contracts.retrieval import QueryEmbedding
from recsys.errors import ReleaseNotLoaded
from recsys.model.release import Release

KEPT_RELEASES = 2
"""The serving one and the one before, for requests that began with it and for a quick way back."""


class TorchRanker:
    def __init__(self) -> None:
        self._releases: dict[int, Release] = {}
        self._serving: Release | None = None

    def serve(self, release: Release) -> None:
        """Warm a release up, then let new requests have it; those under way end on the one they began with."""
        release.score(release.encode_nobody(), release.vocabulary.item_ids[:1])
        release.rank(release.vocabulary.item_ids[:1], release.vocabulary.item_ids[:1])
        before = {version: kept for version, kept in self._releases.items() if version != release.version}
        self._releases = {**before, release.version: release}  # the newest to serve last, also where it served before
        self._serving = release
        for version in list(self._releases)[:-KEPT_RELEASES]:
            del self._releases[version]

    async def encode(self, recent_items: Sequence[str]) -> QueryEmbedding:
        release = self._release(None)
        embedding = release.encode(recent_items)
        return QueryEmbedding(
            release=release.version,
            query_embedding=None if embedding is None else embedding.tolist(),
            exclude_seen=release.manifest.policy.exclude_seen,
        )

    async def serving_release(self) -> int:
        return self._release(None).version

    async def rank(
        self, recent_items: Sequence[str], candidate_items: Sequence[str], release: int | None = None
    ) -> RankedScores:
        chosen = self._release(release)
        scores = chosen.rank(recent_items, candidate_items)
        if scores is None:
            popularity = chosen.score(chosen.encode_nobody(), candidate_items)
            return RankedScores(release=chosen.version, personalized=False, scores=popularity)
        return RankedScores(release=chosen.version, personalized=True, scores=scores)

    def _release(self, version: int | None) -> Release:
        if version is None:
            if self._serving is None:
                raise ReleaseNotLoaded("no release is loaded yet; train, register and index one")
            return self._serving
        if version not in self._releases:
            raise ReleaseNotLoaded(f"release {version} is not loaded; loaded are {sorted(self._releases)}")
        return self._releases[version]
