"""The life of a request, in order. Each step says why it stands where it stands; docs/life-of-a-request.md has the
same numbers. ``Gateway.handle`` makes one ``Flight`` for each request and runs it.
"""

from __future__ import annotations

import asyncio
import logging
from time import time as wall_clock
from typing import Any

import msgspec

from tieline import bill
from tieline.admit.admission import Permit
from tieline.admit.facts import Facts
from tieline.admit.naming import check_providers
from tieline.admit.rules import Starved
from tieline.config.schema import PolicyRules
from tieline.dialects import get as dialect_named
from tieline.dialects.answer_filters import Filtered, answer_filters
from tieline.dialects.base import Dialect, Peek, StreamEncoder
from tieline.dialects.operations import Operation, operation_of
from tieline.dialects.sse import comment
from tieline.dialects.transcript import Transcript
from tieline.exchange import MAX_KEPT, SHUT_DOWN, Exchange
from tieline.line import Line
from tieline.oneshot import CALLERS_OWN, ESTIMATED, OneShot
from tieline.providers.deployment import Deployment
from tieline.race import Race
from tieline.record.ids import new_id
from tieline.route import no_candidate
from tieline.route.match import Route
from tieline.route.plan import Plan
from tieline.route.routing import override
from tieline.route.steps import GiveUp, Needs, Try
from tieline.types.asked import read_options
from tieline.types.call import Call, Headers, Reply
from tieline.types.errors import (
    FailureClass,
    Fault,
    InvalidRequest,
    TielineError,
    UpstreamFailed,
    fault_of,
)
from tieline.types.money import Pico, format_usd, parse_usd
from tieline.types.options import NO_OPTIONS, Options
from tieline.types.record import SUCCESS, Attempt, Record
from tieline.types.request import Request
from tieline.types.response import Response
from tieline.types.usage import CHARS_PER_TOKEN

log = logging.getLogger("tieline")

MOST_KEPT = 512
"""Characters of a caller's own words that a record keeps: a body of 20 MB may be nearly all one name."""
_NO_CACHE = (b"cache-control", b"no-cache")
_UNBUFFERED = (b"x-accel-buffering", b"no")
"""nginx keeps 4 KiB of an answer back otherwise, which is a hundred tokens (``proxy_buffering``)."""
_JSON = (b"content-type", b"application/json")
_ONE_ATTEMPT = (b"tieline-attempts", b"1")
_CACHE_OFF = (b"tieline-cache", b"off")


NO_RULES = PolicyRules()
NOTHING_SAID = Transcript()
"""Until a relay has content and brings its own."""


