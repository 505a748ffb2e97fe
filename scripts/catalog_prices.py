"""Prices of genai-prices and models.dev as exact pico-dollars per token."""

from __future__ import annotations

from datetime import date, time
from decimal import Decimal
from typing import Any

from tieline.providers.card import OffPeak, Price, PriceTier

PICO_PER_MTOK = Decimal(10**6)
"""1 USD per million tokens is 1e6 pico-dollars per token."""

DAY = 24 * 60
EVERY_DAY = (0, 1, 2, 3, 4, 5, 6)

FIELDS = {
    "input": "input_mtok",
    "output": "output_mtok",
    "cache_read": "cache_read_mtok",
    "cache_read_audio": "cache_audio_read_mtok",
    "cache_write_5m": "cache_write_mtok",
    "cache_write_1h": "cache_write_1h_mtok",
    "input_audio": "input_audio_mtok",
    "output_audio": "output_audio_mtok",
    "output_image": "output_image_mtok",
    "input_image": "input_image_mtok",
}
FEES = {"web_search": "web_searches_kcount", "file_search": "storage_searches_kcount"}
"""By the thousand."""


def pico(usd_per_mtok: Decimal | None) -> int | None:
    """None for unknown, also for what is no whole pico-dollar: a rounded price would not be exact."""
    if usd_per_mtok is None:
        return None
    amount = usd_per_mtok * PICO_PER_MTOK
    nearest = amount.to_integral_value()
    # models.dev's JSON holds a few binary floats printed in full (0.19999999999999998).
    return int(nearest) if abs(amount - nearest) < Decimal("0.001") else None


def of_genai(
    model: Any, source: str, dated: str, today: date, peak_days: tuple[int, ...] = EVERY_DAY
) -> Price | None:
    """What a request costs today, None when its input or output price is not stated per token.

    ``peak_days``: genai-prices knows hours of the day only; on other days all of the day is off-peak.
    """
    prices, off_peak = _current(model.prices, today, peak_days)
    tiers = _tiers(prices)
    if tiers is None:
        return None
    percents = _percents(model, prices, today)
    return Price(
        tiers=tiers,
        per_request=_fee(prices, "requests_kcount") or 0,
        off_peak=off_peak,
        source=source,
        date=dated,
        **percents,
        **{name: _fee(prices, theirs) for name, theirs in FEES.items()},
    )


def _fee(prices: Any, name: str) -> int | None:
    by_the_thousand = getattr(prices, name, None)
    return int(by_the_thousand * 10**9) if isinstance(by_the_thousand, Decimal) else None


def by_the_hour(model: Any) -> bool:
    return isinstance(model.prices, list) and any(
        type(entry.constraint).__name__ == "TimeOfDateConstraint" for entry in model.prices
    )


def _current(prices: Any, today: date, peak_days: tuple[int, ...]) -> tuple[Any, tuple[OffPeak, ...]]:
    """Of dated prices the one in force; of prices by the time of day the dearest, with the cheaper spans."""
    if not isinstance(prices, list):
        return prices, ()
    plain, peaks = None, []
    for entry in prices:
        constraint = entry.constraint
        if constraint is None or type(constraint).__name__ == "StartDateConstraint":
            if constraint is None or constraint.start_date <= today:
                plain = entry.prices
        else:
            peaks.append((constraint, entry.prices))
    if not peaks or plain is None:
        return plain or prices[-1].prices, ()
    peak = peaks[0][1]
    percent = _percent(plain, peak)
    if percent is None or percent >= 100:
        return (peak if percent is None else plain), ()
    return peak, _off_peak(
        [(_minute(c.start_time), _minute(c.end_time)) for c, _ in peaks], percent, peak_days
    )


def _minute(moment: time) -> int:
    return moment.hour * 60 + moment.minute


def _off_peak(peaks: list[tuple[int, int]], percent: int, peak_days: tuple[int, ...]) -> tuple[OffPeak, ...]:
    """What is left of the peak days between the peaks, and the other days whole. All in UTC."""
    edges = [0, *(minute for span in sorted(peaks) for minute in span), DAY]
    gaps = [
        OffPeak(start, end, percent, peak_days)
        for start, end in zip(edges[::2], edges[1::2], strict=True)
        if start < end
    ]
    rest = tuple(day for day in EVERY_DAY if day not in peak_days)
    return (*gaps, OffPeak(0, DAY, percent, rest)) if rest else tuple(gaps)


def _tiers(prices: Any) -> tuple[PriceTier, ...] | None:
    starts = {0}
    for name in FIELDS.values():
        value = getattr(prices, name, None)
        starts.update(tier.start for tier in getattr(value, "tiers", ()))
    tiers = [_tier(prices, start) for start in sorted(starts)]
    return None if None in tiers else tuple(tier for tier in tiers if tier is not None)


