"""Reasoning state of one vendor carried through another vendor's field, so that it survives a turn (WIRE_FACTS 21).

A signature means something only to the dialect that made it. A caller keeps it for us in the field its own dialect has
for such things; ``seal`` writes the origin into it when that is another dialect, ``unseal`` reads it back.
"""

from __future__ import annotations

import base64
import binascii

OF_CALL = "+call"
"""Suffix of the origin: the signature of the tool call that follows."""
REDACTED = "+redacted"
"""Suffix of the origin: not a signature but redacted reasoning."""

MARK = "tieline."
"""Before a signature in the field of another dialect than its own."""
MARK_BASE64 = base64.b64encode(b"tieline.")[:-2].decode()[:9]
"""Of a sealed signature in base64: the characters that the mark alone determines."""


def seal(signature: str, origin: str | None, home: str) -> str | None:
    """What goes into ``home``'s field; None when nobody knows whose signature it is."""
    if origin is None:
        return None
    return signature if origin == home else f"{MARK}{origin}.{signature}"


def unseal(signature: str, home: str) -> tuple[str, str]:
    """The signature and the dialect it belongs to."""
    if signature.startswith(MARK):
        origin, dot, inner = signature[len(MARK) :].partition(".")
        if dot and origin:
            return inner, origin
    return signature, home


def seal_base64(signature: str, origin: str | None, home: str) -> str | None:
    """As ``seal``, for a field whose content must be base64 (Gemini's ``thoughtSignature``)."""
    sealed = seal(signature, origin, home)
    return sealed if sealed is None or origin == home else base64.b64encode(sealed.encode()).decode()


def unseal_base64(signature: str, home: str) -> tuple[str, str]:
    """Clients write either alphabet, with padding or without."""
    if not signature.startswith(MARK_BASE64):
        return signature, home
    standard = signature.replace("-", "+").replace("_", "/")
    try:
        inner = base64.b64decode(standard + "=" * (-len(standard) % 4)).decode()
    except (binascii.Error, ValueError):
        return signature, home
    return unseal(inner, home) if inner.startswith(MARK) else (signature, home)
