"""What the README shows and names exists. `test_demo.py` runs its commands."""

import re
import subprocess
from pathlib import Path

from tests.e2e.main_job import ROOT
from tests.e2e.readme import CURLS, README


def test_there_is_a_curl_for_each_call() -> None:
    shown = "\n".join(CURLS)
    for path in ("/v1/recommendations", "/v1/events", "/v1/popular", "/v1/items?query=", "/similar", "/v1/items/P"):
        assert path in shown


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
