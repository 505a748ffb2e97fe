"""One normal form for what a request consumed, whatever the provider calls it."""

from __future__ import annotations

from msgspec import Struct

MAX_TOKENS = 2**32
"""What a host claims beyond is nonsense: no answer has so many, and no record holds what they would cost."""
CHARS_PER_TOKEN = 4
"""Where nobody counted: of English about that many, of other languages fewer."""

RATES = frozenset({"fast", "us"})
"""Of EXTRAS, what changes the price of every token: Anthropic's `speed: fast` and `inference_geo: us`. Counted as 1."""
CALLS = frozenset({"web_search", "file_search"})
"""Of EXTRAS, what is billed by the call."""
EXTRAS = RATES | CALLS | {"cache_read_audio", "output_image"}
"""The last two are tokens, and part of ``cache_read_tokens`` and ``output_tokens``. Prices bear the same names."""


class Usage(Struct, kw_only=True, array_like=True, gc=False):
    """Token counts. Totals include their parts; parts never overlap with one another.

    Part of what the ledger stores (``types.record``): new fields come last.

    ``input_tokens`` includes cache reads, cache writes, audio and image; ``output_tokens`` includes reasoning and audio.
    A dialect whose vendor excludes cached tokens from its input figure (Anthropic) adds them back when decoding.
    """

    input_tokens: int = 0
    cache_read_tokens: int = 0
    cache_write_5m_tokens: int = 0
    cache_write_1h_tokens: int = 0
    input_audio_tokens: int = 0
    input_image_tokens: int = 0
    output_tokens: int = 0
    reasoning_tokens: int = 0
    output_audio_tokens: int = 0
    estimated: bool = False
    """True when the provider gave no usage and the figures are our estimate."""
    unpriced: bool = False
    """True when more was billed than is counted here: grounding in Google's search, code that the vendor ran."""
    extras: dict[str, int] | None = None
    """What has a price of its own beside the kinds above (EXTRAS), and how much of it."""

    def __add__(self, other: Usage) -> Usage:
        """Of two attempts whose output went into one answer."""
        sums = {name: getattr(self, name) + getattr(other, name) for name in _COUNTS}
        mine, its = self.extras or {}, other.extras or {}
        return Usage(
            **sums,
            estimated=self.estimated or other.estimated,
            # Tokens of which only some were billed at another rate cannot be told apart any more.
            unpriced=self.unpriced or other.unpriced or (mine.keys() & RATES) != (its.keys() & RATES),
            extras={
                name: 1 if name in RATES else mine.get(name, 0) + its.get(name, 0) for name in {**mine, **its}
            }
            or None,
        )


_COUNTS = tuple(name for name in Usage.__struct_fields__ if name not in ("estimated", "unpriced", "extras"))
