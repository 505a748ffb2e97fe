"""Exact cost of usage: integers of pico-dollars, one rounding for each part, unknown stays None.

Token counts are split so that every billed token is billed once: caches first, then audio and image out of what is
left, the remainder at the plain price (WIRE_FACTS 29). A tier holds for the whole request (WIRE_FACTS 31).

What is billed beside plain tokens (``Usage.extras``) has a price of its own or makes the cost unknown. Rates multiply with one
another and with tiers, and leave fees alone (platform.claude.com/docs/en/about-claude/pricing, read 2026-11-23).
"""

from __future__ import annotations

from functools import lru_cache

from tieline.ledger.parts import CostParts, TokenSplit
from tieline.providers.card import OffPeak, Price, PriceTier
from tieline.types.money import Pico
from tieline.types.usage import EXTRAS, RATES, Usage

STANDARD_TIERS = frozenset({None, "", "auto", "default", "standard", "standard_only", "on_demand"})
"""Names that vendors give to what their price list calls the price."""

_MINUTES_PER_DAY = 1_440
_EPOCH_WEEKDAY = 3
"""1970-01-01 was a Thursday."""
_FULL = 10_000
"""100 % as a product of two percentages."""
_NO_EXTRAS: dict[str, int] = {}


def cost(
    price: Price | None, usage: Usage | None, *, at_unix: float, service_tier: str | None = None
) -> Pico | None:
    """The exact cost, None when the price of anything that was billed is unknown, or the usage. Equals ``cost_parts(...).total``.

    ``service_tier`` is what the answer says served it (batch, priority, flex); ``at_unix`` picks the time of day.
    """
    if price is None or usage is None or not price.tiers:
        return None
    if service_tier in STANDARD_TIERS and not price.off_peak and _is_plain(usage):
        tier = _tier_for(price, usage.input_tokens)
        return usage.input_tokens * tier.input + usage.output_tokens * tier.output + price.per_request
    parts = cost_parts(price, usage, at_unix=at_unix, service_tier=service_tier)
    return parts.total if parts else None


def cost_parts(
    price: Price | None, usage: Usage | None, *, at_unix: float, service_tier: str | None = None
) -> CostParts | None:
    """The cost by kind of token and call, None when unknown. Percentages apply to tokens, not to fees."""
    if price is None or usage is None or not price.tiers or usage.unpriced:
        return None
    extras = usage.extras or _NO_EXTRAS
    percent = _percent(price, service_tier)
    rate = _rate(price, extras)
    if percent is None or rate is None or not extras.keys() <= EXTRAS:
        return None
    scale, whole = percent * _off_peak_percent(price, at_unix) * rate[0], _FULL * rate[1]
    split = split_tokens(usage)
    tier = _tier_for(price, split.input_total)
    cache_read = _or(tier.cache_read, tier.input)
    cache_write_5m = _or(tier.cache_write_5m, tier.input)
    # Where audio costs what text does, so does what of it was cached.
    cached_audio = (
        tier.cache_read_audio if tier.input_audio is not None else _or(tier.cache_read_audio, cache_read)
    )
    special = (
        _times(split.cache_read_audio, cached_audio),
        _times(split.output_image, tier.output_image),
        _fee(extras, "web_search", price.web_search),
        _fee(extras, "file_search", price.file_search),
    )
    audio_read, images, web_searches, file_searches = special
    if audio_read is None or images is None or web_searches is None or file_searches is None:
        return None
    return CostParts(
        input=_scaled(split.plain * tier.input, scale, whole),
        cache_read=_scaled(split.cache_read * cache_read, scale, whole),
        cache_read_audio=_scaled(audio_read, scale, whole),
        cache_write_5m=_scaled(split.cache_write_5m * cache_write_5m, scale, whole),
        cache_write_1h=_scaled(split.cache_write_1h * _or(tier.cache_write_1h, cache_write_5m), scale, whole),
        input_audio=_scaled(split.audio * _or(tier.input_audio, tier.input), scale, whole),
        input_image=_scaled(split.image * _or(tier.input_image, tier.input), scale, whole),
        output=_scaled(split.output * tier.output, scale, whole),
        output_audio=_scaled(split.output_audio * _or(tier.output_audio, tier.output), scale, whole),
        output_image=_scaled(images, scale, whole),
        web_search=web_searches,
        file_search=file_searches,
        per_request=price.per_request,
    )


