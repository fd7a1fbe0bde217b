"""The README and the docs name only files, folders and make targets that exist."""

import re
from collections.abc import Iterator
from pathlib import Path

import pytest

from training.evaluation.report import TITLES

ROOT = Path(__file__).resolve().parents[2]
PAGES = [ROOT / "README.md", ROOT / "CONTRIBUTING.md", ROOT / "CHANGELOG.md", *sorted((ROOT / "docs").glob("*.md"))]
FOLDERS = {path.name for path in ROOT.iterdir() if path.is_dir()} - {".git", ".run", ".venv"}
FILE_NAME = re.compile(r"[\w.-]+\.(py|md|yml|yaml|toml|txt|lock|example)")
WRITTEN = ("data/processed", "data/reports", "data/models", "data/simulation")
"""Folders that the jobs write."""

page = pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)


def links(text: str) -> list[str]:
    """Targets of relative links, without fragments."""
    return re.findall(r"\]\((?!https?:)([^)#\s]+)", text)


def paths(text: str) -> Iterator[str]:
    """Paths in backticks: into a folder of the repository, or file names with a known suffix."""
    for quoted in re.findall(r"`([^`\s<>*{}]+)`", re.sub(r"^```.*?^```", "", text, flags=re.MULTILINE | re.DOTALL)):
        folder, slash, _ = quoted.partition("/")
        in_repository = slash and folder in FOLDERS and not quoted.startswith(WRITTEN)
        if in_repository or FILE_NAME.fullmatch(quoted):
            yield quoted


@page
def test_every_link_leads_to_a_file(page: Path) -> None:
    assert [link for link in links(page.read_text(encoding="utf-8")) if not (page.parent / link).exists()] == []


@page
def test_every_path_exists(page: Path) -> None:
    named = paths(page.read_text(encoding="utf-8"))
    everywhere = {path.name for folder in FOLDERS for path in (ROOT / folder).rglob("*") if path.is_file()}
    missing = [path for path in named if not (ROOT / path).exists() and path not in everywhere]
    assert missing == []


@page
def test_every_make_target_exists(page: Path) -> None:
    targets = set(re.findall(r"^([a-z-]+):", (ROOT / "Makefile").read_text(encoding="utf-8"), re.MULTILINE))
    named = re.findall(r"(?:`|^)make ((?:[a-z-]+ ?)+)", page.read_text(encoding="utf-8"), re.MULTILINE)
    assert {target for words in named for target in words.split()} - targets == set()


def test_the_results_name_the_models_as_reports_do() -> None:
    page = (ROOT / "docs" / "model.md").read_text(encoding="utf-8")
    named = {cell.strip(" *") for cell in re.findall(r"^\|([^|]*)\|", page, re.MULTILINE)}
    assert set(TITLES.values()) - named == set()


def test_the_map_names_every_folder() -> None:
    text = (ROOT / "docs/architecture.md").read_text(encoding="utf-8")
    folders = {path.name for path in ROOT.iterdir() if path.is_dir() and any(path.glob("*.py"))}
    assert {folder for folder in folders if f"`{folder}/`" not in text} == set()
