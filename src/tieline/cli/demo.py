"""``tieline demo``: everything it shows really happens, over real sockets, and is checked as it happens."""

from __future__ import annotations

import asyncio
import logging
import socket
import tempfile
from contextlib import closing
from pathlib import Path
from typing import TYPE_CHECKING, Any

import msgspec
from msgspec import Struct
from rich.progress import Progress, SpinnerColumn, TextColumn

from tieline.cli.ledger import records_table
from tieline.cli.probe import Seen, ask
from tieline.cli.terminal import console, write_json
from tieline.config.schema import Config, ModelConfig, ServerConfig, StoreConfig
from tieline.types.record import shown

if TYPE_CHECKING:
    from tieline.gateway import Gateway

PROMPT = "Why do ships carry bells?"
_TOOL = {
    "type": "function",
    "function": {
        "name": "get_weather",
        "description": "Weather of a city",
        "parameters": {"type": "object", "properties": {"city": {"type": "string"}}, "required": ["city"]},
    },
}


class Step(Struct, kw_only=True):
    title: str
    shown: str
    """What came back, for people."""
    checks: dict[str, bool]
    """What had to be true, and whether it was."""
    headers: dict[str, str]

    @property
    def passed(self) -> bool:
        return all(self.checks.values())


def demo(as_json: bool) -> int:
    """Exit code 0 only if everything shown really happened."""
    from tieline.server.serve import run_loop

    logging.disable(logging.WARNING)
    result: list[tuple[list[Step], list[Any], dict[str, bool]]] = []

    async def tour() -> None:
        with tempfile.TemporaryDirectory() as folder:
            result.append(await _tour(Path(folder), quiet=as_json))

    run_loop(tour())
    steps, records, ledger = result[0]
    passed = all(step.passed for step in steps) and all(ledger.values())
    if as_json:
        write_json(
            {"passed": passed, "steps": steps, "ledger": ledger, "records": [shown(one) for one in records]}
        )
    else:
        console.print("\n[bold]The ledger[/]")
        console.print(records_table(records))
        _print_checks(ledger)
        console.print(
            "\n[green]Everything shown happened.[/]" if passed else "\n[red]Something did not happen.[/]"
        )
    return 0 if passed else 1


async def _tour(folder: Path, *, quiet: bool) -> tuple[list[Step], list[Any], dict[str, bool]]:
    from tieline.gateway import Gateway
    from tieline.server.serve import bind
    from tieline.simulator import SimulatorServer
    from tieline.simulator.twins import simulated
    from tieline.store import queries

    async with SimulatorServer() as simulator:
        base = Config(
            server=ServerConfig(port=0),
            store=StoreConfig(database=f"sqlite:///{folder}/demo.db", spool=f"{folder}/spool"),
            models={
                "knocked-out": ModelConfig(
                    deployments=["sim-openai/sim-fail-503"], fallbacks=["sim-anthropic/claude-sim"]
                )
            },
            discover=False,
        )
        gateway = Gateway(simulated(simulator.url, base), environ={})
        with closing(bind("127.0.0.1", 0)) as sock:
            steps = await _rides(gateway, sock, quiet=quiet)
    database = gateway.database
    assert database is not None
    database.open()
    records = queries.logs(database)
    database.close()
    return steps, records, _ledger_checks(records, len(steps), simulator)


async def _rides(gateway: Gateway, sock: socket.socket, *, quiet: bool) -> list[Step]:
    from tieline.server.serve import Service

    up = asyncio.get_running_loop().create_future()
    service = Service(gateway, sock, ready=up.set_result)
    serving = asyncio.get_running_loop().create_task(service.serve())
    steps: list[Step] = []
    try:
        await asyncio.wait({up, serving}, return_when=asyncio.FIRST_COMPLETED)
        if not up.done():  # it did not start, and says why below
            return steps
        url = await up
        with Progress(
            SpinnerColumn(), TextColumn("{task.description}"), console=console, transient=True, disable=quiet
        ) as progress:
            task = progress.add_task("")
            for title, ride in _RIDES:
                progress.update(task, description=title)
                step = await ride(title, url)
                steps.append(step)
                if not quiet:
                    _print_step(len(steps), step)
        return steps
    finally:
        service.stop()
        await serving


def _ledger_checks(records: list[Any], rides: int, simulator: Any) -> dict[str, bool]:
    attempts = [entry for record in records for entry in record.attempts]
    served = [entry for entry in attempts if entry.outcome == "success"]
    produced = sum(entry.output_tokens for entry in simulator.log if entry.status == 200)
    return {
        f"one record for each of the {rides} requests": len(records) == rides,
        "one entry for each attempt": len(attempts) == len(simulator.log),
        "every cost is known and above 0": all(entry.cost for entry in served),
        "as many output tokens as the providers say they made": sum(e.usage.output_tokens for e in served)
        == produced,
    }


