"""The money of one request: held before a try for the most that it may cost, priced when an attempt ends, settled once."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from msgspec.structs import replace

from tieline.admit.admission import Permit
from tieline.dialects.base import Peek
from tieline.ledger import pricing
from tieline.providers.card import ModelCard
from tieline.record.items import Begun
from tieline.route.steps import Try
from tieline.types.errors import FailureClass
from tieline.types.money import Pico
from tieline.types.record import SUCCESS, Attempt, Record
from tieline.types.usage import CHARS_PER_TOKEN, RATES, Usage

if TYPE_CHECKING:
    from tieline.pipeline import Flight

MEDIA_TOKENS = 20_000
"""Held for images and files: about ten large images (OpenAI counts at most 1,536 tokens for one, 2026-03)."""
UNSAID_OUTPUT_TOKENS = 32_768
"""Held when neither the request nor the catalog limits the output."""
_BORNE = (SUCCESS, FailureClass.CALLER_GONE.value)
"""How an attempt or a request ends that its caller pays for."""


def asked_tier(peek: Peek) -> str | None:
    """``service_tier`` of the request: batch, priority, flex, or a name for the standard one."""
    fields = peek.fields
    if not fields:  # a plain body has none
        return None
    raw = fields.get("service_tier") or fields.get("serviceTier")  # the latter is Gemini's
    tier = b"null" if raw is None else bytes(raw).strip(b'" ').lower()
    return None if tier in (b"null", b"unspecified") else tier.decode("utf-8", "replace")


# before ---------------------------------------------------------------------------------------------------------


def hold(flight: Flight, step: Try, beside: Try | None = None) -> str | None:
    """Holds what ``step`` may cost, and ``beside`` under way, and what was spent before, of unknown costs the most;
    or why a budget does not let its deployment be used. Raises BudgetExceeded."""
    permit = flight.permit
    if permit is None or flight.free:
        return None
    if not permit.meters:
        if not flight.record.attempts and flight.line.recorder.notes_begun:
            _note_begun(flight, permit)
        return None
    step.bound = _bound(flight, step)
    if step.bound is None:
        if permit.has_hard_budget:
            return _without_price(flight.peek)
        if flight.line.recorder.notes_begun:
            _note_begun(flight, permit)
        return None
    held = permit.held
    more = step.bound + ((beside.bound or 0) if beside is not None else 0)
    spent = sum([entry.cost or 0 for entry in flight.record.attempts])
    permit.reserve(flight.line.markup.apply(spent + flight.unpriced + more))
    if flight.line.recorder.notes_begun and (permit.held != held or not held):
        _note_begun(flight, permit)
    return None


def _bound(flight: Flight, step: Try) -> Pico | None:
    """The most that ``step`` can cost; a resume reads what was said so far as well."""
    peek, card = flight.peek, step.deployment.card
    # No tokenizer makes more tokens than there are bytes.
    most = len(flight.call.body)
    if not peek.features.isdisjoint(("images", "pdf", "audio")):
        most += MEDIA_TOKENS
    if flight.committed:
        most += 2 * flight.transcript.chars
    price = card.price if card else None
    return pricing.bound_asked(price, most, _most_output(peek, card), asked_tier(peek), peek.extras)


def _most_output(peek: Peek, card: ModelCard | None) -> int:
    most = peek.max_output_tokens
    if most is None:
        most = card.max_output if card and card.max_output else UNSAID_OUTPUT_TOKENS
    return most * peek.n


def _without_price(peek: Peek) -> str:
    tier = asked_tier(peek)
    where = "" if tier in pricing.STANDARD_TIERS else f" at the service tier {tier!r}"
    for name in sorted(RATES.intersection(peek.extras or ())):
        where += " with `speed: fast`" if name == "fast" else " with `inference_geo: us`"
    return f"its price{where} is unknown, and a hard budget needs one: state it under providers.NAME.prices"


def _note_begun(flight: Flight, permit: Permit) -> None:
    """Into the journal: a kill from here on leaves a record that bears what is held."""
    record = flight.record
    flight.line.recorder.begin(
        Begun(
            record.id,
            record.at_ms,
            record.operation,
            record.dialect,
            record.model_asked,
            record.key_id,
            record.project,
            record.run,
            record.tags,
            permit.held,
        )
    )


# after an attempt -----------------------------------------------------------------------------------------------


def price(flight: Flight, step: Try, entry: Attempt, tier: str | None, *, began_work: bool) -> None:
    """Exact from the upstream's usage, estimated from what was seen when it gave none; a refusal costs nothing.

    ``tier`` is what the answer says; ``began_work`` whether an attempt without any output is likely to be billed.
    """
    card = step.deployment.card
    said = entry.usage
    # Zeros beside an answer are no usage (Anthropic's clones): nobody reads and writes nothing.
    if (said is None or not (said.input_tokens or said.output_tokens)) and (entry.chars_out or began_work):
        entry.usage = Usage(
            input_tokens=flight.tokens,
            output_tokens=_seen_output(flight, entry, card),
            estimated=True,
            unpriced=said is not None and said.unpriced,
            extras=said.extras if said is not None else None,
        )
    elif said is not None and entry.outcome != SUCCESS:
        # An early report (Anthropic's ``message_start``) knows nothing yet of the output that was seen since.
        seen = _seen_output(flight, entry, card)
        if seen > said.output_tokens:
            entry.usage = replace(said, output_tokens=seen, estimated=True)
    if entry.usage is not None:
        sent_at = (flight.record.at_ms + entry.started_ms) / 1000
        # What served it, as the answer says; where it does not, what was asked for.
        served = tier or asked_tier(flight.peek)
        entry.cost = pricing.cost(
            card.price if card else None, entry.usage, at_unix=sent_at, service_tier=served
        )
    elif entry.outcome == SUCCESS:
        entry.cost = None


def _seen_output(flight: Flight, entry: Attempt, card: ModelCard | None) -> int:
    """Never more than was allowed, which is what was held: long words are few tokens."""
    return min(-(-entry.chars_out // CHARS_PER_TOKEN), _most_output(flight.peek, card))


def used(delivered: Sequence[Attempt]) -> Usage | None:
    """What the attempts that reached the caller used so far, together; None: nothing is known."""
    known = [entry.usage for entry in delivered if entry.usage is not None]
    return sum(known[1:], known[0]) if known else None


def cost_so_far(record: Record) -> Pico | None:
    """Of all attempts; None: of one it is unknown."""
    total = 0
    for one in record.attempts:
        if one.cost is None:
            return None
        total += one.cost
    return total


# at the end -----------------------------------------------------------------------------------------------------


def settle(flight: Flight) -> None:
    """What all attempts cost, what of it was wasted, and what the caller is charged."""
    record = flight.record
    wasted = bought = tokens = 0
    wasted_unknown = bought_unknown = False
    served = record.provider is not None
    # Of a spliced answer every part was of use; of one that ended in an error, none. Who leaves has had what was
    # sent until then: it is theirs, or budgets could be gone round by hanging up before the end.
    useful = flight.delivered if record.outcome in _BORNE else ()
    for entry in record.attempts:
        borne = entry.outcome in _BORNE
        waste = not borne and entry not in useful
        served = served or borne
        if entry.usage is not None:
            tokens += entry.usage.input_tokens + entry.usage.output_tokens
        if waste:
            wasted_unknown = wasted_unknown or entry.cost is None
            wasted += entry.cost or 0
        else:
            bought_unknown = bought_unknown or entry.cost is None
            bought += entry.cost or 0
    record.cost = None if wasted_unknown or bought_unknown else wasted + bought
    record.wasted = None if wasted_unknown and not wasted else wasted
    worth = None if bought_unknown else bought
    if flight.permit is not None:
        charged = flight.line.markup.charge(record.cost, worth, served=served and not flight.free)
        record.charged = flight.permit.settle(charged)
        flight.permit.count_tokens(tokens)
        flight.permit.release()
