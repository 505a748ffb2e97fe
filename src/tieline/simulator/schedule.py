"""Outages over time: phases that override how models behave, each for a while, a provider, a model and a share."""

from __future__ import annotations

import re
from collections.abc import Iterable
from fnmatch import fnmatchcase
from pathlib import Path
from random import Random
from typing import Any

import msgspec
import yaml
from msgspec import Struct
from msgspec.structs import replace

from tieline.config import document
from tieline.simulator.behaviour import Behaviour, UnknownBehaviour, nearest, parse
from tieline.simulator.text import seeded

ORDINARY_TPS = 80.0
"""What ``tps_scale`` scales when a model has no speed of its own."""
_SLOW_MS = "3000"


class ScheduleError(ValueError):
    """One thing wrong in a schedule: its place, and what would be right."""


class Phase(Struct, kw_only=True, frozen=True, forbid_unknown_fields=True):
    """From ``at_s`` for ``for_s`` seconds, ``share`` of the requests that match behave as said.

    ``share_to`` ramps the share linearly over the phase. ``period_s`` and ``duty`` make it come and go: it is on for the
    first ``duty`` part of each period. ``sticky`` picks by the caller's key, so that the same callers are always hit.
    """

    at_s: float
    for_s: float
    name: str = ""
    provider: str = "*"
    model: str = "*"
    """Both are shell patterns."""
    behaviour: str = ""
    share: float = 1.0
    share_to: float | None = None
    period_s: float | None = None
    duty: float = 0.5
    sticky: bool = False
    add_ms: float = 0.0
    """Added to the time to first token."""
    tps_scale: float = 1.0

    def matches(self, at_s: float, provider: str, model: str) -> bool:
        since = at_s - self.at_s
        if not 0 <= since < self.for_s:
            return False
        if self.period_s is not None and since % self.period_s >= self.duty * self.period_s:
            return False
        return fnmatchcase(provider, self.provider) and fnmatchcase(model, self.model)

    def share_at(self, at_s: float) -> float:
        if self.share_to is None:
            return self.share
        return self.share + (self.share_to - self.share) * (at_s - self.at_s) / self.for_s

    def strikes(self, at_s: float, key: str, random: Random) -> bool:
        draw = seeded("sticky", self.name, self.at_s, key).random() if self.sticky else random.random()
        return draw < self.share_at(at_s)


class Schedule(Struct, kw_only=True, forbid_unknown_fields=True):
    """Phases; where several that strike name a behaviour the first wins, while added latencies add up."""

    phases: list[Phase] = []
    name: str = ""
    description: str = ""

    @classmethod
    def load(cls, path: str | Path) -> Schedule:
        """Reads YAML or JSON. Raises ScheduleError."""
        try:
            text = document.read(Path(path))
        except document.Syntax as error:
            raise ScheduleError(str(error)) from None
        return cls.loads(text, place=str(path))

    @classmethod
    def loads(cls, text: str, place: str = "schedule") -> Schedule:
        """Reads YAML or JSON: ``phases: [...]``, or the list alone. Raises ScheduleError with the line."""
        try:
            root = document.compose(text, place)
        except document.Syntax as error:
            raise ScheduleError(str(error)) from None
        if root is None:
            raise ScheduleError(f"{place}: is empty; it needs phases, as docs/simulator.md shows")
        try:
            return cls.of(yaml.safe_load(text), place)
        except ScheduleError as error:
            said = str(error).removeprefix(f"{place}: ")
            raise ScheduleError(f"{place}:{_line(root, said)}: {said}") from None

    @classmethod
    def of(cls, raw: Any, place: str = "schedule") -> Schedule:
        """Checks data that was read already. Raises ScheduleError."""
        try:
            found = msgspec.convert({"phases": raw} if isinstance(raw, list) else raw, cls)
        except msgspec.ValidationError as error:
            raise ScheduleError(f"{place}: {_with_hint(str(error))}") from None
        return found.checked(place)

    def checked(self, place: str = "schedule") -> Schedule:
        """Itself, or ScheduleError."""
        for index, phase in enumerate(self.phases):
            _check(phase, f"{place}: phases[{index}]")
            for earlier, other in enumerate(self.phases[:index]):
                if _hides(other, phase):
                    raise ScheduleError(
                        f"{place}: phases[{index}] overlaps phases[{earlier}], which takes every request of "
                        f"provider {phase.provider!r}, model {phase.model!r}; shorten one or give it a share below 1"
                    )
        return self

    @property
    def ends_s(self) -> float:
        return max((phase.at_s + phase.for_s for phase in self.phases), default=0.0)

    def behaviour(
        self, own: Behaviour, *, at_s: float, provider: str, model: str, key: str, random: Random
    ) -> Behaviour:
        """How a model that behaves like ``own`` behaves now."""
        add_ms, scale, chosen = 0.0, 1.0, ""
        for phase in self.phases:
            if not phase.matches(at_s, provider, model) or not phase.strikes(at_s, key, random):
                continue
            add_ms += phase.add_ms
            scale *= phase.tps_scale
            chosen = chosen or phase.behaviour
        changed = _override(own, parse(chosen)) if chosen else own
        return _slowed(changed, add_ms, scale)


