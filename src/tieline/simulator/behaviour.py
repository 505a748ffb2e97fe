"""What a simulated model does: ``sim-<behaviour>[:param=value,...]`` in its name, or a phase of a schedule."""

from __future__ import annotations

import difflib
import re
from collections.abc import Iterable
from random import Random
from typing import Literal

from msgspec import Struct, field
from msgspec.structs import replace

Group = Literal["content", "refusal", "connection", "stream", "shape", "choice"]

CONTENT = ("echo", "tools", "json", "think", "long", "slow", "cache")
REFUSALS: dict[str, str] = {
    "fail-429": "rate_limit",
    "fail-quota": "quota",
    "fail-500": "server_error",
    "fail-502-html": "bad_gateway",
    "fail-503": "unavailable",
    "fail-504": "gateway_timeout",
    "fail-529": "overloaded",
    "fail-530": "origin_down",
    "fail-401": "auth",
    "fail-402": "payment",
    "fail-403": "forbidden",
    "fail-404": "model_not_found",
    "fail-408": "request_timeout",
    "fail-410": "gone",
    "fail-geo": "geo",
    "fail-context": "context",
    "fail-filter": "filter",
    "fail-400": "unsupported",
    "fail-400-vague": "vague",
    "fail-413": "too_large",
    "fail-422": "unprocessable",
}
"""Behaviour -> kind of refusal, to which each dialect gives its vendor's status, words and headers."""
CONNECTION = ("reset", "silent", "garbled", "error-200", "truncate-body")
STREAM = ("cut", "cut-clean", "stall", "stream-error", "malformed", "no-done")
SHAPE = (
    "finish-filter",
    "usage-missing",
    "empty-choices-first",
    "dup-ids",
    "content-after-finish",
    "finish-with-content",
    "wrong-index",
    "split-names",
    "crlf",
    "comments",
    "bare-event",
    "null-usage",
    "degraded",
)
CHOICE = ("flaky", "first")

_MEMBERS: tuple[tuple[Group, Iterable[str]], ...] = (
    ("content", CONTENT),
    ("refusal", REFUSALS),
    ("connection", CONNECTION),
    ("stream", STREAM),
    ("shape", SHAPE),
    ("choice", CHOICE),
)
_GROUPS: dict[str, Group] = {name: group for group, names in _MEMBERS for name in names}

_COMMON = {
    "ttft_ms": "number",
    "ttft_dist": "number",
    "tps": "number",
    "tokens": "number",
    "chunk": "number",
    "reasoning_tokens": "number",
    "cached_tokens": "number",
    "cache_write_tokens": "number",
    "calls": "number",
    "early": "number",
    "text": "shared|own",
    "resume": "anchor|restart|ignore|refuse|ws",
    "base": "|".join(CONTENT),
    "redacted": "number",
}
_OWN: dict[str, dict[str, str]] = {
    "fail-429": {"reset": "text", "false": "number"},
    "cut": {"after": "number", "mid": "number", "reset": "number"},
    "cut-clean": {"after": "number"},
    "stall": {"after": "number", "comments": "number", "for_ms": "number"},
    "stream-error": {"after": "number", "kind": "text"},
    "malformed": {"at": "number", "content": "number"},
    "garbled": {"html": "number"},
    "flaky": {"p": "number", "fail": "behaviour"},
    "first": {"n": "number", "then": "behaviour", "fail": "behaviour"},
    "error-200": {"kind": "text"},
}
_REFUSAL_PARAMS = {
    "retry_after": "text",
    "retry_after_ms": "number",
    "limits": "number",
    "after_ms": "number",
}
_PARAM = re.compile(r"([a-z][a-z0-9_-]*)=(.*)")


class UnknownBehaviour(ValueError):
    """A behaviour or a parameter that does not exist; the message names the nearest that does."""


