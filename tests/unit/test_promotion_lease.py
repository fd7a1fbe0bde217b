"""One promotion or rollback at a time, by a lease that every machine sees."""

import socket
import subprocess
import sys
import time
from typing import Any

import pytest

from recsys.errors import JobError
from training.promotion import lease as module
from training.promotion.lease import LEASE_TAG, Holder, promotion_lease


class SharedTags:
    """The part of the registry that a lease uses. Without compare-and-set, like MLflow."""

    def __init__(self) -> None:
        self.tags = {}

    def shared_tag(self, key: str) -> str | None:
        return self.tags.get(key)

    def set_shared_tag(self, key: str, value: Any) -> None:
        self.tags[key] = value

    def delete_shared_tag(self, key: str) -> None:
        del self.tags[key]


@pytest.fixture(autouse=True)
def short_waits(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "SETTLE_SECONDS", 0.01)


@pytest.fixture
def registry() -> SharedTags:
    return SharedTags()


def held_by(registry: SharedTags, **fields: Any) -> None:
    """Another job that has the lease."""
    values = {"token": "another", "job": "promote version 7", "host": "elsewhere", "pid": 1}
    holder = Holder.model_validate({**values, "expires": time.time() + 30, **fields})
    registry.tags[LEASE_TAG] = holder.model_dump_json()


def test_a_second_job_is_refused_and_told_which_one_is_running(registry: SharedTags) -> None:
    with (
        promotion_lease(registry, "promote version 7"),
        pytest.raises(JobError, match=rf"'promote version 7' \(process \d+ on {socket.gethostname()}\) is running"),
        promotion_lease(registry, "rollback"),
    ):
        pass
    with promotion_lease(registry, "rollback"):
        assert "rollback" in registry.tags[LEASE_TAG]
    assert registry.tags == {}


def test_the_lease_of_a_job_that_ended_without_a_word_is_free(registry: SharedTags) -> None:
    held_by(registry, expires=time.time() - 1)
    with promotion_lease(registry, "rollback"):
        pass
    ended = subprocess.Popen([sys.executable, "-c", ""])
    ended.wait()
    held_by(registry, host=socket.gethostname(), pid=ended.pid)
    with promotion_lease(registry, "rollback"):
        pass


def test_of_two_jobs_that_take_the_lease_at_the_same_time_one_has_it(
    registry: SharedTags, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The other job writes between this job's write and its second look."""
    monkeypatch.setattr(module.time, "sleep", lambda _: held_by(registry))
    with pytest.raises(JobError, match="the lease of rollback is lost, 'promote version 7'"):
        promotion_lease(registry, "rollback").__enter__()
    assert "another" in registry.tags[LEASE_TAG], "the lease of the other job was deleted"


def test_a_job_whose_lease_was_taken_over_may_not_move_an_alias(registry: SharedTags) -> None:
    with promotion_lease(registry, "promote version 7") as lease:
        lease.require()
        with (
            promotion_lease(registry, "rollback", take_over=True),
            pytest.raises(JobError, match=r"'rollback'.* has it now; the champion stays"),
        ):
            lease.require()
        with pytest.raises(JobError, match="no job has it now"):
            lease.require()


def test_a_long_job_renews_its_lease(registry: SharedTags, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "RENEW_SECONDS", 0.01)
    with promotion_lease(registry, "promote version 7"):
        first = registry.tags[LEASE_TAG]
        give_up = time.monotonic() + 10
        while registry.tags[LEASE_TAG] == first and time.monotonic() < give_up:
            time.sleep(0.005)
        assert Holder.model_validate_json(registry.tags[LEASE_TAG]).expires > Holder.model_validate_json(first).expires


def test_a_tag_that_is_no_lease_is_overwritten(registry: SharedTags) -> None:
    registry.tags[LEASE_TAG] = "something else"
    with promotion_lease(registry, "rollback"):
        pass
