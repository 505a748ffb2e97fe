"""Judges a fault from both sides: what the callers got, and what the providers saw."""

from __future__ import annotations

from collections.abc import Iterable

from tieline.drills.caller import PROMPT, Heard
from tieline.drills.cases import Case
from tieline.simulator.answer import DEFAULT_TOKENS
from tieline.simulator.ledger import Entry
from tieline.simulator.text import expected_text
from tieline.types.record import SUCCESS, Record

WHOLE = expected_text(PROMPT, DEFAULT_TOKENS)
NOT_OURS = {401, 402}
"""Statuses that would blame the caller's account for a provider's trouble (WIRE_FACTS 36)."""
SLACK_S = 6.0
"""Of compressed time, for a machine that is busy with other things."""


class Judge:
    """``own``: of somebody's own configuration, where prices may be unknown."""

    def __init__(self, case: Case, mode: str, *, own: bool = False) -> None:
        self.case = case
        self.mode = mode
        self.own = own
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
        return [*found, *self._crowd(log), *self._pauses(log), *self._accounts(log, list(records.values()))]

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
        if not heard.complete and heard.error is None:
            yield "neither an answer nor an error"
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
        names = {heard.headers.get("tieline-model"), *(said.get("model") for said in heard.comments[-1:])}
        if names - {None, record.model}:
            yield f"says that {names} answered, its record says {record.model}"
        if heard.model not in {entry.model for entry in record.attempts}:
            yield f"the answer is said to be of {heard.model}, which was never asked"
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
        if record.cost is None and not case.name.startswith("usage-missing") and not self.own:
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

    def _crowd(self, log: list[Entry]) -> Iterable[str]:
        most = self.case.total_at_alpha
        if most is not None and (seen := sum(entry.provider == "alpha" for entry in log)) > most:
            yield f"alpha was asked {seen} times in all, at most {most} were allowed"

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
