"""The configuration: read, validated, replaced, with its history. Keys never stand in what is shown or kept."""

from __future__ import annotations

import asyncio
import hashlib
import os
import re
import time
from asyncio import to_thread
from collections.abc import Iterator
from typing import TYPE_CHECKING, Annotated, Any

import msgspec
import yaml
from litestar import Request, get, post, put
from litestar.params import Body, Parameter

from tieline.config.common import common_digest, write_beside
from tieline.config.diff import at_start
from tieline.config.load import ConfigErrors, parse
from tieline.config.schema import Config
from tieline.record.redact import MASK, redact
from tieline.server.control.admin_shapes import (
    ConfigFault,
    ConfigText,
    ConfigVerdict,
    ConfigVersion,
    ConfigVersionText,
    ConfigView,
    Conflict,
    NewConfig,
)
from tieline.store import audit
from tieline.store import replicas as store
from tieline.types.errors import ConfigError, InvalidRequest, NotFound

if TYPE_CHECKING:
    from tieline.gateway import Gateway

AnyRequest = Request[Any, Any, Any]
MAX_HISTORY = 200
_PASSWORD = re.compile(r"(://[^/\s:@]*:|[?&](?:key|api[_-]?key|token|password|sig)=)[^/\s@&]+(?=@|&|$)")
_TELLING = ("key", "token", "auth", "secret", "password", "cookie")
"""A header whose name has one of these holds a secret."""


class Desk:
    def __init__(self, gateway: Gateway) -> None:
        self.gateway = gateway
        self.turn = asyncio.Lock()

    def text(self) -> str:
        path = self.gateway.path
        try:
            return path.read_text("utf-8") if path is not None else ""
        except (OSError, UnicodeDecodeError) as error:
            raise Conflict(f"{path} cannot be read: {type(error).__name__}.") from None

    def view(self) -> ConfigView:
        text, path = self.text(), self.gateway.path
        return ConfigView(
            path=str(path) if path is not None else None,
            digest=digest_of(text),
            text=masked(text),
            effective=effective(self.gateway.config),
        )

    def judge(self, text: str) -> tuple[ConfigVerdict, Config | None]:
        """What is wrong with it, or what it would change. Nothing is changed."""
        try:
            loaded = parse(text, self.gateway.environ, self.gateway.path)
            refuse_literal_keys(text)
            self.gateway.try_out(loaded.config)
        except ConfigErrors as errors:
            return _faulty(errors.errors), None
        except ConfigError as error:
            return _faulty([error]), None
        changes = [redact(line) for line in self.gateway.changes(loaded.config)]
        return (
            ConfigVerdict(ok=True, errors=[], changes=changes, restart=at_start(changes)),
            loaded.config,
        )

    def replace(self, text: str, actor: str) -> None:
        """The file is written beside, the history kept, and only then the file put in place."""
        path, database = self.gateway.path, self.gateway.database
        assert path is not None
        before, common = common_digest(self.text()), common_digest(text)
        beside = write_beside(path, text)
        try:
            if database is not None:
                with database.write() as connection:
                    from tieline.store.tables import config_history

                    check_newest(connection, before)
                    origin = self.gateway.replicas.origin if self.gateway.replicas else ""
                    digest, at_ms = digest_of(text), time.time_ns() // 1_000_000
                    connection.execute(
                        config_history.insert().values(
                            at_ms=at_ms,
                            actor=actor,
                            digest=digest,
                            text=masked(text),
                            common=common,
                            replaced=before,
                            origin=origin,
                        )
                    )
                    audit.note(connection, actor, "config.replace", path.name, {"digest": digest})
            os.replace(beside, path)
        finally:
            beside.unlink(missing_ok=True)

    def history(self) -> list[ConfigVersion]:
        from tieline.store.tables import config_history as table

        if self.gateway.database is None:
            return []
        with self.gateway.database.read() as connection:
            rows = connection.execute(table.select().order_by(table.c.id.desc()).limit(MAX_HISTORY))
            return [
                ConfigVersion(id=row.id, at_ms=row.at_ms, actor=row.actor, digest=row.digest) for row in rows
            ]

    def version(self, number: int) -> ConfigVersionText:
        from tieline.store.tables import config_history as table

        row = None
        if self.gateway.database is not None:
            with self.gateway.database.read() as connection:
                row = connection.execute(table.select().where(table.c.id == number)).first()
        if row is None:
            raise NotFound(
                f"There is no version {number}.", param="version", hint="GET /admin/api/config/history"
            )
        return ConfigVersionText(
            id=row.id, at_ms=row.at_ms, actor=row.actor, digest=row.digest, text=row.text
        )


