"""Tells API calls from requests for health, metrics and API descriptions, which are always answered."""

from starlette.types import Scope

API_PREFIX = "/v1/"


def is_api_call(scope: Scope) -> bool:
    return scope["type"] == "http" and path_of(scope).startswith(API_PREFIX)


def path_of(scope: Scope) -> str:
    """The path without the prefix that a proxy adds, as the router sees it."""
    path: str = scope["path"]
    return path.removeprefix(scope.get("root_path", ""))