class Behaviour(Struct, frozen=True, kw_only=True):
    """One way to behave. ``content`` is what is answered, ``name`` what else happens (``echo``: nothing)."""

    name: str = "echo"
    content: str = "echo"
    params: dict[str, str] = field(default_factory=dict)
    explicit: bool = False
    """Asked for by the model's name; an ordinary model behaves well without being told."""

    @property
    def group(self) -> Group:
        return _GROUPS[self.name]

    @property
    def refusal(self) -> str | None:
        return REFUSALS.get(self.name)

    def number(self, name: str, default: float = 0.0) -> float:
        return float(self.params.get(name, default))

    def count(self, name: str, default: int = 0) -> int:
        return int(self.number(name, default))

    def word(self, name: str, default: str = "") -> str:
        return self.params.get(name, default)

    def with_params(self, extra: dict[str, str]) -> Behaviour:
        return replace(self, params=self.params | extra)

    def ttft_s(self, random: Random) -> float:
        """Seconds before the first token; ``slow`` is 3 s when nothing is said."""
        base = self.number("ttft_ms", 3000 if self.name == "slow" or self.content == "slow" else 0) / 1000
        sigma = self.number("ttft_dist")
        return base * random.lognormvariate(0.0, sigma) if sigma else base

    def __str__(self) -> str:
        shown = ",".join(f"{name}={value}" for name, value in self.params.items())
        return f"{self.name}:{shown}" if shown else self.name


WELL_BEHAVED = Behaviour()


def of_model(model: str) -> Behaviour:
    """Reads a model's name; any name that does not begin with ``sim-`` behaves well. Raises UnknownBehaviour."""
    name = model.rsplit("/", 1)[-1]
    if not name.startswith("sim-"):
        return WELL_BEHAVED
    return parse(name.removeprefix("sim-"))


def parse(text: str) -> Behaviour:
    """Reads ``name[:param=value,...]``. Raises UnknownBehaviour with the nearest valid name."""
    name, _, rest = text.partition(":")
    if name not in _GROUPS:
        raise UnknownBehaviour(f"unknown behaviour {name!r}{nearest(name, _GROUPS)}")
    params = _read_params(name, rest)
    content = name if name in CONTENT else params.get("base", "echo")
    return Behaviour(name=name, content=content, params=params, explicit=True)


def _read_params(name: str, rest: str) -> dict[str, str]:
    allowed = allowed_params(name)
    params: dict[str, str] = {}
    for item in filter(None, rest.split(",")):
        match = _PARAM.fullmatch(item.strip())
        if match is None:
            raise UnknownBehaviour(f"{name}: {item!r} is not param=value")
        key, value = match[1].replace("-", "_"), match[2]
        if key not in allowed:
            raise UnknownBehaviour(f"{name}: unknown parameter {key!r}{nearest(key, allowed)}")
        _check_value(name, key, value, allowed[key])
        params[key] = value
    return params


def allowed_params(name: str) -> dict[str, str]:
    """Parameter -> what it takes. A choice (``flaky``, ``first``) takes those of what it chooses too."""
    allowed = _COMMON | _OWN.get(name, {})
    if name in REFUSALS:
        allowed |= _REFUSAL_PARAMS
    if name in CHOICE:
        for own in _OWN.values():
            allowed = own | allowed
        allowed |= _REFUSAL_PARAMS
    return allowed


def _check_value(name: str, key: str, value: str, kind: str) -> None:
    if kind == "number":
        try:
            number = float(value)
        except ValueError:
            raise UnknownBehaviour(f"{name}: {key}={value!r} is not a number") from None
        if not 0 <= number < 1e9:
            raise UnknownBehaviour(f"{name}: {key}={value} is out of range (0 to 1e9)")
    elif kind == "behaviour":
        if value not in _GROUPS or value in CHOICE:
            raise UnknownBehaviour(f"{name}: {key}: unknown behaviour {value!r}{nearest(value, _GROUPS)}")
    elif kind != "text" and value not in kind.split("|"):
        raise UnknownBehaviour(f"{name}: {key}={value!r} is not one of {kind.replace('|', ', ')}")


def nearest(name: str, valid: dict[str, str] | dict[str, Group]) -> str:
    """``; did you mean 'x'?`` or nothing."""
    found = difflib.get_close_matches(name, valid, n=1, cutoff=0.5)
    return f"; did you mean {found[0]!r}?" if found else ""


def choose(behaviour: Behaviour, random: Random, seen: int) -> Behaviour:
    """Settles ``flaky`` and ``first``; ``seen`` is how often this model was asked before."""
    if behaviour.name == "flaky":
        fails = random.random() < behaviour.number("p", 0.5)
    elif behaviour.name == "first":
        fails = seen < behaviour.count("n", 1)
    else:
        return behaviour
    name = behaviour.word("fail", "fail-500") if fails else behaviour.word("then", "echo")
    content = name if name in CONTENT else behaviour.content
    return replace(behaviour, name=name, content=content)
