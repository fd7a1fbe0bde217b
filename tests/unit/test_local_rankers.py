"""A local job waits for the ranker of `make demo`, if that is running, or for those that the operator names."""

from pathlib import Path

import pytest

from local.running import services_lock
from local.settings import LocalSettings
from local.stores import job_environment
from tests.engines import local_settings


@pytest.fixture
def settings(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> LocalSettings:
    for name in ("RANKER_URL", "NO_RANKER"):
        monkeypatch.delenv(name, raising=False)
    return local_settings(tmp_path)


def test_without_a_demo_the_job_is_told_that_there_is_no_ranker(settings: LocalSettings) -> None:
    assert job_environment(settings)["NO_RANKER"] == "true"


def test_beside_a_demo_the_job_waits_for_its_ranker(settings: LocalSettings) -> None:
    with services_lock(settings):
        environment = job_environment(settings)
    assert environment["RANKER_URL"] == settings.ranker_url
    assert "NO_RANKER" not in environment
    assert job_environment(settings)["NO_RANKER"] == "true", "the lock of a demo that ended is still held"


def test_the_rankers_that_the_operator_names_count_without_a_demo(
    settings: LocalSettings, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("RANKER_URL", "http://10.0.0.5:8002,http://10.0.0.6:8002")
    environment = job_environment(settings)
    assert environment["RANKER_URL"] == "http://10.0.0.5:8002,http://10.0.0.6:8002"
    assert "NO_RANKER" not in environment


def test_a_pipeline_that_starts_jobs_does_not_pass_its_own_ranker_on_as_the_operator_s(
    settings: LocalSettings, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("RANKER_URL", job_environment(settings)["RANKER_URL"])
    assert job_environment(settings)["NO_RANKER"] == "true"
