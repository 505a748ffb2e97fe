"""The single faults: what the provider does, and what must come of it for callers and providers."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any, Literal

from msgspec import Struct, field

from tieline.drills.caller import DIALECTS


class Case(Struct, kw_only=True, frozen=True):
    """One fault and what must come of it."""

    name: str
    title: str
    behaviour: str = ""
    """Of ``alpha``, as the simulator calls it."""
    fallback: bool = True
    """Whether ``beta`` may take over."""
    keys: int = 1
    """Credentials of ``alpha``."""
    ends: Literal["answer", "error", "cut_error", "either"] = "answer"
    """``cut_error``: a stream that had begun may end in an in-band error; never a complete-looking one."""
    codes: frozenset[str] = frozenset()
    """With an error: the codes it may have; empty: any."""
    by: str | None = None
    """Who must have served it; None: anybody."""
    within_s: float = 3.0
    at_alpha: int = 2
    """Attempts of one request at ``alpha``, at most."""
    attempts: int = 4
    total_at_alpha: int | None = None
    """Attempts of all requests together at ``alpha``, at most: it must be left."""
    pause_s: float = 0.0
    """After a refusal by ``alpha`` nobody may ask it (by the same key) for this long."""
    modes: tuple[str, ...] = ("stream", "whole")
    upstreams: tuple[str, str] = ("openai_chat", "anthropic_messages")
    """What alpha speaks, by mode."""
    beta: str = "sim-echo"
    rounds: int = 1
    rest_s: float = 0.0
    """Until ``alpha`` is well again."""
    leave_after_s: float | None = None
    special: dict[str, Any] = field(default_factory=dict)
    tools: bool = False
    sends: dict[str, dict[str, Any]] = field(default_factory=dict)
    """Of a caller's dialect: what its body has besides."""


_WITH_TEMPERATURE: dict[str, dict[str, Any]] = {
    "openai_chat": {"temperature": 0.5},
    "anthropic_messages": {"temperature": 0.5},
    "openai_responses": {"temperature": 0.5},
    "gemini": {"generationConfig": {"maxOutputTokens": 400, "temperature": 0.5}},
}
_CALLERS = frozenset({"caller_fault", "invalid_request_error", "400"})


