"""Exact money: an amount is an ``int`` of pico-dollars (1e-12 USD); outside it is a decimal string.

A price of "0.15 USD per million tokens" is 150_000 pico-dollars per token, so every published price is exact.
``None`` always means *unknown*, never free. Floats never carry money.
"""

from __future__ import annotations

import re
from decimal import Decimal, InvalidOperation
from typing import Final

Pico = int
PICO_PER_USD: Final = 1_000_000_000_000
PER_MILLION = 10**6
_NUMBER = re.compile(r"[+-]?(\d+\.?\d*|\.\d+)([eE][+-]?\d+)?", re.ASCII)
"""Python reads 1_0, blanks and the digits of every script as numbers too; on an invoice they are mistakes."""


def parse_usd(text: str | int | Decimal) -> Pico:
    """Decimal US dollars -> pico-dollars. Raises ValueError when it is no number or finer than a pico-dollar."""
    try:
        if isinstance(text, str) and not _NUMBER.fullmatch(text):
            raise InvalidOperation
        given = Decimal(text)
        # Beyond a million million dollars it is no amount, and its digits could fill the memory.
        if not given.is_finite() or (given and given.adjusted() > 12):
            raise InvalidOperation
        value = given * PICO_PER_USD
    except (ArithmeticError, TypeError, ValueError) as error:
        raise ValueError(f"not an amount in US dollars: {text!r}") from error
    # The product is rounded at 28 digits, a comparison is not.
    if value != value.to_integral_value() or Decimal(int(value)).scaleb(-12) != given:
        raise ValueError(f"not an exact amount in US dollars (12 decimals at most): {text!r}")
    return int(value)


def format_usd(amount: Pico | None) -> str:
    """Pico-dollars -> the shortest exact decimal string, ``"unknown"`` for None."""
    if amount is None:
        return "unknown"
    if amount < 0:
        return "-" + format_usd(-amount)
    whole, fraction = amount // PICO_PER_USD, amount % PICO_PER_USD
    if not fraction:
        return str(whole)
    # The one in front keeps the zeros that a fraction begins with.
    digits = str(PICO_PER_USD + fraction)[1:].rstrip("0")
    return f"{whole}.{digits}"
