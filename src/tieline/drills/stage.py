"""Where a drill plays: the real gateway behind the real server, and simulated providers, all on the running loop."""

from __future__ import annotations

import asyncio
import contextlib
from time import monotonic
from types import TracebackType
from typing import Any, Self

from msgspec.structs import replace

from tieline.config.schema import Config, Routing, ServerConfig, StoreConfig
from tieline.drills import clock
from tieline.drills.caller import Caller
from tieline.gateway import Gateway
from tieline.server.serve import Service, bind
from tieline.simulator import SimulatorServer
from tieline.simulator.schedule import Schedule
from tieline.transport.http1 import Http1Transport
from tieline.types.call import Call, Reply
from tieline.types.record import Record

MAX_RECORDS = 200_000
QUIET_S = 30.0


class WatchedGateway(Gateway):
    """Keeps the record of every request, by id."""

    def __init__(self, config: Config, **options: Any) -> None:
        super().__init__(config, **options)
        self.records: dict[str, Record] = {}
        self.handled = 0

    async def handle(self, call: Call, reply: Reply) -> Record:
        record = await super().handle(call, reply)
        self.handled += 1
        if len(self.records) < MAX_RECORDS:
            self.records[record.id] = record
        return record


class Stage:
    """``async with Stage(make) as stage``: ``stage.url`` answers. ``make`` gets the simulator's URL and returns a Config.

    Server and store settings of that Config are replaced: loopback, any port, no database unless ``database`` is given.
    """

    def __init__(
        self,
        make: Any,
        *,
        seed: int = 0,
        schedule: Schedule | None = None,
        database: str = "none",
        spool: str = "unused",
    ) -> None:
        self._make = make
        self._seed = seed
        self._schedule = schedule
        self._store = StoreConfig(database=database, spool=spool)
        self._stack = contextlib.AsyncExitStack()
        self.simulator: SimulatorServer
        self.gateway: WatchedGateway
        self.upstream: Http1Transport
        """The gateway's connections to the simulated providers."""
        self.caller: Caller
        self.url = ""

    async def quiet(self) -> bool:
        """Until every request is recorded, for half a minute of real time at most; whether it is so."""
        until = monotonic() + QUIET_S
        while self.gateway.in_flight and monotonic() < until:
            await asyncio.sleep(0.05)
        return not self.gateway.in_flight

    @property
    def records(self) -> dict[str, Record]:
        return self.gateway.records

    async def __aenter__(self) -> Self:
        try:
            await self._start()
        except BaseException:
            await self._stack.aclose()
            raise
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self._stack.aclose()

    async def _start(self) -> None:
        loop, stack = asyncio.get_running_loop(), self._stack
        self.simulator = SimulatorServer(self._seed, schedule=self._schedule, clock=loop.time)
        await stack.enter_async_context(self.simulator)
        config = replace(
            self._make(self.simulator.url),
            server=ServerConfig(port=0, drain_s=2.0, max_concurrency=20_000),
            store=self._store,
            discover=False,
        )
        config = replace(config, routing=_patient(config.routing, clock.speed_of(loop)))
        self.upstream = Http1Transport()
        self.gateway = WatchedGateway(config, environ={}, clock=loop.time, transport=self.upstream)
        sock = bind("127.0.0.1", 0)
        stack.callback(sock.close)
        up: asyncio.Future[str] = loop.create_future()
        service = Service(self.gateway, sock, ready=up.set_result)
        # Nothing in a drill asks the control plane, and its framework cannot be imported by several threads at once.
        service.server.config.app._building = loop.create_future()  # type: ignore[union-attr]
        # Ctrl-C is for the program that drills, not for the server in it.
        service.server.capture_signals = contextlib.nullcontext  # type: ignore[method-assign, assignment]
        serving = loop.create_task(service.serve())
        stack.push_async_callback(self._stop, service, serving)
        both: list[asyncio.Future[Any]] = [up, serving]
        await asyncio.wait(both, return_when=asyncio.FIRST_COMPLETED)
        if not up.done():
            serving.result()
            raise RuntimeError("the server ended before it was ready")
        self.url = up.result()
        self.caller = Caller(self.url)
        stack.push_async_callback(self.caller.aclose)

    async def _stop(self, service: Service, serving: asyncio.Task[None]) -> None:
        service.stop()
        await serving


def _patient(routing: Routing, speed: float) -> Routing:
    """Connections are made by the real system in real time: half a real second is allowed, however short seconds are."""
    times = routing.timeouts
    return replace(routing, timeouts=replace(times, connect_s=min(max(times.connect_s, speed / 2), 3600.0)))
