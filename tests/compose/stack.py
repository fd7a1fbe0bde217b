"""One stack of containers with its own project name and ports, removed after the tests."""

import json
import os
import secrets
import subprocess
import sys
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, TypeVar

import httpx
import pytest

from tests.compose.engine import PROFILES, ROOT, run
from tests.engines import free_ports

A = TypeVar("A")

UP_SECONDS = 300
BUILD_SECONDS = 1200
BY_HAND = ("jobs", "retrainer", "grafana")
"""Services that `up` leaves out."""
SECRETS = (
    "API_KEY",
    "INTERNAL_TOKEN",
    "QDRANT_API_KEY",
    "MYSQL_PASSWORD",
    "S3_ACCESS_KEY",
    "S3_SECRET_KEY",
    "GRAFANA_PASSWORD",
)


class Stack:
    def __init__(self, data_dir: Path, settings: Mapping[str, str]) -> None:
        self.project = f"tandem-test-{os.getpid()}"
        self.api_port, self.mlflow_port = free_ports(2)
        self.env = {
            **{name: value for name, value in os.environ.items() if not name.startswith("COMPOSE_")},
            **{name: secrets.token_hex(16) for name in SECRETS},
            "COMPOSE_PROJECT_NAME": self.project,
            "COMPOSE_ENV_FILES": os.devnull,
            "ORCHESTRATOR_PORT": str(self.api_port),
            "MLFLOW_PORT": str(self.mlflow_port),
            "DATA_DIR": str(data_dir),
            "JOBS_USER": f"{os.getuid()}:{os.getgid()}",
            **settings,
        }
        key = {"X-API-Key": self.env["API_KEY"]}
        self.api = httpx.Client(base_url=f"http://127.0.0.1:{self.api_port}", timeout=10, headers=key)
        self.mlflow = httpx.Client(base_url=f"http://127.0.0.1:{self.mlflow_port}", timeout=10)

    def compose(self, *arguments: str, timeout: float = UP_SECONDS) -> str:
        return run("docker", "compose", *PROFILES, *arguments, env=self.env, timeout=timeout).stdout

    def make(self, target: str) -> str:
        """Run a make target against this stack. Its errors are shown immediately."""
        ended = subprocess.run(
            ["make", target, "STACK=docker"],
            cwd=ROOT,
            env=self.env,
            text=True,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=sys.__stderr__,
            timeout=BUILD_SECONDS,
            check=False,
        )
        if ended.returncode:
            pytest.fail(f"make {target} exited with {ended.returncode}:\n{ended.stdout[-3000:]}")
        return ended.stdout

    def up(self, *arguments: str) -> None:
        services = [name for name in self.compose("config", "--services").split() if name not in BY_HAND]
        self.compose("up", "--detach", "--wait", *arguments, *services)

    def add(self, file: str) -> None:
        """Let every further command read this file, too."""
        self.env["COMPOSE_FILE"] = f"{self.env.get('COMPOSE_FILE', 'compose.yml')}:{file}"

    def keep_events_in_a_folder(self) -> None:
        """Move the event log from RustFS into a folder; what was collected before stays behind."""
        folder = Path(self.env["DATA_DIR"]) / "events"
        folder.mkdir()
        folder.chmod(0o777)  # the services have other users
        self.add("tests/compose/event_log_folder.yml")
        self.up()

    def containers(self, service: str | None = None) -> dict[str, dict[str, Any]]:
        """The output of `docker inspect` for each container, by name."""
        ids = self.compose("ps", "--all", "--quiet", *([service] if service else [])).split()
        return {each["Name"]: each for each in json.loads(run("docker", "inspect", *ids).stdout)}

    def answer(self, user_id: str, top_k: int = 10) -> dict[str, Any]:
        response = self.api.post("/v1/recommendations", json={"user_id": user_id, "top_k": top_k})
        assert response.status_code == 200, response.text
        return dict(response.json())

    def remove(self) -> None:
        """Remove the stack. Raises AssertionError if any part of it remains."""
        self.api.close()
        self.mlflow.close()
        self.compose("down", "--volumes", "--remove-orphans", "--timeout", "3")
        mine = ("--filter", f"label=com.docker.compose.project={self.project}", "--quiet")
        listings = [("ps", "--all"), ("volume", "ls"), ("network", "ls")]
        left = {" ".join(listing): run("docker", *listing, *mine).stdout.split() for listing in listings}
        assert not any(left.values()), left


def eventually(look: Callable[[], A], seconds: float = 60) -> A:
    """Call `look` until it returns a true value, without an error, and return that value."""
    give_up = time.monotonic() + seconds
    while True:
        try:
            if found := look():
                return found
            problem = "no value"
        except (AssertionError, httpx.HTTPError, KeyError) as error:
            problem = repr(error)
        if time.monotonic() > give_up:
            pytest.fail(f"no result within {seconds:.0f} s: {problem}")
        time.sleep(0.3)
