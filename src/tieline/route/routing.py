"""Routing settings, overridden level by level: all, model or profile, request."""

from __future__ import annotations

from typing import Any

import msgspec

from tieline.config.schema import Routing


def override(base: Routing, changes: dict[str, Any]) -> Routing:
    """``base`` with ``changes`` in the shape of the YAML (``timeouts`` is merged). Raises ValueError naming the setting."""
    if not changes:
        return base
    merged = {**msgspec.to_builtins(base), **changes}
    if "timeouts" in changes:
        if not isinstance(changes["timeouts"], dict):
            raise ValueError("timeouts must be a mapping such as {first_token_s: 5}")
        merged["timeouts"] = {**msgspec.to_builtins(base.timeouts), **changes["timeouts"]}
    try:
        routing = msgspec.convert(merged, Routing)
    except msgspec.ValidationError as error:
        raise ValueError(str(error)) from error
    check(routing)
    return routing


def check(routing: Routing) -> None:
    """Values that make no sense raise ValueError, which says what would."""
    times = routing.timeouts
    for name in ("connect_s", "first_token_s", "stall_s", "total_s"):
        value = getattr(times, name)
        if value is not None and not 0 < value < float("inf"):
            raise ValueError(f"timeouts.{name} must be above 0, not {value:g}")
    if routing.max_attempts < 1:
        raise ValueError(f"max_attempts must be at least 1, not {routing.max_attempts}")
    if not routing.max_price_ratio > 0:
        raise ValueError(f"max_price_ratio must be above 0, not {routing.max_price_ratio:g}")
    if not 0 <= routing.explore <= 1:
        raise ValueError(f"explore is a share between 0 and 1, not {routing.explore:g}")
    for name in ("patience_s", "lesser_band", "hold_tokens", "hold_ms"):
        if not getattr(routing, name) >= 0:
            raise ValueError(f"{name} must not be negative, not {getattr(routing, name):g}")
