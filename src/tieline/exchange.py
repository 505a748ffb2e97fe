"""Step 7 of the pipeline: one try at one deployment, from encoding to a classified outcome.

Everything that is observed of it (health, the ledger's entry, the plan's outcome) is told here, once, on every way out.
"""

from __future__ import annotations

import asyncio
import re
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any, Final

from msgspec.structs import replace

from tieline import bill, resume
from tieline.dialects import get_upstream
from tieline.dialects.base import Garbled, Outgoing, StreamFault, Truncated, UpstreamDialect
from tieline.dialects.transcript import Transcript, events_of
from tieline.ledger import pricing
from tieline.providers.advice import advised
from tieline.providers.blame import weighed
from tieline.providers.deployment import Deployment
from tieline.providers.errors import classify, classify_transport
from tieline.providers.limits import rate_limits
from tieline.providers.signing import ended, needs_token, sign
from tieline.providers.token_error import TokenError
from tieline.providers.tokens import Proof
from tieline.relay import Relay
from tieline.route.steps import Outcome, Try
from tieline.transport.base import TransportError, UpstreamRequest, UpstreamResponse
from tieline.types.call import Headers
from tieline.types.errors import Failure, FailureClass, InvalidRequest, Unsupported
from tieline.types.events import Start
from tieline.types.money import Pico
from tieline.types.record import SUCCESS, Attempt
from tieline.types.response import Response
from tieline.watch import Died, Enough, Watch

if TYPE_CHECKING:
    from tieline.pipeline import Flight
    from tieline.race import Race

MAX_ERROR_BYTES = 64 * 1024
MAX_KEPT = 4096
"""Pairs of deployment and credential whose headers are kept."""
MAX_ANSWER_BYTES = 64 * 1024 * 1024
"""A whole answer; generated images in base64 are the largest."""
_CONTENT_TYPE = (b"content-type", b"application/json")
_SPECIAL_TIER = re.compile(
    rb'"service_tier"\s*:\s*"(?!(?:%b)")' % "|".join(filter(None, pricing.STANDARD_TIERS)).encode()
)
"""In an answer: another tier than the ordinary one served it, also where nobody asked for one (a setting at the vendor)."""


class Lost(Exception):
    """The other try of a race had content first."""


