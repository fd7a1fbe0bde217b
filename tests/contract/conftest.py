"""Processes that only the contract tests need."""

from collections.abc import Iterator

import pytest

from local.settings import HOST, LocalSettings
from tests.engines import local_settings, running


@pytest.fixture(scope="session")
def feature_engines(tmp_path_factory: pytest.TempPathFactory) -> Iterator[LocalSettings]:
    """A Redis, which each test empties itself, and the feature service in front of it."""
    settings = local_settings(tmp_path_factory.mktemp("features"))
    with running(settings, "redis", "feature_service", FEATURE_SERVICE_POPULAR_SECONDS="0"):
        yield settings


def redis_url(settings: LocalSettings) -> str:
    return f"redis://{HOST}:{settings.redis_port}/0"
