"""How much memory this process may still allocate: from a setting, its container's limit, or the machine.

Only memory that the kernel cannot reclaim counts as used. Pages of mapped files are dropped and read again if it needs
them for something else. Sources: proc(5), and cgroup-v1/memory and cgroup-v2 in the kernel's documentation.
"""

import ctypes
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

UNLIMITED = 1 << 60
"""Limits above it, in bytes, are the kernel's way of saying that there is none."""


@dataclass(frozen=True, slots=True)
class MemoryLeft:
    """The tightest of the limits that apply."""

    num_bytes: int
    limit: str
    """Where the limit comes from, for messages."""


def memory_left(
    own_limit: int | None = None, proc: Path = Path("/proc"), cgroups: Path = Path("/sys/fs/cgroup")
) -> MemoryLeft | None:
    """`own_limit` is for this process alone, in bytes. None if nothing can be read, as outside Linux."""
    found = list(_of_cgroups(proc, cgroups))
    try:
        if own_limit is not None:
            fields = _fields(proc / "self" / "status")
            used = (fields["RssAnon:"] + fields["RssShmem:"]) * 1024
            found.append(MemoryLeft(own_limit - used, f"of the {describe_bytes(own_limit)} of RANKER_MEMORY_LIMIT"))
        found.append(MemoryLeft(_fields(proc / "meminfo")["MemAvailable:"] * 1024, "on this machine"))
    except (OSError, KeyError):
        pass
    return min(found, key=lambda left: left.num_bytes, default=None)


def return_freed_memory() -> None:
    """Give freed memory back to the kernel, so that `memory_left` counts it. Does nothing without glibc.

    Without this, a third of a large release was still counted as used after it was unloaded.
    """
    trim = getattr(ctypes.CDLL(None), "malloc_trim", None)
    if trim is not None:
        trim(0)


def describe_bytes(num_bytes: int) -> str:
    """`2.1 GB`, or `350 MB` below 1 GB."""
    if num_bytes >= 1e9:
        return f"{num_bytes / 1e9:.1f} GB"
    return f"{num_bytes / 1e6:.0f} MB"


def _of_cgroups(proc: Path, cgroups: Path) -> Iterator[MemoryLeft]:
    """What is left in the process's group and in the groups around it, in either version of cgroups."""
    try:
        lines = (proc / "self" / "cgroup").read_text().splitlines()
    except OSError:
        return
    for line in lines:  # hierarchy:controllers:path
        _, controllers, path = line.split(":", 2)
        if controllers == "":
            yield from _left_in(cgroups, path, "memory.max", "memory.current", "file", "shmem")
        elif "memory" in controllers.split(","):
            names = ("memory.limit_in_bytes", "memory.usage_in_bytes", "total_cache", "total_shmem")
            yield from _left_in(cgroups / "memory", path, *names)


def _left_in(root: Path, path: str, maximum: str, current: str, cached: str, shared: str) -> Iterator[MemoryLeft]:
    """In a container, the path may be the host's, and `root` itself is the container's group."""
    group = root / path.lstrip("/")
    for folder in (group, *group.parents):
        if folder.is_relative_to(root):
            try:
                limit = int((folder / maximum).read_text())
                statistics = _fields(folder / "memory.stat")
                used = int((folder / current).read_text()) - statistics[cached] + statistics.get(shared, 0)
            except (OSError, ValueError, KeyError):  # no such group, or "max"
                continue
            if limit < UNLIMITED:
                yield MemoryLeft(limit - used, f"of the container's {describe_bytes(limit)}")


def _fields(path: Path) -> dict[str, int]:
    """Lines of a name and a number; others are left out."""
    pairs = (line.split() for line in path.read_text().splitlines())
    return {pair[0]: int(pair[1]) for pair in pairs if len(pair) > 1 and pair[1].isdigit()}
