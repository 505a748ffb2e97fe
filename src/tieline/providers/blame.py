"""Whose fault a 400 is, as far as its words go: whether they point at anything that was sent (WIRE_FACTS 34).

Only called when an attempt was refused. Errs on either side cheaply: a fault that is doubted without need costs one
attempt elsewhere, a storm that is believed is found out by its numbers (``route.storm``).
"""

from __future__ import annotations

import re

from msgspec.structs import replace

from tieline.providers.errors import names_fault
from tieline.types.errors import ErrorInfo, Failure, FailureClass

_REFUSED = frozenset({FailureClass.CALLER_FAULT, FailureClass.UNSUPPORTED_PARAMETER})
_VALIDATION = re.compile(
    r"\b(?:required|missing|must|at least|at most|expected|greater than|less than|out of range|duplicate[ds]?"
    r"|malformed|parse|decode|deserialize|base64|too (?:long|short|many|few|large|small|big)"
    r"|does not match|no tool (?:call|output|result)|can ?not be (?:empty|blank|null))\b",
    re.IGNORECASE,
)
"""Words of a check that was made on the request, also on what it lacks."""
_QUOTED = re.compile(r"['\"`‘“]([^'\"`’”\s]{1,80})['\"`’”]")
_WORD = re.compile(r"[A-Za-z][A-Za-z0-9_]{2,40}")
_PIECE = re.compile(r"[^.\[\]\s:]+")
_SAY_NOTHING = frozenset(
    ["model", "content", "text", "type", "input", "user", "role", "name", "data", "description", "message"]
)
"""Every request has them, and so has every sentence."""
MAX_POINTERS = 64


def weighed(failure: Failure, sent: bytes, model: str) -> Failure:
    """The same failure, ``doubtful`` if it blames the caller and points at nothing in the body ``sent`` to ``model``."""
    if failure.kind not in _REFUSED or failure.status not in (None, 400):
        return failure
    info = failure.info or ErrorInfo(message=failure.message)
    proven = names_fault(info) or _VALIDATION.search(info.message) is not None or _points(info, sent, model)
    return failure if proven else replace(failure, doubtful=True)


def _points(info: ErrorInfo, sent: bytes, model: str) -> bool:
    """At a field, or a value that is quoted."""
    param = info.param or ""
    values = [*_QUOTED.findall(info.message), *_PIECE.findall(param)][:MAX_POINTERS]
    words = _WORD.findall(info.message)[:MAX_POINTERS]
    return any(b'"%b"' % value.encode() in sent for value in _telling(values, model)) or any(
        _key(word).search(sent) is not None for word in _telling(words, model)
    )


def _telling(words: list[str], model: str) -> set[str]:
    pieces = {piece for word in words for piece in (word, *_PIECE.findall(word))}
    return {piece for piece in pieces if piece not in _SAY_NOTHING and piece not in model}


def _key(word: str) -> re.Pattern[bytes]:
    return re.compile(rb'"%b"\s*:' % re.escape(word).encode())
