"""API keys, what their scopes allow, and what a path needs.

Several keys are valid at the same time, so keys can be rotated without downtime.
"""

import hashlib
import hmac
import re
from collections.abc import Iterable
from dataclasses import dataclass, field
from enum import StrEnum

from recsys.errors import Forbidden

MIN_KEY_LENGTH = 16


class KeyScope(StrEnum):
    """What a key may be used for."""

    RECOMMEND = "recommend"
    """Read recommendations and items."""
    EVENTS = "events"
    """Send events, and nothing else: the scope of a key that everybody can read, such as one in a page."""
    OPERATE = "operate"
    """Metrics, `debug`, the header `X-Variant`, and every path without another scope."""


DEFAULT_SCOPES = frozenset({KeyScope.RECOMMEND, KeyScope.EVENTS})
SCOPES = {
    "/v1/recommendations": KeyScope.RECOMMEND,
    "/v1/popular": KeyScope.RECOMMEND,
    "/v1/items": KeyScope.RECOMMEND,
    "/v1/events": KeyScope.EVENTS,
}
"""The scope that a path needs. A path below `/v1/items` needs the same."""


@dataclass(frozen=True, slots=True)
class Caller:
    name: str
    """The name of its key."""
    scopes: frozenset[KeyScope]
    digest: bytes = field(default=b"", repr=False)

    def require(self, scope: KeyScope, what: str) -> None:
        """Raises `Forbidden` if the caller's key does not have the scope."""
        if scope not in self.scopes:
            has = " and ".join(sorted(self.scopes))
            raise Forbidden(f"{what} needs a key with the scope {scope}; the key {self.name!r} has {has}")


ANONYMOUS = Caller("anybody", frozenset(KeyScope))
"""The caller if no keys are configured."""
UNAUTHENTICATED = Caller("nobody", frozenset())
"""The caller if its key is missing or not valid."""


class ApiKeys:
    """The valid keys, stored as digests."""

    def __init__(self, callers: Iterable[Caller]) -> None:
        self._callers = tuple(callers)

    @classmethod
    def parse(cls, text: str) -> "ApiKeys":
        """From `name:key,name:key:scope+scope`. Raises `ValueError`, whose message never contains a key."""
        callers: list[Caller] = []
        for number, entry in enumerate(filter(None, text.split(",")), start=1):
            name, colon, key_and_scopes = (part.strip() for part in entry.partition(":"))
            if not colon or not re.fullmatch(r"[a-z0-9][a-z0-9_.-]{0,31}", name):
                raise ValueError(
                    f"entry {number} is not `name:key` with a name of up to 32 characters from a-z, 0-9, _, . and -"
                )
            key, colon, scopes = key_and_scopes.partition(":")
            if len(key) < MIN_KEY_LENGTH or not re.fullmatch(r"[!-~]+", key):
                raise ValueError(
                    f"the key of {name!r} needs {MIN_KEY_LENGTH} or more printable ASCII characters without a colon"
                )
            caller = Caller(name, _scopes(name, scopes) if colon else DEFAULT_SCOPES, _digest(key.encode()))
            if name in {other.name for other in callers}:
                raise ValueError(f"two keys have the name {name!r}")
            if caller.digest in {other.digest for other in callers}:
                raise ValueError(f"the key of {name!r} also has another name")
            callers.append(caller)
        return cls(callers)

    def __bool__(self) -> bool:
        return bool(self._callers)

    def caller_of(self, key: bytes) -> Caller | None:
        """The caller with this key, or None if it is not valid. Takes the same time for every key."""
        digest = _digest(key)
        match = None
        for caller in self._callers:
            if hmac.compare_digest(digest, caller.digest):
                match = caller
        return match


def needed_scope(path: str) -> KeyScope:
    """The scope that a path needs, without a proxy's prefix. Whatever is not listed needs `operate`."""
    for known, scope in SCOPES.items():
        if path == known or (known == "/v1/items" and path.startswith("/v1/items/")):
            return scope
    return KeyScope.OPERATE


def _scopes(name: str, text: str) -> frozenset[KeyScope]:
    try:
        return frozenset(KeyScope(word) for word in text.split("+"))
    except ValueError:
        named = ", ".join(KeyScope)
        raise ValueError(f"the scopes of {name!r} are not some of {named}, joined by +; a key has no colon") from None


def _digest(key: bytes) -> bytes:
    return hashlib.sha256(key).digest()
