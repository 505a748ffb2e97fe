"""A server that is several model providers at once, each under its own path prefix."""

from __future__ import annotations

import asyncio
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import msgspec

from tieline.simulator.answer import Refusal, compose, usage_of
from tieline.simulator.behaviour import Behaviour, UnknownBehaviour, choose, of_model
from tieline.simulator.clouds import Clouds
from tieline.simulator.exchange import Dialect, Exchange, Headers, Reply, encode
from tieline.simulator.ledger import MAX_BODY_BYTES, Entry, Ledger
from tieline.simulator.playback import Playback
from tieline.simulator.routes import find
from tieline.simulator.schedule import Schedule, ScheduleError
from tieline.simulator.text import seeded
from tieline.simulator.wire import ClientGone, HttpRequest, Wire

_JSON: Headers = [("content-type", "application/json")]


class SimulatorServer:
    """``await start()``, then providers answer under ``{url}/{provider}/…``; ``await stop()``.

    ``seed`` decides every text, id and random choice. ``schedule`` makes providers misbehave over time, which ``clock``
    counts (in seconds) and ``speed`` multiplies. ``log`` holds what was done; ``clouds`` who may use Vertex, Bedrock, Azure.
    """

    def __init__(
        self,
        seed: int = 0,
        host: str = "127.0.0.1",
        port: int = 0,
        schedule: Schedule | None = None,
        *,
        clock: Callable[[], float] = time.monotonic,
        speed: float = 1.0,
    ) -> None:
        self.seed = seed
        self.host = host
        self.port = port
        self.ledger = Ledger()
        self.clouds = Clouds()
        self._clock = clock
        self._speed = speed
        self._schedule = schedule
        self._epoch = clock()
        self._seen: Counter[tuple[str, str]] = Counter()
        self._wires: set[Wire] = set()
        self._server: asyncio.Server | None = None
        self._memory: dict[str, Any] = {}
        self._number = 0

    @property
    def url(self) -> str:
        return f"http://{self.host}:{self.port}"

    @property
    def log(self) -> list[Entry]:
        return list(self.ledger.entries)

    @property
    def now_s(self) -> float:
        """The schedule's time."""
        return (self._clock() - self._epoch) * self._speed

    async def start(self) -> SimulatorServer:
        loop = asyncio.get_running_loop()
        self._server = await loop.create_server(lambda: Wire(self._handle, self._wires), self.host, self.port)
        self.port = self._server.sockets[0].getsockname()[1]
        self._epoch = self._clock()
        return self

    async def stop(self) -> None:
        """Closes the door and every connection."""
        if self._server is None:
            return
        self._server.close()
        for wire in list(self._wires):
            wire.abort()
        for _ in range(100):
            if not self._wires:
                break
            await asyncio.sleep(0.001)
        await self._server.wait_closed()
        self._server = None

    async def __aenter__(self) -> SimulatorServer:
        return await self.start()

    async def __aexit__(self, *exc: object) -> None:
        await self.stop()

    @contextmanager
    def run_in_thread(self) -> Iterator[SimulatorServer]:
        """Serves from a thread with an event loop of its own, for callers that have none."""
        ready, done = threading.Event(), asyncio.Event()
        loop = asyncio.new_event_loop()

        async def serve() -> None:
            await self.start()
            ready.set()
            await done.wait()
            await self.stop()

        thread = threading.Thread(
            target=loop.run_until_complete, args=(serve(),), name="simulator", daemon=True
        )
        thread.start()
        try:
            if not ready.wait(10):
                raise RuntimeError(f"the simulator did not start on {self.host}:{self.port}")
            yield self
        finally:
            loop.call_soon_threadsafe(done.set)
            thread.join(10)
            loop.close()

    def set_schedule(self, schedule: Schedule | None) -> None:
        """Replaces the schedule; its time begins now."""
        self._schedule = schedule
        self._epoch = self._clock()

    def reset(self) -> None:
        """Forgets the log and what was counted; texts and ids begin again."""
        self.ledger.clear()
        self._seen.clear()
        self._memory.clear()
        self._number = 0
        self._epoch = self._clock()

    async def _handle(self, request: HttpRequest, wire: Wire) -> None:
        if request.path.startswith("/_simulator/"):
            await _send(wire, self._control(request))
            return
        token = self.clouds.answer(request, self.url)
        if token is not None:
            await _send(wire, token)
            return
        self._number += 1
        route = find(request.path)
        entry = self.ledger.open(self.now_s, route.provider)
        exchange = Exchange(
            provider=route.provider,
            dialect=route.dialect.name,
            operation=route.operation,
            method=request.method,
            path=request.path,
            query=request.query,
            headers=request.headers,
            raw=request.body,
            target=request.target,
            clouds=self.clouds,
            model=route.model,
            seed=self.seed,
            number=self._number,
            random=seeded("request", self.seed, self._number),
            stream=route.stream,
            memory=self._memory,
        )
        try:
            await self._answer(route.dialect, exchange, wire, entry)
        except Refusal as refusal:
            await self._say_no(route.dialect, exchange, refusal, wire, entry)
        except (ClientGone, asyncio.CancelledError):
            entry.cancelled_by_client = not entry.cut
            raise

    async def _answer(self, dialect: Dialect, exchange: Exchange, wire: Wire, entry: Entry) -> None:
        entry.dialect = exchange.dialect
        entry.key = _check_key(dialect, exchange)
        if exchange.operation == "unknown":
            raise Refusal("not_found")
        self._open(dialect, exchange, entry)
        behaviour = exchange.behaviour
        if behaviour.group == "connection" and await _misbehave(dialect, exchange, wire, entry):
            return
        if behaviour.refusal is not None:
            await asyncio.sleep(behaviour.number("after_ms") / 1000)
            raise Refusal(behaviour.refusal)
        entry.status = 200
        if exchange.operation != "chat":
            reply = dialect.other(exchange)
            entry.input_tokens, entry.completed = reply.input_tokens, True
            reply.headers += dialect.headers(exchange)
            await asyncio.sleep(behaviour.ttft_s(exchange.random))
            await _send(wire, reply)
            return
        ask = dialect.read(exchange)
        exchange.stream = exchange.stream or ask.stream
        answers = compose(ask, behaviour, seed=self.seed, provider=exchange.provider)
        usage = usage_of(ask, answers, behaviour)
        entry.input_tokens, entry.stream = usage.input, exchange.stream
        playback = Playback(dialect, exchange, wire, entry)
        await (playback.stream if exchange.stream else playback.whole)(ask, answers, usage)

    def _open(self, dialect: Dialect, exchange: Exchange, entry: Entry) -> None:
        """Reads the body, finds the model and settles how it behaves now."""
        if exchange.method != "GET":
            exchange.body = _json(exchange.raw)
            entry.body = exchange.body if len(exchange.raw) <= MAX_BODY_BYTES else None
            exchange.model = exchange.model or dialect.model(exchange)
        entry.model = exchange.model
        try:
            behaviour = of_model(exchange.model)
        except UnknownBehaviour as error:
            raise Refusal(
                "model_not_found", f"The model `{exchange.model}` does not exist: {error}."
            ) from None
        if self._schedule is not None:
            behaviour = self._schedule.behaviour(
                behaviour,
                at_s=self.now_s,
                provider=exchange.provider,
                model=exchange.model,
                key=entry.key,
                random=exchange.random,
            )
        key = (exchange.provider, exchange.model)
        exchange.behaviour = choose(behaviour, exchange.random, self._seen[key])
        self._seen[key] += 1
        entry.behaviour = str(exchange.behaviour)

    async def _say_no(
        self, dialect: Dialect, exchange: Exchange, refusal: Refusal, wire: Wire, entry: Entry
    ) -> None:
        reply = dialect.refuse(exchange, refusal)
        entry.status, entry.dialect = reply.status, exchange.dialect
        entry.behaviour = entry.behaviour or refusal.kind
        await _send(wire, reply)

    def _control(self, request: HttpRequest) -> Reply:
        """``GET log``, ``POST reset``, ``POST schedule`` below ``/_simulator/``."""
        what = (request.method, request.path.removeprefix("/_simulator/"))
        if what == ("GET", "log"):
            return Reply(
                200, encode({"entries": self.log, "sums": self.ledger.sums(), "now_s": self.now_s}), _JSON
            )
        if what == ("POST", "reset"):
            self.reset()
            return Reply(200, b"{}", _JSON)
        if what == ("POST", "schedule"):
            try:
                self.set_schedule(
                    Schedule.loads(request.body.decode("utf-8", "replace"), place="request body")
                )
            except ScheduleError as error:
                return Reply(400, encode({"error": str(error)}), _JSON)
            return Reply(200, b"{}", _JSON)
        return Reply(404, encode({"error": "there are GET log, POST reset and POST schedule here"}), _JSON)


