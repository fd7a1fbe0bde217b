"""An unhandled error is answered with a 500 that reveals nothing, and logged with the request id."""

import asyncio
import json
import subprocess
import sys
from pathlib import Path

import httpx
import pytest

from recsys.observability import configure_logging
from recsys.web.admission import Admission
from recsys.web.service import create_api, create_router, middleware_stack

SECRET = 'redis://10.0.0.7:6379 in /srv/secret.py\n{"event": "forged"}'


async def call_failing_endpoint() -> None:
    """Log like a service, and print the response."""
    configure_logging("test", "info")
    router = create_router("/v1")

    @router.get("/fails")
    async def fails() -> None:
        raise RuntimeError(SECRET)

    api = create_api("test", "", middleware_stack(Admission(1, 1, 1000, may_wait=0.25)))
    api.include_router(router)
    async with httpx.AsyncClient(transport=httpx.ASGITransport(api), base_url="http://test") as client:
        response = await client.get("/v1/fails", headers={"X-Request-Id": "42"})
    print(json.dumps([response.status_code, response.headers["x-request-id"], response.text]))


@pytest.fixture(scope="module")
def lines() -> list:
    ended = subprocess.run(
        [sys.executable, "-m", __name__], cwd=Path(__file__).parents[2], capture_output=True, text=True, check=True
    )
    assert ended.stderr == ""
    return [json.loads(line) for line in ended.stdout.splitlines()]


def test_the_response_only_points_to_the_log(lines: list) -> None:
    status, request_id, text = lines[-1]
    assert (status, request_id) == (500, "42")
    detail = "unexpected error; see the log for this request id"
    assert json.loads(text) == {"error": "internal_error", "detail": detail}


def test_the_log_has_the_whole_error_on_one_line(lines: list) -> None:
    unexpected, served = lines[:-1]
    assert (unexpected["event"], unexpected["request_id"]) == ("unexpected_error", "42")
    assert SECRET in unexpected["exception"]
    assert "Traceback" in unexpected["exception"]
    assert (served["event"], served["request_id"], served["status"]) == ("request_served", "42", 500)


if __name__ == "__main__":
    asyncio.run(call_failing_endpoint())
