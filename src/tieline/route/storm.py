"""A storm of 400s at one deployment that used to accept such requests (WIRE_FACTS 34, incident D12).

Single refusals in doubt are tried elsewhere by the plan; here is what their number says of the deployment, and how many
such doubts may turn out wrong.
"""

from __future__ import annotations

from math import exp

WINDOW_S = 30.0
MIN_REFUSALS = 3.0
MIN_SHARE = 0.8
MEMORY_S = 3600.0
"""How long an earlier success proves that the shape was acceptable."""
CALLERS_FAULT_S = 30.0
"""After a sibling refused as well, nobody else is asked for this long."""
MAX_SHAPES = 64
DOUBTS = 10.0
"""How often in a row others may be asked in vain, whatever the shape."""
DOUBT_BACK_S = 3.0
"""Until one more of them is allowed again: a caller whose requests are all wrong costs 20 attempts a minute, no more."""


class _Shape:
    __slots__ = ("accepted_at", "blamed_until", "doubted", "refused", "total", "updated")

    def __init__(self) -> None:
        self.accepted_at: float | None = None
        self.refused = 0.0
        self.doubted = 0.0
        """Of the refusals, those that pointed at nothing."""
        self.total = 0.0
        self.updated = 0.0
        self.blamed_until = 0.0

    def count(self, refused: bool, now: float, *, doubtful: bool = False) -> None:
        factor = exp(-max(now - self.updated, 0.0) / WINDOW_S)
        self.refused = self.refused * factor + (1.0 if refused else 0.0)
        self.doubted = self.doubted * factor + (1.0 if doubtful else 0.0)
        self.total = self.total * factor + 1.0
        self.updated = now


class Storms:
    """Of one deployment, by the shape of a request (its features). Bounded: 64 shapes, the oldest goes."""

    __slots__ = ("_doubts", "_doubts_at", "_shapes", "stormy")

    def __init__(self) -> None:
        self._shapes: dict[frozenset[str], _Shape] = {}
        self._doubts = DOUBTS
        self._doubts_at = 0.0
        self.stormy = False
        """Some refusal was seen: successes are counted too."""

    def success(self, shape: frozenset[str], now: float) -> None:
        found = self._shapes.get(shape)
        if found is None:
            found = self._add(shape)
        found.accepted_at = now
        if self.stormy:
            found.count(False, now)

    def refusal(self, shape: frozenset[str], now: float, *, doubtful: bool = False) -> None:
        self.stormy = True
        (self._shapes.get(shape) or self._add(shape)).count(True, now, doubtful=doubtful)

    def suspected(self, shape: frozenset[str], now: float) -> bool:
        """Nearly all requests of this shape are refused now although it was accepted within the hour; or, where nothing
        was ever accepted, although nobody can say what is wrong with them."""
        found = self._shapes.get(shape)
        if found is None or now < found.blamed_until:
            return False
        against = found.refused
        if found.accepted_at is None:
            against = (
                0.0 if any(one.accepted_at is not None for one in self._shapes.values()) else found.doubted
            )
        elif now - found.accepted_at > MEMORY_S:
            return False
        return against >= MIN_REFUSALS - 0.5 and against >= MIN_SHARE * found.total

    def accepts(self, shape: frozenset[str], now: float) -> bool:
        """Whether such requests were accepted here just now, and not refused more often."""
        found = self._shapes.get(shape)
        if found is None or found.accepted_at is None:
            return False
        return now - found.accepted_at <= WINDOW_S and found.refused <= found.total / 2

    def may_doubt(self, now: float) -> bool:
        """Whether a refusal that points at nothing may be tried elsewhere."""
        return self._doubts_left(now) >= 1.0

    def refuted(self, shape: frozenset[str], now: float) -> None:
        """A sibling was asked and refused as well."""
        self._doubts, self._doubts_at = max(self._doubts_left(now) - 1.0, 0.0), now
        if self.suspected(shape, now):
            self._shapes[shape].blamed_until = now + CALLERS_FAULT_S

    def _doubts_left(self, now: float) -> float:
        return min(DOUBTS, self._doubts + max(now - self._doubts_at, 0.0) / DOUBT_BACK_S)

    def _add(self, shape: frozenset[str]) -> _Shape:
        if len(self._shapes) >= MAX_SHAPES:
            del self._shapes[next(iter(self._shapes))]
        self._shapes[shape] = found = _Shape()
        return found
