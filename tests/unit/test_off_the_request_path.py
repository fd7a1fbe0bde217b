"""Which calls of the ranker do not wait for its admission control."""

import pytest

from ranker_service.endpoints import is_off_the_request_path


@pytest.mark.parametrize("path", ["/v1/releases", "/v1/releases/12/items", "/v1/recall"])
def test_a_busy_ranker_still_serves_files_and_says_what_it_has_loaded(path):
    assert is_off_the_request_path(path)


@pytest.mark.parametrize("path", ["/v1/encode", "/v1/rank", "/v1/releases/", "/v1/releases/x/items", "/v1/recalls"])
def test_what_computes_or_is_unknown_waits_its_turn(path):
    assert not is_off_the_request_path(path)
