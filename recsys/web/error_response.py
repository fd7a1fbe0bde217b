"""The HTTP response for a `TandemError`, the same in every middleware and endpoint."""

from starlette.responses import JSONResponse

from recsys.contracts.base import ErrorResponse
from recsys.errors import TandemError


def error_response(error: TandemError) -> JSONResponse:
    headers = dict(error.headers)
    if error.retry_after_seconds is not None:
        headers["retry-after"] = str(error.retry_after_seconds)
    return JSONResponse(ErrorResponse(error=error.code, detail=str(error)).model_dump(), error.status, headers)
