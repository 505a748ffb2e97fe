"""Whether a request body is one that the vendor's own SDK could have sent: unknown names, missing and mistyped fields."""

from __future__ import annotations

import inspect
import types
import typing
from collections.abc import Iterable, Mapping, Sequence
from functools import cache
from typing import Any, Literal, Union, get_args, get_origin, get_type_hints

import botocore.session
import pydantic
import typing_extensions
from anthropic.types import message_create_params
from botocore.validate import ParamValidator
from cohere.v2.client import V2Client
from google.genai import types as gemini
from openai.types import completion_create_params as completions
from openai.types import embedding_create_params as embeddings
from openai.types.chat import completion_create_params as chat
from openai.types.responses import response_create_params as responses

MAX_SHOWN = 3
_LISTS = (list, Iterable, Sequence, typing.Iterable, typing.Sequence, typing.List)  # noqa: UP006
_WRAPPERS = (
    typing.Required,
    typing.NotRequired,
    typing_extensions.Required,
    typing_extensions.NotRequired,
    typing_extensions.ReadOnly,
)


def problems(dialect: str, body: Any) -> list[str]:
    """Empty: the vendor's SDK could have sent it."""
    return _CHECKS[dialect](body)[:MAX_SHOWN]


# structural typing -----------------------------------------------------------------------------------------------------


def misfits(value: Any, wanted: Any, at: str = "body") -> list[str]:
    """Where ``value`` is not what the annotation ``wanted`` says; names that it does not have are misfits too."""
    origin = get_origin(wanted)
    if wanted in (Any, object) or isinstance(wanted, typing.TypeVar):
        return []
    if origin is typing.Annotated or origin in _WRAPPERS:
        return misfits(value, get_args(wanted)[0], at)
    if isinstance(
        wanted, typing.TypeAliasType if hasattr(typing, "TypeAliasType") else typing_extensions.TypeAliasType
    ):
        return misfits(value, wanted.__value__, at)
    if origin in (Union, types.UnionType):
        tried = [misfits(value, each, at) for each in get_args(wanted)]
        return min(tried, key=lambda found: (len(found), -max(map(len, found), default=0)))
    if origin is Literal:
        return [] if value in get_args(wanted) else [f"{at}: {value!r} is not one of {get_args(wanted)}"]
    if _is_list(wanted, origin):
        return _list(value, (get_args(wanted) or (Any,))[0], at)
    if origin in (dict, Mapping) or wanted in (dict, Mapping):
        return _mapping(value, (get_args(wanted) or (Any, Any))[1], at)
    if typing_extensions.is_typeddict(wanted):
        return _fields(value, *_shape_of(wanted), at)
    if inspect.isclass(wanted) and issubclass(wanted, pydantic.BaseModel):
        return _fields(value, *_model(wanted), at)
    return _plain(value, wanted, at)


def _is_list(wanted: Any, origin: Any) -> bool:
    named = getattr(origin or wanted, "__name__", "")
    return origin in _LISTS or wanted in _LISTS or named in ("SequenceNotStr", "Iterable", "Sequence")


def _list(value: Any, inner: Any, at: str) -> list[str]:
    if not isinstance(value, list):
        return [f"{at}: a list is expected, not {type(value).__name__}"]
    return [found for place, one in enumerate(value) for found in misfits(one, inner, f"{at}[{place}]")]


def _mapping(value: Any, inner: Any, at: str) -> list[str]:
    if not isinstance(value, dict):
        return [f"{at}: an object is expected, not {type(value).__name__}"]
    return [found for name, one in value.items() for found in misfits(one, inner, f"{at}.{name}")]


@cache
def _shape_of(wanted: Any) -> tuple[dict[str, Any], frozenset[str]]:
    return get_type_hints(wanted, include_extras=True), frozenset(wanted.__required_keys__)


@cache
def _model(wanted: type[pydantic.BaseModel]) -> tuple[dict[str, Any], frozenset[str]]:
    fields = {field.alias or name: field for name, field in wanted.model_fields.items()}
    required = frozenset(name for name, field in fields.items() if field.is_required())
    return {name: field.annotation for name, field in fields.items()}, required


