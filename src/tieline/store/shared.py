"""What several processes share: allowances, by leases.

An allowance (a budget's window, a limit) has a ceiling. Each process holds a *grant* of it and spends that locally; the
grants of all processes together never exceed the ceiling, so neither does what they spend. ``exchange`` tells what a
process has used and needs, and re-divides what is free: half of it, in equal parts, goes out as spare.

A request that needs more than is free is on record with its process for ``SCARCE_S``: until that much is free nobody gets
spare, and everybody is told to give back what it does not use. It gets all it needs or nothing, so two that need more
than there is for both do not hold each other up.

A process that dies keeps its grant: what it spent of it is not known here. The grant of a limit ends by itself after
``expire_s``; that of a budget when the process's journal has been taken over and ``settle`` says what it really spent.

When the shared state was lost (flushed, replaced), grants do not grow for ``GRACE_S``, until every process that lives has
said again what it holds.
"""

from __future__ import annotations

import asyncio
import math
import random
import re
import secrets
import time
from collections.abc import Awaitable, Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any, Protocol, TypeVar
from urllib.parse import urlsplit

from msgspec import Struct

from tieline.types.errors import ConfigError

if TYPE_CHECKING:
    from redis.asyncio import Redis

_T = TypeVar("_T")

GRACE_S = 1.0
"""Four exchanges of the usual interval (``admit.leases``)."""
LIVE_S = 5.0
"""A process that was not heard of for this long gets no part of what is free, and all of its grant counts as used."""
SCARCE_S = 5.0
"""So long as much stays free as a request needed: its caller comes again, and to any process."""

Leaving = tuple[tuple[int, int], ...]
"""What of a limit's window becomes free: (in how many seconds, how much)."""


class Claim(Struct, frozen=True):
    """One process's word on one allowance. All figures are whole units (pico-dollars, requests, tokens)."""

    name: str
    limit: int
    used: int
    """Spent and held by this process, and what it may come to until the answer is there: never granted less."""
    granted: int
    """What it believes to hold."""
    asks: tuple[int, ...] = ()
    """What each of the requests that lack a share would bring this process to."""
    in_use: int = 0
    """Spent and held at this moment: the part of ``used`` that others cannot have."""
    held: int = 0
    """The part of ``in_use`` that running requests hold and may give back."""
    leaving: Leaving = ()
    """When ``in_use`` of a limit becomes free."""
    holder: str = ""
    """Who holds the grant, where that is not the process by its own name."""
    expire_s: int = 0
    """The grant ends this long after the last word; 0: never."""
    forget_s: int = 0
    """The allowance itself ends this long after the last word; 0: never."""
    keep: bool = True
    """False: give the spare back, this process is leaving."""


class Answer(Struct, frozen=True):
    granted: int
    known: bool
    """False: this process was not on record for the allowance: ``settle`` those that are gone, then claim again."""
    is_scarce: bool = False
    """A request needs more than is free: give back at once all that is not in use."""
    others: int = 0
    """What all others have in use, as they said last; of one that was not heard of lately, its grant."""
    others_held: int = 0
    leaving: Leaving = ()
    """When the others' part of a limit becomes free."""


class SharedUnavailable(Exception):
    """The shared state does not answer; grants held stay valid."""


class SharedState(Protocol):
    async def exchange(self, process: str, claims: Sequence[Claim]) -> list[Answer]:
        """In the order of the claims. Raises SharedUnavailable."""

    async def settle(self, name: str, spent: Mapping[str, int], *, only_missing: bool) -> None:
        """Sets the grants of other processes to what they really spent. ``only_missing``: of those not on record."""

    async def close(self) -> None: ...


class Grant(Struct):
    """What one process holds. Times are seconds of the shared state's own clock; ``expires`` 0: never."""

    amount: int
    seen: float
    expires: float
    in_use: int = 0
    held: int = 0
    need: int = 0
    """What a request lately needed beyond ``in_use``, so that so much is kept free."""
    needed: float = 0.0
    """When that was."""
    leaving: Leaving = ()


