"""Everything that can go wrong, as types.

::

    TielineError
    ├── Refused                      we say no before anything is sent
    │   ├── InvalidRequest           400  the body, a field, a header
    │   │   └── Unsupported          400  a field that this target cannot do (makes the target ineligible)
    │   ├── Unauthenticated          401  no or a wrong virtual key: of *ours*
    │   ├── Forbidden                403  key may not use this
    │   ├── UnknownModel             404
    │   ├── NotFound                 404  path, record
    │   ├── LimitExceeded            429  rate or concurrency of ours
    │   ├── BudgetExceeded           402  a budget of ours (429 when it renews soon)
    │   ├── NoCandidate              404  every candidate is excluded for good; says by what
    │   ├── DatabaseAway             503  what the request needs is in the database, which is away
    │   └── Shedding                 503  overloaded or draining
    ├── UpstreamFailed               as its class says: what the last attempt died of
    └── ConfigError                  one line for the terminal, with place and fix
    Failure (not an error of ours): one attempt's end, classified
"""

from __future__ import annotations

from enum import StrEnum
from typing import Any, ClassVar

from msgspec import Struct, field


class FailureClass(StrEnum):
    """DESIGN section 6. The only vocabulary for how an attempt failed: plan, health, metrics and records share it."""

    CONNECT = "connect"
    TRANSIENT = "transient"
    OVERLOADED = "overloaded"
    RATE_LIMITED = "rate_limited"
    QUOTA_EXHAUSTED = "quota_exhausted"
    CREDENTIAL = "credential"
    MODEL_GONE = "model_gone"
    REGION_BLOCKED = "region_blocked"
    CONTEXT_LENGTH = "context_length"
    CONTENT_FILTERED = "content_filtered"
    UNSUPPORTED_PARAMETER = "unsupported_parameter"
    CALLER_FAULT = "caller_fault"
    FIRST_TOKEN_TIMEOUT = "first_token_timeout"  # noqa: S105
    STALL = "stall"
    TRUNCATED = "truncated"
    GARBLED = "garbled"
    CALLER_GONE = "caller_gone"
    SUPERSEDED = "superseded"
    """Of two attempts run side by side the other had content first (DESIGN section 7, hedge)."""
    SHUT_DOWN = "shut_down"
    """Tieline ended before the answer did: it says nothing of the provider."""
    INTERNAL = "internal_error"
    """Ours, or this machine's: it says nothing of the provider."""


class ErrorInfo(Struct, frozen=True, kw_only=True):
    """What a vendor's error body says, in its own words; ``Dialect.decode_error`` makes it."""

    message: str = ""
    code: str | None = None
    type: str | None = None
    param: str | None = None
    html: bool = False
    """The body was an HTML page: a CDN spoke, not the provider."""
    retry_after_s: float | None = None
    """Where the body says when to come back (Google's RetryInfo); headers are read elsewhere."""


class Failure(Struct, frozen=True, kw_only=True):
    """How one attempt ended badly."""

    kind: FailureClass
    message: str
    """Safe to show: no secret, at most 1,000 characters."""
    status: int | None = None
    info: ErrorInfo | None = None
    retry_after_s: float | None = None
    doubtful: bool = False
    """It blames the caller and points at nothing that was sent: perhaps the provider is out of order."""


class TielineError(Exception):
    """Base of all our exceptions. ``code`` is stable and for machines; ``hint`` says what to do."""

    status: ClassVar[int] = 500
    code: ClassVar[str] = "internal_error"

    def __init__(
        self,
        message: str,
        *,
        param: str | None = None,
        hint: str | None = None,
        retry_after_s: float | None = None,
        details: dict[str, Any] | None = None,
    ) -> None:
        super().__init__(message)
        self.message = message
        self.param = param
        self.hint = hint
        self.retry_after_s = retry_after_s
        self.details = details or {}

    @property
    def full_message(self) -> str:
        if not self.hint:
            return self.message
        stop = "" if self.message.endswith((".", "!", "?", ":", ";", ",")) else "."
        return f"{self.message}{stop} {self.hint}"


class Refused(TielineError):
    """We said no before anything was sent upstream."""


class InvalidRequest(Refused):
    status = 400
    code = "invalid_request"


class Unsupported(InvalidRequest):
    """The target cannot do what ``param`` asks. Raised while encoding: the target is ineligible for this request."""

    code = "unsupported_parameter"


