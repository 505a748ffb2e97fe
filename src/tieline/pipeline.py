"""The life of a request, in order. Each step says why it stands where it stands; docs/life-of-a-request.md has the
same numbers. ``Gateway.handle`` makes one ``Flight`` for each request and runs it.
"""

from __future__ import annotations

import asyncio
import logging
from time import perf_counter
from time import time as wall_clock

from msgspec import Struct

from tieline import exchange
from tieline.admit.admission import Admission, Ask, Permit
from tieline.config.schema import Config
from tieline.dialects import get as dialect_named
from tieline.dialects.base import Dialect, Peek, StreamEncoder
from tieline.dialects.transcript import Transcript
from tieline.ledger import pricing
from tieline.record.ids import new_id
from tieline.record.recorder import Recorder
from tieline.route.health import Health
from tieline.route.plan import GiveUp, Outcome, Plan, Try
from tieline.route.router import Needs, Route, Router
from tieline.transport.base import Transport
from tieline.types.call import Call, Headers, Reply
from tieline.types.errors import (
    Failure,
    FailureClass,
    Fault,
    NoCandidate,
    TielineError,
    Unsupported,
    UpstreamFailed,
    fault_of,
)
from tieline.types.money import Pico, format_usd, parse_usd
from tieline.types.options import NO_OPTIONS, Options, read_options
from tieline.types.record import SUCCESS, Attempt, Record
from tieline.types.request import Request

log = logging.getLogger("tieline")


class Line(Struct, eq=False):
    """What all requests share. Immutable: a change of configuration makes a new one, requests under way keep theirs."""

    config: Config
    router: Router
    health: Health
    admission: Admission
    transport: Transport
    recorder: Recorder


