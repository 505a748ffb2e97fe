"""What is asked at the door."""

from __future__ import annotations

from tieline.config.schema import PolicyRules
from tieline.types.money import Pico


class Facts:
    """What the door needs to know of a request."""

    __slots__ = (
        "alternatives",
        "input_tokens",
        "model",
        "policy",
        "profile",
        "run",
        "run_budget",
        "tags",
    )

    def __init__(
        self,
        model: str,
        *,
        profile: str | None = None,
        tags: dict[str, str] | None = None,
        run: str | None = None,
        run_budget: Pico | None = None,
        input_tokens: int = 0,
        policy: PolicyRules | None = None,
        alternatives: tuple[str, ...] = (),
    ) -> None:
        self.model = model
        self.profile = profile
        self.tags: dict[str, str] = {} if tags is None else tags
        self.run = run
        self.run_budget = run_budget
        self.input_tokens = input_tokens
        """An estimate, counted against tokens per minute until ``Permit.count_tokens`` says what it was."""
        self.policy = policy
        self.alternatives = alternatives
        """Further models that the caller lists itself; the key must allow each of them too."""