class Exchange:
    """One try under way. ``race`` is the other one that runs beside it, if any."""

    __slots__ = (
        "asked",
        "began",
        "clock",
        "dialect",
        "entry",
        "failure",
        "flight",
        "held",
        "kept_token",
        "race",
        "relay",
        "response",
        "resuming",
        "same_dialect",
        "sent",
        "step",
        "tier",
        "unspliced",
        "write",
    )

    def __init__(self, flight: Flight, step: Try, race: Race | None = None) -> None:
        self.flight = flight
        self.step = step
        self.race = race
        self.clock = flight.line.clock
        self.write = flight.write
        self.dialect: UpstreamDialect = get_upstream(step.endpoint.target.dialect)
        self.same_dialect = self.dialect is flight.dialect
        """Then bytes pass through."""
        self.response: UpstreamResponse | None = None
        self.relay: Relay | None = None
        self.entry: Attempt
        self.failure: Failure | None = None
        self.resuming = flight.committed
        self.unspliced = False
        self.held: asyncio.TimerHandle | None = None
        """When what is held back goes out."""
        self.sent = b""
        """The body; an error is held against it."""
        self.began = 0.0
        self.asked = 0.0
        """When the request was sent whose answer is awaited; an operation may send several."""
        self.tier: str | None = None
        self.kept_token: Proof | None = None
        """A cloud identity's token, or its temporary keys, that were not fetched for this request."""

    async def run(self) -> Outcome:
        """Tries, relays, tells. Raises CancelledError when it is cancelled, Unsupported is part of the outcome."""
        flight = self.flight
        try:
            outgoing = self._encode()
        except (Unsupported, InvalidRequest) as error:
            # Of the latter another host may make something, whose dialect is the caller's own.
            if isinstance(error, Unsupported):
                flight.unsupported = _explained(error, self.step.deployment)
            else:
                flight.unsupported = flight.unsupported or error
            return Outcome(
                unsupported=error.param or "request", elapsed_s=flight.elapsed_s(), committed=flight.committed
            )
        self._begin()
        try:
            await self._send(outgoing)
        except asyncio.CancelledError:
            self.failure = self._cancelled()
            raise
        except Lost:
            self.failure = _SUPERSEDED
        except Exception as error:
            self.failure = OURS  # unless it is known
            self.failure = self._without_key(self._failure_of(error))
            error.__traceback__ = None  # its frames know whoever raised it and keeps it: a cycle as well
        finally:
            if self.response is not None:
                self.response.close()
            now = self.clock()
            self._close_entry(now)
            self._tell_health(now)
            unsaid = self.relay is not None and self.relay.unsaid
            self.relay = None  # which knows us: the two would wait for the cycle collector
        return Outcome(
            failure=self.failure,
            elapsed_s=now - flight.received_at,
            committed=flight.committed,
            cost=self.entry.cost,
            resumable=self.failure is None
            or not flight.committed
            or (not unsaid and resume.resumable(flight.transcript)),
        )

    @property
    def cost(self) -> Pico | None:
        return self.entry.cost if self.began else 0

    @property
    def _lost(self) -> bool:
        return self.race is not None and self.race.winner not in (None, self)

    def lose(self) -> None:
        """The attempt beside it has content. Its cost is settled here: it goes into the figures that come with the answer."""
        if self.began:
            self.failure = _SUPERSEDED
            self._close_entry(self.clock())

    # before -----------------------------------------------------------------------------------------------------

    def _encode(self) -> Any:
        flight, step, target = self.flight, self.step, self.step.endpoint.target
        if self.resuming:
            going_on = resume.continuation(flight.typed_request(), flight.transcript.text, plain=step.plain)
            return self.dialect.encode_request(going_on, target)
        if self.same_dialect:
            return flight.dialect.forward(flight.call, flight.peek, target)
        return self.dialect.encode_request(flight.typed_request(), target)

    def _begin(self) -> None:
        flight, step, deployment = self.flight, self.step, self.step.deployment
        self.began = self.clock()
        attempts = flight.record.attempts
        self.entry = Attempt(
            number=len(attempts) + 1,
            deployment=deployment.id,
            provider=deployment.provider.name,
            model=deployment.model,
            credential=step.credential.label,
            dialect=self.dialect.name,
            reason=step.reason,
            started_ms=(self.began - flight.received_at) * 1000,
        )
        attempts.append(self.entry)
        self._tell_begun()

    def _tell_begun(self) -> None:
        flight, step = self.flight, self.step
        flight.line.health.begin(step.deployment, step.credential, self.began, tokens=flight.tokens)

    def _usual_headers(self) -> tuple[tuple[bytes, bytes], ...]:
        """Of requests that the dialect adds nothing to: one tuple for each key, which the transport knows again."""
        deployment, credential = self.step.deployment, self.step.credential
        kept = self.flight.line.request_headers
        headers = kept.get((deployment, credential))
        if headers is None:
            if len(kept) >= MAX_KEPT:
                kept.clear()
            headers = (_CONTENT_TYPE, *deployment.static_headers, *(credential.headers or ()))
            kept[deployment, credential] = headers
        return headers

    async def _headers(self, outgoing: Outgoing, url: str) -> Headers:
        deployment, credential = self.step.deployment, self.step.credential
        headers = [_CONTENT_TYPE, *deployment.static_headers, *outgoing.headers]
        if credential.headers is not None:
            headers += credential.headers
            return headers
        token = None
        if needs_token(credential):
            tokens = self.flight.line.tokens
            token = self.kept_token = tokens.cached(credential)
            if token is None:
                token = await tokens.token(credential)
        now = datetime.now(UTC)
        return headers + sign(
            deployment.provider, credential, "POST", url, headers, outgoing.body, now, token
        )

    # under way --------------------------------------------------------------------------------------------------

    async def _send(self, outgoing: Any) -> None:
        response = await self._ask(outgoing)
        if self.flight.record.stream and not _is_json(response):
            await self._stream(response)
        else:
            await self._whole(response)

    async def _ask(self, outgoing: Outgoing) -> UpstreamResponse:
        """An answer that has begun and is none of the errors."""
        flight, step, deadlines = self.flight, self.step, self.step.deadlines
        asked = self.asked = self.clock()
        self.sent = outgoing.body
        url = step.endpoint.url(outgoing.path)
        transport = flight.line.transports.of(step.deployment.http2, step.deployment.ca_file)
        request = UpstreamRequest(
            url=url,
            headers=await self._headers(outgoing, url)
            if outgoing.headers or step.credential.headers is None
            else self._usual_headers(),
            body=outgoing.body,
            connect_timeout_s=deadlines.connect_s,
            response_timeout_s=deadlines.first_token_s,
        )
        try:
            response = self.response = await transport.send(request)
            if self.kept_token is not None and ended(response.status, response.header(b"x-amzn-errortype")):
                # Revoked before its time: a fresh one may be accepted, and the caller need not know.
                flight.line.tokens.forget(step.credential, self.kept_token)
                response.close()
                request.headers = await self._headers(outgoing, url)
                response = self.response = await transport.send(request)
        finally:
            self._waited(self.clock() - asked)
        self.entry.status = response.status
        if response.status >= 300:
            raise Died(await self._refusal(response))
        if response.mentions(b"ratelimit"):
            self._tell_limits(response)
        return response

    async def _refusal(self, response: UpstreamResponse) -> Failure:
        if response.status < 400:
            return self._redirected(response.status)
        try:
            body = await self._body(response, MAX_ERROR_BYTES)
        except (TransportError, Died):
            body = b""  # the status alone classifies it
        key = self._key()
        if key is not None:  # before ``safe`` finds a part of it that looks like a key, and leaves the rest
            body = body.replace(key.encode(), b"[key]")
        info = self.dialect.decode_error(response.status, response.headers, body)
        provider = self.step.deployment.provider
        failure = classify(provider.name, self.dialect.name, response.status, info, response.headers)
        return self._advised(weighed(failure, self.sent, self.step.deployment.model))

    def _redirected(self, status: int) -> Failure:
        """Most often of an address with http for https. It is not followed: the key would go along."""
        said = f"{self.step.deployment.provider.name} answered with a redirect ({status}), which is not followed: "
        return Failure(kind=FailureClass.GARBLED, message=f"{said}correct its base_url.", status=status)

    def _advised(self, failure: Failure) -> Failure:
        deployment = self.step.deployment
        return advised(failure, deployment.provider, deployment.model, self.step.credential)

    async def _whole(self, response: UpstreamResponse) -> None:
        flight, entry = self.flight, self.entry
        body = await self._body(response, MAX_ANSWER_BYTES)
        if flight.record.stream:
            answer = self.dialect.decode_response(body)
            self._relay(encode=True).replay(events_of(answer))
            return
        if self.same_dialect:
            glance = flight.dialect.glance(body)
            entry.upstream_id, entry.upstream_model, entry.usage = glance.id, glance.model, glance.usage
            entry.chars_out, finish = glance.output_chars, glance.finish_reason
            if bill.asked_tier(flight.peek) is not None or (
                not glance.usual_tier and names_special_tier(body)
            ):
                # Rare, so that the glance of all the others stays short.
                self.tier = self.dialect.decode_response(body).service_tier
        else:
            answer = self.dialect.decode_response(body)
            entry.upstream_id, entry.upstream_model, entry.usage = answer.id, answer.model, answer.usage
            entry.chars_out, self.tier = len(answer.text), answer.service_tier
            finish = answer.choices[0].finish_reason if answer.choices else None
            self.name(answer)
            body = flight.encode_answer(answer)
        if finish is None:
            raise Truncated("it has no finish reason")
        self._win()
        flight.record.finish_reason = finish
        entry.outcome = SUCCESS
        self._price()
        flight.deliver(step=self.step, entry=entry, body=body)

    async def _body(self, response: UpstreamResponse, limit: int) -> bytes:
        """The time to generate it is in the deadline of the head; what follows the head must not stall."""
        if response.complete:
            return await response.read(limit)
        deadlines = self.step.deadlines
        due = min(self.began + deadlines.total_s, self.asked + deadlines.first_token_s + deadlines.stall_s)
        began = self.clock()
        timer = asyncio.get_running_loop().call_later(
            max(0.0, due - began), self._stalled, response, due - self.asked
        )
        try:
            return await response.read(limit)
        finally:
            timer.cancel()
            self._waited(self.clock() - began)

    def _stalled(self, response: UpstreamResponse, within: float) -> None:
        message = f"{self.step.deployment.id}: its answer was not complete after {within:.1f} s."
        response.abort(Died(Failure(kind=FailureClass.STALL, message=message)))

    async def _stream(self, response: UpstreamResponse) -> None:
        """Relays until the upstream ends, watched by one timer; the caller's slowness pauses the upstream."""
        flight = self.flight
        relay = self._relay(encode=not self.same_dialect)
        watch = Watch(flight, relay, response, self.step, self.began)
        broken = False
        if self.resuming:
            flight.congested = (
                False  # the caller may have caught up while nobody listened; else the next write tells
            )
            flight.reply.on_drain(self._drained)
        try:
            await response.pipe(watch.take)
        except Enough:
            pass
        except asyncio.CancelledError:
            # The process ends, and the answer is complete: only the upstream's own end was waited for.
            if not (flight.line.intake.cutting and (relay.done or relay.decoder.complete)):
                raise
            broken = True
        except (TransportError, StreamFault, Garbled):
            # What happens after a complete answer does not make it less complete (WIRE_FACTS 10).
            if not relay.decoder.complete and not relay.done:
                raise
            broken = True
        finally:
            watch.cancel()
            if self.held is not None:
                self.held.cancel()
            if relay.committed:
                flight.reply.on_drain(None)
            relay.woke()
            self._count_wait(relay)
        relay.finish(broken=broken)

    def _relay(self, *, encode: bool) -> Relay:
        flight = self.flight
        if self.resuming:
            said = flight.transcript
            self.relay = Relay(
                dialect=self.dialect,
                through=None,
                peek=flight.peek,
                encoder=flight.stream_encoder(),
                sink=self,
                transcript=said,
                clock=self.clock,
                committed=True,
                splicer=resume.Splicer(said.text, said.open_text_block, said.last_index),
                spent=bill.used(flight.delivered),
            )
        else:
            self.relay = Relay(
                dialect=self.dialect,
                through=None if encode else flight.dialect,
                peek=flight.peek,
                encoder=flight.new_encoder() if encode else None,
                sink=self,
                transcript=Transcript(structured=flight.structured),
                clock=self.clock,
                hold_until_chars=flight.hold_chars,
            )
        return self.relay

    def _count_wait(self, relay: Relay) -> None:
        self._waited(relay.take_wait())

    def _waited(self, seconds: float) -> None:
        """Of a race only the time counts that nobody had content: ``Race`` knows."""
        if self.race is None or self.race.winner is self:
            self.flight.upstream_s += seconds

    def _drained(self) -> None:
        self.flight.congested = False
        if self.relay is not None:
            self.relay.last_at = self.clock()  # the silence was the caller's
        if self.response is not None:
            self.response.resume()

    def _win(self) -> None:
        """Before anything reaches the caller. Raises Lost."""
        if self.race is not None:
            self.race.win(self)

    # relay.Sink -------------------------------------------------------------------------------------------------

    def name(self, start: Start | Response) -> None:
        start.id = start.id or self.flight.record.id
        start.model = start.model or self.step.deployment.model

    def commit(self) -> None:
        relay, flight = self.relay, self.flight
        if relay is not None:
            self._count_wait(relay)
            self._win()
            flight.transcript, flight.encoder = relay.transcript, relay.encoder
        flight.reply.on_drain(self._drained)
        flight.commit(self.step, self.entry)

    def hold(self) -> None:
        if self.flight.hold_s:
            self.held = asyncio.get_running_loop().call_later(self.flight.hold_s, self._release)

    def _release(self) -> None:
        try:
            if self.relay is not None:
                self.relay.release()
        except Lost as lost:
            if self.response is not None:
                self.response.abort(lost)

    def skip(self) -> None:
        self.entry.skipped += 1

    def end(self) -> None:
        self.flight.reply.end()

    def spliced(self) -> bytes:
        return self.flight.spliced(self.step, self.entry)

    def closing_comment(self) -> bytes:
        self.entry.outcome = SUCCESS
        self._read_relay()
        self._price()
        if self.relay is not None:
            self._count_wait(self.relay)
        return self.flight.closing_comment(self.entry)

    # after ------------------------------------------------------------------------------------------------------

    def _cancelled(self) -> Failure:
        if self._lost:
            return _SUPERSEDED
        return SHUT_DOWN if self.flight.line.intake.cutting else _CALLER_GONE

    def _failure_of(self, error: Exception) -> Failure:
        name = self.step.deployment.id
        if isinstance(error, Died):
            return error.failure
        if isinstance(error, resume.SpliceFailed):
            self.unspliced = True
        if isinstance(error, TransportError):
            failure = self._broken(classify_transport(error))
            return self._advised(failure) if error.kind == "dns" else failure
        if isinstance(error, TokenError):
            provider = self.step.deployment.provider.name
            if error.kind is FailureClass.CREDENTIAL:
                return self._advised(Failure(kind=error.kind, message=error.message))
            return Failure(kind=error.kind, message=f"{provider}: {error.message}")
        if isinstance(error, StreamFault):
            deployment = self.step.deployment
            failure = classify(deployment.provider.name, self.dialect.name, error.status, error.info, [])
            return weighed(failure, self.sent, deployment.model)
        if isinstance(error, Garbled):
            return Failure(
                kind=FailureClass.GARBLED, message=f"{name} sent what is not {self.dialect.name}: {error}"
            )
        if isinstance(error, Truncated | resume.SpliceFailed):
            return Failure(kind=FailureClass.TRUNCATED, message=f"The answer of {name} broke off: {error}.")
        raise error

    def _without_key(self, failure: Failure) -> Failure:
        """Hosts repeat the key that they refuse; ``safe`` knows vendors' keys by their looks, this one has any."""
        key = self._key()
        if key is None or key not in failure.message:
            return failure
        return replace(failure, message=failure.message.replace(key, "[key]"))

    def _key(self) -> str | None:
        key = self.step.credential.secret
        return key if isinstance(key, str) and len(key) >= _LIKE_NO_WORD else None

    def _broken(self, failure: Failure) -> Failure:
        """A connection that is lost after the answer began is not tried again at the same place (DESIGN section 6)."""
        if failure.kind is not FailureClass.CONNECT or self.response is None:
            return failure
        name = self.step.deployment.id
        return Failure(
            kind=FailureClass.TRUNCATED, message=f"The answer of {name} broke off: {failure.message}"
        )

    def _close_entry(self, now: float) -> None:
        entry, failure = self.entry, self.failure
        entry.ended_ms = (now - self.flight.received_at) * 1000
        if failure is None:
            entry.outcome = SUCCESS
        elif entry.outcome != FailureClass.SUPERSEDED.value:
            entry.outcome, entry.message = failure.kind.value, failure.message[:1000]
            self._read_relay()
            self._price()
            if entry.cost is None:
                self.flight.unpriced += self.step.bound or 0

    def _read_relay(self) -> None:
        entry, relay = self.entry, self.relay
        if relay is None:
            return
        entry.upstream_id, entry.upstream_model, entry.usage = (
            relay.upstream_id,
            relay.upstream_model,
            relay.usage,
        )
        entry.chars_out, self.tier = relay.chars_out, relay.service_tier
        if relay.first_at is not None:
            entry.first_token_ms = entry.started_ms + (relay.first_at - self.began) * 1000
            if not self._lost:
                self.flight.record.finish_reason = relay.finish_reason

    def _price(self) -> None:
        bill.price(self.flight, self.step, self.entry, self.tier, began_work=self._began_work)

    @property
    def _began_work(self) -> bool:
        """Whether an attempt without any output is likely to be billed: it was accepted, or left while it worked."""
        if self.failure is None:
            return False
        return self.entry.status == 200 or self.failure.kind in _ABANDONED

    def _tell_limits(self, response: UpstreamResponse) -> None:
        """``observe_limits`` takes None for headers that say nothing."""
        step = self.step
        self.flight.line.health.observe_limits(
            step.deployment, step.credential, rate_limits(response.headers), self.clock()
        )

    def _tell_health(self, now: float) -> None:
        entry, relay, step = self.entry, self.relay, self.step
        first = whole = output = gap = None
        usage = entry.usage
        if relay is not None and relay.first_at is not None:
            first, output, gap = relay.first_at - self.began, relay.last_at - relay.first_at, relay.max_gap_s
        elif not self.flight.record.stream:
            if self.failure is None and usage is not None:
                whole = now - self.began
        elif self.failure is _SUPERSEDED and step.reason != "hedge":
            first = now - self.began  # it would have taken longer still
        self.flight.line.health.observe(
            step.deployment,
            step.credential,
            now,
            # Not to follow the instruction of a resume is no sign of bad health.
            failure=None if self.unspliced else self.failure,
            first_token_s=first,
            whole_s=whole,
            input_tokens=self.flight.tokens,
            output_tokens=usage.output_tokens if usage is not None else 0,
            output_s=output or 0.0,
            gap_s=gap,
            shape=self.flight.shape,
        )


