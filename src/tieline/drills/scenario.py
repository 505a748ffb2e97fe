"""Outages as files: who has which keys, what load, what happens when, and what must come of it."""

from __future__ import annotations

import difflib
import re
from importlib import resources
from pathlib import Path
from typing import Annotated

import msgspec
from msgspec import Meta, Struct, field, inspect

from tieline.config import document
from tieline.config.check import Checker
from tieline.config.load import ConfigErrors
from tieline.config.schema import Config, DecimalText
from tieline.drills.caller import DIALECTS
from tieline.simulator.schedule import Phase, Schedule, ScheduleError
from tieline.types.errors import ConfigError

Seconds = Annotated[float, Meta(ge=0, le=86_400)]
Share = Annotated[float, Meta(ge=0, le=1)]
_MISSING = re.compile(r"Object missing required field `(\w+)`(?: - at `\$\.?(.+)`)?")
MAX_REQUESTS = 50_000
"""Of one drill: more would only be slow."""


class Load(Struct, kw_only=True, forbid_unknown_fields=True, frozen=True):
    """What callers ask for, at a constant rate."""

    models: list[str]
    rate: Annotated[float, Meta(gt=0, le=1000)] = 2.0
    """Requests per second."""
    stream: Share = 0.7
    """Share of requests that stream."""
    dialects: list[str] = field(default_factory=lambda: list(DIALECTS))
    max_tokens: Annotated[int, Meta(ge=1, le=100_000)] = 200
    max_cost_usd: DecimalText | None = None
    """Sent with every request as its ceiling."""


class Hit(Struct, kw_only=True, forbid_unknown_fields=True, frozen=True):
    """Whom the incident hits, and when it is worst: what leaving and coming back are measured against."""

    provider: str
    model: str = "*"
    from_s: Seconds
    to_s: Seconds


class Goals(Struct, kw_only=True, forbid_unknown_fields=True, frozen=True):
    success: Share = 0.999
    leave_s: Seconds | None = None
    """Until few requests begin at the failing provider. None: it need not be left (most of its answers are good)."""
    back_s: Seconds | None = None
    """After the end until it serves again."""
    only: list[str] | None = None
    """No provider outside this list may ever see a request."""
    added_first_token_s: Seconds | None = None
    """At the 95th percentile, against the time before the incident."""


class Scenario(Struct, kw_only=True, forbid_unknown_fields=True, frozen=True):
    """One incident. Times are the simulated ones; hours of the real one are told in minutes."""

    name: str
    title: str
    about: str
    source: str = ""
    length_s: Annotated[float, Meta(gt=0, le=86_400)]
    keys: list[str] = field(default_factory=list)
    """Providers that the user has a key for."""
    config: Config = field(default_factory=Config)
    load: Load
    hit: Hit
    phases: list[Phase]
    goals: Goals = field(default_factory=Goals)

    @property
    def schedule(self) -> Schedule:
        return Schedule(phases=self.phases, name=self.name)

    @property
    def requests(self) -> int:
        return int(self.load.rate * self.length_s)


def names() -> list[str]:
    """Of the incidents that come with Tieline, in order."""
    files = resources.files("tieline.drills").joinpath("scenarios").iterdir()
    found = [entry.name.removesuffix(".yaml") for entry in files if entry.name.endswith(".yaml")]
    return sorted(found, key=lambda name: (len(name.split("-")[0]), name))


def packaged() -> list[Scenario]:
    return [load(name) for name in names()]


def load(name: str) -> Scenario:
    """A packaged incident by its name or its number (``D7``), or a file. Raises ConfigErrors, each with line and fix."""
    path = Path(name)
    if path.suffix in (".yaml", ".yml"):
        try:
            text = document.read(path)
        except document.Syntax as error:
            raise ConfigErrors([error]) from None
        return parse(text, path.name, whole=True)
    for known in names():
        if name.lower() in (known.lower(), known.split("-")[0].lower()):
            entry = resources.files("tieline.drills").joinpath("scenarios", f"{known}.yaml")
            return parse(entry.read_text("utf-8"), f"{known}.yaml")
    near = difflib.get_close_matches(name, names(), n=1, cutoff=0.3)
    hint = f"Did you mean `{near[0]}`?" if near else "`tieline drill list` shows them all."
    raise ConfigErrors([ConfigError(f"there is no drill `{name}`.", hint=hint)])