class Flight:
    """One request under way."""

    __slots__ = (
        "call",
        "committed",
        "dialect",
        "encoder",
        "entry",
        "line",
        "needs",
        "options",
        "peek",
        "permit",
        "plan",
        "record",
        "reply",
        "request",
        "route",
        "transcript",
        "upstream_s",
    )

    def __init__(self, line: Line, call: Call, reply: Reply) -> None:
        self.line = line
        self.call = call
        self.reply = reply
        self.dialect: Dialect = dialect_named(call.dialect)
        self.options: Options = NO_OPTIONS
        self.peek: Peek | None = None
        self.request: Request | None = None
        self.permit: Permit | None = None
        self.route: Route | None = None
        self.needs: Needs | None = None
        self.plan: Plan | None = None
        self.entry: Attempt | None = None
        self.transcript = Transcript()
        self.encoder: StreamEncoder | None = None
        self.committed = False
        self.upstream_s = 0.0
        self.record = Record(
            id=new_id(), at_ms=int(wall_clock() * 1000), operation=call.operation, dialect=call.dialect
        )

    async def run(self) -> None:
        """The ten steps. Ends with the caller answered (unless gone), the money settled and one record written."""
        try:
            self.receive()
            self.admit()
            self.match()
            if not self.cache():
                self.make_plan()
                self.reserve()
                await self.attempts()
        except asyncio.CancelledError:
            self.caller_gone()
        except TielineError as error:
            self.refuse(error)
        except Exception as error:
            log.exception("request %s failed inside Tieline", self.record.id)
            self.refuse(error)
        finally:
            self.settle()
            self.write_record()

    # 1 ----------------------------------------------------------------------------------------------------------
    def receive(self) -> None:
        """First, because everything else asks what the body says; only the fields that decide are decoded."""
        peek = self.peek = self.dialect.peek(self.call)
        self.options = read_options(peek.options, self.call.headers)
        record, options = self.record, self.options
        record.model_asked = peek.model
        record.stream = peek.stream
        record.request_bytes = len(self.call.body)
        if options is not NO_OPTIONS:
            record.tags = options.tags
            record.session = options.session
            record.run = options.run
            record.profile = options.profile

    # 2 ----------------------------------------------------------------------------------------------------------
    def admit(self) -> None:
        """Before any work is spent on the request: who, may they, have we room."""
        peek, options, record = self.peek, self.options, self.record
        assert peek is not None
        permit = self.permit = self.line.admission.admit(
            Ask(
                secret=self.call.secret,
                model=peek.model,
                operation=self.call.operation,
                tags=options.tags,
                run=options.run,
                run_budget=parse_usd(options.run_budget_usd) if options.run_budget_usd else None,
                profile=options.profile,
                input_tokens=estimated_tokens(peek.input_chars),
            )
        )
        record.key_id = permit.key_id
        record.project = permit.project

    # 3 ----------------------------------------------------------------------------------------------------------
    def match(self) -> None:
        """After admission, so that a stranger cannot probe which names exist."""
        peek, options, permit = self.peek, self.options, self.permit
        assert peek is not None
        assert permit is not None
        fallbacks = (*options.models, *peek.fallbacks) if options.models else peek.fallbacks
        self.route = self.line.router.match(peek.model, fallbacks, peek.provider_preferences)
        self.needs = Needs(
            operation=self.call.operation,
            dialect=self.call.dialect,
            features=peek.features,
            input_tokens=estimated_tokens(peek.input_chars),
            max_output_tokens=peek.max_output_tokens,
            rules=permit.rules,
            options=options,
            stream=peek.stream,
        )

    # 4 ----------------------------------------------------------------------------------------------------------
    def cache(self) -> bool:
        """Before planning: a hit needs no provider. (No cache room is configured: every request goes on.)"""
        return False

    # 5 ----------------------------------------------------------------------------------------------------------
    def make_plan(self) -> None:
        """Candidates are filtered and ordered now; alternatives are only computed when the first one fails."""
        assert self.route is not None
        assert self.needs is not None
        self.plan = self.line.router.plan(self.route, self.needs, self.now())

    # 6 ----------------------------------------------------------------------------------------------------------
    def reserve(self) -> None:
        """After planning, because the hold is the first attempt's ceiling; ``attempts`` tops it up when it moves on."""

    # 7, 8 -------------------------------------------------------------------------------------------------------
    async def attempts(self) -> None:
        """Tries what the plan yields until one answer is complete or the plan ends. Relaying (8) happens inside."""
        assert self.plan is not None
        step = self.plan.start()
        while isinstance(step, Try):
            if step.wait_s > 0:
                await asyncio.sleep(step.wait_s)
            outcome = await exchange.run(self, step)
            if outcome.failure is None and outcome.unsupported is None:
                return
            step = self.plan.send(outcome)
        self.give_up(step)

    def give_up(self, end: GiveUp) -> None:
        attempts = len(self.record.attempts)
        if end.failure is not None:
            raise UpstreamFailed(end.failure, attempts=attempts, hint=end.hint)
        if end.unsupported is not None:
            raise end.unsupported
        raise NoCandidate(
            f"No deployment can serve {self.record.model_asked!r} as asked.",
            hint="; ".join(f"{name}: {why}" for name, why in list(end.excluded.items())[:8]),
            details={"excluded": end.excluded},
        )

    # 9 ----------------------------------------------------------------------------------------------------------
    def settle(self) -> None:
        """In ``finally``: exactly once, whatever happened. What was not spent goes back."""
        record = self.record
        costs = [entry.cost for entry in record.attempts]
        record.cost = None if None in costs else sum(cost for cost in costs if cost is not None)
        failed = [entry.cost for entry in record.attempts if entry.outcome != SUCCESS]
        record.wasted = None if None in failed else sum(cost for cost in failed if cost is not None)
        if self.permit is not None:
            record.charged = self.permit.settle(record)
            self.permit.release()

    # 10 ---------------------------------------------------------------------------------------------------------
    def write_record(self) -> None:
        """Last, when everything is known; the recorder only takes a reference, its thread writes."""
        record = self.record
        record.total_ms = self.elapsed_ms()
        record.overhead_ms = max(0.0, record.total_ms - self.upstream_s * 1000)
        if self.plan is not None:
            record.decision = self.plan.decision
        self.line.recorder.put(record)

    # how it can end otherwise -----------------------------------------------------------------------------------

    def caller_gone(self) -> None:
        self.record.outcome = FailureClass.CALLER_GONE
        self.record.status = 499
        if self.entry is not None and not self.entry.outcome:
            exchange.close_entry(self, self.entry, FailureClass.CALLER_GONE)

    def refuse(self, error: Exception) -> None:
        """Whatever went wrong reaches the caller in its own dialect: as a status, or in-band when the stream has begun."""
        fault = fault_of(error)
        record = self.record
        record.outcome = error.failure.kind if isinstance(error, UpstreamFailed) else "refused"
        if not isinstance(error, TielineError):
            record.outcome = "internal_error"
        record.error_code, record.error_message = fault.code, fault.message[:1000]
        if not self.reply.started:
            record.status = fault.status
            self.answer_fault(fault)
        else:
            record.status = 200
            self.reply.write(self.stream_encoder().error(fault, record.id))
            self.reply.end()

    def answer_fault(self, fault: Fault) -> None:
        body = self.dialect.encode_error(fault, self.record.id)
        headers = [*self.head(), *fault_headers(fault)]
        self.reply.start(fault.status, headers, len(body))
        self.reply.write(body)
        self.reply.end()

    # what the steps share ---------------------------------------------------------------------------------------

    def now(self) -> float:
        return perf_counter()

    def elapsed_ms(self) -> float:
        return (perf_counter() - self.call.received_at) * 1000

    def typed_request(self) -> Request:
        """The whole request in typed form; only decoded when a target speaks another dialect."""
        if self.request is None:
            assert self.peek is not None
            self.request = self.dialect.decode_request(self.call, self.peek)
        return self.request

    def stream_encoder(self) -> StreamEncoder:
        if self.encoder is None:
            self.encoder = self.dialect.stream_encoder(self.typed_request())
        return self.encoder

    def head(self) -> Headers:
        """The answer's own headers: who served it, in how many attempts (DESIGN section 14)."""
        record = self.record
        request_id = record.id.encode()
        headers: Headers = [
            (b"content-type", b"application/json"),
            (b"tieline-request-id", request_id),
            (b"x-request-id", request_id),
            (b"request-id", request_id),
            (b"tieline-attempts", b"%d" % len(record.attempts)),
        ]
        if record.provider is not None:
            headers += (
                (b"tieline-provider", record.provider.encode()),
                (b"tieline-model", (record.model or "").encode()),
                (b"tieline-deployment", (record.deployment or "").encode()),
            )
        return headers


def estimated_tokens(chars: int) -> int:
    """Tokens of a text before sending. Between English (4 characters a token) and code or other scripts (2 to 3)."""
    return chars * 3 // 10 + 1


def fault_headers(fault: Fault) -> Headers:
    if fault.retry_after_s is None:
        return []
    return [(b"retry-after", b"%d" % max(1, -int(-fault.retry_after_s // 1)))]


def cost_of(entry_price: pricing.Price | None, usage: pricing.Usage | None) -> Pico | None:
    return pricing.cost(entry_price, usage, at_unix=wall_clock())


__all__ = ["Failure", "Flight", "Line", "Outcome", "Unsupported", "format_usd"]
