"""The time of day for the whole stack: that of this machine or, in tests and simulations, a number in a file.

With CLOCK_FILE, every process maps that file once, so all of them see a new time at the same moment, and reading it
takes no system call. `ClockFile` writes it. How long something takes is measured with `time.monotonic`.
"""

import mmap
import os
import time
from collections.abc import Callable
from pathlib import Path

from recsys.errors import DataError

VARIABLE = "CLOCK_FILE"
SIZE = 8
"""Bytes of the file: one double, as the processor stores it (little-endian on x86 and ARM)."""


class ClockFile:
    """A clock that whoever holds it moves, for all processes that were started with its file."""

    def __init__(self, path: Path, seconds: float) -> None:
        """Create the file, at this Unix time. Processes that have mapped an older file of this name keep that one."""
        partial = path.with_name(f"{path.name}.{os.getpid()}.partial")
        partial.write_bytes(bytes(SIZE))
        self.path = path
        self._time = _mapped(partial, mmap.ACCESS_WRITE)
        self.set(seconds)
        partial.replace(path)

    def now(self) -> float:
        return self._time[0]

    def set(self, seconds: float) -> None:
        self._time[0] = seconds

    def advance(self, seconds: float) -> None:
        self._time[0] += seconds


def of_file(path: Path) -> Callable[[], float]:
    """The clock that a file is. Raises DataError if there is no such file, or if it is not a clock."""
    seconds = _mapped(path, mmap.ACCESS_READ)
    return lambda: seconds[0]


def _mapped(path: Path, access: int) -> "memoryview[float]":
    """A view of one double, which is read and written as a whole."""
    try:
        with path.open("rb" if access == mmap.ACCESS_READ else "r+b") as file:
            size = os.fstat(file.fileno()).st_size
            if size != SIZE:
                raise DataError(f"{VARIABLE} names a file of {SIZE} bytes, and this one has {size}", file=path)
            return memoryview(mmap.mmap(file.fileno(), SIZE, access=access)).cast("d")
    except OSError as error:
        raise DataError(f"{VARIABLE} names a file that cannot be read: {error.strerror}", file=path) from error


now: Callable[[], float] = of_file(Path(os.environ[VARIABLE])) if os.environ.get(VARIABLE) else time.time
"""Seconds since 1970, in UTC."""
