"""The options of a request, read from its body and its headers (``types.options``)."""

from __future__ import annotations

from difflib import get_close_matches
from typing import Any, Final

import msgspec

from tieline.types.call import Headers
from tieline.types.errors import InvalidRequest
from tieline.types.money import parse_usd
from tieline.types.options import NO_OPTIONS, Options

MAX_TAGS = 16
MAX_TAG_CHARS = 200
MAX_LABEL_CHARS = 256
MAX_RUN_CHARS = 128
_NAMES = {name.replace("_", "-").encode(): name for name in Options.__struct_fields__}
_NUMBERS = {"max_price_ratio", "timeout_s", "first_token_timeout_s", "stall_timeout_s"}
_PREFIX: Final = b"tieline-"
ANSWERED: Final = frozenset(
    (
        b"request-id",
        b"attempts",
        b"cache",
        b"provider",
        b"model",
        b"deployment",
        b"cost-usd",
        b"overhead-ms",
        b"estimated",
        b"budget-warning",
    )
)
"""What our answers carry with that prefix: who sends it back asks for nothing."""


def read_options(body: dict[str, Any], headers: Headers) -> Options:
    """Both sources, the body wins. Raises InvalidRequest naming the option."""
    asked: dict[str, Any] = {}
    for key, value in headers:
        if key.startswith(_PREFIX):
            name = _NAMES.get(key[len(_PREFIX) :])
            if name is not None:
                asked[name] = _from_header(name, value.decode("latin-1").strip())
            elif key[len(_PREFIX) :] not in ANSWERED:
                raise _unknown(key)
    if not asked and not body:
        return NO_OPTIONS
    asked.update(body)
    if isinstance(asked.get("max_cost_usd"), int | float):
        asked["max_cost_usd"] = str(asked["max_cost_usd"])
    if isinstance(asked.get("run_budget_usd"), int | float):
        asked["run_budget_usd"] = str(asked["run_budget_usd"])
    try:
        options = msgspec.convert(asked, Options)
    except msgspec.ValidationError as error:
        raise InvalidRequest(
            f"tieline: {error}.",
            param="tieline",
            hint=f"Known options: {', '.join(Options.__struct_fields__)}.",
        ) from None
    _check(options)
    return options


def _unknown(header: bytes) -> InvalidRequest:
    """A misspelt ceiling or policy must not pass for none."""
    name = header.decode("latin-1")
    known = [option.decode() for option in _NAMES]
    near = get_close_matches(name.removeprefix("tieline-"), known, n=1, cutoff=0.6)
    hint = f"Did you mean tieline-{near[0]}?" if near else f"Known options: {', '.join(known)}."
    return InvalidRequest(f"The header {name} is no option of Tieline.", param=name, hint=hint)


def _check(options: Options) -> None:
    for name in (*_NUMBERS,):
        value = getattr(options, name)
        if value is not None and not 0 < value < 86_400:
            raise InvalidRequest(f"tieline.{name} must be above 0, not {value}.", param=f"tieline.{name}")
    for name in ("max_cost_usd", "run_budget_usd"):
        _check_usd(name, getattr(options, name))
    if options.run_budget_usd is not None and options.run is None:
        raise InvalidRequest(
            "tieline.run_budget_usd needs `run`, the name of what it is a budget for.",
            param="tieline.run_budget_usd",
            hint="Send tieline.run too, or limit this one request with tieline.max_cost_usd.",
        )
    for name in ("session", "profile"):
        if len(getattr(options, name) or "") > MAX_LABEL_CHARS:
            raise InvalidRequest(
                f"tieline.{name} has at most {MAX_LABEL_CHARS} characters.", param=f"tieline.{name}"
            )
    if options.run is not None and not 1 <= len(options.run) <= MAX_RUN_CHARS:
        raise InvalidRequest(
            f"tieline.run: a run's name has 1 to {MAX_RUN_CHARS} characters.", param="tieline.run"
        )
    if len(options.tags) > MAX_TAGS or any(len(k) + len(v) > MAX_TAG_CHARS for k, v in options.tags.items()):
        raise InvalidRequest(
            f"tieline.tags: at most {MAX_TAGS} tags of {MAX_TAG_CHARS} characters.", param="tieline.tags"
        )


def _check_usd(name: str, text: str | None) -> None:
    if text is None:
        return
    try:
        amount = parse_usd(text)
    except ValueError as error:
        raise InvalidRequest(f"tieline.{name}: {error}.", param=f"tieline.{name}") from None
    if amount < 0:
        raise InvalidRequest(f"tieline.{name} must be 0 or more.", param=f"tieline.{name}")


def _from_header(name: str, text: str) -> Any:
    if name == "models":
        return [item.strip() for item in text.split(",") if item.strip()]
    if name == "tags":
        return dict(item.strip().partition("=")[::2] for item in text.split(",") if item.strip())
    if name == "policy":
        try:
            return msgspec.json.decode(text)
        except (msgspec.DecodeError, RecursionError, ValueError):
            raise InvalidRequest(
                "The header tieline-policy must be a JSON object.", param="tieline-policy"
            ) from None
    if name in _NUMBERS:
        try:
            return float(text)
        except ValueError:
            raise InvalidRequest(
                f"The header tieline-{name.replace('_', '-')} must be a number.", param=name
            ) from None
    return text
