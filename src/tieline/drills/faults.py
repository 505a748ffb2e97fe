"""Every single fault, judged from both sides: what the callers got, and what the providers saw.

Each case plays twice on a fresh stage, with streaming and with whole answers: one caller of every dialect asks at the
same moment while ``alpha`` misbehaves; then ``alpha`` is well again and one more request must be served.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterable
from typing import Any, Literal

from msgspec import Struct, field
from msgspec.structs import replace

from tieline.config.schema import Config, Routing, Timeouts
from tieline.drills.caller import DIALECTS, PROMPT, Ask, Heard
from tieline.drills.fleet import fleet, provider
from tieline.drills.stage import Stage
from tieline.simulator.answer import DEFAULT_TOKENS
from tieline.simulator.ledger import Entry
from tieline.simulator.schedule import Phase, Schedule
from tieline.simulator.text import expected_text
from tieline.types.record import SUCCESS, Record

WHOLE = expected_text(PROMPT, DEFAULT_TOKENS)
FOREVER_S = 1e6
NOT_OURS = {401, 402}
"""Statuses that would blame the caller's account for a provider's trouble (WIRE_FACTS 36)."""
SLACK_S = 6.0
"""Of compressed time, for a machine that is busy with other things."""


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


class Verdict(Struct, kw_only=True):
    """A case in one mode. ``problems`` empty: passed."""

    case: str
    title: str
    mode: str
    upstream: str
    problems: list[str]
    requests: int
    answered: int
    attempts: int
    slowest_s: float
    served_by: dict[str, int]
    wasted_usd: str = "0"

    @property
    def passed(self) -> bool:
        return not self.problems


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
        title="A parameter it does not know: asked nobody else, unless we had translated it",
        behaviour="fail-400",
        ends="either",
        at_alpha=1,
        attempts=2,
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


CASES: tuple[Case, ...] = (*_refusals(), *_connections(), *_streams(), *_others())


def case_named(name: str) -> Case | None:
    return next((case for case in CASES if case.name == name), None)


async def play_all(
    cases: Iterable[Case] = CASES, told: Callable[[Verdict], None] | None = None
) -> list[Verdict]:
    """Each case in each of its modes, eight stages at a time."""
    gate = asyncio.Semaphore(8)

    async def one(case: Case, mode: str) -> Verdict:
        async with gate:
            verdict = await play(case, mode)
        if told is not None:
            told(verdict)
        return verdict

    return list(await asyncio.gather(*(one(case, mode) for case in cases for mode in case.modes)))


async def play(case: Case, mode: str) -> Verdict:
    """One case in one mode."""
    upstream = case.upstreams[mode == "whole"]
    phases = (
        [Phase(at_s=0, for_s=FOREVER_S, provider="alpha", behaviour=case.behaviour)] if case.behaviour else []
    )
    judge = _Judge(case, mode)
    async with Stage(lambda url: _config(case, url, upstream), schedule=Schedule(phases=phases)) as stage:
        for _ in range(case.rounds):
            asks = [_ask(case, dialect, mode) for dialect in DIALECTS]
            judge.heard += await asyncio.gather(*(stage.caller.ask(ask) for ask in asks))
        await _quiet(stage)
        log = stage.simulator.log
        stage.simulator.set_schedule(None)
        await asyncio.sleep(case.rest_s)
        after = await stage.caller.ask(Ask(model="m", stream=mode == "stream", tools=case.tools))
        await _quiet(stage)
        records = list(stage.records.values())
        problems = judge.problems(log, stage.records) + _leaks(stage)
        if not after.ok and "alpha" not in case.special:
            problems.append(f"the next healthy request was not served: {after.error} {after.error_message}")
    ours = [record for record in records if record.id != after.request_id]
    served: dict[str, int] = {}
    for record in ours:
        served[record.provider or "nobody"] = served.get(record.provider or "nobody", 0) + 1
    return Verdict(
        case=case.name,
        title=case.title,
        mode=mode,
        upstream=upstream,
        problems=problems,
        requests=len(judge.heard),
        answered=sum(one.ok for one in judge.heard),
        attempts=sum(len(record.attempts) for record in ours),
        slowest_s=round(max(one.total_s for one in judge.heard), 3),
        served_by=served,
    )


def _config(case: Case, url: str, upstream: str) -> Config:
    beta = {"openai_chat": "anthropic_messages"}.get(upstream, "openai_chat")
    ways = ["alpha/gpt-sim", *([f"beta/{case.beta}"] if case.fallback else [])]
    keys = [f"simulated-{number}" for number in range(case.keys)]
    if case.special.get("refuse") == "dead":
        keys[0] = "invalid-0"
    elif case.special.get("refuse") == "limited":
        keys[0] = "broke-0"
    routing = Routing(fallback="listed" if case.fallback else "none", timeouts=Timeouts(connect_s=20))
    made = fleet(
        url, *ways, routing=routing, alpha={"dialect": upstream, "keys": keys}, beta={"dialect": beta}
    )
    if "alpha" in case.special:
        elsewhere = replace(provider(url, "alpha"), base_url=case.special["alpha"])
        made = replace(made, providers={**made.providers, "alpha": elsewhere})
    return made


def _ask(case: Case, dialect: str, mode: str) -> Ask:
    return Ask(
        dialect=dialect,
        model="m",
        stream=mode == "stream",
        leave_after_s=case.leave_after_s,
        tools=case.tools,
    )


async def _quiet(stage: Stage) -> None:
    """Until every request is recorded."""
    for _ in range(400):
        if not stage.gateway.in_flight:
            return
        await asyncio.sleep(0.05)


def _leaks(stage: Stage) -> list[str]:
    gateway = stage.gateway
    problems = []
    if gateway.in_flight:
        problems.append(f"{gateway.in_flight} requests are still under way")
    if gateway.admission.inflight:
        problems.append(f"{gateway.admission.inflight} permits were not given back")
    left = sum(view.inflight for view in gateway.health.snapshot(gateway.clock()))
    if left:
        problems.append(f"{left} attempts are still counted as under way")
    return problems


class _Judge:
    def __init__(self, case: Case, mode: str) -> None:
        self.case = case
        self.mode = mode
        self.heard: list[Heard] = []

    def problems(self, log: list[Entry], records: dict[str, Record]) -> list[str]:
        found: list[str] = []
        for heard in self.heard:
            dialect = heard.asked.dialect if heard.asked else ""
            record = records.get(heard.request_id)
            found += [f"{dialect}: {what}" for what in self._caller(heard)]
            if record is None:
                if self.case.leave_after_s is None:
                    found.append(f"{dialect}: no record")
                continue
            found += [f"{dialect}: {what}" for what in self._truth(heard, record, log)]
            found += [f"{dialect}: {what}" for what in self._attempts(record)]
        return [*found, *self._pauses(log), *self._accounts(log, list(records.values()))]

    def _caller(self, heard: Heard) -> Iterable[str]:
        case = self.case
        if heard.total_s > case.within_s + SLACK_S:
            yield f"took {heard.total_s:.1f} s, {case.within_s:g} s were allowed"
        if case.leave_after_s is not None:
            return
        if heard.status in NOT_OURS:
            yield f"a provider's trouble was reported as HTTP {heard.status}"
        if heard.error in ("connection", "unreadable"):
            yield f"no clean end: {heard.error_message}"
        if heard.complete and heard.error is None and not case.tools and heard.text != WHOLE:
            yield f"a complete answer with the wrong text: …{heard.text[-40:]!r}"
        if not WHOLE.startswith(heard.text):
            yield f"text that nobody said: …{heard.text[-40:]!r}"
        if case.ends == "answer" and not heard.ok:
            yield f"no answer but {heard.status} {heard.error}: {heard.error_message}"
        if case.ends in ("error", "cut_error") and (heard.complete or not heard.error):
            yield "an answer where an error was due"
        if case.ends == "error" and case.codes and heard.error not in case.codes | {str(heard.status)}:
            yield f"the error is called {heard.error}"

    def _truth(self, heard: Heard, record: Record, log: list[Entry]) -> Iterable[str]:
        """What the answer says of itself is what happened."""
        case = self.case
        if not heard.ok:
            if record.outcome == SUCCESS and case.leave_after_s is None:
                yield "recorded as a success, and it was none"
            return
        if record.outcome != SUCCESS:
            yield f"recorded as {record.outcome}, and it was answered"
        if case.by is not None and record.provider != case.by:
            yield f"served by {record.provider}, not {case.by}"
        said = heard.provider or (heard.comments[-1].get("provider") if heard.comments else None)
        if said != record.provider and (said or heard.comments):
            yield f"says it came from {said}, its record says {record.provider}"
        done = [entry for entry in log if entry.completed]
        if not any(entry.provider == record.attempts[-1].provider for entry in done):
            yield f"{record.attempts[-1].provider} never completed an answer"
        last = record.attempts[-1].usage
        if (
            last is not None
            and not last.estimated
            and not case.tools
            and not any(
                entry.output_tokens == last.output_tokens and entry.input_tokens == last.input_tokens
                for entry in done
            )
        ):
            yield f"its usage ({last.input_tokens}, {last.output_tokens}) is not what a provider produced"
        told = heard.output_tokens
        if (
            told is not None
            and record.usage is not None
            and not record.usage.estimated
            and told != record.usage.output_tokens
        ):
            yield f"the caller was told {told} output tokens, the record says {record.usage.output_tokens}"
        if record.cost is None and case.name != "usage-missing":
            yield "its cost is unknown"

    def _attempts(self, record: Record) -> Iterable[str]:
        case = self.case
        if len(record.attempts) > case.attempts:
            yield f"{len(record.attempts)} attempts, at most {case.attempts} were allowed"
        at_alpha = sum(entry.provider == "alpha" for entry in record.attempts)
        if at_alpha > case.at_alpha + (case.keys - 1):
            yield f"{at_alpha} attempts at the failing provider, at most {case.at_alpha} were allowed"
        total = sum(entry.cost or 0 for entry in record.attempts)
        if record.cost is not None and record.cost != total:
            yield f"costs {record.cost}, its attempts {total}"

    def _pauses(self, log: list[Entry]) -> Iterable[str]:
        """Whoever asked for a pause is not asked again before it is over; requests sent at the same moment are excused."""
        if not self.case.pause_s:
            return
        refused: dict[str, float] = {}
        for entry in log:
            if entry.provider != "alpha":
                continue
            until = refused.get(entry.key)
            if until is not None and 0.3 < entry.at - (until - self.case.pause_s) < self.case.pause_s * 0.95:
                yield f"asked again {entry.at - until + self.case.pause_s:.2f} s after Retry-After: {self.case.pause_s:g}"
            if entry.status in (429, 503):
                refused[entry.key] = entry.at + self.case.pause_s

    def _accounts(self, log: list[Entry], records: list[Record]) -> Iterable[str]:
        """Every request that a provider saw is an attempt of ours, once."""
        entries = [entry for record in records for entry in record.attempts]
        for name in ("alpha", "beta"):
            seen = sum(entry.provider == name for entry in log)
            ours = sum(entry.provider == name for entry in entries)
            # The healthy request at the end is in the records and not in this log.
            if not seen <= ours <= seen + 2 and not self.case.special.get("alpha"):
                yield f"{name} saw {seen} requests, the ledger has {ours}"