def _tier(prices: Any, start: int) -> PriceTier | None:
    amounts = {ours: pico(_at(getattr(prices, theirs, None), start)) for ours, theirs in FIELDS.items()}
    if amounts["input"] is None:
        return None
    if amounts["output"] is None:
        if getattr(prices, "output_mtok", None) is not None:
            return None
        amounts["output"] = 0  # embeddings: there is no output to bill
    return PriceTier(above_input_tokens=start, **amounts)  # type: ignore[arg-type]


def _at(value: Any, start: int) -> Decimal | None:
    if value is None or isinstance(value, Decimal):
        return value
    price: Decimal = value.base
    for tier in sorted(value.tiers, key=lambda tier: tier.start):
        if tier.start <= start:
            price = tier.price
    return price


def _percents(model: Any, prices: Any, today: date) -> dict[str, int]:
    found: dict[str, int] = {}
    for variant in model.price_variants or ():
        constraint = variant.constraint
        if constraint is not None and getattr(constraint, "start_date", today) > today:
            continue
        which = {
            ("processing", "batch"): "batch_percent",
            ("service_tier", "flex"): "flex_percent",
            ("service_tier", "priority"): "priority_percent",
            ("service_tier", "fast"): "fast_percent",
            ("speed", "fast"): "fast_percent",
        }.get(next(iter(variant.when.items())))
        percent = _percent(variant.prices, prices)
        if which and percent is not None and (which != "fast_percent" or _holds(percent, variant, prices)):
            found[which] = percent
    return found


def _holds(percent: int, variant: Any, prices: Any) -> bool:
    """For every kind of token, in every tier."""
    starts = {0} | {
        tier.start for name in FIELDS.values() for tier in getattr(getattr(prices, name, None), "tiers", ())
    }
    pairs = [
        (_at(getattr(variant.prices, name, None), start), _at(getattr(prices, name, None), start))
        for name in FIELDS.values()
        for start in starts
    ]
    return all(
        above is not None and above * 100 == below * percent for above, below in pairs if below is not None
    )


def _percent(part: Any, whole: Any) -> int | None:
    """One whole percentage that turns input and output prices of the one into those of the other."""
    ratios = set()
    for name in ("input_mtok", "output_mtok"):
        above, below = (_at(getattr(item, name, None), 0) for item in (part, whole))
        if above is None or not below:
            return None
        ratios.add(above * 100 / below)
    ratio = ratios.pop()
    # Cents are rounded on price lists: 0.55 is "half" of 1.10, 0.14 of 0.27.
    if any(abs(other - ratio) > 1 for other in ratios) or abs(ratio - round(ratio)) > Decimal("0.001"):
        return None
    return round(ratio)


def of_models_dev(cost: dict[str, Any], claude: bool, source: str, dated: str) -> Price | None:
    base = _dev_tier(cost, 0, claude)
    if base is None:
        return None
    tiers = [base]
    for entry in cost.get("tiers") or ():
        if entry.get("tier", {}).get("type") == "context":
            tier = _dev_tier(entry, int(entry["tier"]["size"]), claude)
            if tier is None:
                return None
            tiers.append(tier)
    if len(tiers) == 1 and isinstance(cost.get("context_over_200k"), dict):
        tier = _dev_tier(cost["context_over_200k"], 200_000, claude)
        tiers += [tier] if tier else []
    return Price(
        tiers=tuple(sorted(tiers, key=lambda tier: tier.above_input_tokens)), source=source, date=dated
    )


def _dev_tier(cost: dict[str, Any], start: int, claude: bool) -> PriceTier | None:
    values = {
        name: pico(_decimal(cost.get(name))) for name in ("input", "output", "cache_read", "cache_write")
    }
    if values["input"] is None or values["output"] is None:
        return None
    write = values["cache_write"]
    # Anthropic bills a 5-minute write at 1.25 and a 1-hour write at 2 times the input price, at every host
    # (platform.claude.com/docs/en/build-with-claude/prompt-caching); models.dev states only the first.
    hour = 2 * values["input"] if claude and write is not None and write * 4 == values["input"] * 5 else None
    return PriceTier(
        input=values["input"],
        output=values["output"],
        cache_read=values["cache_read"],
        cache_write_5m=write,
        cache_write_1h=hour,
        input_audio=pico(_decimal(cost.get("input_audio"))),
        output_audio=pico(_decimal(cost.get("output_audio"))),
        above_input_tokens=start,
    )


def _decimal(value: Any) -> Decimal | None:
    return None if value is None else Decimal(value)