def _override(own: Behaviour, phase: Behaviour) -> Behaviour:
    """The phase decides what goes wrong and how fast it is; what is answered stays the model's own."""
    params = own.params | phase.params
    if phase.group == "content":
        if phase.name == "slow":
            params = {"ttft_ms": _SLOW_MS} | params
        return replace(own, params=params)
    return replace(own, name=phase.name, params=params)


def _slowed(behaviour: Behaviour, add_ms: float, scale: float) -> Behaviour:
    extra: dict[str, str] = {}
    if add_ms:
        extra["ttft_ms"] = str(behaviour.number("ttft_ms") + add_ms)
    if scale != 1:
        extra["tps"] = str((behaviour.number("tps") or ORDINARY_TPS) * scale)
    return behaviour.with_params(extra) if extra else behaviour


def _check(phase: Phase, place: str) -> None:
    bounds: Iterable[tuple[str, float | None, float, float]] = (
        ("at_s", phase.at_s, 0, 1e9),
        ("for_s", phase.for_s, 0, 1e9),
        ("share", phase.share, 0, 1),
        ("share_to", phase.share_to, 0, 1),
        ("duty", phase.duty, 0, 1),
        ("period_s", phase.period_s, 0, 1e9),
        ("add_ms", phase.add_ms, 0, 1e9),
        ("tps_scale", phase.tps_scale, 0, 1e6),
    )
    for name, value, low, high in bounds:
        if value is not None and not low <= value <= high:
            raise ScheduleError(f"{place}.{name}: {value:g} is not between {low:g} and {high:g}")
    for name, value in (("for_s", phase.for_s), ("tps_scale", phase.tps_scale), ("period_s", phase.period_s)):
        if value == 0:
            raise ScheduleError(f"{place}.{name}: must be more than 0")
    if not phase.behaviour and not phase.add_ms and phase.tps_scale == 1:
        raise ScheduleError(f"{place}: does nothing; give it a behaviour, add_ms or tps_scale")
    if phase.behaviour:
        try:
            parse(phase.behaviour)
        except UnknownBehaviour as error:
            raise ScheduleError(f"{place}.behaviour: {error}") from None


def _hides(first: Phase, second: Phase) -> bool:
    """Whether ``first`` leaves nothing to ``second`` while both last."""
    total = first.behaviour and first.share == 1 and first.share_to in (None, 1) and first.period_s is None
    together = first.at_s < second.at_s + second.for_s and second.at_s < first.at_s + first.for_s
    same = fnmatchcase(second.provider, first.provider) and fnmatchcase(second.model, first.model)
    return bool(total and together and same and second.behaviour)


_PLACE = re.compile(r"phases\[(\d+)\](?:\.(\w+))?")


def _line(root: yaml.Node, said: str) -> int:
    """Of the phase, and in it of the field, that a message names first."""
    found = _PLACE.search(said)
    phases = root if isinstance(root, yaml.SequenceNode) else _value(root, "phases")
    if found is None or not isinstance(phases, yaml.SequenceNode) or int(found[1]) >= len(phases.value):
        return document.line_of(root)
    phase = phases.value[int(found[1])]
    unknown = re.search(r"unknown field `(\w+)`", said)
    named = unknown[1] if unknown else found[2]
    return document.line_of(_value(phase, named) or phase)


def _value(node: yaml.Node, key: str | None) -> yaml.Node | None:
    pairs = node.value if isinstance(node, yaml.MappingNode) else ()
    return next((value for name, value in pairs if name.value == key), None)


def _with_hint(message: str) -> str:
    """Names the place without ``$`` and, for a field that does not exist, the nearest that does."""
    unknown = re.search(r"unknown field `(\w+)`", message)
    fields = (*Phase.__struct_fields__, *Schedule.__struct_fields__)
    hint = nearest(unknown[1], dict.fromkeys(fields, "")) if unknown else ""
    return message.replace("`$.", "`").replace(" - at `$`", "") + hint
