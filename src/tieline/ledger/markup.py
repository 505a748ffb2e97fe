"""What is added for resale."""

from __future__ import annotations

from decimal import Decimal, InvalidOperation
from typing import Literal

from tieline.types.money import Pico, parse_usd

_PERCENT_SCALE = 10**6
"""A markup percentage may have six decimals."""


class Markup:
    """What is added for resale. ``parts`` is the percentage in millionths of a percent."""

    __slots__ = ("charge_failed", "fixed", "parts")

    def __init__(
        self, parts: int = 0, fixed: Pico = 0, charge_failed: Literal["nothing", "cost"] = "nothing"
    ) -> None:
        self.parts = parts
        self.fixed = fixed
        self.charge_failed = charge_failed

    @classmethod
    def parse(
        cls, percent: str = "0", usd: str = "0", charge_failed: Literal["nothing", "cost"] = "nothing"
    ) -> Markup:
        """From the settings of ``ledger``. Raises ValueError that names the setting."""
        try:
            parts = Decimal(percent) * _PERCENT_SCALE
        except InvalidOperation as error:
            raise ValueError(f"markup_percent is not a number: {percent!r}") from error
        if not parts.is_finite() or parts != parts.to_integral_value() or parts < 0:
            raise ValueError(f"markup_percent must be 0 or more with at most six decimals: {percent!r}")
        fixed = parse_usd(usd)
        if fixed < 0:
            raise ValueError(f"markup_usd must be 0 or more: {usd!r}")
        return cls(int(parts), fixed, charge_failed)

    def apply(self, cost: Pico) -> Pico:
        """Cost with markup, rounded half up once."""
        if not self.parts:
            return cost + self.fixed
        whole = 100 * _PERCENT_SCALE
        return cost + (cost * self.parts + whole // 2) // whole + self.fixed

    def charge(self, cost: Pico | None, useful: Pico | None, *, served: bool) -> Pico | None:
        """What the caller bears: None when unknown.

        ``useful`` is the part of ``cost`` that bought something; the rest is passed on only with ``charge_failed: cost``.
        A request that nobody served bears no markup, nor does one that is free.
        """
        if self.charge_failed == "cost":
            borne = cost
        else:
            borne = useful
            if not served:
                return 0
        if borne is None:
            return None
        return self.apply(borne) if served else borne
