"""``tieline drill``: outages rehearsed against the real server, with simulated providers."""

from __future__ import annotations

import logging
import os
from pathlib import Path
from time import monotonic
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.markup import escape
from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn

from tieline.cli.terminal import console, table, write_json

if TYPE_CHECKING:
    from tieline.config.load import Loaded
    from tieline.drills.faults import Verdict
    from tieline.drills.incident import Played
    from tieline.drills.scenario import Scenario
    from tieline.drills.score import Score

app = typer.Typer(name="drill", help="Rehearse outages.", no_args_is_help=True)
FAULTS_SPEED = 10.0
INCIDENTS_SPEED = 120.0


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
    rows = table("drill", "what happened", title="incidents")
    for one in incidents:
        rows.add_row(f"{one.name}", f"[bold]{escape(one.title)}[/]\n{escape(one.about)}")
    console.print(rows)
    rows = table("drill", "fault", title="\nfaults")
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
    logging.disable(logging.ERROR)
    quiet = json_file == "-"
    single = cases.case_named(name)
    if name == "faults" or single is not None:
        if config is not None:
            raise ConfigError(
                "--config is for incidents.", hint="Faults are drilled on a fleet of their own."
            )
        passed = _faults(
            [single] if single else list(cases.CASES), speed or FAULTS_SPEED, json_file, html, quiet
        )
    else:
        passed = _incidents(name, speed or INCIDENTS_SPEED, json_file, html, config, quiet)
    raise typer.Exit(0 if passed else 1)


def _faults(cases: list[Any], speed: float, json_file: str | None, html: Path | None, quiet: bool) -> bool:
    from tieline.drills import clock, faults, report

    total = sum(len(case.modes) for case in cases)
    began = monotonic()
    with _progress(quiet) as progress:
        task = progress.add_task("faults", total=total)

        def told(verdict: Verdict) -> None:
            progress.update(task, advance=1, description=verdict.case)

        verdicts = clock.run(lambda: faults.play_all(cases, told), speed)
    passed = sum(verdict.passed for verdict in verdicts)
    if not quiet:
        rows = table(
            "fault", "", "mode", "answered", "tries", "slowest", "", right=("answered", "tries", "slowest")
        )
        for one in verdicts:
            verdict = (
                "[green]passed[/]" if one.passed else "[red]" + escape("; ".join(one.problems[:3])) + "[/]"
            )
            rows.add_row(
                one.case,
                escape(one.title),
                one.mode,
                f"{one.answered}/{one.requests}",
                str(one.attempts),
                f"{one.slowest_s:.2f} s",
                verdict,
            )
        console.print(rows)
        console.print(f"\n{passed} of {len(verdicts)} passed in {monotonic() - began:.1f} s")
    if html is not None:
        html.write_text(report.faults(verdicts), "utf-8")
    document = {
        "passed": passed == len(verdicts),
        "total": len(verdicts),
        "seconds": round(monotonic() - began, 1),
        "faults": verdicts,
    }
    _write(json_file, document)
    return passed == len(verdicts)


def _incidents(
    name: str, speed: float, json_file: str | None, html: Path | None, config: Path | None, quiet: bool
) -> bool:
    from tieline.drills import report, scenario

    found = scenario.packaged() if name == "incidents" else [scenario.load(name)]
    own = _own(config)
    began = monotonic()
    results: list[tuple[Played, Score]] = []
    rows = table(
        "drill",
        "served",
        "first token p95",
        "left",
        "back",
        "tries",
        "wasted",
        "",
        right=("served", "left", "back", "tries", "wasted"),
    )
    with _progress(quiet) as progress:
        for one in found:
            played, score = _play(one, speed, own, progress)
            results.append((played, score))
            rows.add_row(*_row(score))
    passed = sum(score.passed for _, score in results)
    if not quiet:
        console.print(rows)
        for _, score in results:
            for what in score.problems:
                console.print(f"[red]{score.name}[/]: {escape(what)}")
        console.print(f"\n{passed} of {len(results)} survived as they should in {monotonic() - began:.1f} s")
    if html is not None:
        html.write_text(report.incidents(results), "utf-8")
    scores = [score for _, score in results]
    _write(
        json_file,
        {
            "passed": passed == len(results),
            "seconds": round(monotonic() - began, 1),
            "speed": speed,
            "incidents": scores,
        },
    )
    return passed == len(results)


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


def _row(score: Score) -> tuple[str, ...]:
    def seconds(value: float | None) -> str:
        return "–" if value is None else f"{value:.1f} s"

    mark = "[green]passed[/]" if score.passed else "[red]failed[/]"
    return (
        score.name,
        f"{score.success:.2%}",
        f"{seconds(score.first_token_p95_before_s)} → {seconds(score.first_token_p95_during_s)}",
        seconds(score.left_after_s),
        seconds(score.back_after_s),
        f"{score.attempts / max(1, score.requests):.3f}",
        f"{score.wasted_share:.1%}",
        mark,
    )


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
