"""Which releases an orchestrator requests while the replicas of the ranker follow the registry one after the other."""

from typing import Any

import pytest

from recsys.adapters.replica_agreement import agreed_releases
from recsys.contracts.event_kinds import EventKinds, KindMeaning
from recsys.contracts.retrieval import SearchSettings, ServingReleases

EXACT, GRAPH = SearchSettings(hnsw_ef=None), SearchSettings(hnsw_ef=128)
EMPTY = ServingReleases(loaded=[])


def reply(champion: int | None, *loaded: int, **more: Any) -> ServingReleases:
    weights = {version: f"weights of {version}" for version in loaded}
    return ServingReleases(champion=champion, loaded=list(loaded), weights_hashes=weights, **more)


FIRST, SECOND = reply(1, 1, 2), reply(2, 1, 2)
"""The replies of a replica before and after the champion's alias moves from 1 to 2."""


def champion(*replies: ServingReleases, current: int | None = 1) -> int | None:
    known = None if current is None else reply(current, current)
    return agreed_releases(replies, known).champion


def test_a_champion_that_all_replicas_report_is_taken_over() -> None:
    assert champion(FIRST, FIRST, FIRST, current=None) == 1
    assert champion(SECOND, SECOND, SECOND) == 2
    assert champion(FIRST, FIRST, FIRST, current=2) == 1, "a rollback"


def test_while_replicas_follow_the_current_champion_stays() -> None:
    assert champion(SECOND, FIRST, FIRST) == 1
    assert champion(SECOND, SECOND, FIRST) == 1
    assert champion(FIRST, SECOND, SECOND, current=2) == 2, "a rollback"


def test_without_a_current_champion_the_newer_of_two_is_chosen() -> None:
    assert champion(SECOND, FIRST, FIRST, current=None) == 2


def test_a_replica_without_a_champion_has_no_vote() -> None:
    assert champion(EMPTY, SECOND, EMPTY) == 2
    assert champion(EMPTY, FIRST, SECOND) == 1
    assert champion(reply(None, 2), FIRST) == 1


def test_no_replica_with_a_champion() -> None:
    agreed = agreed_releases([EMPTY, reply(None, 2)], FIRST)
    assert (agreed.champion, agreed.loaded) == (None, [2])


def test_a_replica_that_cannot_follow_keeps_the_others_back_while_they_can_serve_with_it() -> None:
    stuck = reply(1, 1)
    assert champion(stuck, SECOND, SECOND) == 1
    assert champion(stuck, reply(3, 1, 2, 3), reply(3, 1, 2, 3)) == 1, "the retired release is still loaded"
    assert champion(stuck, reply(4, 2, 3, 4), reply(4, 2, 3, 4)) == 4, "otherwise one replica would serve everything"


def test_a_champion_that_is_loaded_nowhere_is_left() -> None:
    assert champion(reply(3, 2, 3), reply(2, 2, 3), current=1) == 3


def test_the_meanings_of_kinds_are_those_of_the_champion() -> None:
    kinds = [EventKinds({"view": KindMeaning(weight=weight)}) for weight in (1.0, 2.0)]
    first, second = reply(1, 1, 2, event_kinds=kinds[0]), reply(2, 1, 2, event_kinds=kinds[1])
    assert agreed_releases([first, first], None).event_kinds == kinds[0]
    assert agreed_releases([first, second], first).event_kinds == kinds[0]
    assert agreed_releases([second, second], first).event_kinds == kinds[1]


def test_different_champions_are_a_problem() -> None:
    agreed = agreed_releases([FIRST, SECOND, EMPTY], None)
    assert agreed.problems == ["the rankers have different champions: 1, 2"]
    assert agreed_releases([FIRST, FIRST, EMPTY], None).problems == []


def test_problems_of_all_replicas_are_told_once() -> None:
    damaged = reply(1, 1, problems=["release 2: damaged"])
    other = reply(1, 1, problems=["release 2: damaged", "MLflow: upstream_unavailable"])
    agreed = agreed_releases([damaged, other], None)
    assert agreed.problems == ["release 2: damaged", "MLflow: upstream_unavailable"]
    assert agreed_releases([reply(None, problems=["no space"])], None).problems == ["no space"]


@pytest.mark.parametrize("current", [EXACT, GRAPH])
def test_search_settings_and_challengers_stay_until_all_replicas_report_the_new_ones(current: Any) -> None:
    known = reply(1, 1, 2, search={1: current}, challenger=None)
    old = reply(1, 1, 2, search={1: EXACT}, challenger=None)
    new = reply(1, 1, 2, search={1: GRAPH}, challenger=2)
    before = agreed_releases([old, new, new], known)
    assert (before.search, before.challenger) == ({1: current}, None)
    after = agreed_releases([new, new, new], before)
    assert (after.search, after.challenger) == ({1: GRAPH}, 2)


def test_search_settings_that_one_replica_has_not_read_yet() -> None:
    assert agreed_releases([reply(1, 1), reply(1, 1, search={1: GRAPH})], None).search == {1: GRAPH}


def test_weights_stay_while_replicas_differ() -> None:
    old, new = (ServingReleases(champion=1, loaded=[1], weights_hashes={1: name}) for name in ("old", "new"))
    assert agreed_releases([old, new], old).weights_hashes == {1: "old"}
    assert agreed_releases([new, old, old], None).weights_hashes == {1: "old"}
    assert agreed_releases([new, new], old).weights_hashes == {1: "new"}


def test_the_share_of_a_ramp_stays_until_all_replicas_report_the_new_one() -> None:
    ten, half = (reply(2, 1, 2, holdback=1, champion_percent=percent) for percent in (10.0, 50.0))
    agreed = agreed_releases([ten, half, half], ten)
    assert (agreed.holdback, agreed.champion_percent) == (1, 10)
    agreed = agreed_releases([half, half, half], agreed)
    assert (agreed.holdback, agreed.champion_percent) == (1, 50)


def test_a_ramp_begins_with_its_champion() -> None:
    ramped = reply(2, 1, 2, holdback=1, champion_percent=10.0)
    before = agreed_releases([ramped, FIRST], FIRST)
    assert (before.champion, before.holdback, before.champion_percent) == (1, None, 100)
    after = agreed_releases([ramped, ramped], before)
    assert (after.champion, after.holdback, after.champion_percent) == (2, 1, 10)
    assert agreed_releases([FIRST, FIRST], after).holdback is None, "a rollback"


def test_a_ramp_stays_while_no_replica_reports_its_champion() -> None:
    ramped = reply(2, 1, 2, 3, holdback=1, champion_percent=10.0)
    agreed = agreed_releases([reply(1, 1, 2, 3), reply(3, 1, 2, 3)], ramped)
    assert (agreed.champion, agreed.holdback, agreed.champion_percent) == (2, 1, 10)
