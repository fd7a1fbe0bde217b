"""All errors that Tandem raises on purpose. Each class has a stable `code` and the HTTP `status` of its response.

TandemError
├── CallerError                  the caller must change the request; never retried
│   ├── InvalidRequest           invalid_request      422
│   ├── RequestTooLarge          request_too_large    413
│   ├── RequestTooSlow           request_too_slow     408
│   ├── Unauthorized             unauthorized         401
│   ├── Forbidden                forbidden            403  the caller's key lacks a scope
│   ├── RateLimited              rate_limited         429  this caller exceeded its rate limit
│   └── UnknownItem              unknown_item         404
├── Overloaded                   overloaded           429  too much load to answer in time
├── ReleaseError                 about a trained model, its index and its feature schema
│   ├── ReleaseNotLoaded         release_not_loaded   503
│   ├── ReleaseMismatch          release_mismatch     409
│   ├── ReleaseDamaged           release_damaged      500
│   └── ReleaseTooLarge          release_too_large    503  for the memory that is left
├── UpstreamError                a service or store that this service calls
│   ├── UpstreamUnavailable      upstream_unavailable 503
│   ├── UpstreamTimeout          upstream_timeout     504
│   ├── UpstreamOverloaded       upstream_overloaded  503
│   │   └── StorageFull          storage_full         503  no room for new events; reads go on
│   ├── UpstreamSuspended        upstream_suspended   503  its breaker is open
│   └── UpstreamAnswerInvalid    upstream_invalid     502
└── JobError                     a batch job cannot continue; the message is one sentence for its operator
    ├── ReleaseRefused           a release is not promoted, because it is worse or was rolled back
    └── DataError                names the file and, if known, the line and the column

Any other exception is a bug and propagates.
"""

from collections.abc import Mapping
from functools import cache
from typing import ClassVar


class TandemError(Exception):
    code: ClassVar[str] = "internal_error"
    status: ClassVar[int] = 500
    retry_after_seconds: int | None = None
    """When the caller may retry the same request; None if a retry cannot help."""
    headers: ClassVar[Mapping[str, str]] = {}
    """Additional headers of the response."""


class CallerError(TandemError):
    code = "bad_request"
    status = 400


class InvalidRequest(CallerError):
    code = "invalid_request"
    status = 422


class RequestTooLarge(CallerError):
    code = "request_too_large"
    status = 413


class RequestTooSlow(CallerError):
    code = "request_too_slow"
    status = 408
    headers: ClassVar[Mapping[str, str]] = {"connection": "close"}  # the rest of the body must not occupy it any longer


class Unauthorized(CallerError):
    code = "unauthorized"
    status = 401
    headers: ClassVar[Mapping[str, str]] = {"www-authenticate": "APIKey"}


class Forbidden(CallerError):
    code = "forbidden"
    status = 403


class RateLimited(CallerError):
    code = "rate_limited"
    status = 429

    def __init__(self, problem: str, retry_after_seconds: int = 1) -> None:
        super().__init__(problem)
        self.retry_after_seconds = retry_after_seconds


class UnknownItem(CallerError):
    code = "unknown_item"
    status = 404


class Overloaded(TandemError):
    code = "overloaded"
    status = 429
    retry_after_seconds = 1


class ReleaseError(TandemError):
    code = "release_error"


class ReleaseNotLoaded(ReleaseError):
    code = "release_not_loaded"
    status = 503


class ReleaseMismatch(ReleaseError):
    code = "release_mismatch"
    status = 409


class ReleaseDamaged(ReleaseError):
    code = "release_damaged"


class ReleaseTooLarge(ReleaseError):
    code = "release_too_large"
    status = 503

    def __init__(self, problem: str, missing_bytes: int = 0) -> None:
        super().__init__(problem)
        self.missing_bytes = missing_bytes


class UpstreamError(TandemError):
    code = "upstream_error"
    status = 503
    retry_after_seconds = 1


class UpstreamUnavailable(UpstreamError):
    code = "upstream_unavailable"


class UpstreamTimeout(UpstreamError):
    code = "upstream_timeout"
    status = 504


class UpstreamOverloaded(UpstreamError):
    code = "upstream_overloaded"


class StorageFull(UpstreamOverloaded):
    code = "storage_full"
    retry_after_seconds = 60


class UpstreamSuspended(UpstreamError):
    code = "upstream_suspended"


class UpstreamAnswerInvalid(UpstreamError):
    code = "upstream_invalid"
    status = 502


class JobError(TandemError):
    code = "job_failed"


class ReleaseRefused(JobError):
    """A release is worse than it may be, or was taken back: an outcome, not a fault. Nothing has changed."""

    code = "release_refused"


class DataError(JobError):
    code = "bad_data"

    def __init__(self, problem: str, *, file: object, line: int | None = None, column: str | None = None) -> None:
        place = str(file)
        if line is not None:
            place += f", line {line}"
        if column is not None:
            place += f", column {column!r}"
        super().__init__(f"{place}: {problem}")


def error_for(code: str) -> type[TandemError] | None:
    """The class with this code; None if there is none."""
    return _subclasses_by_code().get(code)


@cache
def _subclasses_by_code() -> dict[str, type[TandemError]]:
    found: dict[str, type[TandemError]] = {}
    waiting: list[type[TandemError]] = [TandemError]
    while waiting:
        cls = waiting.pop()
        found[cls.code] = cls
        waiting.extend(cls.__subclasses__())
    return found
