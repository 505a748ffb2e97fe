"""What kind of picture it is: vendors refuse one that is called another, and `image/jpg`, which OpenAI takes."""

from __future__ import annotations

import base64
import binascii

_BEGINNINGS = (
    (b"\x89PNG", "image/png"),
    (b"\xff\xd8\xff", "image/jpeg"),
    (b"GIF8", "image/gif"),
)


def picture_type(said: str | None, data: str) -> str:
    """What its own first bytes say, else what the caller says."""
    try:
        begin = base64.b64decode(data[:16])
    except (binascii.Error, ValueError):
        begin = b""
    if begin[:4] == b"RIFF" and begin[8:12] == b"WEBP":
        return "image/webp"
    found = next((kind for mark, kind in _BEGINNINGS if begin.startswith(mark)), None)
    kind = found or (said or "image/png").lower()
    return "image/jpeg" if kind == "image/jpg" else kind