class Unauthenticated(Refused):
    status = 401
    code = "invalid_api_key"


class Forbidden(Refused):
    status = 403
    code = "permission_denied"


class NotFound(Refused):
    status = 404
    code = "not_found"


class UnknownModel(NotFound):
    code = "model_not_found"


class LimitExceeded(Refused):
    status = 429
    code = "rate_limit_exceeded"


class BudgetExceeded(Refused):
    status = 402
    code = "budget_exceeded"


class NoCandidate(Refused):
    """Nothing eligible, and waiting changes nothing, so that no SDK tries it again.

    ``details["excluded"]`` says what excluded each of the first candidates of ``excluded_count``.
    """

    status = 404
    code = "no_candidate"


class Shedding(Refused):
    status = 503
    code = "overloaded"


class DatabaseAway(Refused):
    """What the request needs is in the database, and it has not answered since the start."""

    status = 503
    code = "database_away"


_STATUS_OF_CLASS: dict[FailureClass, int] = {
    FailureClass.CONNECT: 502,
    FailureClass.TRANSIENT: 502,
    FailureClass.OVERLOADED: 503,
    FailureClass.RATE_LIMITED: 429,
    FailureClass.QUOTA_EXHAUSTED: 502,
    FailureClass.CREDENTIAL: 502,
    FailureClass.MODEL_GONE: 404,
    FailureClass.REGION_BLOCKED: 502,
    FailureClass.CONTEXT_LENGTH: 400,
    FailureClass.CONTENT_FILTERED: 400,
    FailureClass.UNSUPPORTED_PARAMETER: 400,
    FailureClass.CALLER_FAULT: 400,
    FailureClass.FIRST_TOKEN_TIMEOUT: 504,
    FailureClass.STALL: 504,
    FailureClass.TRUNCATED: 502,
    FailureClass.GARBLED: 502,
    FailureClass.CALLER_GONE: 499,
    FailureClass.SUPERSEDED: 502,
    FailureClass.SHUT_DOWN: 503,
    FailureClass.INTERNAL: 503,
}


class UpstreamFailed(TielineError):
    """Every attempt failed; ``failure`` is the last one. A provider's 401 or 402 is never ours (WIRE_FACTS 36)."""

    def __init__(self, failure: Failure, *, attempts: int, hint: str | None = None) -> None:
        super().__init__(
            failure.message,
            param=failure.info.param if failure.info else None,
            hint=hint,
            retry_after_s=failure.retry_after_s,
        )
        self.failure = failure
        self.attempts = attempts

    @property
    def http_status(self) -> int:
        if self.failure.kind is FailureClass.CALLER_FAULT and self.failure.status in (413, 422):
            return self.failure.status
        return _STATUS_OF_CLASS[self.failure.kind]

    @property
    def wire_code(self) -> str:
        if self.failure.kind is FailureClass.CONTEXT_LENGTH:
            return "context_length_exceeded"
        if self.failure.kind is FailureClass.SHUT_DOWN:
            return "overloaded"
        return self.failure.kind.value


class ConfigError(TielineError):
    """One thing wrong in the configuration or at start; ``place`` is ``file:line`` or a setting's path."""

    def __init__(self, message: str, *, place: str | None = None, hint: str | None = None) -> None:
        super().__init__(message, hint=hint)
        self.place = place

    def __str__(self) -> str:
        return ": ".join(part for part in (self.place, self.full_message) if part)


class Fault(Struct, frozen=True, kw_only=True):
    """An error as it goes to the caller; a dialect gives it its shape."""

    status: int
    code: str
    message: str
    param: str | None = None
    retry_after_s: float | None = None
    details: dict[str, Any] = field(default_factory=dict)


def fault_of(error: Exception) -> Fault:
    """The one place where a failure becomes an HTTP status (docs/decisions/0001)."""
    if isinstance(error, UpstreamFailed):
        return Fault(
            status=error.http_status,
            code=error.wire_code,
            message=error.full_message,
            param=error.param,
            retry_after_s=error.retry_after_s,
            details={"class": error.failure.kind.value, "attempts": error.attempts},
        )
    if isinstance(error, TielineError):
        return Fault(
            status=error.status,
            code=error.code,
            message=error.full_message,
            param=error.param,
            retry_after_s=error.retry_after_s,
            details=error.details,
        )
    return Fault(
        status=500,
        code="internal_error",
        message="Tieline failed internally; the request id finds the cause in the server's log.",
    )
