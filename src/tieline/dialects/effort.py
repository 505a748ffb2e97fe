"""Thinking effort and thinking budget, each as the other (WIRE_FACTS 22)."""

from __future__ import annotations

_EFFORTS = ((0, "none"), (4095, "low"), (16383, "medium"))
_BUDGETS = {
    "minimal": 1024,
    "low": 2048,
    "medium": 8192,
    "high": 16384,
    "xhigh": 32768,
    "max": 64000,
}
LEAST_BUDGET = 1024
"""Anthropic's and Gemini's own minimum is 1,024 or less."""


def effort_of(budget: int) -> str:
    """The effort that would use about as much."""
    return next((effort for most, effort in _EFFORTS if budget <= most), "high")


def budget_of(effort: str | None) -> int:
    """The budget that an effort stands for; an unknown or absent one counts as medium."""
    return _BUDGETS.get(effort or "medium", _BUDGETS["medium"])