_CALLER_GONE = Failure(kind=FailureClass.CALLER_GONE, message="The caller went away.")
SHUT_DOWN = Failure(
    kind=FailureClass.SHUT_DOWN,
    message="Tieline shut down before this answer was complete.",
    retry_after_s=1.0,
)
_SUPERSEDED = Failure(
    kind=FailureClass.SUPERSEDED, message="Cancelled: the attempt beside it had content first."
)
OURS = Failure(kind=FailureClass.INTERNAL, message="Tieline failed; the server's log has the request's id.")
_LIKE_NO_WORD: Final = 12
"""Characters of a key. Shorter ones stand for none (`unused`, `ollama`) and would be found in any text."""
_ABANDONED = frozenset(
    {
        FailureClass.CALLER_GONE,
        FailureClass.SHUT_DOWN,
        FailureClass.SUPERSEDED,
        FailureClass.FIRST_TOKEN_TIMEOUT,
        FailureClass.STALL,
    }
)


def names_special_tier(body: bytes) -> bool:
    at = body.find(b'"service_tier"')  # a megabyte is looked through ten times faster than by the expression
    return at >= 0 and _SPECIAL_TIER.search(body, at) is not None


def _is_json(response: UpstreamResponse) -> bool:
    return (response.header(b"content-type") or b"").startswith(b"application/json")


def _explained(error: Unsupported, deployment: Deployment) -> Unsupported:
    """Who cannot and what to do are named too: a dialect knows fields, not always hosts."""
    if not re.search(rf"\b{re.escape(deployment.provider.name)}\b", error.message):
        error.message = f"{deployment.id}: {error.message}"
    error.hint = error.hint or "Leave the field out, or choose a model that takes it."
    return error
