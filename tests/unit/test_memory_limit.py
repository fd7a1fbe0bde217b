"""How much memory is left: from a setting, both versions of cgroups, and the machine."""

from pathlib import Path

import pytest

from recsys.model.memory_limit import describe_bytes, memory_left

MB = 10**6


@pytest.fixture
def proc(tmp_path: Path) -> Path:
    """A process with 300 kB of its own, on a machine with 8,000 kB available."""
    (tmp_path / "proc" / "self").mkdir(parents=True)
    (tmp_path / "proc" / "self" / "status").write_text(
        "Name:\tpython\nRssAnon:\t     200 kB\nRssFile:\t     900 kB\nRssShmem:\t     100 kB\n"
    )
    (tmp_path / "proc" / "meminfo").write_text("MemTotal:       9000 kB\nMemAvailable:    8000 kB\n")
    (tmp_path / "proc" / "self" / "cgroup").write_text("0::/\n")
    return tmp_path / "proc"


def write(folder: Path, **files: object) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    for name, content in files.items():
        (folder / name.replace("__", ".")).write_text(f"{content}\n")


def test_without_a_limit_the_machine_is_the_limit(proc: Path, tmp_path: Path) -> None:
    left = memory_left(None, proc, tmp_path / "none")
    assert left is not None
    assert (left.num_bytes, left.limit) == (8000 * 1024, "on this machine")


def test_the_setting_limits_what_this_process_cannot_give_back(proc: Path, tmp_path: Path) -> None:
    left = memory_left(MB, proc, tmp_path / "none")
    assert left is not None
    assert (left.num_bytes, left.limit) == (MB - 300 * 1024, "of the 1 MB of RANKER_MEMORY_LIMIT")


def test_mapped_files_of_a_container_do_not_count(proc: Path, tmp_path: Path) -> None:
    root = tmp_path / "cgroup"
    write(root, memory__max=4 * MB, memory__current=3 * MB, memory__stat=f"anon 1\nfile {2 * MB}\nshmem {MB // 2}")
    left = memory_left(None, proc, root)
    assert left is not None
    assert (left.num_bytes, left.limit) == (4 * MB - (3 * MB - 2 * MB + MB // 2), "of the container's 4 MB")


def test_the_tightest_group_counts(proc: Path, tmp_path: Path) -> None:
    (proc / "self" / "cgroup").write_text("0::/outer/inner\n")
    write(tmp_path / "outer", memory__max=2 * MB, memory__current=MB, memory__stat="file 0\nshmem 0")
    write(tmp_path / "outer" / "inner", memory__max="max", memory__current=MB, memory__stat="file 0\nshmem 0")
    left = memory_left(None, proc, tmp_path)
    assert left is not None
    assert left.num_bytes == MB


def test_the_first_version_of_cgroups_with_the_path_of_the_host(proc: Path, tmp_path: Path) -> None:
    (proc / "self" / "cgroup").write_text("5:cpu:/docker/a1\n4:memory:/docker/a1\n0::/docker/a1\n")
    write(
        tmp_path / "memory",
        memory__limit_in_bytes=3 * MB,
        memory__usage_in_bytes=2 * MB,
        memory__stat=f"total_cache {MB}\ntotal_shmem 0",
    )
    left = memory_left(None, proc, tmp_path)
    assert left is not None
    assert left.num_bytes == 2 * MB


def test_no_limit_of_the_kernel_is_none(proc: Path, tmp_path: Path) -> None:
    (proc / "self" / "cgroup").write_text("4:memory:/\n")
    write(
        tmp_path / "memory",
        memory__limit_in_bytes=9223372036854771712,
        memory__usage_in_bytes=2 * MB,
        memory__stat="total_cache 0",
    )
    left = memory_left(None, proc, tmp_path)
    assert left is not None
    assert left.limit == "on this machine"


def test_outside_linux_nothing_is_known(tmp_path: Path) -> None:
    assert memory_left(10 * MB, tmp_path, tmp_path) is None


@pytest.mark.parametrize(("num_bytes", "text"), [(2_140_000_000, "2.1 GB"), (350_400_000, "350 MB")])
def test_bytes_in_words(num_bytes: int, text: str) -> None:
    assert describe_bytes(num_bytes) == text
