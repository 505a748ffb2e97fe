"""Step 7 of the pipeline: one try at one deployment, from encoding to a classified outcome.

Everything that is observed of it (health, the ledger's entry, the plan's outcome) is told here, once, on every way out.
"""

from __future__ import annotations

import asyncio
from time import monotonic
from time import time as wall_clock
from typing import TYPE_CHECKING

from tieline.dialects import get as dialect_named
from tieline.dialects.base import Dialect, Garbled, Outgoing, StreamFault, Truncated
from tieline.ledger import pricing
from tieline.providers.errors import classify, classify_transport
from tieline.providers.signing import sign
from tieline.relay import Relay
from tieline.route.plan import Outcome, Try
from tieline.transport.base import TransportError, UpstreamRequest, UpstreamResponse
from tieline.types.call import Headers
from tieline.types.errors import ErrorInfo, Failure, FailureClass, Unsupported
from tieline.types.money import format_usd
from tieline.types.record import SUCCESS, Attempt
from tieline.types.usage import Usage

if TYPE_CHECKING:
    from tieline.pipeline import Flight

MAX_ERROR_BYTES = 64 * 1024
MAX_ANSWER_BYTES = 64 * 1024 * 1024
"""A whole answer; generated images in base64 are the largest."""
USAGE_GRACE_S = 1.0
"""How long a complete answer waits for the usage event that we asked for."""


class _Died(Exception):
    """This try is over; carries how."""

    def __init__(self, failure: Failure) -> None:
        super().__init__(failure.message)
        self.failure = failure


async def run(flight: Flight, step: Try) -> Outcome:
    """Tries ``step`` and relays its answer. Raises CancelledError when the caller goes."""
    try:
        request, dialect = _encode(flight, step)
    except Unsupported as error:
        return Outcome(unsupported=error)
    line = flight.line
    entry = _open_entry(flight, step, dialect)
    line.health.begin(step.deployment, step.credential, monotonic())
    began = monotonic()
    failure: Failure | None = None
    relay: Relay | None = None
    try:
        response = await line.transport.send(request)
        flight.upstream_s += monotonic() - began
        entry.status = response.status
        try:
            if response.status >= 300:
                raise _Died(await _refusal(step, dialect, response))
            line.health.observe_limits(step.deployment, step.credential, response.headers, monotonic())
            if flight.record.stream and _is_stream(response):
                relay = _relay_for(flight, step, dialect)
                await _stream(flight, step, response, relay, began)
            else:
                await _whole(flight, step, dialect, response)
        finally:
            response.close()
    except _Died as died:
        failure = died.failure
    except TransportError as error:
        flight.upstream_s += 0 if entry.status else monotonic() - began
        failure = classify_transport(error, stream_began=relay is not None)
    except StreamFault as fault:
        failure = classify(step.deployment.provider.name, dialect.name, fault.status, fault.info, [])
    except Garbled as error:
        failure = Failure(kind=FailureClass.GARBLED, message=f"{step.deployment.id} sent what is not {dialect.name}: {error}")
    except Truncated as error:
        failure = Failure(kind=FailureClass.TRUNCATED, message=f"{step.deployment.id} ended its answer early: {error}")
    finally:
        if relay is not None:
            _read_relay(flight, entry, relay, began)
        close_entry(flight, entry, failure.kind if failure else None, failure)
        line.health.observe(step.deployment, step.credential, _observation(entry, failure, relay, began), monotonic())
    return Outcome(
        failure=failure,
        elapsed_s=monotonic() - began,
        committed=relay is not None and relay.committed,
    )


# encoding -------------------------------------------------------------------------------------------------------


