"""The secret that Tandem's services and jobs share. The services behind the orchestrator refuse calls without it."""

import re
from typing import Annotated

from pydantic import AfterValidator, SecretStr

INTERNAL_TOKEN_HEADER = "X-Internal-Token"  # noqa: S105 - the name of a header
MIN_TOKEN_LENGTH = 16


def internal_headers(token: SecretStr | None) -> dict[str, str]:
    """The headers of calls to the services behind the orchestrator."""
    return {} if token is None else {INTERNAL_TOKEN_HEADER: token.get_secret_value()}


def _check(token: SecretStr) -> SecretStr:
    """Raises `ValueError`, whose message does not contain the token."""
    text = token.get_secret_value()
    if len(text) < MIN_TOKEN_LENGTH or not re.fullmatch(r"[!-~]+", text):
        raise ValueError(f"the token needs {MIN_TOKEN_LENGTH} or more printable ASCII characters without spaces")
    return token


InternalToken = Annotated[SecretStr, AfterValidator(_check)]
"""For settings. Their model needs `hide_input_in_errors`, because pydantic's messages repeat the input."""
