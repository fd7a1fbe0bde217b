"""CPU time and memory of groups of processes."""

from collections.abc import Mapping

import psutil

Groups = Mapping[str, list[psutil.Process]]


def tree(pid: int) -> list[psutil.Process]:
    root = psutil.Process(pid)
    return [root, *root.children(recursive=True)]


def cpu_seconds(groups: Groups) -> dict[str, float]:
    """User and system time so far, by group."""
    return {name: sum(sum(each.cpu_times()[:2]) for each in processes) for name, processes in groups.items()}


def memory_mib(groups: Groups) -> dict[str, float]:
    """Proportional set size, in which shared pages count once."""
    return {name: sum(each.memory_full_info().pss for each in group) / 2**20 for name, group in groups.items()}
