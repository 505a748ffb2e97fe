"""What goes wrong between an identity and its token."""

from __future__ import annotations

from tieline.types.errors import FailureClass


class TokenError(Exception):
    """No token could be had. ``kind`` says whose fault: CREDENTIAL (refused), TRANSIENT or CONNECT."""

    def __init__(self, kind: FailureClass, message: str) -> None:
        super().__init__(message)
        self.kind = kind
        self.message = message
