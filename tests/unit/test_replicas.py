import asyncio
import socket
from typing import Any

import pytest

from recsys.adapters.replicas import replica_urls, split_urls
from recsys.errors import UpstreamUnavailable

ADDRESSES = {
    "rankers": [(socket.AF_INET, "10.0.0.12"), (socket.AF_INET, "10.0.0.3")],
    "both": [(socket.AF_INET6, "::1"), (socket.AF_INET, "127.0.0.1")],
    "six": [(socket.AF_INET6, "fd00::2"), (socket.AF_INET6, "fd00::1")],
}


@pytest.fixture(autouse=True)
async def names(monkeypatch: pytest.MonkeyPatch) -> None:
    """The name server knows the names in ADDRESSES."""

    async def getaddrinfo(host: str, port: int, **_: Any) -> Any:
        if host not in ADDRESSES:
            raise socket.gaierror(socket.EAI_NONAME, "Name or service not known")
        return [(family, socket.SOCK_STREAM, 6, "", (address, port)) for family, address in ADDRESSES[host]]

    monkeypatch.setattr(asyncio.get_running_loop(), "getaddrinfo", getaddrinfo)


@pytest.mark.parametrize(
    ("urls", "expected"),
    [
        ("http://127.0.0.1:8002", ["http://127.0.0.1:8002"]),
        ("http://127.0.0.1:8002/", ["http://127.0.0.1:8002"]),
        ("http://127.0.0.1:1, http://127.0.0.1:2,http://127.0.0.1:1", ["http://127.0.0.1:1", "http://127.0.0.1:2"]),
        ("http://rankers:8000", ["http://10.0.0.12:8000", "http://10.0.0.3:8000"]),
        ("http://rankers", ["http://10.0.0.12", "http://10.0.0.3"]),
        ("http://rankers:8000,http://10.0.0.3:8000", ["http://10.0.0.12:8000", "http://10.0.0.3:8000"]),
        ("http://both:8000", ["http://127.0.0.1:8000"]),
        ("http://six:8000", ["http://[fd00::1]:8000", "http://[fd00::2]:8000"]),
        ("http://[fd00::7]:8000", ["http://[fd00::7]:8000"]),
        ("https://rankers.example", ["https://rankers.example"]),
    ],
)
async def test_every_replica_is_found_once(urls: str, expected: list[str]) -> None:
    assert await replica_urls(urls) == expected


async def test_a_name_that_does_not_resolve_is_named() -> None:
    with pytest.raises(UpstreamUnavailable, match="the name 'nowhere' does not resolve"):
        await replica_urls("http://rankers:8000,http://nowhere:8000")


@pytest.mark.parametrize("wrong", ["", "ranker:8000", "http://a:1,", "http://a:1/path", "http://a:1?b=c", "http://a:x"])
def test_anything_else_is_refused(wrong: str) -> None:
    with pytest.raises(ValueError, match=r"expected URLs like http://ranker_service:8000, separated by commas; got"):
        split_urls(wrong)
