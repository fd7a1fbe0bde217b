"""`make demo` reports what is wrong in one sentence, without a traceback."""

import socket
import subprocess
from pathlib import Path

import pytest

from tests.e2e.main_job import ROOT, settings_in


@pytest.mark.parametrize("setting", ["ORCHESTRATOR_PORT", "REDIS_PORT"])
def test_a_port_that_is_taken_is_one_clear_sentence(setting: str, tmp_path: Path) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = str(taken.getsockname()[1])
        env = settings_in(tmp_path, **{setting: port})
        ended = subprocess.run(
            [ROOT / ".venv/bin/python", "-m", "local.demo"],
            cwd=ROOT,
            env=env,
            capture_output=True,
            text=True,
            timeout=60,
        )
    assert ended.returncode == 1
    assert f"port {port} is taken by" in ended.stderr
    assert f"{setting}=<port>" in ended.stderr
    assert "Traceback" not in ended.stdout + ended.stderr


def test_a_missing_python_is_one_clear_sentence(tmp_path: Path) -> None:
    command = ["make", "demo", "PYTHON=/nowhere/python", f"VENV={tmp_path / 'venv'}"]
    ended = subprocess.run(command, cwd=ROOT, env=settings_in(tmp_path), capture_output=True, text=True, timeout=60)
    assert ended.returncode != 0
    assert "Python 3.11 or newer is required" in ended.stderr
    assert "Traceback" not in ended.stderr


def test_a_failed_step_is_one_clear_sentence(tmp_path: Path) -> None:
    env = settings_in(tmp_path, DATASET="csv", DATA_SOURCE=str(tmp_path / "missing"))
    ended = subprocess.run(["make", "demo"], cwd=ROOT, env=env, capture_output=True, text=True, timeout=180)
    assert ended.returncode != 0
    assert "prepare: failed: " in ended.stderr
    assert str(tmp_path / "missing") in ended.stderr
    assert "Traceback" not in ended.stdout + ended.stderr
