"""/v1/models in the shapes of the official SDKs, with what the catalog knows."""

from __future__ import annotations

from datetime import UTC, datetime

from anthropic.types import ModelInfo
from openai.types import Model

from tieline.config.load import parse
from tieline.listing import Listed, entry
from tieline.providers import build, catalog

CONFIG = "providers: {anthropic: {api_key: k}, acme: {base_url: 'https://acme.example/v1', api_key: k}}"


def _one(name: str, dialect: str) -> dict[str, object]:
    fleet = build.build(parse(CONFIG, {}).config, {}, catalog.packaged())
    return entry([Listed(name, fleet.find(name))], name, dialect)


def test_the_catalog_fills_the_vendors_fields() -> None:
    info = ModelInfo.model_validate(_one("anthropic/claude-sonnet-4-5", "anthropic_messages"))
    assert info.created_at == datetime(2025, 9, 29, tzinfo=UTC)
    assert (info.max_input_tokens, info.max_tokens, info.lifecycle) == (200_000, 64_000, "active")
    model = Model.model_validate(_one("anthropic/claude-sonnet-4-5", "openai_chat"))
    assert datetime.fromtimestamp(model.created, UTC) == info.created_at


def test_details_of_ours() -> None:
    detail = _one("anthropic/claude-sonnet-4-5", "openai_chat")["tieline"]
    assert isinstance(detail, dict)
    assert detail["tools"] is True
    assert "image" in detail["input_modalities"]
    assert (detail["input_usd_per_million"], detail["output_usd_per_million"]) == ("3", "15")


def test_a_model_that_nobody_knows_is_listed_with_unknowns() -> None:
    info = ModelInfo.model_validate(_one("acme/acme-large", "anthropic_messages"))
    assert info.created_at == datetime(1970, 1, 1, tzinfo=UTC)
    assert info.max_input_tokens is None
    detail = _one("acme/acme-large", "openai_chat")["tieline"]
    assert isinstance(detail, dict)
    assert detail["input_usd_per_million"] is None
