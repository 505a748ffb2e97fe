"""``tieline drill``: outages rehearsed against the real server, with simulated providers."""

from __future__ import annotations

import logging
import os
from pathlib import Path
from time import monotonic
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn

from tieline.cli.terminal import console, escape, table, write_json

if TYPE_CHECKING:
    from tieline.config.load import Loaded
    from tieline.drills.cases import Case
    from tieline.drills.faults import Verdict
    from tieline.drills.incident import Played
    from tieline.drills.scenario import Scenario
    from tieline.drills.score import Score

app = typer.Typer(name="drill", help="Rehearse outages.", no_args_is_help=True)
FAULTS_SPEED = 10.0
INCIDENTS_SPEED = 120.0
_SHORT = {"openai_chat": "chat", "openai_responses": "responses", "anthropic_messages": "anthropic"}
OWN_FAULTS_SPEED = 40.0
"""Whoever has no alternative waits out whole deadlines."""


@app.command("list")
def list_(as_json: Annotated[bool, typer.Option("--json", help="For machines.")] = False) -> None:
    """The faults and incidents there are."""
    from tieline.drills import cases, scenario

    incidents = scenario.packaged()
    if as_json:
        write_json(
            {
                "faults": [{"name": case.name, "title": case.title} for case in cases.CASES],
                "incidents": [
                    {"name": one.name, "title": one.title, "about": one.about} for one in incidents
                ],
            }
        )
        return
    rows = table("drill", "what happened", title="incidents", wide={"what happened": 66})
    for one in incidents:
        rows.add_row(f"{one.name}", f"[bold]{escape(one.title)}[/]\n{escape(one.about)}")
    console.print(rows)
    rows = table("drill", "fault", title="\nfaults", wide={"fault": 66})
    for case in cases.CASES:
        rows.add_row(case.name, escape(case.title))
    console.print(rows)


@app.command()
def run(
    name: Annotated[
        str, typer.Argument(help="`faults`, `incidents`, one of `tieline drill list`, or a scenario file.")
    ],
    speed: Annotated[
        float | None, typer.Option(help="How much faster than the world; 120 for incidents, 10 for faults.")
    ] = None,
    json_file: Annotated[
        str | None, typer.Option("--json", help="Write the results there; - is the terminal.")
    ] = None,
    html: Annotated[Path | None, typer.Option(help="Write a report with pictures there.")] = None,
    config: Annotated[
        Path | None, typer.Option("--config", "-c", help="Drill this tieline.yaml, its providers simulated.")
    ] = None,
) -> None:
    """Play a drill. Exit code 0 only if everything passed."""
    from tieline.drills import cases, clock
    from tieline.types.errors import ConfigError

    if speed is not None and not 1 <= speed <= clock.MAX_SPEED:
        raise ConfigError(f"--speed {speed:g} is not between 1 and {clock.MAX_SPEED:g}.")
    for path in (html, Path(json_file) if json_file not in (None, "-") else None):
        _must_be_writable(path)
    logging.disable(logging.ERROR)
    quiet = json_file == "-"
    single = cases.case_named(name)
    if name == "faults" or single is not None:
        chosen = [single] if single else list(cases.CASES)
        usual = FAULTS_SPEED if config is None else OWN_FAULTS_SPEED
        passed = _faults(chosen, speed or usual, json_file, html, _own(config), quiet)
    else:
        passed = _incidents(name, speed or INCIDENTS_SPEED, json_file, html, config, quiet)
    raise typer.Exit(0 if passed else 1)


def _must_be_writable(path: Path | None) -> None:
    """Asked before the drill, which takes minutes. Raises ConfigError."""
    from tieline.types.errors import ConfigError

    if path is None:
        return
    folder = path.absolute().parent
    if path.is_dir():
        raise ConfigError("is a folder.", place=str(path), hint="Give the path of a file.")
    if not folder.is_dir():
        raise ConfigError("cannot be written.", place=str(path), hint=f"There is no folder {folder}.")
    if not os.access(path if path.exists() else folder, os.W_OK):
        raise ConfigError("cannot be written.", place=str(path), hint="Permission denied.")


def _faults(
    chosen: list[Case],
    speed: float,
    json_file: str | None,
    html: Path | None,
    own: Loaded | None,
    quiet: bool,
) -> bool:
    from tieline.drills import clock, faults, report
    from tieline.drills import own as owns
    from tieline.types.errors import ConfigError

    if own is not None:
        chosen = [case for case in chosen if owns.applicable(case)]
        if not chosen:
            raise ConfigError(
                "this fault is about more than one provider's behaviour.", hint="Drill it without --config."
            )
    began = monotonic()
    with _progress(quiet) as progress:
        task = progress.add_task("faults", total=None if own else sum(len(case.modes) for case in chosen))

        def told(verdict: Verdict) -> None:
            progress.update(task, advance=1, description=verdict.case)

        if own is None:
            verdicts = clock.run(lambda: faults.play_all(chosen, told), speed)
        else:
            config = own.config
            verdicts = clock.run(lambda: owns.play_all(config, os.environ, chosen, told), speed)
    seconds = monotonic() - began
    if not quiet:
        _print_faults(verdicts, seconds)
    if html is not None:
        html.write_text(report.faults(verdicts), "utf-8")
    passed = all(verdict.passed for verdict in verdicts)
    _write(
        json_file,
        {"passed": passed, "total": len(verdicts), "seconds": round(seconds, 1), "faults": verdicts},
    )
    return passed


