"""What happened: records, spend, health, audit."""

from __future__ import annotations

from asyncio import to_thread
from typing import TYPE_CHECKING, Annotated, Any

import msgspec
from litestar import Request, get, post
from litestar.params import Parameter

from tieline.admit import audited
from tieline.admit.accounts import MAX_MS
from tieline.record import chain
from tieline.server.control.admin_shapes import (
    AuditVerdict,
    ChangeView,
    Conflict,
    RecordPage,
    ReplicaView,
    SpendLine,
)
from tieline.store import audit, queries, replicas
from tieline.store.database import Database
from tieline.types.errors import InvalidRequest, NotFound
from tieline.types.money import format_usd
from tieline.types.record import shown

if TYPE_CHECKING:
    from tieline.gateway import Gateway

AnyRequest = Request[Any, Any, Any]
Text = Annotated[str | None, Parameter(max_length=500)]
Time = Annotated[int | None, Parameter(ge=0, le=MAX_MS, description="Unix milliseconds")]
Tag = Annotated[str | None, Parameter(max_length=500, description="name=value")]
PAGE = 50
MAX_PAGE = 500


def routes(gateway: Gateway) -> list[Any]:
    def database() -> Database:
        if gateway.database is None:
            raise Conflict("store.database is `none`: nothing is kept.", hint="Set store.database.")
        return gateway.database

    @get("/records")
    async def list_records(
        key: Text = None,
        project: Text = None,
        provider: Text = None,
        model: Text = None,
        deployment: Text = None,
        outcome: Annotated[
            str | None, Parameter(max_length=50, description="An outcome, or `failed` for all but success")
        ] = None,
        status: Annotated[int | None, Parameter(ge=0, le=999)] = None,
        session: Text = None,
        run: Text = None,
        tag: Tag = None,
        since_ms: Time = None,
        until_ms: Time = None,
        before: Annotated[str | None, Parameter(max_length=64, description="`next` of the last page")] = None,
        limit: Annotated[int, Parameter(ge=1, le=MAX_PAGE)] = PAGE,
    ) -> RecordPage:
        """The newest first. All filters that are given must hold."""
        filters = queries.Filters(
            key_id=key,
            project=project,
            provider=provider,
            model=model,
            deployment=deployment,
            outcome=outcome,
            status=status,
            session=session,
            run=run,
            tag=_pair(tag),
            since_ms=since_ms,
            until_ms=until_ms,
            before_id=before,
        )
        found = await to_thread(queries.logs, database(), filters, limit=limit + 1)
        more = len(found) > limit
        page = found[:limit]
        return RecordPage(records=[shown(one) for one in page], next=page[-1].id if more else None)

    @get("/records/{record:str}")
    async def show_record(record: Annotated[str, Parameter(max_length=64)]) -> dict[str, Any]:
        """One request with its attempts and the decision behind them. The beginning of an id will do."""
        found = await to_thread(queries.show, database(), record)
        if found is None:
            raise NotFound(
                f"There is no request {record!r}.",
                param="record",
                hint="Records are written within a second.",
            )
        return shown(found)

    @get("/spend")
    async def spend(
        by: Annotated[queries.By, Parameter(description="What to add up by")] = "model",
        tag_name: Annotated[str | None, Parameter(max_length=200, description="For by=tag")] = None,
        key: Text = None,
        project: Text = None,
        provider: Text = None,
        model: Text = None,
        run: Text = None,
        since_ms: Time = None,
        until_ms: Time = None,
    ) -> list[SpendLine]:
        """Sums, dearest first."""
        if by == "tag" and not tag_name:
            raise InvalidRequest(
                "by=tag needs the tag's name", param="tag_name", hint="Add ?tag_name=team, for one."
            )
        filters = queries.Filters(
            key_id=key,
            project=project,
            provider=provider,
            model=model,
            run=run,
            since_ms=since_ms,
            until_ms=until_ms,
        )
        found = await to_thread(lambda: queries.spend(database(), by=by, filters=filters, tag=tag_name))
        return [_line(one) for one in found]

    @get("/health")
    async def health() -> dict[str, Any]:
        """Of this process: deployments with their breakers, the recorder, keys, leases."""
        lanes = gateway.health.snapshot(gateway.clock())
        return {**gateway.readiness(), "deployments": msgspec.to_builtins(lanes)}

    @get("/replicas")
    async def list_replicas() -> list[ReplicaView]:
        """All processes that serve from this database, with the configuration that each has in force."""
        found = await to_thread(replicas.living, database())
        return [_replica(one, gateway.recorder.writer) for one in found]

    @get("/audit")
    async def list_changes(
        before: Annotated[int | None, Parameter(ge=0, le=2**53)] = None,
        limit: Annotated[int, Parameter(ge=1, le=MAX_PAGE)] = PAGE,
    ) -> list[ChangeView]:
        """Who changed what, the newest first; ``before`` is the last ``seq`` seen."""
        found = await to_thread(lambda: audit.changes(database(), limit=limit, before=before))
        return [ChangeView(**msgspec.structs.asdict(one)) for one in found]

    @post("/audit/verify", status_code=200)
    async def verify() -> AuditVerdict:
        """Walks the hash chains of records and changes, and compares keys, projects and spend with what they come to."""
        verdict = await to_thread(chain.verify, database())
        changes, problems = await to_thread(audit.verify, database())
        differing, silent = await to_thread(audited.verify, database())
        found = [*verdict.problems, *problems, *differing]
        return AuditVerdict(
            ok=not found,
            records=verdict.records,
            writers=verdict.writers,
            changes=changes,
            problems=found,
            unknown=[*verdict.unknown, *silent],
        )

    @post("/writers/{writer:str}/forgive", status_code=204)
    async def forgive(request: AnyRequest, writer: Annotated[str, Parameter(max_length=64)]) -> None:
        """For a host that never comes back: what it held of budgets and did not spend is free again."""
        if gateway.leases is None:
            raise Conflict("store.redis is not set: there are no shares.", param="writer")
        if gateway.recorder.writer == writer:
            raise InvalidRequest("this is the process that answers", param="writer")
        await gateway.leases.forgive(writer)
        actor = request.scope["tieline_actor"]  # type: ignore[typeddict-item]
        await to_thread(_note, database(), actor, writer)

    return [list_records, show_record, spend, health, list_replicas, list_changes, verify, forgive]


def _replica(found: replicas.Replica, writer: str) -> ReplicaView:
    return ReplicaView(
        writer=found.writer,
        host=found.host,
        pid=found.pid,
        version=found.version,
        started_ms=found.started_ms,
        seen_ms=found.seen_ms,
        redis=found.shared or None,
        config=found.config,
        trouble=found.trouble or None,
        answering=found.writer == writer,
    )


def _note(database: Database, actor: str, writer: str) -> None:
    with database.write() as connection:
        audit.note(connection, actor, "writer.forgive", writer)


def _pair(tag: str | None) -> tuple[str, str] | None:
    if tag is None:
        return None
    name, equals, value = tag.partition("=")
    if not equals:
        raise InvalidRequest("write the tag as name=value", param="tag")
    return name, value


def _line(found: queries.Spend) -> SpendLine:
    return SpendLine(
        group=found.group,
        name=found.name,
        requests=found.requests,
        attempts=found.attempts,
        input_tokens=found.input_tokens,
        output_tokens=found.output_tokens,
        cost_usd=format_usd(found.cost),
        unknown=found.unknown,
        wasted_usd=None if found.wasted is None else format_usd(found.wasted),
        charged_usd=None if found.charged is None else format_usd(found.charged),
    )