def upper_bound(
    price: Price | None,
    input_tokens: int,
    output_tokens: int,
    *,
    service_tier: str | None = None,
    extras: dict[str, int] | None = None,
    cache_writes: bool = True,
    media: bool = True,
) -> Pico | None:
    """No usage within these counts costs more; None when the price is unknown, but a call whose fee is adds nothing.

    Takes the dearest tier that fewer or as many tokens could reach and its dearest kind of token. A request known to
    hold no cache marks (``cache_writes``) or no audio and images (``media``) gets a closer bound.
    """
    if price is None or not price.tiers:
        return None
    percent = _percent(price, service_tier)
    if percent is None:
        return None
    fees, whole = price.per_request, _FULL
    if extras:
        rate = _rate(price, extras)
        if rate is None:
            return None
        percent, whole = percent * rate[0], _FULL * rate[1]
        fees += max(0, extras.get("web_search", 0)) * _or(price.web_search, 0)
        fees += max(0, extras.get("file_search", 0)) * _or(price.file_search, 0)
    dearest_in, dearest_out = _dearest(price.tiers[0], cache_writes, media)
    for tier in price.tiers[1:] if len(price.tiers) > 1 else ():
        if tier.above_input_tokens < input_tokens:
            each_in, each_out = _dearest(tier, cache_writes, media)
            dearest_in, dearest_out = max(dearest_in, each_in), max(dearest_out, each_out)
    scale = (
        percent * max([100, *[span.percent for span in price.off_peak]]) if price.off_peak else percent * 100
    )
    tokens = max(0, input_tokens) * dearest_in + max(0, output_tokens) * dearest_out
    # Parts are rounded one by one, each by half a pico-dollar at most; ten parts carry tokens.
    slack = 0 if scale == whole else 5
    return _scaled(tokens, scale, whole) + slack + fees


def bound_asked(
    price: Price | None,
    input_tokens: int,
    output_tokens: int,
    service_tier: str | None,
    extras: dict[str, int] | None = None,
    plain: bool = False,
) -> Pico | None:
    """``upper_bound`` where ``service_tier`` and ``extras`` were asked for: a provider may serve it without them after all.

    ``plain``: of text outside of caches, which is what hosts are compared by. The dearest kind of token is audio at one,
    a write into a cache at another, and plain text at a third that states no more.
    """
    dear = not plain
    bound = upper_bound(price, input_tokens, output_tokens, cache_writes=dear, media=dear)
    if bound is None or (service_tier in STANDARD_TIERS and not extras):
        return bound
    special = upper_bound(
        price,
        input_tokens,
        output_tokens,
        service_tier=service_tier,
        cache_writes=dear,
        media=dear,
        extras=extras,
    )
    return None if special is None else max(bound, special)


def split_tokens(usage: Usage) -> TokenSplit:
    """Each token once. Negative counts are read as 0; cached audio is billed as cached, not twice."""
    extras = usage.extras or _NO_EXTRAS
    cache_read = max(0, usage.cache_read_tokens)
    cached_audio = min(max(0, extras.get("cache_read_audio", 0)), cache_read)
    write_5m = max(0, usage.cache_write_5m_tokens)
    write_1h = max(0, usage.cache_write_1h_tokens)
    cached = cache_read + write_5m + write_1h
    total = max(usage.input_tokens, cached)
    audio = min(max(0, usage.input_audio_tokens - cached_audio), total - cached)
    image = min(max(0, usage.input_image_tokens), total - cached - audio)
    output = max(0, usage.output_tokens)
    output_audio = min(max(0, usage.output_audio_tokens), output)
    output_image = min(max(0, extras.get("output_image", 0)), output - output_audio)
    return TokenSplit(
        total,
        total - cached - audio - image,
        cache_read - cached_audio,
        cached_audio,
        write_5m,
        write_1h,
        audio,
        image,
        output - output_audio - output_image,
        output_audio,
        output_image,
    )


