"""The gateway: built from a configuration, started and stopped; the server and the SDK share it."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
from collections.abc import Callable, Coroutine, Mapping
from concurrent.futures import ThreadPoolExecutor
from difflib import get_close_matches
from ipaddress import ip_address
from pathlib import Path
from random import Random
from time import monotonic
from typing import Any

import msgspec

from tieline import listing, status
from tieline.admit.accounts import Accounts
from tieline.admit.admission import Admission
from tieline.admit.intake import Intake
from tieline.admit.kept import KeptKeys
from tieline.admit.leases import Leases
from tieline.admit.watch import Watch
from tieline.config.diff import at_start, diff
from tieline.config.load import ConfigErrors, Loaded, find, load
from tieline.config.reload import Watcher
from tieline.config.schema import Config, ProviderConfig
from tieline.dialects import get as dialect_named
from tieline.dialects import get_upstream
from tieline.ledger.markup import Markup
from tieline.ledger.pricing import bound_asked
from tieline.line import Line
from tieline.listing import Listed
from tieline.pipeline import Flight, fault_headers
from tieline.providers import build, catalog, registry
from tieline.providers.build import Fleet
from tieline.providers.credentials import stored_credential
from tieline.providers.deployment import Deployment
from tieline.providers.tokens import TokenSource
from tieline.record.ids import new_id
from tieline.record.metrics import Metrics
from tieline.record.recorder import Recorder
from tieline.record.retention import Retention
from tieline.replicas import Replicas
from tieline.route.candidates import FEATURES
from tieline.route.health import Health
from tieline.route.router import Router
from tieline.route.steps import Needs
from tieline.route.validate import validate_routes
from tieline.store import sealed
from tieline.store.database import Database, database_away
from tieline.store.sealed import Vault, keyring
from tieline.store.shared import RedisShared
from tieline.transport.base import Transport
from tieline.transport.limits import PoolLimits
from tieline.transport.routing import Transports
from tieline.types.call import Call, Headers, Reply
from tieline.types.errors import (
    ConfigError,
    DatabaseAway,
    Fault,
    InvalidRequest,
    NotFound,
    UnknownModel,
)
from tieline.types.record import Record, replayed, shown

log = logging.getLogger("tieline")

REOPEN_S = 1.0
"""How often a database that did not answer at the start is tried again."""
LEARN_S = 5.0
"""How often it is looked up what other processes spent of soft budgets."""
CUT_S = 2.0
"""How long cancelled requests get to settle."""
RECOVERY_S = 30.0
"""How long a start waits for the journals of dead processes; what is left then is taken over while serving."""


class Gateway:
    """``start`` before the first ``handle``, ``stop`` at the end. Everything runs on one event loop."""

    def __init__(
        self,
        config: Config | str | Path | None = None,
        *,
        environ: Mapping[str, str] | None = None,
        host: str | None = None,
        port: int | None = None,
        pinned: Mapping[str, Any] | None = None,
        begun: Config | None = None,
        in_process: bool = False,
        dry: bool = False,
        transport: Transport | None = None,
        clock: Callable[[], float] = monotonic,
    ) -> None:
        """Reads and checks the configuration; raises ConfigError. ``dry``: to be asked, never to be started; nothing is
        written.

        ``begun``: the configuration that a parent process began with, whose ``server`` and ``store`` are in force whatever the
        file has come to say. ``pinned``: settings of ``server`` that are none of a configuration's.

        ``clock`` must be the running loop's own (``loop.time``) where that is not ``time.monotonic``.
        """
        self.clock = clock
        self.environ = os.environ if environ is None else environ
        self.in_process = in_process
        self._pid = os.getpid()
        self._loop: asyncio.AbstractEventLoop | None = None
        self.failed: ConfigError | None = None
        self._over = {name: value for name, value in (("host", host), ("port", port)) if value is not None}
        if in_process:
            self._over["workers"] = 1
        self._loaded = self._load(config)
        if begun is not None:
            store = msgspec.structs.replace(begun.store, retention_days=self.config.store.retention_days)
            in_force = msgspec.structs.replace(self.config, server=begun.server, store=store)
            self._loaded = msgspec.structs.replace(self._loaded, config=in_force)
        self._unpinned = {name: getattr(self.config.server, name) for name in pinned or {}}
        self._loaded = _on_server(self._loaded, pinned or {})
        self.intake = Intake(self.config.server.max_lag_ms / 1000)
        self.tasks: set[asyncio.Task[Record]] = set()
        """Requests under way in this program; those of a server are held by their connections."""
        self.health = Health(Random())
        self.metrics = Metrics()
        self.metrics.add_source(lambda: status.gauges(self))
        server, store = self.config.server, self.config.store
        try:
            database = None if store.database == "none" else Database(store.database)
            self.shared = RedisShared(store.redis) if store.redis is not None else None
        except ConfigError as error:
            raise self._loaded.located(error) from None
        self.database = None if dry else database
        self.recorder = Recorder(
            self.database,
            spool=Path(self.config.store.spool) if self.database else None,
            metrics=self.metrics,
            alone=self.config.server.workers == 1,
        )
        self.admission = Admission(
            open=server.open or in_process,
            loopback=_is_loopback(server.host),
            policy=self.config.policy,
            # Without Redis several workers have no leases: a ceiling then lets nothing through, rather than too much.
            shared=self.shared is not None or server.workers > 1,
            known=self.database is None,
            clock=clock,
        )
        self.accounts = Accounts(self.database) if self.database else None
        self.vault = Vault(self.database, keyring(self.environ)) if self.database else None
        self._stored: build.Stored = {}
        self._stored_revision = 0
        self._learnt_at = clock()
        self._passed: set[str] = set()
        """Windows of soft budgets of which it was told that they are overspent."""
        self.watch = self._watch()
        self.retention = (
            Retention(self.database, lambda: self.config.store.retention_days) if self.database else None
        )
        self.replicas = self._replicas()
        self.leases = (
            Leases(self.admission, self.shared, self.recorder.writer, self.accounts) if self.shared else None
        )
        # All the requests that are let in may be at one host: none of them is to wait for another's connection.
        limits = PoolLimits(max_connections=self.config.server.max_concurrency)
        self.transports = Transports(self.environ, transport, limits=limits)
        try:
            self.fleet, self.line = self._line(self._loaded.config)
        except ConfigError as error:
            raise self._loaded.located(error) from None
        self._watching: asyncio.Task[None] | None = None
        self._catching_up: asyncio.Task[None] | None = None
        self.is_without_database = False
        """It could not be used since the start."""

    @property
    def config(self) -> Config:
        return self._loaded.config

    @property
    def in_flight(self) -> int:
        """Requests under way."""
        return self.intake.in_flight

    @property
    def path(self) -> Path | None:
        """The tieline.yaml in force."""
        return self._loaded.path

    # life -------------------------------------------------------------------------------------------------------

    @property
    def is_forked(self) -> bool:
        """It belongs to the process that this one was forked from: threads, connections and journal are that one's."""
        return self._pid != os.getpid()

    def check_process(self) -> None:
        """Raises RuntimeError where it ``is_forked``."""
        if self.is_forked:
            raise RuntimeError("This Tieline was made before a fork; make it in the child.")

    def check_here(self) -> None:
        """``check_process``, and raises RuntimeError on an event loop other than the one it was started on."""
        self.check_process()
        if self._loop is not None and self._loop is not asyncio.get_running_loop():
            raise RuntimeError(
                "This AsyncTieline was started on another event loop; make one in each asyncio.run, or use Tieline."
            )

    def check_open(self) -> None:
        """``check_here``, and raises RuntimeError after the end."""
        self.check_here()
        if self.intake.draining:
            raise closed()

    async def start(self) -> None:
        """Opens the database, takes over what was spooled, watches the configuration. Raises ConfigError.

        A database that does not answer now is waited for while serving: records are spooled, and what needs the
        database (virtual keys, budgets of runs) is refused with 503.
        """
        self.check_open()
        self._loop = asyncio.get_running_loop()
        for name in sorted(
            {dialect for host in self.fleet.hosts.values() for dialect in host.provider.endpoints}
        ):
            get_upstream(name)  # imported now rather than by somebody's first request
        try:
            if self.database is not None:
                await asyncio.to_thread(self.database.open)
            self.recorder.start()
            await self._take_over()
        except Exception as error:
            if not database_away(error):
                raise
            self.is_without_database = True
            log.error("%s Serving without it until it answers.", _said(error))
            if self.watch is not None and await self.watch.recall():
                log.warning(
                    "Keys are those last known; hard budgets let nothing in until the database answers."
                )
            self.recorder.start()
        else:
            self._check_exposure()
            self._check_sharing()
        if self.is_without_database or not self.admission.counted:
            self._catching_up = asyncio.get_running_loop().create_task(self._catch_up())
        elif self.leases is not None:
            await self.leases.load()
            self.leases.start()
        if self.path is not None:
            watcher = Watcher(self._loaded, self.environ, self._reloaded, self._not_reloaded)
            if not self.in_process:
                watcher.listen()
            self._watching = asyncio.get_running_loop().create_task(watcher.run())

    async def _take_over(self) -> None:
        """All that is known from the database only. Raises ConfigError, and what the driver raises."""
        # What a killed process left is spent too, so it is taken over before anything is counted.
        if self.recorder.recovering:
            await asyncio.to_thread(self.recorder.recovered.wait, RECOVERY_S)
        is_counted = not self.recorder.recovering
        self.admission.counted = self.admission.counted and is_counted
        if self.watch is not None:
            await self.watch.load(self.recorder.writer)
            self.admission.counted = is_counted
            await self._follow_credentials()
            self.watch.start()
        if self.retention is not None and not self.in_process:
            self.retention.start()
        if self.replicas is not None:
            # Before anything is served: a configuration may have been put elsewhere while this process was away.
            await self.replicas.look()
            self.replicas.start()

    async def _catch_up(self) -> None:
        """What a start could not do, as soon as it can be done."""
        if self.is_without_database:
            await self._reopen()
        while not self.admission.counted:
            await asyncio.sleep(REOPEN_S)
            if self.accounts is not None and not self.recorder.recovering:
                with contextlib.suppress(Exception):  # the database left again; the next round asks once more
                    spent = await asyncio.to_thread(self.accounts.spent, writer=self.recorder.writer)
                    self.admission.recount(spent)
        if self.leases is not None:
            await self.leases.load()
            self.leases.start()

    async def _reopen(self) -> None:
        assert self.database is not None
        said = None
        while self.is_without_database:
            await asyncio.sleep(REOPEN_S)
            try:
                await asyncio.to_thread(self.database.open)
                await self._take_over()
                self.is_without_database = False
            except Exception as error:
                # A newer schema, for one, is for a person to put right; nothing more is let in until then.
                if not database_away(error) and _said(error) != said:
                    said = _said(error)
                    log.error("%s", said)
        log.info("the database answers again")
        for check in (self._check_exposure, self._check_sharing):
            try:
                check()
            except ConfigError as error:  # too late to refuse the start; requests are refused one by one
                log.error("%s", error)

    async def stop(self) -> None:
        """Waits for requests under way (server.drain_s at most), cuts what is left, then writes everything down. A server
        has done the first two with its connections. Idempotent; after a fork it does nothing."""
        if self.is_forked:
            return
        self.check_here()
        self.intake.draining = True
        if self._watching is not None:
            self._watching.cancel()
            self._watching = None
        if self._catching_up is not None:
            self._catching_up.cancel()
            self._catching_up = None
        if not self.intake.cutting:
            await self._drain()
        # Those whose answers are out may still settle.
        await self._emptied(CUT_S)
        await self.line.tokens.aclose()
        await self.transports.aclose()
        if self.watch is not None:
            await self.watch.stop()
        if self.retention is not None:
            await self.retention.stop()
        if self.replicas is not None:
            await self.replicas.stop()
        if self.leases is not None and self.shared is not None:
            await self.leases.stop()
            await self.shared.close()
        # In a thread of its own: those of the loop may all wait for a silent database.
        with ThreadPoolExecutor(1) as own:
            try:
                await asyncio.get_running_loop().run_in_executor(own, self.recorder.close)
            except RuntimeError:  # the interpreter ends (atexit), and no thread can be started any more
                self.recorder.close()
        if self.database is not None:
            self.database.close()

    async def _emptied(self, within_s: float) -> None:
        deadline = self.clock() + within_s
        while self.in_flight and self.clock() < deadline:
            await asyncio.sleep(0.02)

    async def _drain(self) -> None:
        await self._emptied(self.config.server.drain_s)
        await self.cut()

    async def cut(self) -> None:
        """Ends what is under way in this program; it settles and is recorded."""
        self.intake.cut()
        for task in self.tasks:
            task.cancel()
        if self.tasks:
            await asyncio.wait(self.tasks, timeout=CUT_S)

    def _watch(self) -> Watch | None:
        if self.accounts is None or self.database is None:
            return None
        kept = None if self.in_process else KeptKeys(Path(self.config.store.spool), self.database)
        return Watch(self.admission, self.accounts, also=self._look_around, kept=kept)

    def _replicas(self) -> Replicas | None:
        """A program that embeds the gateway serves no keys and follows no one."""
        if self.database is None or self.in_process:
            return None
        shared = self.shared
        return Replicas(
            self.database,
            self.recorder.writer,
            self.path,
            self.environ,
            shared=lambda: "" if shared is None else shared.server or "?",
            has_ceilings=lambda: self.admission.has_ceilings,
            take=self._take_configuration,
        )

    def _take_configuration(self, config: Config) -> None:
        """What another host put in force; raises ConfigError. ``server`` and ``store`` are this host's own."""
        self.reload(msgspec.structs.replace(config, server=self.config.server, store=self.config.store))

    def _check_exposure(self) -> None:
        """A gateway that spends the owner's money does not serve strangers by accident."""
        server = self.config.server
        if self.in_process or server.open or self.admission.has_keys or _is_loopback(server.host):
            return
        raise ConfigError(
            f"{server.host} can be reached by others, and there is no virtual key.",
            place="server.host",
            hint="Make one with `tieline keys create`, or set `server.open: true` to serve anyone.",
        )

    def _check_sharing(self) -> None:
        """Several processes that do not know of one another cannot keep a ceiling."""
        if self.config.server.workers > 1 and self.leases is None and self.admission.has_ceilings:
            raise ConfigError(
                f"{self.config.server.workers} workers cannot share the budgets and limits of keys.",
                place="store.redis",
                hint="Set it to redis://host:port/0, or serve with one worker.",
            )

    # requests ---------------------------------------------------------------------------------------------------

    def handle(self, call: Call, reply: Reply) -> Coroutine[Any, Any, Record]:
        """One request, from received to recorded. Never raises but CancelledError before anything was done."""
        return Flight(self.line, call, reply).run()

    def error_answer(self, dialect: str, fault: Fault) -> tuple[bytes, Headers]:
        """An error outside of any request, in a dialect's shape: body and headers."""
        request_id = new_id()
        headers: Headers = [
            (b"content-type", b"application/json"),
            (b"tieline-request-id", request_id.encode()),
        ]
        return dialect_named(dialect).encode_error(fault, request_id), [*headers, *fault_headers(fault)]

    # configuration ----------------------------------------------------------------------------------------------

    def reload(self, config: Config) -> None:
        """Takes effect for requests that begin after it; those under way keep what they began with."""
        fleet, line = self._line(config)
        self._loaded = msgspec.structs.replace(self._loaded, config=config)
        self.fleet, self.line = fleet, line
        self.admission.set_policy(config.policy)

    async def _look_around(self) -> None:
        await self._follow_credentials()
        if self.clock() - self._learnt_at > LEARN_S:
            self._learnt_at = self.clock()
            await self._learn_elsewhere()
        await self._tell_passed()

    async def _learn_elsewhere(self) -> None:
        """Soft budgets are not leased: what other processes spend of them is looked up."""
        if self.accounts is None or self.replicas is None or len(self.replicas.living) < 2:
            return
        windows = self.admission.soft_windows()
        if windows:
            accounts, writer = self.accounts, self.recorder.writer
            self.admission.learn(
                await asyncio.to_thread(lambda: accounts.spent_elsewhere(windows, writer=writer))
            )

    async def _tell_passed(self) -> None:
        """A soft budget that is overspent is an event, once in its period."""
        found = self.admission.passed()
        for scope, window, text in found:
            if window in self._passed or self.accounts is None:
                continue
            if await asyncio.to_thread(self.accounts.note_passed, scope, window, text):
                log.warning("the %s", text)
        self._passed = {window for _, window, _ in found}

    async def _follow_credentials(self) -> None:
        """Takes over credentials that were added, replaced or removed in the database, without dropping a request."""
        if self.database is None or self.vault is None:
            return
        revision = await asyncio.to_thread(sealed.revision, self.database)
        if revision == self._stored_revision:
            return
        found, problems = await asyncio.to_thread(self.vault.reveal)
        for problem in problems:
            log.error("a stored credential is not used: %s", problem)
        self._stored, self._stored_revision = found, revision
        self.reload(self.config)

    def check_credential(self, provider: str, secret: str) -> None:
        """Whether it could be a key of this provider. Raises ConfigError or InvalidRequest naming the field."""
        settings = self.config.providers.get(provider)
        known = [row.name for row in registry.all_rows()] + list(self.config.providers)
        if provider not in known:
            near = get_close_matches(provider, known, n=1)
            hint = f"Did you mean {near[0]}?" if near else "Providers of your own are configured first."
            raise InvalidRequest(f"There is no provider {provider!r}.", param="provider", hint=hint)
        row = registry.resolve(provider, settings or ProviderConfig())
        try:
            stored_credential(row, "new", secret)
        except ConfigError as error:
            raise InvalidRequest(error.message, param="secret", hint=error.hint) from None

    def try_out(self, config: Config) -> None:
        """Whether ``config`` could be taken over; raises ConfigError. Nothing is changed."""
        self._line(config)

    def changes(self, config: Config) -> list[str]:
        """What it would change, as ``config.diff`` says it. What was given at the start stays above any file."""
        before = msgspec.structs.replace(self.config.server, **self._unpinned)
        after = msgspec.structs.replace(config.server, **self._over)
        old = msgspec.structs.replace(self.config, server=before)
        return diff(old, msgspec.structs.replace(config, server=after))

    def _line(self, config: Config) -> tuple[Fleet, Line]:
        fleet = build.build(config, self.environ, catalog.packaged(), self._stored)
        router = Router(
            list(fleet.all()),
            config,
            self.health,
            upper_bound=bound_asked,
            random=Random(),
            deploy=_deploy(fleet),
            find=fleet.by_name,
            variables=fleet.variables,
        )
        problems = validate_routes(config, router)
        if problems:
            raise ConfigErrors(problems)
        return fleet, Line(
            config=config,
            router=router,
            health=self.health,
            intake=self.intake,
            admission=self.admission,
            markup=Markup.parse(
                config.ledger.markup_percent, config.ledger.markup_usd, config.ledger.charge_failed
            ),
            transports=self.transports,
            tokens=TokenSource(self.transports.default),
            recorder=self.recorder,
            leases=self.leases,
            clock=self.clock,
        )

    def _load(self, config: Config | str | Path | None) -> Loaded:
        if isinstance(config, Config):
            loaded = Loaded(config=config)
        else:
            path = Path(config) if config is not None else find(self.environ)
            loaded = load(path, self.environ)
        return _on_server(loaded, self._over)

    def _reloaded(self, loaded: Loaded) -> None:
        # Of these two the log says at each reload what waits for the next start.
        store = msgspec.structs.replace(self.config.store, retention_days=loaded.config.store.retention_days)
        config = msgspec.structs.replace(loaded.config, server=self.config.server, store=store)
        waiting = at_start(self.changes(loaded.config))
        try:
            self.reload(config)
        except ConfigError as error:
            self._not_reloaded(loaded.located(error))
        else:
            log.info("configuration reloaded from %s", self.path)
            if waiting:
                log.warning("takes effect at the next start only: %s", "; ".join(waiting))

    def _not_reloaded(self, error: ConfigError) -> None:
        log.error("the configuration stays as it was: %s", str(error).replace("\n", "; "))

    def explain(
        self,
        model: str,
        *,
        input_tokens: int = 1000,
        max_output_tokens: int = 500,
        intent: str | None = None,
        features: frozenset[str] = frozenset(),
        dialect: str = "openai_chat",
        secret: str | None = None,
    ) -> dict[str, Any]:
        """Every candidate for a request like this, in order, and why the others are not. Nothing is sent. With ``secret``,
        of that key's requests. Raises InvalidRequest for a request that cannot be, Unauthenticated, Forbidden."""
        router = self.line.router
        if input_tokens < 0 or max_output_tokens < 1:
            raise InvalidRequest("A request has 0 or more input tokens and asks for at least 1.")
        strange = sorted(features.difference(FEATURES))
        if strange:
            raise InvalidRequest(
                f"No model is known for {strange[0]!r}.", hint=f"One of {', '.join(FEATURES)}."
            )
        if intent is not None:
            _check_intent(intent)
        needs = Needs(
            dialect=dialect,
            input_tokens=input_tokens,
            max_output_tokens=max_output_tokens,
            intent=intent,
            features=features,
        )
        policy = self.config.policy
        if secret is not None:
            needs.allowed, policy = self.admission.bounds(secret, model)
        needs.rules = (policy,)
        return router.explain(router.match(model), needs, self.clock()).as_dict()

    # asked by the control plane -----------------------------------------------------------------------------------

    def readiness(self) -> dict[str, Any]:
        """Whether it serves, and what it does without: ``degraded``."""
        return status.readiness(self)

    def exposition(self) -> tuple[bytes, str]:
        """Prometheus text and its media type."""
        return self.metrics.exposition()

    def authenticate(self, secret: str | None) -> str | None:
        """The key's id, None where no key is needed. Raises Unauthenticated."""
        return self.admission.identify(secret)

    def models_listing(self, dialect: str = "openai_chat", secret: str | None = None) -> dict[str, Any]:
        """Every name a request with this key may use, in the shape of the dialect's SDK. Raises Unauthenticated."""
        return listing.listing(self._listed(self.admission.allowed(secret)), dialect)

    def model_entry(
        self, name: str, dialect: str = "openai_chat", secret: str | None = None
    ) -> dict[str, Any]:
        """Raises UnknownModel, also for what this key may not use; Unauthenticated."""
        return listing.entry(self._listed(self.admission.allowed(secret)), name, dialect)

    def _listed(self, allowed: listing.Allowed) -> list[Listed]:
        configured = [Listed(name) for name in self.config.models]
        every = configured + [Listed(one.id, one) for one in self.line.router.deployments]
        return listing.permitted(every, allowed, self.line.router.names) if allowed else every

    async def request_record(self, request_id: str, secret: str | None) -> dict[str, Any]:
        """One record, for the key that made the request. Raises NotFound."""
        from tieline.store import queries

        key_id = self.admission.identify(secret)
        found = None
        try:
            if self.database is not None:
                found = await asyncio.to_thread(queries.show, self.database, request_id)
        except Exception as error:
            if not database_away(error):
                raise
            raise DatabaseAway("The database does not answer.", retry_after_s=5.0) from None
        # Who needs no key sees what needed none: ids begin with the time, and a beginning finds a record.
        if found is None or (key_id != found.key_id and not self.in_process):
            raise NotFound(
                f"There is no request {request_id!r}.", hint="Records are written within a second."
            )
        return shown(found)

    async def explain_past(self, request_id: str, secret: str | None) -> dict[str, Any]:
        """Why a request went where it went: its decision, replayed from the record. Raises NotFound."""
        await asyncio.to_thread(self.recorder.flush, 1.0)
        return replayed(await self.request_record(request_id, secret))


