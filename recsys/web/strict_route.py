"""How our services read a request: its body as plain JSON, and its path as it was sent.

pydantic's parser takes half the time of the standard library's and refuses what that one lets through or stumbles over:
deep nesting, NaN, lone surrogates, endless numbers.
"""

from collections.abc import Callable, Coroutine
from typing import Any

from fastapi import Request, Response
from fastapi.routing import APIRoute
from pydantic_core import from_json
from starlette.routing import Match

from recsys.errors import InvalidRequest
from recsys.observability import Scope

MAX_FIELDS = 10_000
"""Of a body's objects together. The largest valid one has 6,000; to complain of each of 100,000 takes half a second."""


class StrictRequest(Request):
    async def json(self) -> Any:
        try:
            parsed = from_json(await self.body(), allow_inf_nan=False)
        except ValueError as error:
            raise InvalidRequest(f"body: no JSON: {error}") from error
        objects = parsed if isinstance(parsed, list) else [parsed]
        fields = sum(len(each) for each in objects if isinstance(each, dict))
        if fields > MAX_FIELDS:
            raise InvalidRequest(f"body: {fields:,} fields arrived; at most {MAX_FIELDS:,} are taken")
        return parsed


class StrictRoute(APIRoute):
    """A path that ends in a fixed word, like `/similar`, is meant only where that word was sent as a segment of its
    own: an id may end in an encoded slash and the same word."""

    def __init__(self, *arguments: Any, **named: Any) -> None:
        super().__init__(*arguments, **named)
        _, slash, last = self.path.rpartition("/")
        self._raw_end = b"" if "{" in last else (slash + last).encode()

    def get_route_handler(self) -> Callable[[Request], Coroutine[Any, Any, Response]]:
        handle = super().get_route_handler()

        async def handle_strictly(request: Request) -> Response:
            return await handle(StrictRequest(request.scope, request.receive))

        return handle_strictly

    def matches(self, scope: Scope) -> tuple[Match, Scope]:
        if not scope.get("raw_path", self._raw_end).endswith(self._raw_end):
            return Match.NONE, {}
        return super().matches(scope)
