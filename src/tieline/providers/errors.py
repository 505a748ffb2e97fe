"""What a failed attempt was, in one vocabulary (DESIGN section 6)."""

from __future__ import annotations

from time import time

from tieline.providers.limits import RateLimits, rate_limits, retry_after
from tieline.transport.base import TransportError
from tieline.types.call import Headers
from tieline.types.errors import ErrorInfo, Failure, FailureClass

__all__ = ["RateLimits", "classify", "classify_transport", "rate_limits", "retry_after"]


def classify(
    provider: str,
    dialect: str,
    status: int | None,
    info: ErrorInfo,
    headers: Headers,
    now_unix: float | None = None,
) -> Failure:
    wait = retry_after(headers, time() if now_unix is None else now_unix)
    kind = FailureClass.TRANSIENT if status is None or status >= 500 else FailureClass.CALLER_FAULT
    if status == 429:
        kind = FailureClass.RATE_LIMITED
    return Failure(kind=kind, message=info.message[:1000], status=status, info=info, retry_after_s=wait)


def classify_transport(error: TransportError) -> Failure:
    return Failure(kind=FailureClass.CONNECT, message=error.message[:1000])