async def _openai(title: str, url: str) -> Step:
    seen = await ask(
        url,
        "/v1/chat/completions",
        {"model": "demo", "messages": [{"role": "user", "content": PROMPT}], "max_tokens": 40},
    )
    text = seen.json["choices"][0]["message"]["content"] if seen.status == 200 else seen.body.decode()
    return _step(
        title,
        seen,
        text,
        {
            "HTTP 200": seen.status == 200,
            "it has text": bool(text),
            "served by sim-openai": seen.headers.get("tieline-provider") == "sim-openai",
        },
    )


async def _anthropic(title: str, url: str) -> Step:
    body = {"model": "demo", "max_tokens": 40, "messages": [{"role": "user", "content": PROMPT}]}
    seen = await ask(url, "/v1/messages", body, {"anthropic-version": "2023-06-01"})
    answer = seen.json
    text = "".join(block.get("text", "") for block in answer.get("content", []))
    checks = {
        "HTTP 200": seen.status == 200,
        "an Anthropic message": answer.get("type") == "message",
        "served by a provider that speaks OpenAI's API": seen.headers.get("tieline-provider") == "sim-openai",
    }
    return _step(title, seen, text, checks)


async def _stream(title: str, url: str) -> Step:
    body = {
        "model": "demo",
        "messages": [{"role": "user", "content": PROMPT}],
        "max_tokens": 60,
        "stream": True,
    }
    seen = await ask(url, "/v1/chat/completions", body)
    lines = seen.body.decode().splitlines()
    chunks = [msgspec.json.decode(line[6:]) for line in lines if line.startswith("data: {")]
    text = "".join(choice["delta"].get("content") or "" for chunk in chunks for choice in chunk["choices"])
    comments = [line for line in lines if line.startswith(": tieline ")]
    figures = msgspec.json.decode(comments[-1][len(": tieline ") :]) if comments else {}
    checks = {
        "many chunks": len(chunks) > 5,
        "it ends with [DONE]": "data: [DONE]" in lines,
        "the last comment has its cost": figures.get("cost_usd", "unknown") not in ("unknown", "0"),
    }
    return _step(title, seen, f"{text}  [{len(chunks)} chunks, ${figures.get('cost_usd')}]", checks)


async def _tool_call(title: str, url: str) -> Step:
    body = {
        "model": "demo",
        "messages": [{"role": "user", "content": "What is the weather in Lisbon?"}],
        "tools": [_TOOL],
        "tool_choice": "required",
    }
    seen = await ask(url, "/v1/chat/completions", body)
    calls = seen.json["choices"][0]["message"].get("tool_calls") or [] if seen.status == 200 else []
    call = calls[0]["function"] if calls else {"name": "", "arguments": "{}"}
    checks = {
        "it calls get_weather": call["name"] == "get_weather",
        "its arguments are an object with a city": "city" in msgspec.json.decode(call["arguments"]),
    }
    return _step(title, seen, f"{call['name']}({call['arguments']})", checks)


async def _failover(title: str, url: str) -> Step:
    body = {"model": "knocked-out", "messages": [{"role": "user", "content": PROMPT}], "max_tokens": 40}
    seen = await ask(url, "/v1/chat/completions", body)
    text = seen.json["choices"][0]["message"]["content"] if seen.status == 200 else seen.body.decode()
    checks = {
        "HTTP 200 although sim-openai answers 503": seen.status == 200,
        "served by sim-anthropic instead": seen.headers.get("tieline-provider") == "sim-anthropic",
        "more than one attempt": int(seen.headers.get("tieline-attempts", "0")) > 1,
    }
    return _step(title, seen, text, checks)


def _step(title: str, seen: Seen, shown: str, checks: dict[str, bool]) -> Step:
    ours = {name: value for name, value in seen.headers.items() if name.startswith("tieline-")}
    return Step(title=title, shown=shown, checks=checks, headers=ours)


_RIDES = [
    ("An OpenAI client, a whole answer", _openai),
    ("An Anthropic client, served by an OpenAI-style provider", _anthropic),
    ("A stream", _stream),
    ("A tool call", _tool_call),
    ("One provider knocked out: the failover", _failover),
]


def _print_step(number: int, step: Step) -> None:
    console.print(f"\n[bold]{number}. {step.title}[/]")
    console.print(f"   {step.shown}", markup=False)
    headers = step.headers
    served = f"{headers.get('tieline-provider', '?')} · {headers.get('tieline-model', '?')} · attempts {headers.get('tieline-attempts', '?')}"
    cost = f" · ${headers['tieline-cost-usd']}" if "tieline-cost-usd" in headers else ""
    overhead = f" · overhead {headers['tieline-overhead-ms']} ms" if "tieline-overhead-ms" in headers else ""
    console.print(f"   [dim]{served}{cost}{overhead}[/]")
    _print_checks(step.checks)


def _print_checks(checks: dict[str, bool]) -> None:
    for what, true in checks.items():
        console.print(f"   {'[green]✓[/]' if true else '[red]✗[/]'} {what}")
