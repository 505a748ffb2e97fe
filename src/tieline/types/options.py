"""What a caller may ask of Tieline itself: under ``tieline`` in the body, or as ``tieline-…`` headers."""

from __future__ import annotations

from typing import Any, Literal

import msgspec
from msgspec import Struct, field

from tieline.types.call import Headers
from tieline.types.errors import InvalidRequest
from tieline.types.money import parse_usd


class Options(Struct, kw_only=True, forbid_unknown_fields=True, frozen=True):
    """A header has the same name with dashes (``tieline-max-cost-usd``); lists are comma-separated, tags ``a=b,c=d``."""

    profile: str | None = None
    models: list[str] = field(default_factory=list)
    """Alternatives, tried in this order after the model asked."""
    max_cost_usd: str | None = None
    max_price_ratio: float | None = None
    timeout_s: float | None = None
    first_token_timeout_s: float | None = None
    stall_timeout_s: float | None = None
    on_broken_stream: Literal["resume", "error", "hold"] | None = None
    fallback: Literal["equivalent", "lesser", "listed", "none"] | None = None
    tags: dict[str, str] = field(default_factory=dict)
    session: str | None = None
    run: str | None = None
    run_budget_usd: str | None = None
    policy: dict[str, Any] = field(default_factory=dict)

    @property
    def routing(self) -> dict[str, Any]:
        """What it changes of the ``routing`` settings, in the shape of the YAML."""
        times = {
            "total_s": self.timeout_s,
            "first_token_s": self.first_token_timeout_s,
            "stall_s": self.stall_timeout_s,
        }
        changes: dict[str, Any] = {
            "max_price_ratio": self.max_price_ratio,
            "max_cost_usd": self.max_cost_usd,
            "on_broken_stream": self.on_broken_stream,
            "fallback": self.fallback,
            "timeouts": {name: value for name, value in times.items() if value is not None} or None,
        }
        return {name: value for name, value in changes.items() if value is not None}


NO_OPTIONS = Options()
MAX_TAGS = 16
MAX_TAG_CHARS = 200
_NAMES = {name.replace("_", "-").encode(): name for name in Options.__struct_fields__}
_NUMBERS = {"max_price_ratio", "timeout_s", "first_token_timeout_s", "stall_timeout_s"}
_PREFIX = b"tieline-"


def read_options(body: dict[str, Any], headers: Headers) -> Options:
    """Both sources, the body wins. Raises InvalidRequest naming the option."""
    asked: dict[str, Any] = {}
    for key, value in headers:
        if key.startswith(_PREFIX):
            name = _NAMES.get(key[len(_PREFIX) :])
            if name is not None:
                asked[name] = _from_header(name, value.decode("latin-1").strip())
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


def _check(options: Options) -> None:
    for name in (*_NUMBERS,):
        value = getattr(options, name)
        if value is not None and not 0 < value < 86_400:
            raise InvalidRequest(f"tieline.{name} must be above 0, not {value}.", param=f"tieline.{name}")
    for name in ("max_cost_usd", "run_budget_usd"):
        _check_usd(name, getattr(options, name))
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
        except msgspec.DecodeError:
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
