"""ASGI middleware of the services behind the orchestrator: refuses calls without the shared secret.

A call is refused before its body is read. Only the paths that probes and Prometheus use stay open.
"""

import hmac

from prometheus_client import Counter
from pydantic import SecretStr
from starlette.types import ASGIApp, Receive, Scope, Send

from recsys.errors import Unauthorized
from recsys.internal_token import INTERNAL_TOKEN_HEADER
from recsys.web.error_response import error_response

OPEN_PATHS = frozenset({"/healthz", "/livez", "/readyz", "/metrics"})
HEADER = INTERNAL_TOKEN_HEADER.lower().encode()

REFUSED = Counter("tandem_internal_refused_total", "Calls refused because they lack the internal token.")


class InternalTokenMiddleware:
    def __init__(self, app: ASGIApp, token: SecretStr | None) -> None:
        """Without a token, every call passes."""
        self._app = app
        self._token = None if token is None else token.get_secret_value().encode()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http" or self._token is None or _may_pass(scope, self._token):
            await self._app(scope, receive, send)
            return
        REFUSED.inc()
        error = Unauthorized(
            f"the header {INTERNAL_TOKEN_HEADER} is missing or wrong; only Tandem's services call here"
        )
        await error_response(error)(scope, receive, send)


def _may_pass(scope: Scope, token: bytes) -> bool:
    if scope["path"] in OPEN_PATHS:
        return True
    sent = next((value for name, value in scope["headers"] if name == HEADER), b"")
    return hmac.compare_digest(sent, token)
