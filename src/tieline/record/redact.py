"""Takes anything like a key out of a text before it is kept or shown."""

from __future__ import annotations

import re

MAX_CHARS = 1_000
"""Of the text given back; ``Failure.message`` promises this bound."""
_SCAN_CHARS = 8_000
"""What is looked at, at most: the cost of a hostile error body is bounded."""
MASK = "[redacted]"

_PATTERNS = re.compile(
    r"""
    (?P<url>://[^/\s:@]{0,200}:)[^/\s@]{1,300}(?=@)                 # password in a URL
    | (?P<param>[?&](?:key|api[_-]?key|token|access_token|sig|signature|password)=)[^&\s"']{4,400}
    | (?P<bearer>\b(?:bearer|basic)\s+)[\w.~+/=-]{8,2000}
    | (?P<field>(?:api[_-]?key|x-goog-api-key|authorization|secret|password|token)["']?\s{0,4}[:=]\s{0,4}["']?)
      (?!(?:bearer|basic)\b)[\w.~+/=*-]{8,2000}
    | \b(?:sk|pk|rk|tl|gsk|xai|nvapi|hf|pplx|csk|fw|r8|key|AIza|AKIA|ASIA|ya29|ghp|gho|glpat|xox[bap])
      (?:(?<=AIza)|(?<=AKIA)|(?<=ASIA)|[-_.])[\w-]{12,2000}(?:\.[\w-]{1,2000}){0,4}  # a vendor's prefix
    | \beyJ[\w-]{10,2000}\.[\w-]{5,4000}(?:\.[\w-]{0,2000})?      # a JSON web token
    | \b[A-Fa-f0-9]{32,200}\b                                     # long hexadecimal
    | \b(?=[\w+/]{0,39}\d)(?=[\w+/]{0,39}[A-Z])(?=[\w+/]{0,39}[a-z])[\w+/]{40,400}={0,2}(?![\w+/])  # long base64
    """,
    re.VERBOSE | re.IGNORECASE,
)


def redact(text: str, *, limit: int = MAX_CHARS) -> str:
    """The text without what looks like a key, cut to ``limit`` characters. A key on the cut is removed whole."""
    cleaned = _PATTERNS.sub(_mask, text[:_SCAN_CHARS])
    return cleaned if len(cleaned) <= limit else cleaned[: limit - 1] + "…"


def _mask(match: re.Match[str]) -> str:
    kept = next((value for value in match.groupdict().values() if value), "")
    return kept + MASK
