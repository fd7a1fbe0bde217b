"""Tells API calls from requests for health, metrics and API descriptions, which are always answered."""

from starlette.types import Scope

API_PREFIX = "/v1/"


def is_api_call(scope: Scope) -> bool:
    if scope["type"] != "http":
        return False
    path: str = scope["path"]
    # The router also strips the prefix that a proxy adds.
    return path.removeprefix(scope.get("root_path", "")).startswith(API_PREFIX)
