"""`tieline prices check`: whatever has a price is compared, and a wrong one is found."""

from __future__ import annotations

from pathlib import Path
from random import Random

import pytest
from msgspec.structs import replace

from tests.programs import tieline_json
from tieline.cli import prices
from tieline.providers.card import ModelCard, Price
from tieline.providers.catalog import packaged
from tieline.types.usage import Usage


def test_our_figures_agree_with_those_of_genai_prices(tmp_path: Path) -> None:
    found = tieline_json("prices", "check", "--samples", "5", "--json", cwd=tmp_path)
    assert found["compared"] > 1_000
    assert found["differences"] == []


def card_of(provider: str, model: str) -> tuple[ModelCard, Price]:
    card = packaged().card(provider, model)
    assert card is not None
    assert card.price is not None
    return card, card.price


@pytest.mark.parametrize(
    ("provider", "model", "extras"),
    [
        ("anthropic", "claude-opus-5-5", {"web_search", "fast"}),
        ("openai", "gpt-6-sol", {"web_search", "file_search", "fast"}),
        ("google", "gemini-2.5-flash", {"cache_read_audio"}),
        ("google", "gemini-3.1-flash-image-preview", {"output_image"}),
        ("google", "gemini-2.5-pro", set()),
    ],
)
def test_what_is_compared(provider: str, model: str, extras: set[str]) -> None:
    card, price = card_of(provider, model)
    usages = list(prices.usages(price, Random(0), 60))
    assert {name for usage in usages for name in usage.extras or ()} == extras
    assert any(usage.cache_read_tokens for usage in usages) or model.endswith("image-preview")
    calculate = prices._calculator()
    assert prices._first_difference(card, price, calculate, Random(0), 60) == []
    for name in extras:
        wrong = _changed(price, name)
        [difference] = prices._first_difference(card, wrong, calculate, Random(0), 60) or []
        assert name in (difference.usage.extras or ())


def _changed(price: Price, name: str) -> Price:
    if name == "fast":
        return replace(price, fast_percent=199)
    if name in ("web_search", "file_search"):
        return replace(price, **{name: getattr(price, name) + 1_000})
    return replace(
        price, tiers=tuple(replace(tier, **{name: getattr(tier, name) + 1_000}) for tier in price.tiers)
    )


def test_audio_is_compared() -> None:
    usages = list(prices.usages(card_of("google", "gemini-2.5-flash")[1], Random(0), 60))
    assert any(usage.input_audio_tokens for usage in usages)
    assert all(_fits(usage) for usage in usages)


def _fits(usage: Usage) -> bool:
    cached = (usage.extras or {}).get("cache_read_audio", 0)
    fresh = usage.input_audio_tokens - cached
    return 0 <= fresh <= usage.input_tokens - usage.cache_read_tokens and cached <= usage.cache_read_tokens
