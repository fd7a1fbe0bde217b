"""Provides a Docker engine, from this machine or from the lab, with the images of compose.yml and the Dockerfiles."""

import json
import os
import re
import shutil
import subprocess
from collections.abc import Mapping
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
LAB = Path(os.environ.get("TANDEM_SHARED", ROOT.parent / "shared")) / "docker-lab" / "lab"
PROFILES = ("--profile", "jobs", "--profile", "observability", "--profile", "retraining")
NOT_RUN = {"grafana"}
"""It has no stand-in. Its configuration is checked instead."""


def run(
    *command: str, env: Mapping[str, str] | None = None, check: bool = True, timeout: float = 120
) -> subprocess.CompletedProcess[str]:
    """Run a command in the repository's folder. If it fails, the test fails with its output."""
    ended = subprocess.run(
        command,
        cwd=ROOT,
        env=env,
        text=True,
        capture_output=True,
        stdin=subprocess.DEVNULL,
        timeout=timeout,
        check=False,
    )
    if check and ended.returncode:
        pytest.fail(f"{' '.join(command)} failed ({ended.returncode}):\n{ended.stdout[-3000:]}{ended.stderr[-3000:]}")
    return ended


def ensure_engine() -> None:
    """Make an engine with Compose available, or skip the tests."""
    if shutil.which("docker") and all(succeeds("docker", *command) for command in (("info",), ("compose", "version"))):
        return
    if not LAB.exists():
        pytest.skip(f"no Docker engine with Compose is available, and {LAB} does not exist")
    run(str(LAB), "up", timeout=900)


def succeeds(*command: str) -> bool:
    return run(*command, check=False).returncode == 0


def ensure_images(env: Mapping[str, str]) -> dict[str, bool]:
    """Pull the needed images, or build them as stand-ins. Returns for each image whether it is a stand-in."""
    images = needed_images(env)
    if LAB.exists() and any(label(image) is None for image in images):
        run(str(LAB), "up", *images, timeout=1200)
    for image in images:
        if label(image) is None:
            run("docker", "pull", "--quiet", image, timeout=900)
    return {image: bool(label(image)) for image in images}


def needed_images(env: Mapping[str, str]) -> list[str]:
    config = json.loads(run("docker", "compose", *PROFILES, "config", "--format", "json", env=env).stdout)
    images = set()
    for name, service in config["services"].items():
        if "build" in service:
            dockerfile = Path(service["build"]["context"]) / service["build"]["dockerfile"]
            stages = set(re.findall(r"^FROM .* AS (\S+)$", dockerfile.read_text(), re.MULTILINE))
            images |= set(re.findall(r"^FROM (\S+)", dockerfile.read_text(), re.MULTILINE)) - stages
        elif name not in NOT_RUN:
            images.add(service["image"])
    return sorted(images)


def label(image: str) -> str | None:
    """An image's `standin` label, which is empty for a real image. None if the engine does not have the image."""
    found = run("docker", "image", "inspect", "-f", '{{index .Config.Labels "standin"}}', image, check=False)
    return None if found.returncode else found.stdout.strip()