def _refusals() -> Iterable[Case]:
    quick: dict[str, Any] = {"by": "beta", "within_s": 3.0}
    yield Case(name="500-once", title="HTTP 500, once", behaviour="first:n=4,fail=fail-500", by="alpha")
    yield Case(name="500", title="HTTP 500 for ever", behaviour="fail-500", **quick)
    yield Case(
        name="500-alone",
        title="HTTP 500 for ever, no alternative",
        behaviour="fail-500",
        fallback=False,
        ends="error",
        attempts=2,
    )
    yield Case(name="502-html", title="A CDN's HTML page with 502", behaviour="fail-502-html", **quick)
    yield Case(name="503", title="HTTP 503 for ever", behaviour="fail-503", **quick)
    yield Case(
        name="503-retry-after",
        title="HTTP 503 that says when to come back",
        behaviour="fail-503:retry_after=5",
        at_alpha=1,
        pause_s=5.0,
        **quick,
    )
    yield Case(
        name="503-alone",
        title="HTTP 503 for ever, no alternative",
        behaviour="fail-503",
        fallback=False,
        ends="error",
        attempts=2,
    )
    yield Case(name="408", title="HTTP 408", behaviour="fail-408", **quick)
    yield Case(name="504", title="HTTP 504", behaviour="fail-504", **quick)
    yield Case(name="529", title="Overloaded (529)", behaviour="fail-529", at_alpha=2, **quick)
    yield Case(name="530", title="A CDN without origin (530)", behaviour="fail-530", **quick)
    yield Case(name="429", title="429 without Retry-After", behaviour="fail-429", at_alpha=1, **quick)
    yield Case(
        name="429-retry-after",
        title="429 with Retry-After, an alternative at hand",
        behaviour="fail-429:retry_after=4",
        at_alpha=1,
        pause_s=4.0,
        **quick,
    )
    yield Case(
        name="429-wait",
        title="429 with Retry-After, nobody else: waited out",
        behaviour="first:n=4,fail=fail-429,retry_after=1",
        fallback=False,
        by="alpha",
        pause_s=1.0,
        within_s=5.0,
    )
    yield Case(
        name="429-wait-untold",
        title="429 without Retry-After, nobody else: tried once more",
        behaviour="first:n=4,fail=fail-429",
        fallback=False,
        by="alpha",
        within_s=5.0,
    )
    yield Case(
        name="429-alone",
        title="429 for ever, no alternative",
        behaviour="fail-429:retry_after=1",
        fallback=False,
        ends="error",
        codes=frozenset({"rate_limited", "rate_limit_error", "429"}),
        pause_s=1.0,
        at_alpha=4,
        within_s=6.0,
    )
    yield Case(
        name="429-long",
        title="429 that asks for a minute, no alternative: told at once",
        behaviour="fail-429:retry_after=60",
        fallback=False,
        ends="error",
        at_alpha=1,
        within_s=2.0,
        rest_s=60.0,
    )
    yield Case(
        name="429-false",
        title="A false 429 (limiter broken)",
        behaviour="fail-429:false=1",
        at_alpha=1,
        **quick,
    )
    yield Case(
        name="429-keys",
        title="429 on one of two keys",
        behaviour="",
        keys=2,
        by="alpha",
        special={"refuse": "limited"},
    )
    yield Case(name="quota", title="The account is out of money", behaviour="fail-quota", at_alpha=1, **quick)
    yield Case(name="402", title="Nothing was paid (402)", behaviour="fail-402", at_alpha=1, **quick)
    yield Case(
        name="quota-alone",
        title="Out of money, no alternative",
        behaviour="fail-quota",
        fallback=False,
        ends="error",
        attempts=1,
    )
    yield Case(name="401", title="Valid keys are refused (401)", behaviour="fail-401", at_alpha=1, **quick)
    yield Case(
        name="400-key",
        title="Gemini's 400 for a key that is not valid",
        behaviour="fail-401",
        upstreams=("gemini", "gemini"),
        at_alpha=1,
        **quick,
    )
    yield Case(
        name="401-alone",
        title="401, no alternative: never ours",
        behaviour="fail-401",
        fallback=False,
        ends="error",
        attempts=1,
    )
    yield Case(
        name="401-second-key", title="One of two keys is dead", keys=2, by="alpha", special={"refuse": "dead"}
    )
    yield Case(name="403", title="The key may not (403)", behaviour="fail-403", at_alpha=1, **quick)
    yield Case(name="404", title="The model is gone (404)", behaviour="fail-404", at_alpha=1, **quick)
    yield Case(name="410", title="The model is gone (410)", behaviour="fail-410", at_alpha=1, **quick)
    yield Case(name="region", title="Not served in this region", behaviour="fail-geo", at_alpha=1, **quick)
    yield Case(
        name="context",
        title="Context too long, a listed alternative",
        behaviour="fail-context",
        at_alpha=1,
        **quick,
    )
    yield Case(
        name="context-alone",
        title="Context too long, nobody else",
        behaviour="fail-context",
        fallback=False,
        ends="error",
        attempts=1,
    )
    yield Case(
        name="content-filter",
        title="Refused by policy: asked nobody else",
        behaviour="fail-filter",
        ends="error",
        attempts=1,
    )
    yield Case(
        name="400",
        title="A parameter that was sent is refused: asked nobody else, unless we had translated it",
        behaviour="fail-400",
        ends="either",
        at_alpha=1,
        attempts=2,
        sends=_WITH_TEMPERATURE,
    )
    yield Case(
        name="400-storm",
        title="A storm of 400s that name nothing: served elsewhere from the first on",
        behaviour="fail-400-vague",
        at_alpha=1,
        attempts=2,
        total_at_alpha=12,
        rounds=6,
        **quick,
    )
    yield Case(
        name="400-storm-named",
        title="A storm of 400s about a parameter that nobody sent",
        behaviour="fail-400",
        at_alpha=1,
        attempts=2,
        total_at_alpha=12,
        rounds=6,
        **quick,
    )
    yield Case(
        name="400-both",
        title="Two providers refuse it: it is the caller's, and no third attempt is made",
        behaviour="fail-400-vague",
        beta="sim-fail-400-vague",
        ends="error",
        codes=_CALLERS,
        at_alpha=1,
        attempts=2,
        rounds=3,
    )
    yield Case(
        name="400-alone",
        title="A 400 that names nothing, nobody else to ask",
        behaviour="fail-400-vague",
        fallback=False,
        ends="error",
        codes=_CALLERS,
        attempts=1,
    )
    yield Case(name="413", title="Too large", behaviour="fail-413", ends="error", attempts=1)
    yield Case(name="422", title="Unprocessable", behaviour="fail-422", ends="error", attempts=1)


