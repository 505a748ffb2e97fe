"""What a caller may ask of Tieline itself: under ``tieline`` in the body, or as ``tieline-…`` headers."""

from __future__ import annotations

from typing import Any, Literal

from msgspec import Struct, field


class Options(Struct, kw_only=True, forbid_unknown_fields=True, frozen=True):
    """A header has the same name with dashes (``tieline-max-cost-usd``); lists are comma-separated, tags ``a=b,c=d``."""

    profile: str | None = None
    models: list[str] = field(default_factory=list)
    """Alternatives, tried in this order after the model asked."""
    max_cost_usd: str | None = None
    max_price_ratio: float | None = None
    timeout_s: float | None = None
    first_token_timeout_s: float | None = None
    stall_timeout_s: float | None = None
    on_broken_stream: Literal["resume", "error", "hold"] | None = None
    fallback: Literal["equivalent", "lesser", "listed", "none"] | None = None
    tags: dict[str, str] = field(default_factory=dict)
    session: str | None = None
    run: str | None = None
    run_budget_usd: str | None = None
    policy: dict[str, Any] = field(default_factory=dict)

    @property
    def routing(self) -> dict[str, Any]:
        """What it changes of the ``routing`` settings, in the shape of the YAML."""
        times = {
            "total_s": self.timeout_s,
            "first_token_s": self.first_token_timeout_s,
            "stall_s": self.stall_timeout_s,
        }
        changes: dict[str, Any] = {
            "max_price_ratio": self.max_price_ratio,
            "max_cost_usd": self.max_cost_usd,
            "on_broken_stream": self.on_broken_stream,
            "fallback": self.fallback,
            "timeouts": {name: value for name, value in times.items() if value is not None} or None,
        }
        return {name: value for name, value in changes.items() if value is not None}


NO_OPTIONS = Options()
