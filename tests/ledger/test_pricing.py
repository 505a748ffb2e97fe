"""Money is exact: parts add up, nothing is billed twice, more never costs less, the bound holds."""

from __future__ import annotations

from datetime import datetime, timedelta, timezone

from hypothesis import given, settings
from hypothesis import strategies as st
from msgspec import structs

from tieline.ledger.pricing import bound_asked, cost, cost_parts, split_tokens, upper_bound
from tieline.providers.card import OffPeak, Price, PriceTier
from tieline.providers.catalog import packaged
from tieline.types.money import parse_usd
from tieline.types.usage import CALLS, EXTRAS, RATES, Usage

MILLION = 10**6
tokens = st.integers(0, 2_000_000)
amount = st.integers(0, 200_000_000)
maybe = st.none() | amount
TOKEN_FIELDS = [name for name in Usage.__struct_fields__ if name.endswith("_tokens")]


def usd_per_million(text: str) -> int:
    return parse_usd(text) // MILLION


@st.composite
def usages(draw: st.DrawFn) -> Usage:
    parts = {
        name: draw(st.integers(0, 100_000))
        for name in TOKEN_FIELDS
        if name not in ("input_tokens", "output_tokens", "reasoning_tokens", "output_audio_tokens")
    }
    audio_out, images = draw(st.integers(0, 10_000)), draw(st.integers(0, 10_000))
    extras = {
        "output_image": images,
        "cache_read_audio": draw(st.integers(0, parts["cache_read_tokens"])),
        "web_search": draw(st.integers(0, 20)),
        "file_search": draw(st.integers(0, 20)),
        "fast": 1,
        "us": 1,
    }
    chosen = draw(st.sets(st.sampled_from(sorted(extras))))
    return Usage(
        input_tokens=sum(parts.values()) + draw(tokens),
        output_tokens=audio_out + images + draw(tokens),
        output_audio_tokens=audio_out,
        extras={name: extras[name] for name in sorted(chosen)} or None,
        **parts,
    )


def asked(usage: Usage) -> dict[str, int] | None:
    """What a request that this came of may have asked for."""
    named = {name: count for name, count in (usage.extras or {}).items() if name in RATES | CALLS}
    return named or None


@st.composite
def tiers(draw: st.DrawFn, above: int = 0) -> PriceTier:
    values = {name: draw(maybe) for name in PriceTier.__struct_fields__[2:-1]}
    return PriceTier(input=draw(amount), output=draw(amount), above_input_tokens=above, **values)


spans = st.builds(
    OffPeak,
    start=st.integers(0, 1439),
    end=st.integers(0, 1440),
    percent=st.integers(1, 150),
    days=st.sets(st.integers(0, 6), min_size=1).map(lambda days: tuple(sorted(days))),
)


@st.composite
def prices(draw: st.DrawFn, ascending: bool = False) -> Price:
    levels = [draw(tiers())]
    for above in sorted(draw(st.sets(st.integers(1, 500_000), max_size=2))):
        if ascending:
            levels.append(_dearer(levels[-1], draw(st.integers(0, 1_000_000)), above))
        else:
            levels.append(draw(tiers(above=above)))
    percent = st.none() | st.integers(1, 300)
    return Price(
        tiers=tuple(levels),
        per_request=draw(st.integers(0, 10**10)),
        batch_percent=draw(percent),
        priority_percent=draw(percent),
        flex_percent=draw(percent),
        fast_percent=draw(percent),
        us_percent=draw(percent),
        web_search=draw(st.none() | st.integers(0, 10**11)),
        file_search=draw(st.none() | st.integers(0, 10**11)),
        off_peak=tuple(draw(st.lists(spans, max_size=4))),
        zone_minutes=draw(st.sampled_from([0, 480, 330, -720])),
    )


def _dearer(tier: PriceTier, more: int, above: int) -> PriceTier:
    raised = {
        name: None if getattr(tier, name) is None else getattr(tier, name) + more
        for name in PriceTier.__struct_fields__[:-1]
    }
    return PriceTier(**raised, above_input_tokens=above)


service_tiers = st.sampled_from([None, "default", "batch", "priority", "flex", "fast"])
times = st.integers(0, 2_000_000_000)


@given(prices(), usages(), times, service_tiers)
def test_parts_add_up_to_the_total(price: Price, usage: Usage, at: int, tier: str | None) -> None:
    parts = cost_parts(price, usage, at_unix=at, service_tier=tier)
    total = cost(price, usage, at_unix=at, service_tier=tier)
    if parts is None:
        assert total is None
        return
    assert total == parts.total == sum(structs.astuple(parts))
    assert all(isinstance(part, int) and part >= 0 for part in structs.astuple(parts))


