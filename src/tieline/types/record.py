"""Everything observed about one request; built along the pipeline, handed to sinks when it is over.

The structs, and ``Usage``, are encoded as arrays, since the ledger keeps their MessagePack: the order of the fields is the
form of what is stored. New fields come last, with a default; none is moved or taken out. ``as_dict`` names them.
"""

from __future__ import annotations

from typing import Any

from msgspec import Struct, field, structs

from tieline.types.money import Pico, format_usd
from tieline.types.usage import Usage

SUCCESS = "success"


class Attempt(Struct, kw_only=True, array_like=True, gc=False):
    """One try; becomes one ledger entry, unless the record says all that it would. Times are milliseconds since the request was received."""

    number: int
    deployment: str
    provider: str
    model: str
    """The upstream's model id."""
    credential: str = ""
    """A label such as ``OPENAI_API_KEY`` or ``OPENAI_API_KEY_2``; never the secret."""
    dialect: str = ""
    reason: str = "first"
    """Why this one now: first | retry | other_credential | failover | wait | hedge | resume"""
    started_ms: float = 0.0
    first_token_ms: float | None = None
    ended_ms: float = 0.0
    outcome: str = ""
    """``success`` or a FailureClass; empty while under way."""
    status: int | None = None
    message: str | None = None
    usage: Usage | None = None
    cost: Pico | None = 0
    """None: unknown, because the price or the usage is."""
    upstream_id: str | None = None
    upstream_model: str | None = None
    """The model name that the upstream's answer states."""
    chars_out: int = 0
    """Characters of output read, for estimating the usage of an attempt that was cut. Of one whose upstream says what it
    used, not all need be read."""
    skipped: int = 0
    """Events of its stream that could not be read and were left out, since they carried no content."""


class Record(Struct, kw_only=True, array_like=True, tag=2, gc=False):
    id: str
    """``req_`` and 26 characters that sort by time."""
    at_ms: int
    """Unix milliseconds at receipt."""
    operation: str
    """chat | count_tokens | embeddings | completions"""
    dialect: str
    """The caller's."""
    model_asked: str = ""
    stream: bool = False
    key_id: str | None = None
    project: str | None = None
    user: str | None = None
    session: str | None = None
    run: str | None = None
    tags: dict[str, str] = field(default_factory=dict)
    profile: str | None = None
    intent: str | None = None
    provider: str | None = None
    """Who served the answer; None when nobody did."""
    model: str | None = None
    deployment: str | None = None
    status: int = 0
    """The HTTP status that the caller got; 499 when the caller had gone."""
    outcome: str = ""
    """``success``, ``refused``, ``caller_gone``, or the FailureClass of the last attempt."""
    error_code: str | None = None
    error_message: str | None = None
    finish_reason: str | None = None
    attempts: list[Attempt] = field(default_factory=list)
    decision: dict[str, Any] = field(default_factory=dict)
    """Candidates, scores, exclusions: what ``explain`` replays."""
    usage: Usage | None = None
    """Of the attempt(s) whose output the caller got."""
    cost: Pico | None = 0
    """All attempts together; None when any part is unknown."""
    wasted: Pico | None = 0
    """What is known to have bought nothing for the caller; where ``cost`` is None there may be more. None: nothing is known."""
    charged: Pico | None = 0
    """What the caller's budget bears: cost with markup, by the ``charge_failed`` setting."""
    cache: str = "off"
    """off | miss | hit"""
    splices: int = 0
    flags: list[str] = field(default_factory=list)
    first_token_ms: float | None = None
    total_ms: float = 0.0
    overhead_ms: float = 0.0
    request_bytes: int = 0
    response_bytes: int = 0


def as_dict(record: Record) -> dict[str, Any]:
    """All fields by their names, of plain types: what JSON shows."""
    found = structs.asdict(record)
    found["attempts"] = [structs.asdict(attempt) for attempt in record.attempts]
    for line in (found, *found["attempts"]):
        if usage := line["usage"]:
            line["usage"] = {name: value for name, value in structs.asdict(usage).items() if value}
    return found


def shown(record: Record) -> dict[str, Any]:
    """For JSON: money as decimal strings of US dollars."""
    found = as_dict(record)
    for name in ("cost", "wasted", "charged"):
        found.pop(name, None)
        found[f"{name}_usd"] = format_usd(getattr(record, name))
    for line, entry in zip(found["attempts"], record.attempts, strict=True):
        line.pop("cost", None)
        line["cost_usd"] = format_usd(entry.cost)
    return found


def replayed(record: dict[str, Any]) -> dict[str, Any]:
    """The decision of a record as ``shown`` makes it, with what came of each try."""
    kept = ("id", "at_ms", "model_asked", "outcome", "status", "deployment", "cost_usd", "intent", "profile")
    tries = ("number", "deployment", "credential", "reason", "outcome", "message", "started_ms", "ended_ms")
    return {
        "request": {name: record.get(name) for name in kept},
        **record["decision"],
        "attempts": [{name: line.get(name) for name in tries} for line in record["attempts"]],
    }
