"""compose.yml publishes nothing that is not protected, hands every service its secrets, and names images that exist."""

import re
from itertools import chain
from pathlib import Path
from typing import Any

import pytest
import yaml

from orchestrator.api_keys import ApiKeys, KeyScope

ROOT = Path(__file__).parents[2]
SERVICES: dict[str, dict[str, Any]] = yaml.safe_load((ROOT / "compose.yml").read_text(encoding="utf-8"))["services"]
BUILT = {name for name, service in SERVICES.items() if "build" in service}
KEY = "0123456789abcdef"


def filled(text: str, **variables: str) -> str:
    """Fills in variables as Compose does: `${NAME}`, `${NAME:-default}`, `${NAME:?error}`, `${NAME:+if set}`."""

    def value(match: re.Match[str]) -> str:
        name, operator, word = match.groups()
        if operator == ":+":
            return filled(word.replace("-}", "}"), **variables) if variables.get(name) else ""
        return variables.get(name) or ((word or "") if operator == ":-" else "")

    return re.sub(r"\$\{(\w+)(?:(:[-?+])((?:\$\{\w+-?\}|[^{}])*))?\}", value, text)


def published_at(service: str, **variables: str) -> list[str]:
    """The addresses that the service's ports bind to."""
    return [filled(port, **variables).rsplit(":", 2)[0] for port in SERVICES[service].get("ports", ())]


def test_only_what_asks_who_calls_can_be_opened_to_the_network() -> None:
    opened = {name for name in SERVICES if set(published_at(name, BIND_ADDRESS="0.0.0.0")) - {"127.0.0.1"}}
    assert opened == {"orchestrator", "grafana"}


def test_mlflow_is_reached_from_this_machine_only() -> None:
    for address in ("", "0.0.0.0", "10.0.0.5"):
        assert published_at("mlflow", BIND_ADDRESS=address) == ["127.0.0.1"]


def test_nothing_is_opened_by_default() -> None:
    assert set(chain.from_iterable(published_at(name) for name in SERVICES)) == {"127.0.0.1"}


@pytest.mark.parametrize("service", sorted(BUILT - {"mlflow"}))
def test_every_service_of_ours_has_the_internal_token(service: str) -> None:
    token = SERVICES[service]["environment"]["INTERNAL_TOKEN"]
    assert token.startswith("${INTERNAL_TOKEN:?"), "it must not start without one"


def test_the_key_of_the_stack_may_do_everything_and_other_keys_are_added() -> None:
    setting = SERVICES["orchestrator"]["environment"]["ORCHESTRATOR_API_KEYS"]
    own, page = KEY, KEY[::-1]
    both = ApiKeys.parse(filled(setting, API_KEY=own, ORCHESTRATOR_API_KEYS=f"page:{page}:events"))
    for keys in (both, ApiKeys.parse(filled(setting, API_KEY=own))):
        caller = keys.caller_of(own.encode())
        assert caller is not None
        assert (caller.name, caller.scopes) == ("stack", frozenset(KeyScope))
    added = both.caller_of(page.encode())
    assert added is not None
    assert added.scopes == {KeyScope.EVENTS}


def test_prometheus_sends_the_key_of_the_stack() -> None:
    prometheus = SERVICES["prometheus"]
    scraped = yaml.safe_load((ROOT / "observability/prometheus.yml").read_text())["scrape_configs"]
    files = {job["job_name"]: job["authorization"]["credentials_file"] for job in scraped if "authorization" in job}
    assert files == {"orchestrator": "/tmp/api-key"}
    assert '"$$API_KEY" > /tmp/api-key' in " ".join(prometheus["entrypoint"])
    assert prometheus["environment"]["API_KEY"].startswith("${API_KEY:?")


@pytest.mark.parametrize("service", sorted(set(SERVICES) - BUILT))
def test_images_of_others_are_pinned_by_a_full_version(service: str) -> None:
    assert re.fullmatch(r"[a-z/]+:v?\d+\.\d+\.\d+(-[a-z]+)?", SERVICES[service]["image"])


def test_qdrants_server_and_client_are_within_one_minor_version() -> None:
    server = re.search(r":v(\d+)\.(\d+)\.", SERVICES["qdrant"]["image"])
    locked = {
        match.groups()
        for lock in chain(ROOT.glob("*/requirements.lock"), ROOT.glob("requirements*.lock"))
        for match in re.finditer(r"^qdrant-client==(\d+)\.(\d+)\.", lock.read_text(), re.MULTILINE)
    }
    assert server is not None
    assert len(locked) == 1, "the lock files disagree"
    (major, minor), (client_major, client_minor) = map(int, server.groups()), map(int, locked.pop())
    assert major == client_major
    assert abs(minor - client_minor) <= 1


def test_no_image_has_a_tag_that_could_not_be_confirmed() -> None:
    unconfirmed = {"qdrant/qdrant:v1.20.0-unprivileged"}
    assert {service["image"] for service in SERVICES.values()} & unconfirmed == set()


@pytest.mark.parametrize("service", ["ranker_service", "feature_service"])
def test_a_service_with_replicas_has_nothing_that_only_one_container_can_have(service: str) -> None:
    assert not {"container_name", "hostname", "ports"} & set(SERVICES[service])


@pytest.mark.parametrize(
    "service", ["orchestrator", "feature_service", "ranker_service", "collector", "guard", "retrainer"]
)
def test_a_container_is_healthy_while_it_lives_whatever_else_is_down(service: str) -> None:
    """`make up` waits for this before there is a release, and an engine may restart what is not healthy."""
    assert "/healthz" in SERVICES[service]["healthcheck"]["test"][-1]
