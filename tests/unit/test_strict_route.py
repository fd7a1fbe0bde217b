"""A body is either valid JSON or rejected as invalid; paths are matched as they were sent."""

import json
from typing import Any

import pytest
from fastapi import APIRouter
from hypothesis import example, given
from hypothesis import strategies as st
from starlette.routing import Match

from recsys.errors import InvalidRequest
from recsys.web.service import create_router
from recsys.web.strict_route import MAX_FIELDS, StrictRequest

text = st.text(st.characters(exclude_categories=["Cs"]), max_size=20)
values = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-(10**300), 10**300)
    | st.floats(allow_nan=False, allow_infinity=False)
    | text,
    lambda inner: st.lists(inner, max_size=5) | st.dictionaries(text, inner, max_size=5),
    max_leaves=30,
)


async def read(body: bytes) -> Any:
    async def receive() -> dict[str, Any]:
        return {"type": "http.request", "body": body}

    return await StrictRequest({"type": "http", "method": "POST", "headers": []}, receive).json()


@given(values, st.booleans())
async def test_json_is_read_as_the_standard_library_writes_it(value: Any, ascii_only: Any) -> None:
    assert await read(json.dumps(value, ensure_ascii=ascii_only).encode()) == value


@given(
    st.binary(max_size=200)
    | text.map(str.encode)
    | st.text('[]{}":,0123456789.eE+-\\u ntfalsr', max_size=60).map(str.encode)
)
@example(b"[" * 100_000)
@example(b'{"a":' * 50_000)
@example(b"1" * 100_000)
@example(b'"\\ud800"')
@example(b"NaN")
@example(b"-Infinity")
async def test_anything_else_is_rejected_as_invalid(body: Any) -> None:
    try:
        expected = json.loads(body)
    except (ValueError, RecursionError):
        with pytest.raises(InvalidRequest, match="body: invalid JSON: "):
            await read(body)
        return
    try:
        assert await read(body) == expected
    except InvalidRequest:
        return  # stricter than the standard library


@pytest.mark.parametrize("wrap", [lambda fields: fields, lambda fields: [fields], lambda fields: [{"a": 1}, fields]])
async def test_the_number_of_fields_is_limited(wrap: Any) -> None:
    fields = {str(number): 1 for number in range(MAX_FIELDS + 1)}
    with pytest.raises(InvalidRequest, match=r"10,00\d fields; at most"):
        await read(json.dumps(wrap(fields)).encode())


@pytest.fixture(scope="module")
def items() -> APIRouter:
    router = create_router("/items")

    @router.get("/{item_id:any}/similar")
    async def similar(item_id: str) -> None: ...

    @router.get("/{item_id:any}")
    async def item(item_id: str) -> None: ...

    return router


@pytest.mark.parametrize(
    ("sent", "path", "expected"),
    [
        (b"/items/a", "/items/a", ("item", "a")),
        (b"/items/a/similar", "/items/a/similar", ("similar", "a")),
        (b"/items/a%2Fsimilar", "/items/a/similar", ("item", "a/similar")),
        (b"/items/a%2Fsimilar/similar", "/items/a/similar/similar", ("similar", "a/similar")),
        (b"/items/a%2Fb", "/items/a/b", ("item", "a/b")),
        (b"/items/%0A", "/items/\n", ("item", "\n")),
    ],
)
def test_an_id_may_end_like_a_path(items: APIRouter, sent: bytes, path: str, expected: tuple[str, str]) -> None:
    scope = {"type": "http", "method": "GET", "path": path, "raw_path": sent}
    matches = [(route.matches(scope), route.name) for route in items.routes]
    (_, child), name = next(found for found in matches if found[0][0] == Match.FULL)
    assert (name, child["path_params"]["item_id"]) == expected
