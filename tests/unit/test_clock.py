"""The clock that tests and simulations move, and what is said about a file that is none."""

import subprocess
import sys
import time
from pathlib import Path

import pytest

from recsys import clock as product_clock
from recsys.clock import ClockFile, of_file
from recsys.errors import DataError

ROOT = Path(__file__).parents[2]
PROGRAM = "import sys; from recsys import clock\nfor line in sys.stdin: print(clock.now(), flush=True)"


def test_it_is_the_time_of_this_machine_by_default() -> None:
    assert product_clock.now is time.time


def test_a_running_process_sees_every_new_time(tmp_path: Path) -> None:
    clock = ClockFile(tmp_path / "clock", 1_900_000_000.25)
    environment = {"CLOCK_FILE": str(clock.path), "PYTHONPATH": str(ROOT)}
    command = [sys.executable, "-c", PROGRAM]
    with subprocess.Popen(command, env=environment, text=True, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as reader:
        assert reader.stdin is not None
        assert reader.stdout is not None

        def read() -> float:
            reader.stdin.write("\n")
            reader.stdin.flush()
            return float(reader.stdout.readline())

        assert read() == 1_900_000_000.25
        clock.advance(3600)
        assert read() == clock.now() == 1_900_003_600.25
        clock.set(0)
        assert read() == 0.0


def test_a_file_that_is_no_clock_is_named(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"missing: CLOCK_FILE names a file that cannot be read: No such file"):
        of_file(tmp_path / "missing")
    (tmp_path / "text").write_text("2026-11-22")
    with pytest.raises(DataError, match=r"text: CLOCK_FILE names a file of 8 bytes, and this one has 10"):
        of_file(tmp_path / "text")
