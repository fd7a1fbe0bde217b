"""The two JSON APIs conform to their OpenAPI descriptions, and answer no valid or invalid request with a 5xx.

Thousands of requests, generated from the descriptions, are sent over sockets to services with a separate Redis.
"""

from collections import Counter
from collections.abc import Iterator
from urllib.parse import quote

import httpx
import pytest
import schemathesis
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st
from schemathesis import APIOperation, BaseSchema, GenerationMode
from schemathesis.checks import not_a_server_error
from schemathesis.specs.openapi.checks import (
    content_type_conformance,
    response_headers_conformance,
    response_schema_conformance,
    status_code_conformance,
)

from local.settings import LocalSettings
from recsys.deadline import DEADLINE_HEADER, LONGEST_MS, SHORTEST_MS
from tests import toy
from tests.conftest import Stack, beside

KEY = "the-key-of-the-tests"
CHECKS = [
    not_a_server_error,
    status_code_conformance,
    content_type_conformance,
    response_headers_conformance,
    response_schema_conformance,
]
EXAMPLES = settings().max_examples
"""The examples of one property, which the Hypothesis profile sets: 100, or fewer in `make check`."""
CASES = 10 * EXAMPLES
"""Minimum number of requests per API."""
# The same cases every time. Failures are reported without shrinking, which takes minutes.
REPRODUCIBLE = settings(
    derandomize=True,
    deadline=None,
    database=None,
    phases=[Phase.explicit, Phase.generate],
    suppress_health_check=list(HealthCheck),
)


@pytest.fixture(scope="module")
def services(stack: Stack, tmp_path_factory: pytest.TempPathFactory) -> Iterator[LocalSettings]:
    """Services that require an API key and have recorded a few events."""
    with beside(
        stack, tmp_path_factory.mktemp("described"), ORCHESTRATOR_API_KEYS=f"tests:{KEY}:recommend+events+operate"
    ) as own:
        events = [{"user_id": "u", "item_id": item, "event": "view"} for item in toy.ITEM_IDS[:5]]
        httpx.post(
            f"{own.feature_service_url}/v1/events", json={"events": events, "known": [True] * len(events)}
        ).raise_for_status()
        yield own


@pytest.fixture(scope="module")
def orchestrator_description(services: LocalSettings) -> BaseSchema:
    return schemathesis.openapi.from_url(f"{services.orchestrator_url}/openapi.json")


@pytest.fixture(scope="module")
def feature_service_description(services: LocalSettings) -> BaseSchema:
    return schemathesis.openapi.from_url(f"{services.feature_service_url}/openapi.json")


def send_requests(description: BaseSchema, examples: int) -> Counter[str]:
    """Send `examples` valid and `examples` invalid requests to every operation. Returns counts by status."""
    answered: Counter[str] = Counter()
    for found in description.get_all_operations():
        for cases in kinds_of_cases(found.ok()):

            @settings(REPRODUCIBLE, max_examples=examples)
            @given(cases)
            def send(case: schemathesis.Case) -> None:
                response = case.call_and_validate(checks=CHECKS, headers={"X-API-Key": KEY, **longest_deadline(case)})
                answered[f"{case.method} {case.path} {response.status_code}"] += 1

            send()
    return answered


def longest_deadline(case: schemathesis.Case) -> dict[str, str]:
    """Replaces a valid deadline with the longest: on a busy machine, a short one correctly leads to a 504."""
    requested = str((case.headers or {}).get(DEADLINE_HEADER, ""))
    valid = requested.isdecimal() and SHORTEST_MS <= int(requested) <= LONGEST_MS
    return {DEADLINE_HEADER: str(LONGEST_MS)} if valid else {}


def kinds_of_cases(operation: APIOperation) -> Iterator[st.SearchStrategy[schemathesis.Case]]:
    yield operation.as_strategy(generation_mode=GenerationMode.POSITIVE)
    if any(operation.iter_parameters()) or operation.body:  # other operations have no invalid requests
        yield operation.as_strategy(generation_mode=GenerationMode.NEGATIVE)
    if "{item_id}" in operation.path:  # random ids are never in the catalogue
        ids = st.sampled_from(toy.ITEM_IDS)
        yield ids.flatmap(lambda item_id: operation.as_strategy(path_parameters={"item_id": quote(item_id, safe="")}))


def test_the_orchestrator_answers_as_described(orchestrator_description: BaseSchema) -> None:
    answered = send_requests(orchestrator_description, examples=EXAMPLES)
    assert answered.total() >= CASES, answered
    for operation in orchestrator_description.get_all_operations():
        named = operation.ok().label
        assert answered[f"{named} 200"], f"{named} never returned 200"


def test_the_feature_service_answers_as_described(feature_service_description: BaseSchema) -> None:
    answered = send_requests(feature_service_description, examples=2 * EXAMPLES)
    assert answered.total() >= CASES, answered