def closed() -> RuntimeError:
    """What whoever asks after the end is told."""
    return RuntimeError("This Tieline is closed; make a new one.")


def _on_server(loaded: Loaded, over: Mapping[str, Any]) -> Loaded:
    """With these settings of ``server``."""
    if not over:
        return loaded
    server = msgspec.structs.replace(loaded.config.server, **over)
    return msgspec.structs.replace(loaded, config=msgspec.structs.replace(loaded.config, server=server))


def _said(error: Exception) -> str:
    return str(error) if isinstance(error, ConfigError) else f"The database: {type(error).__name__}."


def _check_intent(intent: str) -> None:
    """Raises InvalidRequest: an unknown one would be answered with the average, as if it were known."""
    known = catalog.packaged().categories()
    if intent in known:
        return
    near = get_close_matches(str(intent), known, n=1)
    perhaps = f"Did you mean {near[0]}? " if near else ""
    raise InvalidRequest(
        f"No quality is known for the intent {intent!r}.",
        param="intent",
        hint=f"{perhaps}One of {', '.join(known)}.",
    )


def _is_loopback(host: str) -> bool:
    try:
        return ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"


def _deploy(fleet: Fleet) -> Any:
    def deploy(provider: str, model: str) -> Deployment | None:
        try:
            return fleet.build_one(provider, model)
        except UnknownModel:
            return None

    return deploy
