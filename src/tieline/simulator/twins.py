"""Configurations whose providers are simulated: for the first start without keys, the demo, and drills."""

from __future__ import annotations

from msgspec.structs import replace

from tieline.config.schema import Config, ModelConfig, ProviderConfig

_PRICE = {"input": "0.15", "output": "0.60"}
_DEARER = {"input": "0.16", "output": "0.64"}
STAND_INS = {
    "openai/gpt-5-mini": "sim-openai/gpt-sim",
    "anthropic/claude-sonnet-4-6": "sim-anthropic/claude-sim",
}
"""The names in README's examples, and what answers them while there is no account."""


def simulated(url: str, base: Config | None = None) -> Config:
    """``base`` with three simulated providers at the simulator's ``url`` and models served by them.

    ``demo`` is served by ``sim-openai``, with ``sim-anthropic`` and ``sim-backup`` to fall back to. ``STAND_INS`` are too,
    under their own providers' names, so that no record claims that a real one answered.
    """
    providers = {
        "sim-openai": _provider(url, "sim-openai", "openai_chat", "gpt-sim", _PRICE),
        "sim-anthropic": _provider(url, "sim-anthropic", "anthropic_messages", "claude-sim", _DEARER),
        "sim-backup": _provider(url, "sim-backup", "openai_chat", "gpt-sim", _PRICE),
    }
    models = {
        "demo": ModelConfig(
            deployments=["sim-openai/gpt-sim"], fallbacks=["sim-anthropic/claude-sim", "sim-backup/gpt-sim"]
        )
    }
    base = base or Config()
    stand_ins = {
        name: ModelConfig(deployments=[served_by], fallbacks=["sim-backup/gpt-sim"])
        for name, served_by in STAND_INS.items()
    }
    return replace(
        base,
        providers={**base.providers, **providers},
        models={**stand_ins, **base.models, **models},
    )


def _provider(url: str, name: str, dialect: str, model: str, price: dict[str, str]) -> ProviderConfig:
    path = "" if dialect == "anthropic_messages" else "/v1"
    return ProviderConfig(
        base_url=f"{url}/{name}{path}",
        dialect=dialect,  # type: ignore[arg-type]
        auth="x-api-key" if dialect == "anthropic_messages" else "bearer",
        api_key="simulated",
        prices={model: price},  # type: ignore[dict-item]
        jurisdictions=["local"],
        no_training=True,
        zero_retention=True,
    )
