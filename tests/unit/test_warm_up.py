"""Only a replica that says so has loaded a version: one that is down or busy is asked again, until the time is up."""

import json
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import pytest

from local.ports import free_ports
from recsys.errors import JobError
from training.promotion import warm_up
from training.promotion.warm_up import wait_until_loaded

HOST = "127.0.0.1"
TOKEN = "the secret of the services"
LOADED = (200, {"loaded": [1, 7], "champion": 1})
EMPTY = (200, {"loaded": [], "champion": None})


@pytest.fixture(autouse=True)
def short_waits(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(warm_up, "POLL_SECONDS", 0.01)
    monkeypatch.setattr(warm_up, "CALL_SECONDS", 0.2)


@pytest.fixture
def time_is_up(monkeypatch: pytest.MonkeyPatch) -> None:
    """The rankers are asked once."""
    monkeypatch.setattr(warm_up, "WARM_SECONDS", 0)


@contextmanager
def rankers(*scripts: Any) -> Iterator[Any]:
    """URLs of rankers, separated by commas. Each gives its answers in turn, and then its last one for ever.

    An answer is a status and a body; None is no answer at all.
    """
    servers, done = [], threading.Event()
    for script in scripts:
        answers = list(script)

        class Ranker(BaseHTTPRequestHandler):
            asked = answers

            def do_GET(self) -> None:
                answer = self.asked.pop(0) if len(self.asked) > 1 else self.asked[0]
                if self.path != "/v1/releases" or self.headers.get("X-Internal-Token") != TOKEN:
                    answer = 401, {"error": "unauthorized", "detail": "X-Internal-Token"}
                if answer is None:
                    done.wait(10)
                    return
                status, body = answer
                self.send_response(status)
                self.end_headers()
                self.wfile.write(json.dumps(body).encode())

            def log_message(self, *_: Any) -> None:
                pass

        servers.append(ThreadingHTTPServer((HOST, 0), Ranker))
        threading.Thread(target=servers[-1].serve_forever, args=(0.01,), daemon=True).start()
    try:
        yield ",".join(f"http://{HOST}:{server.server_address[1]}" for server in servers)
    finally:
        done.set()
        for server in servers:
            server.shutdown()
            server.server_close()


async def wait(urls: Any) -> Any:
    return await wait_until_loaded(urls, 7, {"X-Internal-Token": TOKEN})


@pytest.mark.usefixtures("time_is_up")
async def test_a_ranker_that_refuses_connections_is_no_reason_to_go_on() -> None:
    with pytest.raises(JobError, match=r"version 7 is not loaded by every ranker, the champion stays.*ConnectError"):
        await wait(f"http://{HOST}:{free_ports(1)[0]}")


BUSY = [(429, {}), (500, {}), (503, {"error": "overloaded"}), None]


@pytest.mark.parametrize("answer", BUSY)
async def test_a_ranker_that_is_busy_is_asked_again(answer: tuple[int, dict[str, str]] | None) -> None:
    with rankers([answer, answer, LOADED]) as urls:
        assert await wait(urls) == "the ranker has it loaded"


@pytest.mark.usefixtures("time_is_up")
@pytest.mark.parametrize("answer", BUSY)
async def test_a_ranker_that_stays_busy_is_no_reason_to_go_on(answer: tuple[int, dict[str, str]] | None) -> None:
    with rankers([answer]) as urls, pytest.raises(JobError, match="the champion stays"):
        await wait(urls)


async def test_every_replica_has_to_load_the_version() -> None:
    with rankers([LOADED], [EMPTY, LOADED], [(503, {}), EMPTY, LOADED]) as urls:
        assert await wait(urls) == "all 3 rankers have it loaded"


@pytest.mark.usefixtures("time_is_up")
async def test_a_replica_without_the_version_is_named() -> None:
    with rankers([LOADED], [EMPTY]) as urls, pytest.raises(JobError) as refused:
        await wait(urls)
    assert f"{urls.split(',')[1]} has loaded nothing" in str(refused.value)
    assert urls.split(",")[0] not in str(refused.value)


async def test_a_ranker_that_cannot_load_it_ends_the_wait() -> None:
    failing = (200, {"loaded": [1], "champion": 1, "problems": ["release 7: needs about 2.1 GB and 0.9 GB are left"]})
    with rankers([LOADED], [failing, LOADED]) as urls, pytest.raises(JobError, match="needs about"):
        await wait(urls)


async def test_a_ranker_that_waits_for_the_registry_is_asked_again() -> None:
    waiting = (200, {"loaded": [1], "champion": 1, "problems": ["release 7: MLflow: upstream_timeout"]})
    with rankers([waiting, LOADED]) as urls:
        await wait(urls)


async def test_a_wrong_token_ends_the_wait() -> None:
    with rankers([LOADED]) as urls, pytest.raises(JobError, match=r"answers with 401.*X-Internal-Token"):
        await wait_until_loaded(urls, 7, {})


async def test_what_is_not_a_ranker_is_named() -> None:
    with rankers([(200, "hello")]) as urls, pytest.raises(JobError, match="does not answer like a ranker"):
        await wait(urls)
    with pytest.raises(JobError, match="RANKER_URL"):
        await wait("ranker:8000")