def routes(gateway: Gateway) -> list[Any]:
    desk = Desk(gateway)

    @get("/config")
    async def read_config() -> ConfigView:
        """The file in force, and what it comes to."""
        return await to_thread(desk.view)

    @post("/config/validate", status_code=200)
    async def validate_config(data: Annotated[ConfigText, Body()]) -> ConfigVerdict:
        """Every fault with its line, or what would change. Nothing is changed."""
        return (await to_thread(desk.judge, data.text))[0]

    @put("/config")
    async def replace_config(request: AnyRequest, data: Annotated[NewConfig, Body()]) -> ConfigVerdict:
        """Replaces tieline.yaml as a whole. In force here at once, on every process and host of this database within
        seconds, except for ``server`` and ``store``, which are each host's own: GET /admin/api/replicas tells."""
        if gateway.path is None:
            raise Conflict(
                "This gateway runs without a tieline.yaml.",
                hint="Start it with --config, after `tieline init`.",
            )
        async with desk.turn:
            if data.digest is not None and data.digest != digest_of(await to_thread(desk.text)):
                raise Conflict(
                    "The file has changed since you read it.", param="digest", hint="Read it again and merge."
                )
            verdict, config = await to_thread(desk.judge, data.text)
            if config is None:
                first = verdict.errors[0]
                raise InvalidRequest(
                    "; ".join(
                        f"{one.place}: {one.message}" if one.place else one.message
                        for one in verdict.errors[:10]
                    ),
                    param="text",
                    hint=first.hint,
                )
            try:
                await to_thread(desk.replace, data.text, request.scope["tieline_actor"])  # type: ignore[typeddict-item]
            except OSError as error:
                raise Conflict(f"{gateway.path} cannot be written: {error.strerror}.") from None
            gateway.reload(msgspec.structs.replace(config, server=gateway.config.server))
        return verdict

    @get("/config/history")
    async def list_versions() -> list[ConfigVersion]:
        """Replacements made here, the newest first."""
        return await to_thread(desk.history)

    @get("/config/history/{version:int}")
    async def show_version(version: Annotated[int, Parameter(ge=0, le=2**53)]) -> ConfigVersionText:
        return await to_thread(desk.version, version)

    return [read_config, validate_config, replace_config, list_versions, show_version]


def check_newest(connection: Any, before: str) -> None:
    """Raises Conflict when another host has replaced the configuration and this one does not have it yet."""
    newest = store.newest(connection)
    if newest is not None and newest.common != before and store.is_outdated(connection, before):
        raise Conflict(
            f"Version {newest.id} was put on another host and is not in force here yet.",
            param="digest",
            hint="Read the configuration again in a few seconds.",
        )


def digest_of(text: str) -> str:
    return hashlib.sha256(text.encode("utf-8", "replace")).hexdigest()


def effective(config: Config) -> dict[str, Any]:
    found: dict[str, Any] = msgspec.to_builtins(config)
    for provider in found["providers"].values():
        for name in ("api_key", "headers"):
            if provider.get(name):
                provider[name] = MASK
    for name in ("database", "redis"):
        if found["store"][name]:
            found["store"][name] = without_password(found["store"][name])
    return found


def without_password(url: str) -> str:
    return _PASSWORD.sub(rf"\g<1>{MASK}", url)


def masked(text: str) -> str:
    """The YAML with keys that stand in it as they are taken out."""
    pieces, at = [], 0
    for node, kind in sorted(_secrets(text), key=lambda found: found[0].start_mark.index):
        start, end = node.start_mark.index, node.end_mark.index
        value = MASK if kind == "key" else without_password(node.value)
        if value != node.value:
            pieces += [text[at:start], msgspec.json.encode(value).decode()]
            at = end
    return "".join([*pieces, text[at:]])


def refuse_literal_keys(text: str) -> None:
    """Raises ConfigError: what is sent here is kept in a history, which is no place for keys."""
    for node, kind in _secrets(text):
        line = node.start_mark.line + 1
        if MASK in node.value:
            raise ConfigError(
                "a masked value was sent back.",
                place=f"line {line}",
                hint="Write it as ${NAME} or file:/path.",
            )
        if kind == "key" or (kind == "address" and without_password(node.value) != node.value):
            raise ConfigError(
                "holds a key as it is.",
                place=f"line {line}",
                hint="Write ${NAME} or file:/path, or give the key to /admin/api/credentials.",
            )


def _secrets(text: str) -> Iterator[tuple[yaml.ScalarNode, str]]:
    """Scalars that hold a secret, or (``url`` of this host's, ``address`` for all hosts) may have one inside."""
    try:
        root = yaml.compose(text, Loader=yaml.SafeLoader)
    except yaml.YAMLError:
        return
    for path, node in _scalars(root, ()):
        literal = "${" not in node.value and not node.value.startswith("file:")
        if not literal or not path:
            continue
        if path[0] == "providers" and "api_key" in path[2:3]:
            yield node, "key"
        elif path[0] == "providers" and "headers" in path[2:3]:
            if any(word in path[-1].lower() for word in _TELLING) or redact(node.value) != node.value:
                yield node, "key"
        elif path in (("store", "database"), ("store", "redis")):
            yield node, "url"
        elif path[-1] == "base_url":
            yield node, "address"


def _scalars(
    node: yaml.Node | None, path: tuple[str, ...]
) -> Iterator[tuple[tuple[str, ...], yaml.ScalarNode]]:
    if isinstance(node, yaml.ScalarNode):
        yield path, node
    elif isinstance(node, yaml.MappingNode):
        for key, value in node.value:
            yield from _scalars(value, (*path, str(getattr(key, "value", ""))))
    elif isinstance(node, yaml.SequenceNode):
        for value in node.value:
            yield from _scalars(value, path)


def _faulty(errors: Any) -> ConfigVerdict:
    faults = [
        ConfigFault(message=redact(error.message), place=error.place or None, hint=error.hint)
        for error in errors
    ]
    return ConfigVerdict(ok=False, errors=faults, changes=[], restart=[])
