"""One promotion or rollback at a time, on any machine: a lease in the model registry.

The registry cannot compare and set. So a job writes its lease, reads it again after a moment, and checks it once more
right before it moves an alias. If two jobs write at the same time, the last one has the lease, and the other one fails.
"""

import os
import socket
import threading
import time
import uuid
from collections.abc import Iterator
from contextlib import contextmanager, suppress

from pydantic import BaseModel, ConfigDict, ValidationError

from recsys.errors import JobError, TandemError
from recsys.model.registry import ModelRegistry

LEASE_TAG = "promotion_lease"
LEASE_SECONDS = 60.0
"""A lease is free this long after its last renewal, by the clock of the machine that reads it."""
RENEW_SECONDS = 15.0
SETTLE_SECONDS = 0.5
"""The time between writing a lease and reading it again: longer than a write to the registry takes."""


class Holder(BaseModel):
    """The tag's value: the job that has the lease."""

    model_config = ConfigDict(frozen=True)

    token: str
    job: str
    host: str
    pid: int
    expires: float
    """Seconds since 1970."""

    @property
    def is_alive(self) -> bool:
        """False if the lease expired, or if its process is known to have ended, which is so on this machine only."""
        if self.expires < time.time():  # noqa: TID251 (leases are renewed in real time)
            return False
        if self.host != socket.gethostname():
            return True
        try:
            os.kill(self.pid, 0)
        except ProcessLookupError:
            return False
        except PermissionError:  # the process of another user
            pass
        return True


class Lease:
    def __init__(self, registry: ModelRegistry, job: str) -> None:
        self._registry = registry
        self._job = job
        self._token = uuid.uuid4().hex
        self._ended = threading.Event()

    def acquire(self, *, take_over: bool) -> None:
        """Raises JobError if another job has the lease. With `take_over` that job loses it, and fails."""
        holder = self._holder()
        if holder is not None and holder.is_alive and not take_over:
            raise JobError(f"{_described(holder)} is running, and only one job at a time may change the champion")
        self._write()
        time.sleep(SETTLE_SECONDS)
        self.require()
        threading.Thread(target=self._renew_until_ended, name="lease", daemon=True).start()

    def require(self) -> None:
        """Raises JobError if another job has taken the lease over. Call it right before an alias moves."""
        holder = self._holder()
        if holder is None or holder.token != self._token:
            found = "no job" if holder is None else _described(holder)
            raise JobError(f"the lease of {self._job} is lost, {found} has it now; the champion stays")

    def release(self) -> None:
        self._ended.set()
        with suppress(TandemError):  # it expires
            holder = self._holder()
            if holder is not None and holder.token == self._token:
                self._registry.delete_shared_tag(LEASE_TAG)

    def _renew_until_ended(self) -> None:
        while not self._ended.wait(RENEW_SECONDS):
            with suppress(TandemError):  # the next renewal may succeed, and `require` checks it in the end
                self.require()
                self._write()

    def _holder(self) -> Holder | None:
        try:
            return Holder.model_validate_json(self._registry.shared_tag(LEASE_TAG) or "")
        except ValidationError:
            return None

    def _write(self) -> None:
        expires = time.time() + LEASE_SECONDS  # noqa: TID251
        holder = Holder(token=self._token, job=self._job, host=socket.gethostname(), pid=os.getpid(), expires=expires)
        self._registry.set_shared_tag(LEASE_TAG, holder.model_dump_json())


@contextmanager
def promotion_lease(registry: ModelRegistry, job: str, *, take_over: bool = False) -> Iterator[Lease]:
    """Hold the lease during the block, as `job`. Raises JobError if another job holds it."""
    lease = Lease(registry, job)
    lease.acquire(take_over=take_over)
    try:
        yield lease
    finally:
        lease.release()


def _described(holder: Holder) -> str:
    return f"{holder.job!r} (process {holder.pid} on {holder.host})"
