"""What `/v1/models` and `/v1beta/models` answer: one list in the shape of each official SDK."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from contextlib import suppress
from datetime import UTC, datetime
from typing import Any

from msgspec import Struct

from tieline.admit.rules import selector
from tieline.providers.card import ModelCard
from tieline.providers.deployment import Deployment
from tieline.route.match import Names
from tieline.types.errors import UnknownModel
from tieline.types.money import PER_MILLION, format_usd

Json = dict[str, Any]
Allowed = Sequence[Sequence[str]]
"""Lists of names, ``*`` at their end; a model must be in each."""


class Listed(Struct, frozen=True):
    """A name that requests may use."""

    name: str
    deployment: Deployment | None = None
    """None: a configured name, which may stand for several."""


def listing(entries: Iterable[Listed], dialect: str) -> Json:
    """All of them."""
    entry, whole = _SHAPES.get(dialect, _SHAPES["openai_chat"])
    return whole([entry(one) for one in entries])


def permitted(entries: Iterable[Listed], allowed: Allowed, names: Names) -> list[Listed]:
    """What every list of ``allowed`` has: of ``entries``, and of the names without a provider, which a list most often
    has and callers then have to use."""

    binding = [patterns for patterns in allowed if "*" not in patterns]
    if not binding:
        return list(entries)
    selectors = [selector(patterns) for patterns in binding]

    def is_permitted(name: str) -> bool:
        return all(selects(name) for selects in selectors)

    found = {one.name: one for one in entries if is_permitted(one.name)}
    written = [name for patterns in binding for name in patterns if not name.endswith("*")]
    for name in filter(is_permitted, (*written, *names.all_names())):
        if name not in found:
            with suppress(UnknownModel):
                found[name] = Listed(name, names.resolve(name).reference)
    return list(found.values())


def entry(entries: Iterable[Listed], name: str, dialect: str) -> Json:
    """One of them. Raises UnknownModel."""
    wanted = name.removeprefix("models/")
    for one in entries:
        if one.name == wanted:
            return _SHAPES.get(dialect, _SHAPES["openai_chat"])[0](one)
    raise UnknownModel(
        f"The model {wanted!r} is not known here.", param="model", hint="GET /v1/models lists the names."
    )


def _openai(one: Listed) -> Json:
    owner = one.deployment.provider.name if one.deployment is not None else "tieline"
    return {
        "id": one.name,
        "object": "model",
        "created": int(_released(one).timestamp()),
        "owned_by": owner,
        "tieline": _detail(one),
    }


def _anthropic(one: Listed) -> Json:
    detail = _detail(one)
    return {
        "type": "model",
        "id": one.name,
        "display_name": _title(one),
        "created_at": f"{_released(one):%Y-%m-%dT%H:%M:%SZ}",
        "max_input_tokens": detail["context"],
        "max_tokens": detail["max_output"],
        "lifecycle": _LIFECYCLES.get(detail["status"], "active"),
        **dict.fromkeys(("capabilities", "deprecated_at", "line", "retires_at")),
        "tieline": detail,
    }


def _gemini(one: Listed) -> Json:
    detail = _detail(one)
    made = {
        "name": f"models/{one.name}",
        "displayName": _title(one),
        "inputTokenLimit": detail["context"],
        "outputTokenLimit": detail["max_output"],
        "supportedGenerationMethods": _methods(one),
    }
    return {name: value for name, value in made.items() if value is not None}


def _methods(one: Listed) -> list[str]:
    card = one.deployment.card if one.deployment is not None else None
    if card is not None and card.embedding:
        return ["embedContent", "batchEmbedContents"]
    return ["generateContent", "streamGenerateContent", "countTokens"]


def _title(one: Listed) -> str:
    card = one.deployment.card if one.deployment is not None else None
    return card.title if card and card.title else one.name


def _released(one: Listed) -> datetime:
    """As the catalog knows it; where it does not, the epoch, which is how Anthropic writes an unknown day."""
    card = one.deployment.card if one.deployment is not None else None
    try:
        return datetime.fromisoformat((card and card.released) or "1970-01-01").replace(tzinfo=UTC)
    except ValueError:
        return datetime.fromtimestamp(0, UTC)


_LIFECYCLES = {"deprecated": "deprecated", "gone": "retired"}
_CAPABILITIES = ("tools", "structured_output", "reasoning", "input_modalities", "embedding", "status")


def _detail(one: Listed) -> Json:
    """What no vendor's shape has a place for; None is unknown."""
    found = one.deployment
    card = found.card if found is not None else None
    return {
        "provider": found.provider.name if found is not None else None,
        "name": found.name if found is not None else one.name,
        "context": card.context if card else None,
        "max_output": card.max_output if card else None,
        **{name: getattr(card, name, None) for name in _CAPABILITIES},
        "input_usd_per_million": _price(card, "input"),
        "output_usd_per_million": _price(card, "output"),
    }


def _price(card: ModelCard | None, kind: str) -> str | None:
    if card is None or card.price is None or not card.price.tiers:
        return None
    return format_usd(getattr(card.price.tiers[0], kind) * PER_MILLION)


def _openai_list(entries: list[Json]) -> Json:
    return {"object": "list", "data": entries}


def _anthropic_list(entries: list[Json]) -> Json:
    return {
        "data": entries,
        "has_more": False,
        "first_id": entries[0]["id"] if entries else None,
        "last_id": entries[-1]["id"] if entries else None,
    }


def _gemini_list(entries: list[Json]) -> Json:
    return {"models": entries}


_SHAPES: dict[str, tuple[Callable[[Listed], Json], Callable[[list[Json]], Json]]] = {
    "openai_chat": (_openai, _openai_list),
    "anthropic_messages": (_anthropic, _anthropic_list),
    "gemini": (_gemini, _gemini_list),
}
