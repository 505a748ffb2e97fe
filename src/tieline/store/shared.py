"""What several processes share: allowances, by leases.

An allowance (a budget's window, a limit) has a ceiling. Each process holds a *grant* of it and spends that locally; the
grants of all processes together never exceed the ceiling, so neither does what they spend. ``exchange`` tells what a
process has used and needs, and re-divides what is free: half of it, in equal parts, goes out as spare.

A process that dies keeps its grant: what it spent of it is not known here. The grant of a limit ends by itself after
``expire_s``; that of a budget when the process's journal has been taken over and ``settle`` says what it really spent.

When the shared state was lost (flushed, replaced), grants do not grow for ``GRACE_S``, until every process that lives has
said again what it holds.
"""

from __future__ import annotations

import asyncio
import random
import secrets
import time
from collections.abc import Awaitable, Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any, Protocol, TypeVar

from msgspec import Struct

from tieline.types.errors import ConfigError

if TYPE_CHECKING:
    from redis.asyncio import Redis

_T = TypeVar("_T")

GRACE_S = 1.0
"""Four exchanges of the usual interval (``admit.leases``)."""
LIVE_S = 5.0
"""A process that was not heard of for this long gets no part of what is free."""


class Claim(Struct, frozen=True):
    """One process's word on one allowance. All figures are whole units (pico-dollars, requests, tokens)."""

    name: str
    limit: int
    used: int
    """Spent and held by this process, and what it may come to until the answer is there: never granted less."""
    granted: int
    """What it believes to hold."""
    need: int = 0
    """What a request that was turned away would have needed beyond that."""
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


def decide(
    grants: Mapping[str, Grant], process: str, claim: Claim, *, now: float, born: float
) -> tuple[Grant, bool, list[str]]:
    """The grant that a claim gets, whether the process was on record, and whose grants have ended."""
    ended = [name for name, grant in grants.items() if grant.expires and grant.expires <= now]
    rest = [grant for name, grant in grants.items() if name != process and name not in ended]
    known = process in grants and process not in ended
    amount = claim.used
    if claim.keep and now - born < GRACE_S:
        amount = max(claim.used, claim.granted)
    elif claim.keep and known:
        live = 1 + sum(now - grant.seen < LIVE_S for grant in rest)
        free = claim.limit - claim.used - sum(grant.amount for grant in rest)
        amount += max(0, min(free, max(claim.need, free // (2 * live))))
    seen = now if claim.keep else 0.0
    return Grant(amount, seen, now + claim.expire_s if claim.expire_s else 0.0), known, ended


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
        grant, known, ended = decide(grants, process, claim, now=self._clock(), born=self._born)
        for name in ended:
            del grants[name]
        grants[process] = grant
        return Answer(grant.amount, known)


_SWAP = """
if (redis.call('HGET', KEYS[1], '@version') or '') ~= ARGV[1] then return 0 end
for at = 5, #ARGV do redis.call('HDEL', KEYS[1], ARGV[at]) end
redis.call('HSET', KEYS[1], '@version', ARGV[2], ARGV[3], ARGV[4])
return 1
"""
_MAX_TRIES = 20


class RedisShared:
    """Redis or Valkey.

    Amounts are larger than Lua's doubles hold exactly (2^53 pico-dollars are 9,007 USD), so they are added up here, and
    the script only writes a grant if the allowance is as it was read; who was overtaken tries again.
    """

    def __init__(self, url: str, *, prefix: str = "tieline", timeout_s: float = 1.0) -> None:
        """Raises ConfigError; whether a Redis answers there is not asked."""
        try:
            from redis.asyncio import Redis

            self._redis: Redis = Redis.from_url(
                url, socket_timeout=timeout_s, socket_connect_timeout=timeout_s, decode_responses=True
            )
        except ModuleNotFoundError as error:
            raise ConfigError(
                "Redis needs the package redis.", place="store.redis", hint='pip install "tieline[redis]"'
            ) from error
        except ValueError:  # not chained: what it says may show a part of the URL
            raise ConfigError(
                "not the URL of a Redis: its host, port or a parameter is wrong.",
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
                grant, known, ended = decide(_grants(fields), process, claim, now=now, born=born)
                answers[claim.name] = Answer(grant.amount, known)
                value = f"{grant.amount} {grant.seen:.3f} {grant.expires:.3f}"
                version = fields.get("@version", "")
                fresh = secrets.token_hex(8)
                key = self._key(claim.name)
                pipe.eval(_SWAP, 1, key, version, fresh, process, value, *ended)
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


def _grants(fields: Mapping[Any, Any]) -> dict[str, Grant]:
    found = {}
    for process, value in fields.items():
        if process != "@version":
            amount, seen, expires = value.split()
            found[process] = Grant(int(amount), float(seen), float(expires))
    return found