@given(usages())
def test_every_token_is_billed_once(usage: Usage) -> None:
    split = split_tokens(usage)
    kinds = (
        split.plain,
        split.cache_read,
        split.cache_read_audio,
        split.cache_write_5m,
        split.cache_write_1h,
        split.audio,
        split.image,
    )
    assert sum(kinds) == usage.input_tokens
    assert split.output + split.output_audio + split.output_image == usage.output_tokens


odd_counts = st.integers(-5, 1_000_000)
odd_extras = st.none() | st.dictionaries(st.sampled_from(sorted(EXTRAS)), odd_counts)


@given(st.builds(Usage, extras=odd_extras, **dict.fromkeys(TOKEN_FIELDS, odd_counts)))
def test_inconsistent_usage_is_never_negative_nor_billed_twice(usage: Usage) -> None:
    split = split_tokens(usage)
    counts = structs.astuple(split)
    assert min(counts) >= 0
    assert sum(counts[1:8]) == split.input_total
    assert sum(counts[8:]) == max(0, usage.output_tokens)


@given(usages(), amount, amount)
def test_with_one_price_cached_tokens_cost_as_much_as_any(usage: Usage, each_in: int, each_out: int) -> None:
    usage.extras = None
    price = Price(tiers=(PriceTier(input=each_in, output=each_out),))
    assert cost(price, usage, at_unix=0) == usage.input_tokens * each_in + usage.output_tokens * each_out


@given(prices(ascending=True), usages(), times, st.sampled_from(TOKEN_FIELDS), st.integers(1, 10_000))
def test_more_tokens_never_cost_less(price: Price, usage: Usage, at: int, name: str, more: int) -> None:
    grown = structs.replace(usage)
    setattr(grown, name, getattr(grown, name) + more)
    if name.startswith(("cache", "input_")) and name != "input_tokens":
        grown.input_tokens += more
    elif name in ("reasoning_tokens", "output_audio_tokens"):
        grown.output_tokens += more
    before, after = cost(price, usage, at_unix=at), cost(price, grown, at_unix=at)
    assert (before is None) == (after is None)
    assert before is not None or usage.extras
    if before is not None and after is not None:
        assert after >= before


@given(prices(), usages(), times, service_tiers)
def test_the_bound_holds(price: Price, usage: Usage, at: int, tier: str | None) -> None:
    most_in, most_out, extras = usage.input_tokens, usage.output_tokens, asked(usage)
    bound = upper_bound(price, most_in, most_out, service_tier=tier, extras=extras)
    actual = cost(price, usage, at_unix=at, service_tier=tier)
    if actual is None:
        # Of what has no price nothing can be held; of a tier or rate without one nothing is let through.
        assert bound is None or usage.extras
    else:
        assert bound is not None
        assert actual <= bound


@given(prices(), usages(), st.integers(0, 100_000), st.integers(0, 100_000))
@settings(max_examples=60)
def test_the_bound_holds_for_less_usage_too(price: Price, usage: Usage, more_in: int, more_out: int) -> None:
    extras = asked(usage)
    bound = upper_bound(price, usage.input_tokens + more_in, usage.output_tokens + more_out, extras=extras)
    actual = cost(price, usage, at_unix=0)
    assert actual is None or (bound is not None and actual <= bound)


def test_the_closer_bound_for_plain_text() -> None:
    price = Price(tiers=(PriceTier(input=3, output=15, cache_write_5m=4, cache_write_1h=6, input_audio=40),))
    assert upper_bound(price, 10, 10) == 400 + 150
    assert upper_bound(price, 10, 10, media=False) == 60 + 150
    assert upper_bound(price, 10, 10, media=False, cache_writes=False) == 30 + 150


def test_unknown_stays_unknown() -> None:
    price = Price(tiers=(PriceTier(input=1, output=1),))
    assert cost(None, Usage(input_tokens=1), at_unix=0) is None
    assert cost(price, None, at_unix=0) is None
    assert cost(Price(tiers=()), Usage(), at_unix=0) is None
    assert cost(price, Usage(input_tokens=1), at_unix=0, service_tier="priority") is None
    assert cost(price, Usage(input_tokens=1), at_unix=0, service_tier="never heard of") is None
    assert upper_bound(None, 1, 1) is None
    assert upper_bound(price, 1, 1, service_tier="batch") is None


