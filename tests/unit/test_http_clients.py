"""Ids that no API call accepts may still be in stores that were filled before; they must not fail a request."""

from typing import Any

import pytest

from recsys.adapters.http_clients import HttpFeatureStore, HttpRanker
from recsys.contracts.base import MAX_ID_LENGTH
from recsys.contracts.recall import Retrieval
from recsys.errors import UpstreamAnswerInvalid, UpstreamTimeout

LONG = "x" * (MAX_ID_LENGTH + 1)


class SendsNothing:
    """Stands in for a pool: keeps the body of a request, and fails it."""

    sent: bytes = b""

    async def request(self, _: str, __: str, body: bytes, *___: object) -> Any:
        self.sent = body
        raise TimeoutError


async def test_long_ids_of_a_history_are_not_sent() -> None:
    pool: Any = SendsNothing()
    with pytest.raises(UpstreamTimeout):
        await HttpRanker(pool).encode(["a", LONG, "b"])
    assert b'"recent_items":["a","b"]' in pool.sent
    with pytest.raises(UpstreamTimeout):
        await HttpRanker(pool).rank([LONG, "a"], ["b"])
    assert b'"recent_items":["a"]' in pool.sent


async def test_other_long_ids_fail_their_stage_and_not_the_request() -> None:
    pool: Any = SendsNothing()
    retrieval = Retrieval(1, "hash", [1.0], 1, [LONG], ["a"])
    for call in (
        HttpRanker(pool).encode([LONG]),
        HttpRanker(pool).rank(["a"], [LONG]),
        HttpRanker(pool).recall(retrieval),
        HttpFeatureStore(pool).seen_among("u", [LONG]),
    ):
        with pytest.raises(UpstreamAnswerInvalid, match="a store holds an id"):
            await call
    assert pool.sent == b""
