"""Runs the README's commands as written, except for a free port and little training."""

import json
import re
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.e2e.main_job import READY, ROOT, Running, running, settings_in

README = (ROOT / "README.md").read_text()
BLOCKS = [block.strip() for block in re.findall(r"```bash\n(.*?)```", README, re.DOTALL)]
CURLS = [curl for block in BLOCKS for curl in re.split(r"\n(?=curl )", block) if curl.startswith("curl ")]


@pytest.fixture(scope="module")
def demo(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Running]:
    command = BLOCKS[0]
    assert command == "make demo"
    with running(command.split(), settings_in(tmp_path_factory.mktemp("readme"), TRAIN_MINUTES="0.1")) as started:
        started.wait_for(READY)
        yield started


def test_there_is_a_curl_for_each_call() -> None:
    shown = "\n".join(CURLS)
    for path in ("/v1/recommendations", "/v1/events", "/v1/popular", "/v1/items?query=", "/similar", "/v1/items/P"):
        assert path in shown


@pytest.mark.parametrize("curl", CURLS, ids=lambda curl: curl.split("8000")[1].split()[0])
def test_each_curl_gets_what_the_readme_says(curl: str, demo: Running) -> None:
    command = curl.replace("http://127.0.0.1:8000", demo.url("ORCHESTRATOR_PORT"))
    ended = subprocess.run(["bash", "-c", command], capture_output=True, text=True, timeout=30, check=True)
    answer = json.loads(ended.stdout)
    assert "error" not in answer
    assert next(iter(answer.values())), answer


def test_every_make_target_of_the_readme_exists() -> None:
    listed = subprocess.run(["make", "help"], cwd=ROOT, capture_output=True, text=True, check=True).stdout
    targets = set(re.findall(r"^  ([a-z-]+) ", listed, re.MULTILINE))
    named = set(re.findall(r"`make ([a-z-]+)", README)) | set(re.findall(r"^make ([a-z-]+)", README, re.MULTILINE))
    assert named - targets == set()
    assert {"demo", "test", "data", "train", "evaluate", "register", "index", "seed"} <= named


def test_every_file_the_readme_links_to_exists() -> None:
    links = re.findall(r"\]\((?!http)([^)#]+)\)", README)
    assert links
    assert [link for link in links if not (ROOT / Path(link)).exists()] == []
