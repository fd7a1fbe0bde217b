"""What the replicas of the ranker agree on: the roles of the releases, their weights and their search settings.

Replicas follow the registry at slightly different times. All of them load a release before it becomes the champion, and
keep the previous one loaded afterwards. So while they differ, most can still serve the release that served so far.
"""

from collections import Counter
from collections.abc import Hashable, Mapping, Sequence
from typing import TypeVar

from recsys.contracts.retrieval import ServingReleases

T = TypeVar("T", bound=Hashable)


def agreed_releases(replies: Sequence[ServingReleases], current: ServingReleases | None) -> ServingReleases:
    """The releases that can be requested from the replicas together; `current` is the previous result.

    Replicas without a champion have no vote, because they are loading their first release. If none has a champion,
    the result has none. Whatever else the replicas report differently stays as it is until they agree. `problems` are
    the problems of all replicas, and that their champions differ.
    """
    voters = [reply for reply in replies if reply.champion is not None]
    problems = list(dict.fromkeys(problem for reply in replies for problem in reply.problems))
    if not voters:
        return ServingReleases(loaded=sorted(_loaded(replies)), problems=problems)
    champions = {reply.champion for reply in voters if reply.champion is not None}
    if len(champions) > 1:
        problems.insert(0, f"the rankers have different champions: {', '.join(map(str, sorted(champions)))}")
    current = current or ServingReleases(loaded=[])
    champion = _champion(voters, champions, current.champion)
    holdback, percent = _ramp([reply for reply in voters if reply.champion == champion], champion, current)
    vocabularies = [reply.vocabulary_hash for reply in voters if reply.champion == champion]
    kinds = [reply.event_kinds for reply in voters if reply.champion == champion]
    return ServingReleases(
        champion=champion,
        challenger=_settled([reply.challenger for reply in voters], current.challenger),
        holdback=holdback,
        champion_percent=percent,
        loaded=sorted(_loaded(voters)),
        vocabulary_hash=_settled(vocabularies, current.vocabulary_hash) if vocabularies else current.vocabulary_hash,
        event_kinds=_settled(kinds, current.event_kinds) if kinds else current.event_kinds,
        weights_hashes=_settled_by_version([reply.weights_hashes for reply in voters], current.weights_hashes),
        search=_settled_by_version([reply.search for reply in voters], current.search),
        problems=problems,
    )


def _champion(voters: Sequence[ServingReleases], champions: set[int], current: int | None) -> int:
    """The champion that all report. While they differ, the release that most of them have loaded: a replica that cannot
    follow keeps the others back for as long as they all can serve the current champion."""
    if len(champions) == 1:
        return next(iter(champions))
    candidates = champions if current is None else champions | {current}
    return max(
        candidates, key=lambda version: (sum(version in each.loaded for each in voters), version == current, version)
    )


def _ramp(voters: Sequence[ServingReleases], champion: int, current: ServingReleases) -> tuple[int | None, float]:
    """The release before the champion and the champion's share, which belong together."""
    known = (current.holdback, current.champion_percent) if current.champion == champion else None
    return _settled([(voter.holdback, voter.champion_percent) for voter in voters] or [known or (None, 100.0)], known)


def _settled(values: Sequence[T], current: T | None) -> T:
    """The value that all report. While they differ, the current one if it is one of them, or else the most frequent."""
    return next((value for value in values if value == current), Counter(values).most_common(1)[0][0])


def _settled_by_version(replies: Sequence[Mapping[int, T]], current: Mapping[int, T]) -> dict[int, T]:
    """For each version, among the replicas that report a value for it."""
    versions = sorted({version for reply in replies for version in reply})
    reported = {version: [reply[version] for reply in replies if version in reply] for version in versions}
    return {version: _settled(values, current.get(version)) for version, values in reported.items()}


def _loaded(replies: Sequence[ServingReleases]) -> set[int]:
    return {version for reply in replies for version in reply.loaded}
