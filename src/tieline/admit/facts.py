"""What is asked at the door."""

from __future__ import annotations

from msgspec import Struct, field

from tieline.config.schema import PolicyRules
from tieline.types.money import Pico


class Facts(Struct, kw_only=True, gc=False):
    """What the door needs to know of a request."""

    model: str
    operation: str = "chat"
    profile: str | None = None
    tags: dict[str, str] = field(default_factory=dict)
    run: str | None = None
    run_budget: Pico | None = None
    input_tokens: int = 0
    """An estimate, counted against tokens per minute until ``Permit.count_tokens`` says what it was."""
    policy: PolicyRules | None = None
    alternatives: tuple[str, ...] = ()
    """Further models that the caller lists itself; the key must allow each of them too."""
