"""Ids that no API call accepts may still be in stores that were filled before; they must not fail a request."""

from typing import Any

import pytest

from recsys.adapters.http_clients import HttpFeatureStore, HttpRanker
from recsys.contracts.base import MAX_ID_LENGTH
from recsys.contracts.recall import Retrieval
from recsys.errors import UpstreamAnswerInvalid, UpstreamTimeout

LONG = "x" * (MAX_ID_LENGTH + 1)


class SendsNothing:
    """Stands in for a session: keeps the body of a request, and fails it."""

    sent: bytes = b""

    def request(self, *_: object, data: bytes, **__: object) -> Any:
        self.sent = data
        raise TimeoutError


async def test_long_ids_of_a_history_are_not_sent() -> None:
    session: Any = SendsNothing()
    with pytest.raises(UpstreamTimeout):
        await HttpRanker(session).encode(["a", LONG, "b"])
    assert b'"recent_items":["a","b"]' in session.sent
    with pytest.raises(UpstreamTimeout):
        await HttpRanker(session).rank([LONG, "a"], ["b"])
    assert b'"recent_items":["a"]' in session.sent


async def test_other_long_ids_fail_their_stage_and_not_the_request() -> None:
    session: Any = SendsNothing()
    retrieval = Retrieval(1, "hash", [1.0], 1, [LONG], ["a"])
    for call in (
        HttpRanker(session).encode([LONG]),
        HttpRanker(session).rank(["a"], [LONG]),
        HttpRanker(session).recall(retrieval),
        HttpFeatureStore(session).seen_among("u", [LONG]),
    ):
        with pytest.raises(UpstreamAnswerInvalid, match="a store holds an id"):
            await call
    assert session.sent == b""
