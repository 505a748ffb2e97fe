"""``tieline serve``, ``up`` and ``simulate``: what stays up."""

from __future__ import annotations

import asyncio
import os
import signal
import socket
import sys
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any

import msgspec

from tieline.config.load import find, load
from tieline.config.schema import Config
from tieline.types.errors import ConfigError

if TYPE_CHECKING:
    from tieline.providers.deployment import Deployment


def serve(
    config: Path | None,
    host: str | None,
    port: int | None,
    workers: int | None,
    fd: int | None,
    ready_fd: int | None,
    board_fd: int | None,
    metrics_fd: int | None,
    begun_fd: int | None,
    place: int,
    quiet: bool,
) -> int:
    """The exit code."""
    from tieline.record.together import Together
    from tieline.server import serve as server
    from tieline.server.accept import Board, Place

    server.log_to_terminal("warning" if quiet else "info")
    if fd is not None:
        # The parent outlives its terminal, and passes on what is meant for a configuration file, which may not be there.
        signal.signal(signal.SIGHUP, signal.SIG_IGN)
        own = Place(None if board_fd is None else Board(board_fd), place)
        sock = socket.socket(fileno=fd)
        together = None if metrics_fd is None else Together(metrics_fd, place, workers or 1)
        begun = None
        if begun_fd is not None:
            begun = msgspec.json.decode(os.pread(begun_fd, os.fstat(begun_fd).st_size, 0), type=Config)
        server.run(
            config,
            pinned={"host": host, "port": port, "workers": workers},
            sock=sock,
            place=own,
            ready=_teller(ready_fd),
            together=together,
            begun=begun,
        )
        return 0
    count = workers or load(config or find(os.environ), os.environ).config.server.workers
    if count > 1:
        from tieline.server import workers as several

        return several.run(
            config, host=host, port=port, count=count, quiet=quiet, counted=workers is not None
        )
    environ = {**os.environ, **({} if workers is None else {"TIELINE_SERVER__WORKERS": "1"})}
    server.run(config, environ=environ, host=host, port=port, ready=None if quiet else _announce)
    return 0


def _announce(url: str) -> None:
    print(f"Tieline listens on {url}", file=sys.stderr, flush=True)


def _teller(ready_fd: int | None) -> Callable[[str], Any] | None:
    """Tells the parent process that this worker answers. It does not outlive its parent: nobody could end it, and the port
    would stay taken."""
    if ready_fd is None:
        return None

    def tell(_url: str) -> None:
        with suppress(BrokenPipeError):
            os.write(ready_fd, b"1")
        loop = asyncio.get_running_loop()

        def alone() -> None:
            loop.remove_reader(ready_fd)
            os.kill(os.getpid(), signal.SIGTERM)

        loop.add_reader(ready_fd, alone)

    return tell


KEY = "TIELINE_API_KEY"
"""Where the tour looks for a virtual key, and its snippets too: their secrets are kept nowhere else."""


def up(config: Path | None, port: int | None, once: bool) -> int:
    """The newcomer's command. The exit code: 1 when the tour was all, and its request failed."""
    from tieline.server import serve as server

    server.log_to_terminal("warning")
    shown: list[bool] = []
    server.run_loop(_up(config, port, once, shown.append))
    return int(once and shown != [True])


async def _up(path: Path | None, port: int | None, once: bool, shown: Callable[[bool], None]) -> None:
    from tieline.gateway import Gateway
    from tieline.server.serve import Service, bind, make_room
    from tieline.simulator import SimulatorServer
    from tieline.simulator.twins import simulated

    settings: Config = load(path or find(os.environ), os.environ).config
    gateway = Gateway(path, port=port)
    simulator: SimulatorServer | None = None
    if not gateway.fleet.hosts:
        simulator = await SimulatorServer().start()
        base = msgspec.structs.replace(settings, server=gateway.config.server)
        gateway = Gateway(simulated(simulator.url, base))
    sock = bind(gateway.config.server.host, gateway.config.server.port)
    make_room(gateway)
    tour = asyncio.get_running_loop().create_future()
    service = Service(gateway, sock, ready=tour.set_result)
    serving = asyncio.get_running_loop().create_task(service.serve())
    try:
        await asyncio.wait({tour, serving}, return_when=asyncio.FIRST_COMPLETED)
        if serving.done():
            await serving  # which says why
            return
        shown(await _show(gateway, tour.result(), simulated=simulator is not None))
        if once:
            service.stop()
        await serving
    finally:
        sock.close()
        if simulator is not None:
            await simulator.stop()