def decide(
    grants: Mapping[str, Grant], process: str, claim: Claim, *, now: float, born: float
) -> tuple[Grant, Answer, list[str]]:
    """The grant that a claim gets, what its process is told, and whose grants have ended."""
    ended = [name for name, grant in grants.items() if grant.expires and grant.expires <= now]
    rest = [grant for name, grant in grants.items() if name != process and name not in ended]
    before = None if process in ended else grants.get(process)
    free = claim.limit - claim.used - sum(grant.amount for grant in rest)
    others, others_held = _in_use(rest, now)
    settled = others - others_held + claim.in_use - claim.held
    needs = [grant.need for grant in (*rest, *([before] if before else ())) if now - grant.needed < SCARCE_S]
    # One that could not be met even if all running requests gave back what they hold keeps nothing from others.
    need = max((one for one in needs if settled + one <= claim.limit), default=0)
    amount, met = claim.used, 0
    if claim.keep and now - born < GRACE_S:
        amount = max(claim.used, claim.granted)
    elif claim.keep and before is not None:
        met = max((ask for ask in claim.asks if claim.used < ask <= claim.used + free), default=0)
        live = 1 + sum(now - grant.seen < LIVE_S for grant in rest)
        spare = max(0, free - need) // (2 * live)
        amount = max(met, claim.used + min(spare, max(0, free)))
    grant = Grant(
        amount,
        now if claim.keep else 0.0,
        now + claim.expire_s if claim.expire_s else 0.0,
        # What a request was given it is about to hold.
        max(claim.in_use, met),
        claim.held + max(0, met - claim.in_use),
        leaving=claim.leaving,
    )
    if before is not None and now - before.needed < SCARCE_S and settled + before.need <= claim.limit:
        grant.need, grant.needed = before.need, before.needed
    asked = max(
        (ask for ask in claim.asks if settled + ask - claim.in_use <= claim.limit), default=claim.in_use
    )
    if asked - claim.in_use > 0 and asked - claim.in_use >= grant.need:
        grant.need, grant.needed = asked - claim.in_use, now
    is_scarce = (
        before is not None and not met and free - (amount - claim.used) < max(need, asked - claim.used)
    )
    leaving = _leaving(rest, now) if claim.leaving or claim.asks else ()
    return grant, Answer(amount, before is not None, is_scarce, others, others_held, leaving), ended


def _in_use(grants: Sequence[Grant], now: float) -> tuple[int, int]:
    """What is used, and the part of it that running requests hold."""
    used = held = 0
    for grant in grants:
        if now - grant.seen < LIVE_S:
            used += grant.in_use
            held += grant.held
        else:
            used += grant.amount
    return used, held


def _leaving(grants: Sequence[Grant], now: float) -> Leaving:
    found: dict[int, int] = {}
    for grant in grants:
        if now - grant.seen < LIVE_S:
            parts = [(in_s - (now - grant.seen), amount) for in_s, amount in grant.leaving]
        else:
            parts = [(grant.expires - now, grant.amount)]
        for left_s, amount in parts:
            in_s = max(1, math.ceil(left_s))
            found[in_s] = found.get(in_s, 0) + amount
    return tuple(sorted(found.items()))