def _encode(flight: Flight, step: Try) -> tuple[UpstreamRequest, Dialect]:
    endpoint = step.deployment.endpoint_for(flight.call.dialect)
    dialect = dialect_named(endpoint.target.dialect)
    if flight.committed:
        outgoing = dialect.encode_request(resume.continuation(flight.typed_request(), flight.transcript), endpoint.target)
    elif dialect is flight.dialect:
        outgoing = dialect.forward(flight.call, flight.peek, endpoint.target)
    else:
        outgoing = dialect.encode_request(flight.typed_request(), endpoint.target)
    url = endpoint.base_url + outgoing.path
    deadlines = step.deadlines
    return (
        UpstreamRequest(
            url=url,
            headers=_headers(step, outgoing, url),
            body=outgoing.body,
            connect_timeout_s=deadlines.connect_s,
            response_timeout_s=deadlines.first_token_s if flight.record.stream else deadlines.whole_s,
        ),
        dialect,
    )


def _headers(step: Try, outgoing: Outgoing, url: str) -> Headers:
    deployment = step.deployment
    return [
        (b"content-type", b"application/json"),
        *deployment.static_headers,
        *outgoing.headers,
        *sign(deployment.provider, step.credential, "POST", url, outgoing.headers, outgoing.body, wall_clock()),
    ]


def _is_stream(response: UpstreamResponse) -> bool:
    kind = response.header(b"content-type") or b""
    return not kind.startswith(b"application/json")


# refusals -------------------------------------------------------------------------------------------------------


async def _refusal(step: Try, dialect: Dialect, response: UpstreamResponse) -> Failure:
    try:
        body = await response.read(MAX_ERROR_BYTES)
    except TransportError:
        body = b""  # the status alone classifies it
    info = dialect.decode_error(response.status, response.headers, body)
    return classify(step.deployment.provider.name, dialect.name, response.status, info, response.headers)


# whole answers --------------------------------------------------------------------------------------------------


async def _whole(flight: Flight, step: Try, dialect: Dialect, response: UpstreamResponse, entry: Attempt) -> None:
    began = monotonic()
    body = await response.read(MAX_ANSWER_BYTES)
    flight.upstream_s += monotonic() - began
    if dialect is flight.dialect and not flight.record.stream:
        glance = dialect.glance(body)
        entry.upstream_id, entry.upstream_model, entry.usage = glance.id, glance.model, glance.usage
        entry.chars_out, finish = glance.output_chars, glance.finish_reason
    else:
        answer = dialect.decode_response(body)
        entry.upstream_id, entry.upstream_model, entry.usage = answer.id, answer.model, answer.usage
        entry.chars_out = len(answer.text)
        finish = answer.choices[0].finish_reason if answer.choices else None
        body = flight.encode_answer(answer)
    if finish is None:
        raise Truncated("it has no finish reason")
    flight.record.finish_reason = finish
    price_entry(flight, step, entry)
    flight.deliver(step, entry, body)


# streams --------------------------------------------------------------------------------------------------------


def _relay_for(flight: Flight, step: Try, dialect: Dialect) -> Relay:
    assert flight.peek is not None
    resuming = flight.committed
    encode = resuming or dialect is not flight.dialect
    return Relay(
        dialect=dialect,
        peek=flight.peek,
        encoder=flight.stream_encoder() if encode else None,
        sink=_Sink(flight, step),
        transcript=flight.transcript,
        clock=monotonic,
        committed=resuming,
        splicer=resume.Splicer(flight.transcript) if resuming else None,
        hold_until_chars=flight.hold_chars,
    )


async def _stream(step: Try, response: UpstreamResponse, relay: Relay, reply: Reply, began: float) -> None:
    """Relays until the upstream ends, watched by one timer; the caller's slowness pauses the upstream."""
    watch = _Watch(relay, response, step, began)

    def on_data(data: bytes) -> None:
        relay.feed(data)
        if relay.backlog:
            response.pause()
            relay.backlog = False
        if relay.done or relay.nothing_missing:
            watch.ending()

    reply.on_drain(response.resume)
    try:
        await response.pipe(on_data)
    except _Enough:
        pass
    finally:
        watch.cancel()
        reply.on_drain(None)
    relay.finish()


class _Enough(Exception):
    """The answer is complete although the upstream keeps the connection open."""