async def _show(gateway: Any, url: str, *, simulated: bool) -> bool:
    """Whether the request succeeded."""
    from rich.panel import Panel
    from rich.syntax import Syntax

    from tieline.cli.probe import ask
    from tieline.cli.terminal import NARROW, console, escape
    from tieline.simulator.twins import STAND_INS

    model = "demo" if simulated else _first_model(gateway)
    keyed = gateway.admission.has_keys and not gateway.config.server.open
    key = os.environ.get(KEY) if keyed else None
    console.print(f"\n[bold]Tieline[/] listens on [bold cyan]{url}[/]")
    if simulated:
        console.print(
            "No provider key was found in the environment, so [bold]simulated providers[/] answer: "
            f"to {', '.join(STAND_INS)} and demo.\n"
            "[dim]Set OPENAI_API_KEY, ANTHROPIC_API_KEY, … and start again for the real ones.[/]"
        )
    else:
        console.print(f"Providers: {', '.join(sorted(gateway.fleet.hosts))}")
    seen = await ask(
        url,
        "/v1/chat/completions",
        # Room for those that think before they speak.
        {"model": model, "messages": [{"role": "user", "content": "Say hello."}], "max_tokens": 1000},
        {"authorization": f"Bearer {key}"} if key else None,
    )
    headers = seen.headers
    if seen.status == 200:
        text = seen.json["choices"][0]["message"]["content"] or "–"
        served = f"{headers.get('tieline-provider')} · {headers.get('tieline-model')} · attempts {headers.get('tieline-attempts')}"
        cost = f"${headers.get('tieline-cost-usd')} · overhead {headers.get('tieline-overhead-ms')} ms"
        told = f"{escape(text, lines=True)}\n\n[dim]{escape(served)} · {cost}[/]"
    else:
        told = f"[red]HTTP {seen.status}[/] {escape(seen.json['error']['message'])}"
        if seen.status == 401:
            told += f"\n\nThere are virtual keys here, so requests need one: start again with {KEY}=tl-…"
    width = min(console.width, NARROW)
    console.print(Panel(told, title=f"one request to {escape(model)}", title_align="left", width=width))
    for language, code in snippets(url, model, keyed=keyed):
        # Not wrapped and not cut, however narrow the terminal: it is there to be pasted.
        shown = Syntax(code, language, theme="ansi_dark", background_color="default").highlight(code)
        console.print(shown, soft_wrap=True)
    console.print("[dim]tieline logs · tieline spend · tieline show ID · Ctrl-C stops[/]")
    return seen.status == 200


def _first_model(gateway: Any) -> str:
    """The cheapest of those that a key can be expected to have: the tour costs next to nothing, and works."""
    deployments = gateway.line.router.deployments
    if not deployments:
        raise ConfigError("No provider lists a model.", hint="Name some under `models` in tieline.yaml.")
    return str(min(deployments, key=_rank).id)


def _rank(deployment: Deployment) -> tuple[bool | int, ...]:
    """Price lists have retired, gated and special models too, often the cheapest, and do not say which: so first what talks,
    is of the last year and was measured by others."""
    card = deployment.card
    if card is None:
        return (True,)
    price = card.price.tiers[0].output if card.price and card.price.tiers else 0
    talks = card.tools is True and card.output_modalities == ("text",)
    year_before = f"{int(card.date[:4]) - 1}{card.date[4:]}" if card.date else ""
    current = card.status == "active" and card.released is not None and card.released >= year_before
    return (card.embedding is not False, price == 0, not (talks and current), not card.quality, price)


def snippets(url: str, model: str, *, keyed: bool) -> list[tuple[str, str]]:
    """Ready to paste; ``keyed``: where a virtual key is needed."""
    sent = f' -H "authorization: Bearer ${KEY}"' if keyed else ""
    imported, key = ("import os\n", f'os.environ["{KEY}"]') if keyed else ("", '"unused"')
    return [
        ("bash", _CURL % (url, sent, model)),
        ("python", imported + _OPENAI % (url, key, model)),
        ("python", imported + _ANTHROPIC % (url, key, model)),
    ]


_CURL = """\
curl %s/v1/chat/completions -H 'content-type: application/json'%s \\
  -d '{"model": "%s", "messages": [{"role": "user", "content": "Hello"}]}'"""
_OPENAI = """\
from openai import OpenAI
client = OpenAI(base_url="%s/v1", api_key=%s)
answer = client.chat.completions.create(
    model="%s", messages=[{"role": "user", "content": "Hello"}])
print(answer.choices[0].message.content)"""
_ANTHROPIC = """\
from anthropic import Anthropic
client = Anthropic(base_url="%s", api_key=%s)
answer = client.messages.create(
    model="%s", max_tokens=100, messages=[{"role": "user", "content": "Hello"}])
print(answer.content[0].text)"""


def simulate(port: int, seed: int, schedule: Path | None, speed: float) -> None:
    from tieline.cli.terminal import console
    from tieline.server.serve import run_loop
    from tieline.simulator import Schedule, ScheduleError, SimulatorServer

    try:
        plan = Schedule.load(schedule) if schedule is not None else None
    except ScheduleError as error:
        raise ConfigError(str(error)) from None

    async def stay() -> None:
        try:
            server = await SimulatorServer(seed=seed, port=port, schedule=plan, speed=speed).start()
        except OSError as error:
            raise ConfigError(
                f"Cannot listen on port {port}: {error.strerror}.", hint=f"Try --port {port + 1}."
            ) from None
        console.print(f"Simulated providers on [bold cyan]{server.url}[/]: any name is one.")
        console.print(
            f"  OpenAI     {server.url}/acme/v1/chat/completions\n  Anthropic  {server.url}/acme/v1/messages"
        )
        console.print(
            "[dim]The model's name chooses the behaviour: sim-echo, sim-tools, sim-fail-503, sim-cut:after=5, …  Ctrl-C stops.[/]"
        )
        await asyncio.Event().wait()

    run_loop(stay())
