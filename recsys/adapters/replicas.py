"""Finds the replicas of a service: the addresses in a setting, and all addresses that a name resolves to."""

import asyncio
import ipaddress
import socket

from yarl import URL

from recsys.errors import UpstreamUnavailable


async def replica_urls(urls: str) -> list[str]:
    """The base URL of every replica, without duplicates.

    `urls` are one or several URLs, separated by commas, as `http://ranker_service:8000`. Raises `ValueError` for
    anything else, and `UpstreamUnavailable` for a name that does not resolve.
    """
    found = [await _replicas_of(URL(url)) for url in split_urls(urls)]
    return list(dict.fromkeys(url for replicas in found for url in replicas))


def split_urls(urls: str) -> list[str]:
    """The URLs of a setting, which separates them by commas. Raises `ValueError` for anything but `http://host:port`."""
    split = [url.strip().rstrip("/") for url in urls.split(",")]
    for url in split:
        try:
            parsed = URL(url)
            valid = parsed.scheme in ("http", "https") and parsed.host is not None and parsed == parsed.origin() / ""
        except ValueError:
            valid = False
        if not valid:
            raise ValueError(f"expected URLs like http://ranker_service:8000, separated by commas; got {url!r}")
    return split


async def _replicas_of(url: URL) -> list[str]:
    """The URL once per address of its host, in ascending order.

    If a name has addresses of both families, the IPv6 ones are left out: they belong to the same replicas. A name in an
    https URL stays, because certificates contain names.
    """
    host, port = url.host, url.port
    assert host is not None
    if url.scheme == "https" or _is_address(host):
        return [str(url.origin())]
    try:
        found = await asyncio.get_running_loop().getaddrinfo(host, port, type=socket.SOCK_STREAM)
    except (OSError, UnicodeError) as error:
        raise UpstreamUnavailable(f"the name {host!r} does not resolve to an address") from error
    families = {family for family, *_ in found}
    wanted = socket.AF_INET if socket.AF_INET in families else socket.AF_INET6
    addresses = {str(address[0]) for family, *_, address in found if family == wanted}
    return [str(URL.build(scheme=url.scheme, host=address, port=port)) for address in sorted(addresses)]


def _is_address(host: str) -> bool:
    try:
        ipaddress.ip_address(host)
    except ValueError:
        return False
    return True
