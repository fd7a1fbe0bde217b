"""The peer: the composition of Ray Serve's tutorial, in an environment and processes of its own."""

import os
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import httpx

from local.settings import HOST
from local.stores import dies_with_parent
from recsys.errors import JobError

FOLDER = Path(__file__).parents[1] / "peers" / "ray"
START_SECONDS = 120
STOP_SECONDS = 30


def ray_environment(folder: Path) -> Path:
    """The Python of a virtual environment with Ray, which is created if it is missing. Raises JobError."""
    python = folder / "bin" / "python"
    if not python.exists():
        print("installing Ray Serve, once", flush=True)
        requirements = FOLDER / "requirements.txt"
        partial = folder.with_name(f"{folder.name}.partial")
        try:
            subprocess.run([sys.executable, "-m", "venv", "--clear", str(partial)], check=True)
            pip = [str(partial / "bin" / "python"), "-m", "pip", "install", "--quiet"]
            subprocess.run([*pip, "-r", str(requirements)], check=True)
        except subprocess.CalledProcessError as error:
            raise JobError(f"Ray could not be installed: {error}") from error
        partial.rename(folder)
    return python


@contextmanager
def ray_running(python: Path, port: int, log_file: Path) -> Iterator[subprocess.Popen[bytes]]:
    """The composition, answering on `port`. Raises JobError if it does not start."""
    environment = {**os.environ, "RAY_SERVE_THROUGHPUT_OPTIMIZED": "1", "RAY_USAGE_STATS_ENABLED": "0"}
    with log_file.open("wb") as log:
        process = subprocess.Popen(
            dies_with_parent([str(python), str(FOLDER / "composition.py"), str(port)]),
            env=environment,
            stdout=log,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )
    try:
        _wait_until_it_answers(process, f"http://{HOST}:{port}/", log_file)
        yield process
    finally:
        process.terminate()
        try:
            process.wait(STOP_SECONDS)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()


def _wait_until_it_answers(process: subprocess.Popen[bytes], url: str, log_file: Path) -> None:
    give_up = time.monotonic() + START_SECONDS
    while True:
        try:
            if httpx.post(url, json={"user_id": "u"}, timeout=5).is_success:
                return
        except httpx.HTTPError:
            pass
        if process.poll() is not None or time.monotonic() > give_up:
            raise JobError(f"Ray Serve does not answer; its log is {log_file}")
        time.sleep(0.5)