class _Watch:
    """One timer for a stream: first token, then stall, then a short grace at the end. Re-armed lazily, never per chunk."""

    __slots__ = ("began", "deadlines", "handle", "loop", "name", "relay", "response")

    def __init__(self, relay: Relay, response: UpstreamResponse, step: Try, began: float) -> None:
        self.relay = relay
        self.response = response
        self.deadlines = step.deadlines
        self.name = step.deployment.id
        self.began = began
        self.loop = asyncio.get_running_loop()
        self.handle = self.loop.call_later(max(0.0, self._due() - monotonic()), self._look)

    def _due(self) -> float:
        total = self.began + self.deadlines.total_s
        if self.relay.first_at is None:
            return min(total, self.began + self.deadlines.first_token_s)
        if self.relay.done or self.relay.decoder.complete:
            return self.relay.last_frame_at + USAGE_GRACE_S
        return min(total, self.relay.last_frame_at + self.deadlines.stall_s)

    def _look(self) -> None:
        due, now = self._due(), monotonic()
        if now < due:
            self.handle = self.loop.call_later(due - now + 0.001, self._look)
            return
        self.response.abort(self._verdict())

    def _verdict(self) -> Exception:
        relay = self.relay
        if relay.done or relay.decoder.complete:
            return _Enough()
        if relay.first_at is None:
            kind, waited = FailureClass.FIRST_TOKEN_TIMEOUT, f"no first token after {self.deadlines.first_token_s:.1f} s"
        else:
            kind, waited = FailureClass.STALL, f"silent for {self.deadlines.stall_s:.1f} s in the middle of its answer"
        return Died(Failure(kind=kind, message=f"{self.name}: {waited}."))

    def ending(self) -> None:
        """Complete: most upstreams close the body in the same segment, so this only shortens the wait."""
        self.handle.cancel()
        grace = 0.0 if self.relay.nothing_missing and not self.relay.done else 0.25
        self.handle = self.loop.call_later(grace, self.response.abort, _Enough())

    def cancel(self) -> None:
        self.handle.cancel()


class _Sink:
    """What a relay writes to: the flight's reply, with the head on the first content."""

    __slots__ = ("entry", "flight", "step")

    def __init__(self, flight: Flight, step: Try) -> None:
        self.flight = flight
        self.step = step

    def commit(self) -> None:
        self.flight.commit(self.step)

    def write(self, data: bytes) -> bool:
        return self.flight.write(data)

    def closing_comment(self, relay: Relay) -> bytes:
        return self.flight.closing_comment(self.step, relay)


# what is told about a try ---------------------------------------------------------------------------------------


def _open_entry(flight: Flight, step: Try, dialect: Dialect) -> Attempt:
    deployment = step.deployment
    entry = Attempt(
        number=len(flight.record.attempts) + 1,
        deployment=deployment.id,
        provider=deployment.provider.name,
        model=deployment.model,
        credential=step.credential.label if step.credential else "",
        dialect=dialect.name,
        reason=step.reason,
        started_ms=flight.elapsed_ms(),
    )
    flight.record.attempts.append(entry)
    return entry


def _close_entry(flight: Flight, step: Try, entry: Attempt, failure: Failure | None, relay: Relay | None) -> None:
    entry.ended_ms = flight.elapsed_ms()
    entry.outcome = failure.kind if failure else SUCCESS
    if failure is not None:
        entry.message = failure.message[:1000]
    if relay is not None:
        _read_relay(flight, step, entry, relay)
    if entry.usage is None and entry.chars_out:
        entry.usage = Usage(
            input_tokens=flight.needs.input_tokens, output_tokens=entry.chars_out // 4 + 1, estimated=True
        )
    price_entry(flight, step, entry)


def price_entry(flight: Flight, step: Try, entry: Attempt) -> None:
    """Exact from usage; nothing was produced and nothing is billed when the upstream refused."""
    card = step.deployment.card
    if entry.usage is not None:
        entry.cost = pricing.cost(card.price if card else None, entry.usage, at_unix=flight.record.at_ms // 1000)
    elif entry.outcome == SUCCESS:
        entry.cost = None
