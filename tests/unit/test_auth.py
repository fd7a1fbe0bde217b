"""API keys and rate limits work, and no error message contains a key."""

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from orchestrator.auth import ApiKeys, RateLimits
from orchestrator.settings import OrchestratorSettings
from recsys.errors import RateLimited

PAGE, APP = "0123456789abcdef", "fedcba9876543210"
keys = st.text(st.characters(min_codepoint=33, max_codepoint=126, exclude_characters=","), min_size=16, max_size=64)


def test_a_key_has_a_name():
    known = ApiKeys.parse(f"page:{PAGE}, app:{APP}")
    assert known.name_of(PAGE.encode()) == "page"
    assert known.name_of(APP.encode()) == "app"


@given(keys, st.binary(max_size=100))
def test_other_keys_are_not_valid(key, other):
    known = ApiKeys.parse(f"page:{key}")
    assert known.name_of(key.encode()) == "page"
    assert (known.name_of(other) is None) == (other != key.encode())


def test_without_keys_there_is_no_name():
    assert not ApiKeys.parse("")
    assert ApiKeys.parse(f"page:{PAGE}")


WRONG_KEYS = {
    PAGE: "entry 1",
    f"page:{PAGE},{APP}": "entry 2",
    f"A Page:{PAGE}": "entry 1",
    f":{PAGE}": "entry 1",
    f"page:{PAGE[:15]}": "key of 'page' needs 16",
    f"page:{PAGE} {APP}": "key of 'page' needs 16",
    f"page:{PAGE}é": "key of 'page' needs 16",
    f"page:{PAGE},page:{APP}": "two keys have the name 'page'",
    f"page:{PAGE},app:{PAGE}": "key of 'app' also has another name",
}


@pytest.mark.parametrize("text", WRONG_KEYS)
def test_errors_about_keys_do_not_contain_a_key(monkeypatch, text):
    for name, value in {"FEATURE_SERVICE_URL": "http://f", "RANKER_URL": "http://r", "QDRANT_EDGE_DIR": "q"}.items():
        monkeypatch.setenv(name, value)
    monkeypatch.setenv("ORCHESTRATOR_API_KEYS", text)
    with pytest.raises(ValidationError, match=WRONG_KEYS[text]) as caught:
        OrchestratorSettings()
    assert PAGE[:8] not in str(caught.value)
    assert APP[:8] not in str(caught.value)


def test_settings_do_not_show_keys(monkeypatch):
    monkeypatch.setenv("ORCHESTRATOR_API_KEYS", f"page:{PAGE}")
    with pytest.raises(ValidationError) as caught:  # because other settings are missing
        OrchestratorSettings()
    assert PAGE not in str(caught.value)
    shown = OrchestratorSettings(FEATURE_SERVICE_URL="http://f", RANKER_URL="http://r", QDRANT_EDGE_DIR="q")
    assert PAGE not in repr(shown)


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("ORCHESTRATOR_RATE_LIMIT", "often"),
        ("ORCHESTRATOR_RATE_LIMIT", "10/fortnight"),
        ("ORCHESTRATOR_CORS_ORIGINS", "shop.example"),
        ("ORCHESTRATOR_CORS_ORIGINS", "https://*.shop.example"),
        ("ORCHESTRATOR_CORS_ORIGINS", "https://shop.example/"),
        ("ORCHESTRATOR_CORS_ORIGINS", "*"),
    ],
)
def test_invalid_settings_are_refused(monkeypatch, name, value):
    monkeypatch.setenv(name, value)
    with pytest.raises(ValidationError) as caught:
        OrchestratorSettings(FEATURE_SERVICE_URL="http://f", RANKER_URL="http://r", QDRANT_EDGE_DIR="q")
    assert caught.value.errors()[0]["loc"] == (name.removeprefix("ORCHESTRATOR_").lower(),)


def test_each_caller_has_its_own_limit():
    limits = RateLimits.parse("3/hour")
    for _ in range(3):
        limits.count("page")
    with pytest.raises(RateLimited, match="'page' exceeded its limit of 3 per 1 hour") as caught:
        limits.count("page")
    assert 1 <= caught.value.retry_after_seconds <= 7200
    limits.count("app")


def test_the_narrowest_of_several_limits_applies():
    limits = RateLimits.parse("100/hour;2/day")
    limits.count("page")
    limits.count("page")
    with pytest.raises(RateLimited, match="2 per 1 day"):
        limits.count("page")