class Flight:
    """One request under way."""

    __slots__ = (
        "answer",
        "call",
        "committed",
        "congested",
        "delivered",
        "dialect",
        "encoder",
        "free",
        "hold_chars",
        "hold_s",
        "line",
        "operation",
        "options",
        "peek",
        "permit",
        "plan",
        "received_at",
        "record",
        "reply",
        "request",
        "sent_bytes",
        "served_by",
        "shape",
        "tokens",
        "transcript",
        "unpriced",
        "unsupported",
        "upstream_s",
    )

    def __init__(self, line: Line, call: Call, reply: Reply) -> None:
        self.line = line
        self.call = call
        self.reply = reply
        self.received_at = call.received_at
        self.dialect: Dialect = dialect_named(call.dialect)
        self.operation: Operation | None = None if call.operation == "chat" else operation_of(call)
        self.free = self.operation is not None and self.operation.free
        self.options: Options = NO_OPTIONS
        self.peek: Peek = None  # type: ignore[assignment]  # set by step 1, before anybody asks
        self.plan: Plan = None  # type: ignore[assignment]  # set by step 5
        self.permit: Permit | None = None
        self.request: Request | None = None
        self.encoder: StreamEncoder | None = None
        self.transcript = NOTHING_SAID
        self.delivered: list[Attempt] = []
        """The attempts whose output reached the caller: several when the answer was spliced."""
        self.unsupported: TielineError | None = None
        """Why nobody could be asked so far."""
        self.shape: frozenset[str] | None = None
        self.tokens = 0
        self.sent_bytes = 0
        self.hold_chars = 0
        self.hold_s = 0.0
        self.committed = False
        self.congested = False
        self.served_by: Deployment | None = None
        self.upstream_s = 0.0
        self.unpriced: Pico = 0
        """The most that attempts may have cost that ended and whose cost is unknown."""
        self.answer: Attempt | None = None
        """The attempt that completed the answer."""
        self.record = Record(
            id=new_id(), at_ms=int(wall_clock() * 1000), operation=call.operation, dialect=call.dialect
        )

    async def run(self) -> Record:
        """The ten steps. Ends with the caller answered (unless gone), the money settled and one record written."""
        intake = self.line.intake
        try:
            intake.enter(self.line.max_concurrency)
        except TielineError as error:
            self.refuse(error)
            self.write_record()
            return self.record
        try:
            self.receive()
            await self.admit()
            self.match()
            await self.attempt()
        except asyncio.CancelledError:
            self._cancelled()
        except TielineError as error:
            if self.permit is None:
                self._name_caller()
            self.refuse(error)
        except Exception as error:
            log.exception("request %s failed inside Tieline", self.record.id)
            self.refuse(error)
        finally:
            try:
                if self.record.stream:
                    self.line.keepalive.drop(self)
                self.settle()
                self.write_record()
            finally:
                intake.leave()
        return self.record

    def _cancelled(self) -> None:
        """The caller went away, or waits for an answer that the process does not wait for any longer."""
        if not self.line.intake.cutting:
            self.record.outcome, self.record.status = FailureClass.CALLER_GONE.value, 499
            return
        hint = None if self.call.in_process else "Send the request to another replica."
        self.refuse(UpstreamFailed(SHUT_DOWN, attempts=len(self.record.attempts), hint=hint))

    # 1 ----------------------------------------------------------------------------------------------------------
    def receive(self) -> None:
        """First, because everything else asks what the body says; only the fields that decide are decoded."""
        peek = self.peek = (self.operation or self.dialect).peek(self.call)
        options = self.options = read_options(peek.options, self.call.headers)
        self.tokens = peek.input_chars // CHARS_PER_TOKEN + 1
        self.shape = peek.features
        record = self.record
        record.model_asked, record.stream, record.user = peek.model, peek.stream, peek.user
        if len(peek.model) > MOST_KEPT:
            record.model_asked = peek.model[:MOST_KEPT]
        if record.user is not None and len(record.user) > MOST_KEPT:
            record.user = record.user[:MOST_KEPT]
        record.request_bytes = len(self.call.body)
        if options is not NO_OPTIONS:
            record.tags, record.session, record.run = options.tags, options.session, options.run
            record.profile = options.profile

    # 2 ----------------------------------------------------------------------------------------------------------
    async def admit(self) -> None:
        """Before any work is spent on the request: who, may they, have we room."""
        peek, options, record = self.peek, self.options, self.record
        facts = Facts(model=peek.model, input_tokens=self.tokens)
        if peek.fallbacks or options.models:
            facts.alternatives = (*options.models, *peek.fallbacks)
        if options is not NO_OPTIONS:
            facts.profile, facts.tags, facts.run = options.profile, options.tags, options.run
            facts.run_budget = parse_usd(options.run_budget_usd) if options.run_budget_usd else None
            facts.policy = self._rules_asked()
        try:
            permit = self.permit = self.line.admission.admit(self.call.secret, facts)
        except Starved:
            if self.line.leases is None:
                raise
            permit = self.permit = await self.line.leases.admit(self.call.secret, facts)
        record.key_id, record.project, record.tags = permit.key_id, permit.project, permit.tags

    def _name_caller(self) -> None:
        """Of a request that was not let in: whose key it came with may read it, and finds it in logs and spend."""
        try:
            key, tags = self.line.admission.presented(self.call.secret)
        except TielineError:
            return
        if key is not None:
            record = self.record
            record.key_id, record.project = key.id, key.project_id
            record.tags = {**record.tags, **tags}

    def _rules_asked(self) -> PolicyRules | None:
        """The request's own data policy."""
        if not self.options.policy:
            return None
        try:
            rules = msgspec.convert(self.options.policy, PolicyRules)
        except msgspec.ValidationError as error:
            raise InvalidRequest(f"tieline.policy: {error}.", param="tieline.policy") from None
        check_providers(rules, self.line.config, within="tieline.")
        return rules

    # 3, 5 -------------------------------------------------------------------------------------------------------
    def match(self) -> None:
        """After admission, so that a stranger cannot probe which names exist.

        The plan (5) is made in the same breath: candidates are filtered and ordered, alternatives wait until needed.
        """
        peek, options, router = self.peek, self.options, self.line.router
        fallbacks = (*options.models, *peek.fallbacks) if options.models else peek.fallbacks
        route = router.match(peek.model, fallbacks, peek.provider_preferences)
        needs = Needs(
            operation=self.call.operation,
            dialect=self.call.dialect,
            features=peek.features,
            stream=peek.stream,
            input_tokens=self.tokens,
            max_output_tokens=peek.max_output_tokens,
            n=peek.n,
            service_tier=bill.asked_tier(peek),
            extras=peek.extras,
            free=self.free,
        )
        if self.permit is not None and self.permit.policy is not NO_RULES and self.permit.policy != NO_RULES:
            needs.rules = (self.permit.policy,)
        if self.permit is not None and self.permit.allowed:
            needs.allowed = self.permit.allowed
        if options is not NO_OPTIONS:
            narrow(needs, route, options)
        self.plan = router.plan(route, needs, self.line.clock())
        routing = needs.routing or route.routing
        if routing.on_broken_stream == "hold":
            self.hold_chars, self.hold_s = routing.hold_tokens * CHARS_PER_TOKEN, routing.hold_ms / 1000

    # 4: a cache would be asked here, before money is held, as a hit needs no provider. No route has one yet.

    # 6 ----------------------------------------------------------------------------------------------------------
    async def hold(self, step: Try) -> str | None:
        """Before anything is sent; with each try, because its deployment decides the ceiling. Where only another process's
        share of it is missing, that is waited for."""
        try:
            return bill.hold(self, step)
        except Starved:
            if self.line.leases is None:
                raise
            return await self.line.leases.patiently(lambda: bill.hold(self, step))

    # 7 (8 inside) -----------------------------------------------------------------------------------------------
    async def attempt(self) -> None:
        """Tries what the plan yields until one answer is complete or the plan ends; relaying (8) happens inside a try."""
        if self.record.stream:
            self.line.keepalive.add(self)
        step = self.plan.start()
        while isinstance(step, Try):
            if step.wait_s > 0:
                await asyncio.sleep(step.wait_s)
                self.upstream_s += step.wait_s
            refused = bill.hold(self, step) if self.line.leases is None else await self.hold(step)
            if refused is not None:
                step = self.plan.pass_over(refused)
                continue
            # An operation runs alone, as a race knows conversations only.
            after_s = self.plan.hedge_after() if self.operation is None else None
            if after_s is None:
                outcome = await self._exchange(step).run()
            else:
                # A second try beside it when it is late.
                outcome = await Race(self).run(step, after_s)
            if outcome.failure is None and outcome.unsupported is None:
                self.record.outcome, self.record.status = SUCCESS, 200
                return
            step = self.plan.send(outcome)
        if not self._estimated(step):
            self._give_up(step)

    def _exchange(self, step: Try) -> Exchange:
        return Exchange(self, step) if self.operation is None else OneShot(self, step, self.operation)

    def _give_up(self, end: GiveUp) -> None:
        if self.unsupported is not None and not self.record.attempts:
            raise self.unsupported
        if end.failure is not None:
            raise UpstreamFailed(end.failure, attempts=len(self.record.attempts), hint=self._tried())
        raise no_candidate.error(self.record.model_asked, end.excluded)

    def _estimated(self, end: GiveUp) -> bool:
        """Whether nobody could be asked, for now, and an estimate is an answer."""
        if self.operation is None or self.record.attempts:
            return False
        if end.failure is None or end.failure.kind in CALLERS_OWN:
            return False
        estimate = self.operation.estimate(self.peek)
        if estimate is None:
            return False
        self.send_whole(estimate, ESTIMATED)
        self.record.outcome, self.record.status = SUCCESS, 200
        return True

    def _tried(self) -> str | None:
        tries = self.record.attempts
        if not tries:
            return None
        return "(tried " + ", ".join(f"{entry.deployment}: {entry.outcome}" for entry in tries[:8]) + ")"

    # 9 ----------------------------------------------------------------------------------------------------------
    def settle(self) -> None:
        """In ``finally``: exactly once, whatever happened. What was held and not spent goes back."""
        bill.settle(self)

    # 10 ---------------------------------------------------------------------------------------------------------
    def write_record(self) -> None:
        """Last, when everything is known; the recorder takes a reference, its thread does the work."""
        record = self.record
        elapsed_s = self.elapsed_s()
        record.total_ms = elapsed_s * 1000
        record.overhead_ms = self._overhead_ms(elapsed_s)
        record.response_bytes = self.sent_bytes
        if record.attempts:
            last = self.answer or record.attempts[-1]
            record.usage = last.usage if len(self.delivered) < 2 else bill.used(self.delivered)
            record.first_token_ms = (self.delivered[0] if self.delivered else last).first_token_ms
        if self.plan is not None:
            record.decision = self.plan.told()
        self.line.recorder.put(record)

    # answering --------------------------------------------------------------------------------------------------

    def deliver(self, step: Try, entry: Attempt, body: bytes, more: Headers | None = None) -> None:
        """A whole answer."""
        self._serve_from(step)
        self.answer = entry
        self.delivered.append(entry)
        figures = self._figures()
        self.send_whole(body, figures if more is None else figures + more)

    def send_whole(self, body: bytes, more: Headers) -> None:
        """A whole answer, wherever it came from."""
        self.sent_bytes = len(body)
        self.committed = True
        self.reply.start(200, [_JSON, *self.head(), *more], len(body))
        self.reply.write(body)
        self.reply.end()

    def commit(self, step: Try, entry: Attempt) -> None:
        """The first content of a stream goes out: from now on this answer must be finished or end in an error."""
        self._serve_from(step)
        self.delivered.append(entry)
        self.committed = True
        self.line.keepalive.drop(self)
        if not self.reply.started:
            self.reply.start(200, [*self._stream_head(), self._overhead()], None)

    def spliced(self, step: Try, entry: Attempt) -> bytes:
        """``step`` goes on with the answer; the comment that says so, where the caller's dialect has comments."""
        self.delivered.append(entry)
        self.record.splices += 1
        return self._comment({"spliced": step.deployment.id, "after": self.delivered[-2].deployment})

    def write(self, data: bytes) -> None:
        self.sent_bytes += len(data)
        if not self.reply.write(data):
            self.congested = True

    def closing_comment(self, entry: Attempt) -> bytes:
        """The last SSE comment: the figures that headers could not have."""
        self.answer = entry
        record = self.record
        figures: dict[str, Any] = {
            "request_id": record.id,
            "provider": record.provider,
            "model": record.model,
            "attempts": len(record.attempts),
            "cost_usd": format_usd(bill.cost_so_far(self.record)),
            "overhead_ms": round(self._overhead_ms(self.elapsed_s()), 3),
        }
        if record.splices:
            figures["splices"] = record.splices
            figures["deployments"] = [one.deployment for one in self.delivered]
        return self._comment(figures)

    def _comment(self, said: dict[str, Any]) -> bytes:
        if not self.dialect.comments:
            return b""
        return comment(b"tieline " + msgspec.json.encode(said))

    def encode_answer(self, answer: Response) -> bytes:
        request = self._request_or_less()
        for one in answer_filters(request):
            answer = one.whole(answer)
        return self.dialect.encode_response(answer, request)

    def refuse(self, error: Exception) -> None:
        """Whatever went wrong reaches the caller in its dialect: as a status, or in-band once the stream has begun."""
        fault = fault_of(error)
        record = self.record
        record.error_code, record.error_message = fault.code, fault.message[:1000]
        if isinstance(error, UpstreamFailed):
            record.outcome = error.failure.kind.value
        else:
            record.outcome = "refused" if isinstance(error, TielineError) else "internal_error"
        if self.reply.started:
            record.status = 200
            self.reply.write(self.stream_encoder().error(fault, record.id))
        else:
            record.status = fault.status
            body = self.dialect.encode_error(fault, record.id)
            self.reply.start(fault.status, [_JSON, *self.head(), *fault_headers(fault)], len(body))
            self.reply.write(body)
        self.reply.end()

    def head(self) -> Headers:
        """Who served it, in how many attempts (DESIGN section 14)."""
        record = self.record
        request_id = record.id.encode()
        headers: Headers = [
            (b"tieline-request-id", request_id),
            (b"x-request-id", request_id),
            (b"request-id", request_id),
            _ONE_ATTEMPT
            if len(record.attempts) == 1
            else (b"tieline-attempts", b"%d" % len(record.attempts)),
            _CACHE_OFF if record.cache == "off" else (b"tieline-cache", record.cache.encode()),
        ]
        if self.served_by is not None:
            headers += self._names_of(self.served_by)
        if self.permit is not None and self.permit.has_soft_budget:
            headers += self._budget_warnings(self.permit)
        return headers

    def _names_of(self, deployment: Deployment) -> Headers:
        kept = self.line.answer_headers
        headers = kept.get(deployment)
        if headers is None:
            if len(kept) >= MAX_KEPT:
                kept.clear()
            headers = kept[deployment] = [
                (b"tieline-provider", deployment.provider.name.encode()),
                (b"tieline-model", deployment.model.encode()),
                (b"tieline-deployment", deployment.id.encode()),
            ]
        return headers

    def _budget_warnings(self, permit: Permit) -> Headers:
        """One header for each soft budget that is overspent; the record is flagged."""
        lines = permit.warnings()
        if lines and "budget_warning" not in self.record.flags:
            self.record.flags.append("budget_warning")
        return [(b"tieline-budget-warning", line.encode("ascii", "replace")) for line in lines]

    def _stream_head(self) -> Headers:
        return [(b"content-type", self.dialect.media_type), _NO_CACHE, _UNBUFFERED, *self.head()]

    def _figures(self) -> Headers:
        return [(b"tieline-cost-usd", format_usd(bill.cost_so_far(self.record)).encode()), self._overhead()]

    def _overhead(self) -> tuple[bytes, bytes]:
        return (b"tieline-overhead-ms", b"%.3f" % self._overhead_ms(self.elapsed_s()))

    def _overhead_ms(self, elapsed_s: float) -> float:
        """What was not waited for a provider."""
        return max(0.0, elapsed_s - self.upstream_s) * 1000

    def _serve_from(self, step: Try) -> None:
        record, deployment = self.record, step.deployment
        self.served_by = deployment
        record.provider, record.model, record.deployment = (
            deployment.provider.name,
            deployment.model,
            deployment.id,
        )

    # waiting callers --------------------------------------------------------------------------------------------

    def ping(self) -> None:
        """Nothing has come for a while; the head goes out without naming who serves."""
        if not self.reply.started:
            self.reply.start(200, self._stream_head(), None)
        self.reply.write(self.stream_encoder().ping())

    @property
    def structured(self) -> bool:
        """Whether the answer must be JSON of a given shape, which cannot be resumed in the middle."""
        return not self.peek.features.isdisjoint(("json_object", "json_schema"))

    # what the steps share ---------------------------------------------------------------------------------------

    def elapsed_s(self) -> float:
        return self.line.clock() - self.received_at

    def typed_request(self) -> Request:
        """The whole request in typed form; only decoded when a target speaks another dialect."""
        if self.request is None:
            self.request = self.dialect.decode_request(self.call, self.peek)
        return self.request

    def _request_or_less(self) -> Request:
        """What an answer has to know of it. A host may take what we cannot read; its answer, signs of life and errors must
        reach the caller all the same."""
        try:
            return self.typed_request()
        except Exception:
            return Request(model=self.peek.model, messages=[], stream=self.peek.stream)

    def new_encoder(self) -> StreamEncoder:
        request = self._request_or_less()
        encoder = self.dialect.stream_encoder(request)
        filters = answer_filters(request)
        return Filtered(encoder, filters) if filters else encoder

    def stream_encoder(self) -> StreamEncoder:
        """In step with what the caller has seen, also when frames passed through until now."""
        if self.encoder is None:
            encoder = self.encoder = self.new_encoder()
            for event in self.transcript.events():
                encoder.encode(event)
        return self.encoder


def narrow(needs: Needs, route: Route, options: Options) -> None:
    """What the request itself asks of routing. Raises InvalidRequest naming the option."""
    if options.max_cost_usd is not None:
        needs.max_cost = parse_usd(options.max_cost_usd)
    needs.max_price_ratio = options.max_price_ratio
    needs.session = options.session
    try:
        needs.routing = override(route.routing, options.routing) if options.routing else None
    except ValueError as error:
        raise InvalidRequest(f"tieline: {error}.", param="tieline") from None


def fault_headers(fault: Fault) -> Headers:
    if fault.retry_after_s is None:
        return []
    return [(b"retry-after", b"%d" % max(1, -int(-fault.retry_after_s // 1)))]