def test_a_known_bill_with_caches() -> None:
    """3 / 15 USD per million, cache read 0.30, write 3.75 and 6: 1,000 plain + 2,000 read + 500 + 100 written."""
    price = Price(
        tiers=(
            PriceTier(
                input=usd_per_million("3"),
                output=usd_per_million("15"),
                cache_read=usd_per_million("0.30"),
                cache_write_5m=usd_per_million("3.75"),
                cache_write_1h=usd_per_million("6"),
            ),
        )
    )
    usage = Usage(
        input_tokens=3_600,
        cache_read_tokens=2_000,
        cache_write_5m_tokens=500,
        cache_write_1h_tokens=100,
        output_tokens=200,
    )
    expected = "0.003", "0.0006", "0.001875", "0.0006", "0.003"
    assert cost(price, usage, at_unix=0) == sum(map(parse_usd, expected))


def test_a_known_bill_of_claude() -> None:
    """Opus 5.5 in fast mode in the United States: 4 / 20 USD per million, twice that, 1.1 times that; a search is 0.01."""
    price = packaged().card("anthropic", "claude-opus-5-5").price  # type: ignore[union-attr]
    usage = Usage(input_tokens=1_000, cache_read_tokens=600, output_tokens=100, extras={"web_search": 3})
    # 0.0016 + 0.00012 + 0.002
    assert cost(price, usage, at_unix=0) == parse_usd("0.00372") + parse_usd("0.03")
    usage.extras = {"web_search": 3, "fast": 1, "us": 1}
    assert cost(price, usage, at_unix=0) == parse_usd("0.008184") + parse_usd("0.03")
    parts = cost_parts(price, usage, at_unix=0)
    assert parts is not None
    assert parts.web_search == parse_usd("0.03")
    # 1,000 in as the dearest kind, 100 out, four searches.
    kinds = upper_bound(price, 1_000, 100, extras={"web_search": 4, "us": 1})
    assert kinds == upper_bound(price, 1_000, 100, extras={"us": 1}) + parse_usd("0.04")  # type: ignore[operator]
    assert bound_asked(price, 1_000, 100, None, {"us": 1}) > bound_asked(price, 1_000, 100, None)  # type: ignore[operator]


def test_a_known_bill_of_gemini() -> None:
    """3.1 Flash Image: 0.50 in, 3 out, 60 for images. 2.5 Flash: 0.30 in, 1 of audio; cached 0.03, audio 0.10."""
    catalog = packaged()
    price = catalog.card("google", "gemini-3.1-flash-image-preview").price  # type: ignore[union-attr]
    usage = Usage(input_tokens=100, output_tokens=1_500, extras={"output_image": 1_120})
    assert cost(price, usage, at_unix=0) == parse_usd("0.00005") + parse_usd("0.00114") + parse_usd("0.0672")
    price = catalog.card("google", "gemini-2.5-flash").price  # type: ignore[union-attr]
    usage = Usage(
        input_tokens=1_000,
        cache_read_tokens=600,
        input_audio_tokens=700,
        extras={"cache_read_audio": 500},
    )
    # 200 of text, 200 of audio, 100 of cached text, 500 of cached audio.
    expected = "0.00006", "0.0002", "0.000003", "0.00005"
    assert cost(price, usage, at_unix=0) == sum(map(parse_usd, expected))


def test_what_is_billed_beside_tokens_and_has_no_price_is_unknown() -> None:
    plain = Price(tiers=(PriceTier(input=3, output=5, cache_read=1),))
    priced = Price(
        tiers=(
            PriceTier(input=3, output=5, cache_read=1, output_image=60, input_audio=9, cache_read_audio=2),
        ),
        web_search=1_000,
        file_search=100,
        fast_percent=200,
        us_percent=110,
    )
    counted = {
        "cache_read_audio": 10,
        "output_image": 10,
        "web_search": 2,
        "file_search": 0,
        "fast": 1,
        "us": 1,
    }
    for name, count in counted.items():
        usage = Usage(input_tokens=20, cache_read_tokens=10, output_tokens=10, extras={name: count})
        # Cached audio is cheaper than fresh, so of a price that has only the latter it is not known.
        for price in (plain, structs.replace(plain, tiers=(PriceTier(input=3, output=5, input_audio=9),))):
            known = name == "cache_read_audio" and price is plain
            assert (cost(price, usage, at_unix=0) is not None) == known, name
        assert cost(priced, usage, at_unix=0) is not None, name
    assert cost(priced, Usage(input_tokens=1, extras={"of a later version": 1}), at_unix=0) is None
    # A limit on searches says nothing of their price; fast mode without one is not let through where a budget is hard.
    assert upper_bound(plain, 10, 10, extras={"web_search": 5}) == upper_bound(plain, 10, 10)
    assert upper_bound(plain, 10, 10, extras={"fast": 1}) is None
    assert bound_asked(plain, 10, 10, None, {"fast": 1}) is None