def _print_faults(verdicts: list[Verdict], seconds: float) -> None:
    """Titles need a wide terminal; what went wrong stands below, whole."""
    titles = console.width >= 110
    right = ("answered", "tries", "slowest")
    columns = ("fault", *(("what happens",) if titles else ()), "mode", "struck", *right, "")
    rows = table(*columns, right=right, wide={"what happens": 26} if titles else None)
    for one in verdicts:
        title = (escape(one.title),) if titles else ()
        answered, slowest = f"{one.answered}/{one.requests}", f"{one.slowest_s:.2f} s"
        struck = _SHORT.get(one.upstream, one.upstream)
        rows.add_row(
            one.case, *title, one.mode, struck, answered, str(one.attempts), slowest, _mark(one.passed)
        )
    console.print(rows)
    for one in verdicts:
        for what in one.problems[:3]:
            console.print(f"[red]{one.case}, {one.mode}[/]: {escape(what)}")
    alone = sorted({model for verdict in verdicts for model in verdict.unprotected})
    if alone:
        console.print(f"\n[yellow]No other provider can serve[/] {escape(', '.join(alone))}")
    console.print(f"\n{sum(one.passed for one in verdicts)} of {len(verdicts)} passed in {seconds:.1f} s")


def _incidents(
    name: str, speed: float, json_file: str | None, html: Path | None, config: Path | None, quiet: bool
) -> bool:
    from tieline.drills import report, scenario

    own = _own(config)
    found = scenario.packaged() if name == "incidents" else [scenario.load(name)]
    if own is not None:
        found = _striking(found, own)
    began = monotonic()
    results: list[tuple[Played, Score]] = []
    with _progress(quiet) as progress:
        for one in found:
            results += [_play(one, speed, own, progress)]
    scores, seconds = [score for _, score in results], monotonic() - began
    if not quiet:
        _print_scores(scores, seconds)
    if html is not None:
        html.write_text(report.incidents(results), "utf-8")
    passed = all(score.passed for score in scores)
    _write(
        json_file,
        {"passed": passed, "seconds": round(seconds, 1), "speed": speed, "incidents": scores},
    )
    return passed


def _striking(found: list[Scenario], own: Loaded) -> list[Scenario]:
    """Those that strike a provider of the user's. Raises ConfigError when none does."""
    from tieline.drills.incident import hits
    from tieline.types.errors import ConfigError

    struck = [one for one in found if hits(one, own.config, os.environ)]
    if not struck:
        raise ConfigError(
            f"{found[0].name} strikes {found[0].hit.provider}, which this configuration does not use."
            if len(found) == 1
            else "no incident strikes a provider of this configuration.",
            hint="Run one that strikes a provider of yours, or write one.",
        )
    return struck


def _print_scores(scores: list[Score], seconds: float) -> None:
    first = ("first token p95",) if console.width >= 100 else ()
    right = ("served", "added", "left", "back", "tries", "wasted", "over", "outside")
    rows = table("drill", "served", *first, *right[1:], "", right=right)
    for score in scores:
        rows.add_row(*_row(score, wide=bool(first)))
    console.print(rows)
    for score in scores:
        for what in score.problems:
            console.print(f"[red]{score.name}[/]: {escape(what)}")
    passed = sum(score.passed for score in scores)
    console.print(f"\n{passed} of {len(scores)} survived as they should in {seconds:.1f} s")


def _play(one: Scenario, speed: float, own: Loaded | None, progress: Progress) -> tuple[Played, Score]:
    from tieline.drills import clock, incident
    from tieline.drills.score import score

    task = progress.add_task(one.name, total=one.length_s)

    def told(at_s: float, asked: int, failed: int) -> None:
        lost = f" [red]{failed} not served[/]" if failed else ""
        progress.update(
            task, completed=min(at_s, one.length_s), description=f"{one.name} {asked} requests{lost}"
        )

    base = own.config if own else None
    played = clock.run(
        lambda: incident.play(one, base=base, environ=os.environ if own else None, told=told), speed
    )
    progress.remove_task(task)
    return played, score(played)


def _own(config: Path | None) -> Loaded | None:
    if config is None:
        return None
    from tieline.config.load import load

    return load(config)


def _row(score: Score, *, wide: bool) -> tuple[str, ...]:
    def seconds(value: float | None) -> str:
        return "–" if value is None else f"{value:.1f} s"

    first = f"{seconds(score.first_token_p95_before_s)} → {seconds(score.first_token_p95_during_s)}"
    added = score.added_first_token_p95_s
    return (
        score.name.split("-")[0],
        f"{score.success:.2%}",
        *((first,) if wide else ()),
        "–" if added is None else f"{added * 1000:.0f} ms",
        seconds(score.left_after_s),
        seconds(score.back_after_s),
        f"{score.attempts / max(1, score.requests):.3f}",
        f"{score.wasted_tokens} tok, {score.wasted_share:.1%}" if score.wasted_tokens else "0",
        "–" if score.ceiling_usd is None else str(score.ceilings_exceeded),
        "–" if score.allowed is None else str(score.outside_allowed),
        _mark(score.passed),
    )


def _mark(passed: bool) -> str:
    return "[green]passed[/]" if passed else "[red]failed[/]"


def _progress(quiet: bool) -> Progress:
    return Progress(
        TextColumn("{task.description}"),
        BarColumn(),
        TimeElapsedColumn(),
        console=console,
        transient=True,
        disable=quiet,
    )


def _write(json_file: str | None, document: dict[str, Any]) -> None:
    if json_file == "-":
        write_json(document)
    elif json_file is not None:
        import msgspec

        Path(json_file).write_bytes(
            msgspec.json.format(msgspec.json.encode(document, enc_hook=str), indent=2) + b"\n"
        )
