"""Which requests are calls of the API; health, metrics and descriptions are not, and are always answered."""

from recsys.observability import Scope

API_PREFIX = "/v1/"


def is_api_call(scope: Scope) -> bool:
    if scope["type"] != "http":
        return False
    path: str = scope["path"]
    # As the router sees it: without what a proxy put before it.
    return path.removeprefix(scope.get("root_path", "")).startswith(API_PREFIX)