def _connections() -> Iterable[Case]:
    yield Case(name="reset", title="Reset before headers", behaviour="reset", by="beta")
    yield Case(
        name="reset-alone",
        title="Reset, no alternative",
        behaviour="reset",
        fallback=False,
        ends="error",
        attempts=2,
    )
    yield Case(
        name="refused", title="Connection refused", by="beta", special={"alpha": "http://127.0.0.1:9/v1"}
    )
    yield Case(
        name="dns", title="The name does not resolve", by="beta", special={"alpha": "http://drill.invalid/v1"}
    )
    yield Case(name="tls", title="The TLS handshake fails", by="beta", special={"alpha": "tls"})
    yield Case(name="silence", title="Silence", behaviour="silent", by="beta", at_alpha=1, within_s=30.0)
    yield Case(
        name="slow-first-token",
        title="First token after 3 s",
        behaviour="slow:ttft_ms=3000",
        by="alpha",
        within_s=6.0,
    )
    yield Case(
        name="very-slow-first-token",
        title="First token after a minute",
        behaviour="slow:ttft_ms=60000",
        by="beta",
        at_alpha=1,
        within_s=30.0,
    )
    yield Case(
        name="slow-alone",
        title="First token after 30 s, no alternative: waited for",
        behaviour="slow:ttft_ms=30000",
        fallback=False,
        by="alpha",
        within_s=33.0,
    )
    yield Case(name="garbled", title="Bytes that are no JSON", behaviour="garbled", by="beta")
    yield Case(name="garbled-html", title="An HTML page with 200", behaviour="garbled:html=1", by="beta")
    yield Case(name="error-in-200", title="An error inside a 200", behaviour="error-200", by="beta")
    yield Case(
        name="truncated-body",
        title="A whole answer cut in the middle",
        behaviour="truncate-body",
        by="beta",
        modes=("whole",),
    )
    yield Case(
        name="cut-whole",
        title="A whole answer whose connection dies",
        behaviour="cut",
        by="beta",
        modes=("whole",),
    )
    yield Case(
        name="stall-whole",
        title="A whole answer that stalls",
        behaviour="stall",
        by="beta",
        modes=("whole",),
        within_s=45.0,
    )


def _streams() -> Iterable[Case]:
    only: dict[str, Any] = {"modes": ("stream",)}
    for upstream in DIALECTS:
        both = {"upstreams": (upstream, upstream), **only}
        yield Case(name=f"cut-{upstream}", title="A stream is cut", behaviour="cut:after=10", **both)
        yield Case(
            name=f"cut-clean-{upstream}",
            title="A stream ends without a finish",
            behaviour="cut-clean:after=10",
            **both,
        )
        yield Case(
            name=f"error-{upstream}",
            title="An error inside a stream",
            behaviour="stream-error:after=10",
            **both,
        )
        yield Case(
            name=f"stall-{upstream}",
            title="A stream stalls",
            behaviour="stall:after=10",
            within_s=25.0,
            **both,
        )
        yield Case(
            name=f"no-done-{upstream}",
            title="A complete stream without its terminator",
            behaviour="no-done",
            by="alpha",
            **both,
        )
    yield Case(name="cut-mid-event", title="Cut inside an event", behaviour="cut:after=10,mid=1", **only)
    yield Case(
        name="cut-at-once", title="Cut before the first content", behaviour="cut:after=0", by="beta", **only
    )
    yield Case(name="cut-reset", title="Cut by a reset", behaviour="cut:after=10,reset=1", **only)
    yield Case(
        name="stall-comments",
        title="A stall with keep-alive comments",
        behaviour="stall:after=10,comments=1",
        within_s=25.0,
        **only,
    )
    yield Case(
        name="malformed",
        title="A malformed event that carried content",
        behaviour="malformed:at=9,content=1",
        **only,
    )
    yield Case(
        name="malformed-harmless",
        title="A malformed event without content",
        behaviour="malformed:at=4",
        by="alpha",
        **only,
    )
    yield Case(
        name="restart",
        title="Cut; the other starts over",
        behaviour="cut:after=20",
        beta="sim-echo:resume=restart",
        **only,
    )
    yield Case(
        name="whitespace",
        title="Cut; the other changes white space",
        behaviour="cut:after=20",
        beta="sim-echo:resume=ws",
        **only,
    )
    yield Case(
        name="prefill",
        title="Cut; the other refuses the partial answer",
        behaviour="cut:after=20",
        beta="sim-echo:resume=refuse",
        **only,
    )
    yield Case(
        name="ignores",
        title="Cut; the other does not go on",
        behaviour="cut:after=20",
        beta="sim-echo:resume=ignore",
        ends="cut_error",
        **only,
    )
    yield Case(
        name="cut-alone",
        title="Cut, no alternative: a clean error",
        behaviour="cut:after=10",
        fallback=False,
        ends="cut_error",
        **only,
    )
    yield Case(
        name="cut-in-tool-call",
        title="Cut inside a tool call: never continued",
        behaviour="cut:after=2",
        ends="either",
        tools=True,
        upstreams=("openai_chat", "openai_chat"),
        **only,
    )


def _others() -> Iterable[Case]:
    yield Case(
        name="flapping",
        title="A primary that fails every other time",
        behaviour="flaky:p=0.5,fail=fail-500",
        rounds=6,
        within_s=4.0,
    )
    yield Case(
        name="caller-gone",
        title="The caller hangs up",
        behaviour="slow:ttft_ms=20000",
        fallback=False,
        ends="error",
        leave_after_s=2.0,
    )
    yield Case(name="usage-missing", title="An answer without usage", behaviour="usage-missing", by="alpha")
    for upstream in DIALECTS[1:]:
        yield Case(
            name=f"usage-missing-{upstream}",
            title="An answer without usage, or with zeros for it",
            behaviour="usage-missing",
            by="alpha",
            upstreams=(upstream, upstream),
        )


CASES: tuple[Case, ...] = (*_refusals(), *_connections(), *_streams(), *_others())


def case_named(name: str) -> Case | None:
    return next((case for case in CASES if case.name == name), None)