def _fields(value: Any, known: dict[str, Any], required: frozenset[str], at: str) -> list[str]:
    if not isinstance(value, dict):
        return [f"{at}: an object is expected, not {type(value).__name__}"]
    found = [f"{at}.{name}: missing" for name in sorted(required - value.keys())]
    found += [f"{at}.{name}: the SDK knows no such field" for name in value if name not in known]
    for name, one in value.items():
        if name in known:
            found += misfits(one, known[name], f"{at}.{name}")
    return found


def _plain(value: Any, wanted: Any, at: str) -> list[str]:
    if wanted is None or wanted is type(None):
        fits = value is None
    elif wanted is float:
        fits = isinstance(value, int | float) and not isinstance(value, bool)
    elif wanted is int:
        fits = isinstance(value, int) and not isinstance(value, bool)
    elif wanted in (str, bool):
        fits = isinstance(value, wanted)
    else:
        fits = isinstance(value, str)  # enums, dates and bytes travel as text
    return [] if fits else [f"{at}: {value!r:.60} is no {getattr(wanted, '__name__', wanted)}"]


# by vendor ------------------------------------------------------------------------------------------------------------


def _typed(*wanted: Any) -> typing.Callable[[Any], list[str]]:
    return lambda body: misfits(body, Union[wanted])  # noqa: UP007


_GEMINI_MODELS: dict[str, Any] = {
    "contents": gemini.Content,
    "systemInstruction": gemini.Content,
    "tools": gemini.Tool,
    "toolConfig": gemini.ToolConfig,
    "safetySettings": gemini.SafetySetting,
    "generationConfig": gemini.GenerationConfig,
}


def _gemini(body: Any) -> list[str]:
    """The REST body, whose parts are the SDK's own models (which forbid unknown fields)."""
    found = []
    for name, value in body.items():
        model = _GEMINI_MODELS.get(name)
        if model is None:
            if name not in ("serviceTier", "cachedContent", "labels"):
                found.append(f"body.{name}: the SDK knows no such field")
            continue
        for place, one in enumerate(value if isinstance(value, list) else [value]):
            try:
                model.model_validate(one)
            except pydantic.ValidationError as error:
                found += [
                    f"{name}[{place}].{'.'.join(map(str, each['loc']))}: {each['msg']}"
                    for each in error.errors()
                ]
    return found


@cache
def _converse() -> Any:
    model = botocore.session.get_session().get_service_model("bedrock-runtime")
    return model.operation_model("Converse").input_shape


def _bedrock(body: Any) -> list[str]:
    report = ParamValidator().validate({"modelId": "m", **body}, _converse())
    return report.generate_report().splitlines() if report.has_errors() else []


@cache
def _cohere_fields() -> tuple[dict[str, Any], frozenset[str]]:
    hints = get_type_hints(V2Client.chat, include_extras=True)
    hints.pop("return"), hints.pop("request_options")
    return {**hints, "stream": bool}, frozenset(("model", "messages"))


def _cohere(body: Any) -> list[str]:
    return _fields(body, *_cohere_fields(), "body")


_CHECKS: dict[str, typing.Callable[[Any], list[str]]] = {
    "openai_chat": _typed(chat.CompletionCreateParamsNonStreaming, chat.CompletionCreateParamsStreaming),
    "openai_responses": _typed(
        responses.ResponseCreateParamsNonStreaming, responses.ResponseCreateParamsStreaming
    ),
    "openai_completions": _typed(
        completions.CompletionCreateParamsNonStreaming, completions.CompletionCreateParamsStreaming
    ),
    "openai_embeddings": _typed(embeddings.EmbeddingCreateParams),
    "anthropic_messages": _typed(
        message_create_params.MessageCreateParamsNonStreaming,
        message_create_params.MessageCreateParamsStreaming,
    ),
    "gemini": _gemini,
    "bedrock_converse": _bedrock,
    "cohere": _cohere,
}