def _is_plain(usage: Usage) -> bool:
    return (
        usage.input_tokens >= 0
        and usage.output_tokens >= 0
        and not usage.cache_read_tokens
        and not usage.cache_write_5m_tokens
        and not usage.cache_write_1h_tokens
        and not usage.input_audio_tokens
        and not usage.input_image_tokens
        and not usage.output_audio_tokens
        and not usage.unpriced
        and not usage.extras
    )


def _tier_for(price: Price, input_tokens: int) -> PriceTier:
    tiers = price.tiers
    chosen = tiers[0]
    if len(tiers) > 1:
        for tier in tiers[1:]:
            if input_tokens > tier.above_input_tokens:
                chosen = tier
    return chosen


def _percent(price: Price, service_tier: str | None) -> int | None:
    """None for a tier whose price is not stated: guessing the standard price would be a wrong figure."""
    if service_tier in STANDARD_TIERS:
        return 100
    stated = {
        "batch": price.batch_percent,
        "priority": price.priority_percent,
        "flex": price.flex_percent,
        "fast": price.fast_percent,
    }
    return stated.get(service_tier or "")


def _rate(price: Price, extras: dict[str, int]) -> tuple[int, int] | None:
    """The share of the price that all rates of ``extras`` make together: so many of so many."""
    part = whole = 1
    for name in extras:
        if name in RATES:
            percent = price.fast_percent if name == "fast" else price.us_percent
            if percent is None:
                return None
            part, whole = part * percent, whole * 100
    return part, whole


def _times(count: int, each: Pico | None) -> Pico | None:
    """None where something was billed whose price is not known."""
    return None if each is None and count else max(0, count) * (each or 0)


def _fee(extras: dict[str, int], name: str, each: Pico | None) -> Pico | None:
    """Also None where a tool ran whose fee is not known: what is free at one host (a count of 0) may be billed at another."""
    if name not in extras:
        return 0
    return None if each is None else max(0, extras[name]) * each


def _off_peak_percent(price: Price, at_unix: float) -> int:
    if not price.off_peak:
        return 100
    days, minute = divmod(int(at_unix // 60) + price.zone_minutes, _MINUTES_PER_DAY)
    day = (days + _EPOCH_WEEKDAY) % 7
    return max((span.percent for span in price.off_peak if _inside(span, day, minute)), default=100)


def _inside(span: OffPeak, day: int, minute: int) -> bool:
    if span.start < span.end:
        return span.start <= minute < span.end and day in span.days
    return (minute >= span.start and day in span.days) or (minute < span.end and (day - 1) % 7 in span.days)


def _scaled(amount: Pico, scale: int, whole: int) -> Pico:
    """Rounds half up, once."""
    if scale == whole:
        return amount
    return (amount * scale + whole // 2) // whole


def _or(value: Pico | None, otherwise: Pico) -> Pico:
    return otherwise if value is None else value


@lru_cache(maxsize=4096)
def _dearest(tier: PriceTier, cache_writes: bool, media: bool) -> tuple[Pico, Pico]:
    """A token of input, and one of output, of its dearest kind. Asked for with every request that is held for."""
    kinds = [tier.input, tier.cache_read]
    if cache_writes:
        kinds += [tier.cache_write_5m, tier.cache_write_1h]
    if media:
        kinds += [tier.input_audio, tier.input_image, tier.cache_read_audio]
    said = max(_or(tier.output_audio, 0), _or(tier.output_image, 0)) if media else 0
    return max(kind for kind in kinds if kind is not None), max(tier.output, said)