def parse(text: str, name: str, *, whole: bool = False) -> Scenario:
    """Raises ConfigErrors. ``whole``: its providers, models and routes are looked up as well, which takes longer."""
    try:
        root = document.compose(text, name)
    except document.Syntax as error:
        raise ConfigErrors([error]) from error
    if root is None:
        raise ConfigErrors([ConfigError("is empty.", place=name, hint="See `tieline drill list`.")])
    checker = Checker(name, {})
    data = checker.check(root, inspect.type_info(Scenario))
    if checker.errors:
        raise ConfigErrors(checker.errors)
    try:
        found = msgspec.convert(data, Scenario)
    except msgspec.ValidationError as error:
        raise ConfigErrors([_unfit(str(error), name, checker.lines)]) from None
    errors = _senseless(found, name, checker.lines)
    if whole and not errors:
        from tieline.drills.rehearsal import impossible

        errors = [_at_line(error, name, checker.lines) for error in impossible(found)]
    if errors:
        raise ConfigErrors(errors)
    return found


def _unfit(message: str, name: str, lines: dict[tuple[str, ...], int]) -> ConfigError:
    """What msgspec says of a document whose settings are each well formed: mostly that one is missing."""
    missing = _MISSING.fullmatch(message)
    if missing is None:
        return ConfigError(message, place=name)
    setting, within = missing.groups(default="")
    path = f"{within}.{setting}".lstrip(".")
    error = ConfigError(
        f"`{path}` is missing.", place=within, hint="docs/drills.md shows a drill with all that it needs."
    )
    return (
        _at_line(error, name, lines)
        if within
        else ConfigError(error.message, place=f"{name}:1", hint=error.hint)
    )


def _senseless(scenario: Scenario, name: str, lines: dict[tuple[str, ...], int]) -> list[ConfigError]:
    """What is well formed and still makes no sense."""

    def wrong(message: str, hint: str, *path: str) -> ConfigError:
        return _at_line(ConfigError(message, place=".".join(path), hint=hint), name, lines)

    found: list[ConfigError] = []
    hit, load = scenario.hit, scenario.load
    if not hit.from_s < hit.to_s <= scenario.length_s:
        found.append(
            wrong(
                f"the incident lasts from {hit.from_s:g} to {hit.to_s:g} s of {scenario.length_s:g}.",
                "from_s must come before to_s, and both within length_s.",
                "hit",
            )
        )
    if scenario.requests > MAX_REQUESTS:
        found.append(
            wrong(
                f"{scenario.requests} requests are too many.",
                f"Lower load.rate: at most {MAX_REQUESTS}.",
                "load",
                "rate",
            )
        )
    found += [
        wrong(f"callers do not speak `{dialect}`.", f"One of {', '.join(DIALECTS)}.", "load", "dialects")
        for dialect in load.dialects
        if dialect not in DIALECTS
    ]
    if not load.models or not scenario.phases:
        what = "models" if not load.models else "phases"
        found.append(
            wrong(f"there are no {what}.", "A drill needs some.", "load" if not load.models else "phases")
        )
    for index, phase in enumerate(scenario.phases):
        try:
            Schedule(phases=[phase]).checked("")
        except ScheduleError as error:
            found.append(wrong(str(error).partition("phases[0]")[2].lstrip(".: "), "", "phases", str(index)))
        else:
            if phase.at_s >= scenario.length_s:
                found.append(
                    wrong(
                        "this phase begins after the drill has ended.",
                        "Lower at_s or raise length_s.",
                        "phases",
                        str(index),
                    )
                )
    return found or _overlaps(scenario, name, lines)


def _at_line(error: ConfigError, name: str, lines: dict[tuple[str, ...], int]) -> ConfigError:
    """Its place, so far a setting's path, as the line of the innermost setting that is in the file."""
    dotted = (error.place or "").replace("[", ".").replace("]", "") + "."
    around = [path for path in lines if path and dotted.startswith(".".join(path) + ".")]
    place = f"{name}:{lines[max(around, key=len)]}" if around else name
    return ConfigError(error.message, place=place, hint=error.hint)


def _overlaps(scenario: Scenario, name: str, lines: dict[tuple[str, ...], int]) -> list[ConfigError]:
    try:
        scenario.schedule.checked("")
    except ScheduleError as error:
        said = str(error).removeprefix(": ")
        return [_at_line(ConfigError(said, place=said.partition(" ")[0]), name, lines)]
    return []