def _json(raw: bytes) -> Any:
    try:
        body = msgspec.json.decode(raw)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise Refusal(
            "invalid", f"We could not parse the JSON body of your request: {error}", code="bad_json"
        ) from None
    if not isinstance(body, dict):
        raise Refusal("invalid", "The body of the request must be a JSON object.", code="bad_json")
    return body


def _check_key(dialect: Dialect, exchange: Exchange) -> str:
    """The label of the key. Any key is good unless it says what is wrong with it."""
    key = dialect.credential(exchange)
    if not key:
        raise Refusal("missing_key")
    for word, kind in (
        ("invalid", "auth"),
        ("broke", "quota"),
        ("expired", "expired"),
        ("forbidden", "forbidden"),
    ):
        if word in key:
            raise Refusal(kind)
    return key[-4:]


async def _misbehave(dialect: Dialect, exchange: Exchange, wire: Wire, entry: Entry) -> bool:
    """Behaviours that need no answer; False for ``truncate-body``, which does."""
    behaviour: Behaviour = exchange.behaviour
    if behaviour.name == "truncate-body":
        return False
    await asyncio.sleep(behaviour.ttft_s(exchange.random))
    entry.cut = True
    if behaviour.name == "reset":
        wire.abort()
    elif behaviour.name == "silent":
        await wire.hold()
    elif behaviour.name == "garbled":
        page = b"<html><body>It works!</body></html>" if behaviour.count("html") else b'\x00\x01{"id": "chat'
        entry.status = 200
        await _send(wire, Reply(200, page, _JSON))
    else:
        entry.status = 200
        refused = dialect.refuse(exchange, Refusal(behaviour.word("kind", "server_error")))
        await _send(wire, Reply(200, refused.body, _JSON))
    return True


async def _send(wire: Wire, reply: Reply) -> None:
    await wire.start(reply.status, reply.headers, len(reply.body))
    await wire.write(reply.body)


async def run(
    port: int = 4010,
    *,
    host: str = "127.0.0.1",
    seed: int = 0,
    schedule: Schedule | None = None,
    speed: float = 1.0,
) -> None:
    """Serves until cancelled."""
    async with SimulatorServer(seed, host, port, schedule, speed=speed):
        await asyncio.Event().wait()