def test_rates_multiply_round_once_and_spare_fees() -> None:
    price = Price(
        tiers=(PriceTier(input=1, output=0),), web_search=7, fast_percent=150, us_percent=110, flex_percent=50
    )
    usage = Usage(input_tokens=10, extras={"fast": 1, "us": 1, "web_search": 1})
    assert cost(price, usage, at_unix=0) == 17 + 7  # 16.5
    assert cost(price, usage, at_unix=0, service_tier="flex") == 8 + 7  # 8.25


def test_a_tier_holds_for_the_whole_request() -> None:
    price = Price(
        tiers=(PriceTier(input=1, output=2), PriceTier(input=10, output=20, above_input_tokens=200))
    )
    assert cost(price, Usage(input_tokens=200, output_tokens=1), at_unix=0) == 202
    assert cost(price, Usage(input_tokens=201, output_tokens=1), at_unix=0) == 2_030
    assert upper_bound(price, 200, 1) == 202
    assert upper_bound(price, 201, 1) == 2_030


def test_percentages_round_half_up_once_and_spare_the_fee() -> None:
    price = Price(tiers=(PriceTier(input=1, output=0),), per_request=7, batch_percent=50)
    assert cost(price, Usage(input_tokens=1), at_unix=0, service_tier="batch") == 1 + 7
    assert cost(price, Usage(input_tokens=3), at_unix=0, service_tier="batch") == 2 + 7


def test_time_of_day_wraps_midnight() -> None:
    price = Price(tiers=(PriceTier(input=100, output=0),), off_peak=(OffPeak(16 * 60 + 30, 30, 50),))
    day = 1_700_006_400 - 1_700_006_400 % 86_400
    for minute, expected in ((16 * 60 + 29, 100), (16 * 60 + 30, 50), (0, 50), (29, 50), (30, 100)):
        assert cost(price, Usage(input_tokens=1), at_unix=day + minute * 60) == expected


def at(text: str) -> float:
    return datetime.fromisoformat(text).timestamp()


def test_several_windows_and_days_as_deepseek_bills() -> None:
    price = packaged().card("deepseek", "deepseek-v4-pro").price  # type: ignore[union-attr]
    peak = price.tiers[0].input  # type: ignore[union-attr]
    for moment, percent in {
        "2026-11-20T00:59:59Z": 50,  # a Friday
        "2026-11-20T01:00:00Z": 100,
        "2026-11-20T03:59:59Z": 100,
        "2026-11-20T04:00:00Z": 50,
        "2026-11-20T06:00:00Z": 100,
        "2026-11-20T09:59:59Z": 100,
        "2026-11-20T10:00:00Z": 50,
        "2026-11-21T02:00:00Z": 50,  # Saturday
        "2026-11-22T07:00:00Z": 50,  # Sunday
        "2026-11-23T00:30:00Z": 50,
        "2026-11-23T01:00:00Z": 100,
        "2026-11-20T09:30:00+08:00": 100,  # 01:30 UTC
    }.items():
        got = cost(price, Usage(input_tokens=100), at_unix=at(moment))
        assert got == peak * percent, moment


def test_a_window_that_wraps_belongs_to_the_day_it_begins_on() -> None:
    price = Price(tiers=(PriceTier(input=100, output=0),), off_peak=(OffPeak(22 * 60, 6 * 60, 50, (4,)),))
    for moment, expected in {
        "2026-11-20T05:00:00Z": 100,  # the night before Friday
        "2026-11-20T22:00:00Z": 50,
        "2026-11-21T05:59:59Z": 50,
        "2026-11-21T06:00:00Z": 100,
        "2026-11-21T23:00:00Z": 100,
    }.items():
        assert cost(price, Usage(input_tokens=1), at_unix=at(moment)) == expected, moment


def _by_the_calendar(price: Price, at_unix: int) -> int:
    """The same question asked of Python's own calendar, minute by minute of each span."""
    local = datetime.fromtimestamp(at_unix, timezone(timedelta(minutes=price.zone_minutes)))
    percents = []
    for span in price.off_peak:
        for back in (0, 1):
            begins = (local - timedelta(days=back)).replace(hour=0, minute=0, second=0, microsecond=0)
            length = span.end - span.start + (0 if span.start < span.end else 1440)
            first = begins + timedelta(minutes=span.start)
            if begins.weekday() in span.days and first <= local < first + timedelta(minutes=length):
                percents.append(span.percent)
    return max(percents, default=100)


@given(st.lists(spans, max_size=4), st.integers(-720, 840), times)
def test_windows_agree_with_the_calendar(windows: list[OffPeak], zone: int, at_unix: int) -> None:
    price = Price(
        tiers=(PriceTier(input=100, output=0),), off_peak=tuple(windows), zone_minutes=zone, per_request=7
    )
    got = cost(price, Usage(input_tokens=3), at_unix=at_unix)
    assert got == 3 * _by_the_calendar(price, at_unix) + 7
    assert type(got) is int