class MemoryShared:
    """For one process (tests, drills, several gateways in a program)."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._grants: dict[str, dict[str, Grant]] = {}
        self._born = clock() - GRACE_S

    def lose_everything(self) -> None:
        """As when Redis is flushed."""
        self._grants.clear()
        self._born = self._clock()

    async def exchange(self, process: str, claims: Sequence[Claim]) -> list[Answer]:
        return [self._exchange(process, claim) for claim in claims]

    async def settle(self, name: str, spent: Mapping[str, int], *, only_missing: bool) -> None:
        grants = self._grants.setdefault(name, {})
        for process, amount in spent.items():
            if process not in grants or not only_missing:
                grants[process] = Grant(amount, 0.0, 0.0)

    async def grants(self, name: str) -> dict[str, int]:
        return {process: grant.amount for process, grant in self._grants.get(name, {}).items()}

    async def close(self) -> None:
        return

    def _exchange(self, process: str, claim: Claim) -> Answer:
        grants = self._grants.setdefault(claim.name, {})
        process = claim.holder or process
        grant, answer, ended = decide(grants, process, claim, now=self._clock(), born=self._born)
        for name in ended:
            del grants[name]
        grants[process] = grant
        return answer


_SWAP = """
if (redis.call('HGET', KEYS[1], '@version') or '') ~= ARGV[1] then return 0 end
for at = 5, #ARGV do redis.call('HDEL', KEYS[1], ARGV[at]) end
redis.call('HSET', KEYS[1], '@version', ARGV[2], ARGV[3], ARGV[4])
return 1
"""
_MAX_TRIES = 20
_DATABASE = re.compile(r"(/\d*/?)?", re.ASCII)
_PATHS = {"redis": _DATABASE, "rediss": _DATABASE, "unix": re.compile(r"/.+")}
_TIMEOUT_S = 1.0


class RedisShared:
    """Redis or Valkey.

    Amounts are larger than Lua's doubles hold exactly (2^53 pico-dollars are 9,007 USD), so they are added up here, and
    the script only writes a grant if the allowance is as it was read; who was overtaken tries again.
    """

    def __init__(self, url: str, *, prefix: str = "tieline") -> None:
        """Raises ConfigError; whether a Redis answers there is not asked."""
        try:
            from redis.asyncio import Redis
            from redis.exceptions import RedisError
        except ModuleNotFoundError as error:
            raise ConfigError(
                "Redis needs the package redis.", place="store.redis", hint='pip install "tieline[redis]"'
            ) from error
        try:
            _check_path(url)
            self._redis: Redis = Redis.from_url(
                url, socket_timeout=_TIMEOUT_S, socket_connect_timeout=_TIMEOUT_S, decode_responses=True
            )
            # Made, not connected: it says which parameters it does not know.
            self._redis.connection_pool.make_connection()  # type: ignore[no-untyped-call]
        except (ValueError, TypeError, RedisError):  # not chained: what it says may show a part of the URL
            raise ConfigError(
                "not the URL of a Redis: its host, port, database or a parameter is wrong.",
                place="store.redis",
                hint="Use redis://:password@host:6379/0, rediss://… or unix:///path.",
            ) from None
        self._prefix = prefix
        self.server = ""
        """Which Redis it is, once it has answered."""

    async def exchange(self, process: str, claims: Sequence[Claim]) -> list[Answer]:
        answers: dict[str, Answer] = {}
        waiting = list(claims)
        for tried in range(_MAX_TRIES):
            if not waiting:
                break
            if tried:
                await asyncio.sleep(random.random() * 0.005 * tried)
            answers.update(await self._guarded(self._round(process, waiting)))
            waiting = [claim for claim in waiting if claim.name not in answers]
        # Overtaken every time: what was held stays.
        return [answers.get(claim.name) or Answer(max(claim.granted, claim.used), True) for claim in claims]

    async def settle(self, name: str, spent: Mapping[str, int], *, only_missing: bool) -> None:
        await self._guarded(self._settle(self._key(name), spent, only_missing))

    async def grants(self, name: str) -> dict[str, int]:
        """For metrics and tests: process -> what it holds."""
        found = await self._guarded(self._redis.hgetall(self._key(name)))
        return {process: grant.amount for process, grant in _grants(dict(found)).items()}

    async def close(self) -> None:
        await self._redis.aclose()

    async def _round(self, process: str, claims: Sequence[Claim]) -> dict[str, Answer]:
        async with self._redis.pipeline(transaction=False) as pipe:
            pipe.time()
            pipe.get(f"{self._prefix}:epoch")
            pipe.info("server")
            for claim in claims:
                pipe.hgetall(self._key(claim.name))
            (seconds, micros), epoch, server, *found = await pipe.execute()
        now = seconds + micros / 1e6
        self.server = str(server["run_id"])
        born = await self._born(epoch, server["run_id"], now)
        answers: dict[str, Answer] = {}
        async with self._redis.pipeline(transaction=False) as pipe:
            for claim, fields in zip(claims, found, strict=True):
                holder = claim.holder or process
                grant, answers[claim.name], ended = decide(_grants(fields), holder, claim, now=now, born=born)
                version = fields.get("@version", "")
                fresh = secrets.token_hex(8)
                key = self._key(claim.name)
                pipe.eval(_SWAP, 1, key, version, fresh, holder, _written(grant), *ended)
                if claim.forget_s:
                    pipe.expire(key, claim.forget_s)
            results = iter(await pipe.execute())
        done = {}
        for claim in claims:
            if next(results):
                done[claim.name] = answers[claim.name]
            if claim.forget_s:
                next(results)
        return done

    async def _born(self, epoch: str | None, run_id: str, now: float) -> float:
        """Since when this server has what it has. A restart or a fail-over may have lost the last grants."""
        if epoch:
            born, server = epoch.split()
            if server == run_id:
                return float(born)
        await self._redis.set(f"{self._prefix}:epoch", f"{now:.3f} {run_id}")
        return now

    async def _settle(self, key: str, spent: Mapping[str, int], only_missing: bool) -> None:
        async with self._redis.pipeline(transaction=True) as pipe:
            for process, amount in spent.items():
                write = pipe.hsetnx if only_missing else pipe.hset
                write(key, process, f"{amount} 0 0")
            pipe.hset(key, "@version", secrets.token_hex(8))
            await pipe.execute()

    def _key(self, name: str) -> str:
        return f"{self._prefix}:lease:{name}"

    async def _guarded(self, work: Awaitable[_T]) -> _T:
        from redis.exceptions import RedisError

        try:
            return await work
        except (RedisError, OSError, TimeoutError) as error:
            raise SharedUnavailable(type(error).__name__) from error
        except (KeyError, ValueError, TypeError, IndexError) as error:
            raise SharedUnavailable(f"what it holds cannot be read: {type(error).__name__}") from error


def _check_path(url: str) -> None:
    """Raises ValueError for a path that the client would take for database 0, or for none of its own."""
    parts = urlsplit(url)
    if any(map(str.isspace, url)) or not _PATHS[parts.scheme].fullmatch(parts.path):
        raise ValueError(parts.path)


def _written(grant: Grant) -> str:
    leaving = ",".join(f"{in_s}:{amount}" for in_s, amount in grant.leaving)
    return (
        f"{grant.amount} {grant.seen:.3f} {grant.expires:.3f} "
        f"{grant.in_use} {grant.held} {grant.need} {grant.needed:.3f} {leaving}"
    )


def _grants(fields: Mapping[Any, Any]) -> dict[str, Grant]:
    return {process: _read(value) for process, value in fields.items() if process != "@version"}


def _read(value: str) -> Grant:
    """Of ``_written``, or the first three alone: what a process that is gone really spent."""
    amount, seen, expires, *more = value.split()
    grant = Grant(int(amount), float(seen), float(expires))
    if more:
        grant.in_use, grant.held, grant.need, grant.needed = *map(int, more[:3]), float(more[3])
        parts = (part.split(":") for part in more[4].split(",")) if len(more) > 4 else ()
        grant.leaving = tuple((int(in_s), int(left)) for in_s, left in parts)
    return grant
