"""`.env.example` lists exactly the settings that services, jobs and compose.yml read."""

import importlib
import re
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest
import yaml
from pydantic_settings import BaseSettings

ROOT = Path(__file__).parents[2]
PACKAGES = ("orchestrator", "feature_service", "ranker_service", "events", "training", "local", "bench", "simulation")
SETTINGS_MODULES = [*(f"{package}.settings" for package in PACKAGES), "training.guard.settings"]
ENV_EXAMPLE = ROOT / ".env.example"


def settings_classes() -> Iterator[type[BaseSettings]]:
    for name in SETTINGS_MODULES:
        module = importlib.import_module(name)
        for value in vars(module).values():
            if isinstance(value, type) and issubclass(value, BaseSettings) and value.__module__ == name:
                yield value


def names_of(settings: type[BaseSettings]) -> set[str]:
    """The environment variables that the fields are read from."""
    prefix = settings.model_config.get("env_prefix", "")
    aliases = {name: field.validation_alias for name, field in settings.model_fields.items()}
    return {str(alias or prefix + name).upper() for name, alias in aliases.items()}


def in_example() -> list[str]:
    return re.findall(r"^#?([A-Z][A-Z0-9_]*)=", ENV_EXAMPLE.read_text(encoding="utf-8"), re.MULTILINE)


def in_compose() -> set[str]:
    """The variables that compose.yml reads: `${NAME...}`, and `NAME:` without a value."""
    text = (ROOT / "compose.yml").read_text(encoding="utf-8")
    variables = set(re.findall(r"\$\{([A-Z][A-Z0-9_]*)", text))
    for service in yaml.safe_load(text)["services"].values():
        variables |= {name for name, value in service.get("environment", {}).items() if value is None}
    return variables


def test_no_settings_module_is_missing() -> None:
    files = {path.relative_to(ROOT).as_posix() for path in ROOT.glob("[!.]*/**/*.py")}
    written = {file for file in files if "(BaseSettings)" in (ROOT / file).read_text(encoding="utf-8")}
    itself = Path(__file__).relative_to(ROOT).as_posix()
    assert written - {itself} == {f"{name.replace('.', '/')}.py" for name in SETTINGS_MODULES}


@pytest.mark.parametrize("settings", list(settings_classes()), ids=lambda settings: settings.__name__)
def test_every_setting_is_in_the_example(settings: type[BaseSettings]) -> None:
    assert names_of(settings) - set(in_example()) == set()


def test_every_variable_of_compose_is_in_the_example() -> None:
    assert in_compose() - set(in_example()) == set()


def test_every_variable_of_the_example_is_read() -> None:
    read = in_compose().union(*(names_of(settings) for settings in settings_classes()))
    assert set(in_example()) - read == set()


def test_the_example_lists_every_variable_once() -> None:
    assert sorted(in_example()) == sorted(set(in_example()))


def test_make_writes_env_with_random_secrets(tmp_path: Path) -> None:
    for name in ("Makefile", ".env.example"):
        shutil.copy(ROOT / name, tmp_path)
    subprocess.run(["make", ".env"], cwd=tmp_path, check=True, capture_output=True)
    env, example = (tmp_path / ".env").read_text(), ENV_EXAMPLE.read_text()
    assert (tmp_path / ".env").stat().st_mode & 0o077 == 0
    assert "change-me" not in "".join(line for line in env.splitlines() if not line.startswith("#"))
    generated = re.findall(r"^\w+=([0-9a-f]{32})$", env, re.MULTILINE)
    assert len(set(generated)) == len(re.findall(r"^\w+=change-me", example, re.MULTILINE))
    assert re.search(r"^JOBS_USER=\d+:\d+$", env, re.MULTILINE)


def test_every_line_of_the_example_has_a_comment_above_its_group() -> None:
    for paragraph in ENV_EXAMPLE.read_text(encoding="utf-8").split("\n\n")[1:]:
        assert paragraph.startswith("# "), paragraph
