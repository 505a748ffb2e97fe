"""Projects, keys, budgets and limits."""

from __future__ import annotations

import time
from asyncio import to_thread
from typing import TYPE_CHECKING, Annotated, Any

from litestar import Request, get, patch, post
from litestar.params import Body, Parameter
from msgspec import UNSET, UnsetType

from tieline.admit.accounts import NOTHING, Accounts, Spent
from tieline.admit.budgets import Meter
from tieline.admit.naming import check_providers, strange_names
from tieline.admit.rules import BudgetRule, Rules
from tieline.admit.snapshot import Key, Project
from tieline.record.rows import SLOT_S
from tieline.server.control.admin_shapes import (
    BudgetView,
    Conflict,
    KeyPatch,
    KeyView,
    LimitView,
    MadeKey,
    NewCredit,
    NewKey,
    NewProject,
    ProjectPatch,
    ProjectView,
    Rotation,
    RulesPatch,
)
from tieline.types.errors import InvalidRequest
from tieline.types.money import format_usd, parse_usd

if TYPE_CHECKING:
    from tieline.gateway import Gateway

AnyRequest = Request[Any, Any, Any]
ProjectId = Annotated[str, Parameter(max_length=200, description="Name or id")]
KeyId = Annotated[str, Parameter(max_length=200, description="Id, or a name that one key has")]


class Desk:
    """The accounts of a gateway, changed in the name of whoever asks; this process follows at once."""

    def __init__(self, gateway: Gateway) -> None:
        self.gateway = gateway

    @property
    def accounts(self) -> Accounts:
        if self.gateway.accounts is None:
            raise Conflict(
                "store.database is `none`: there are no keys and projects.",
                hint="Set store.database to sqlite:///tieline.db or a PostgreSQL URL, and start again.",
            )
        return self.gateway.accounts

    def for_(self, request: AnyRequest) -> Accounts:
        return self.accounts.by(request.scope["tieline_actor"])  # type: ignore[typeddict-item]

    def check(self, rules: RulesPatch | UnsetType) -> None:
        """Raises InvalidRequest for a provider that does not exist; before anything is changed."""
        if rules is not UNSET and rules.policy is not UNSET:
            check_providers(rules.policy, self.gateway.config)

    def warnings(self, rules: RulesPatch | UnsetType) -> list[str]:
        """Of rules that were taken."""
        return [] if rules is UNSET else strange_names(rules.over(Rules()), self.gateway.config)

    async def follow(self) -> None:
        if self.gateway.watch is not None:
            await self.gateway.watch.look()

    def project_view(self, project: Project) -> ProjectView:
        spent = self.accounts.spent().get(f"project:{project.id}", NOTHING).total
        paid = self.accounts.credits().get(project.id)
        return ProjectView(
            id=project.id,
            name=project.name,
            rules=project.rules,
            created_ms=project.created_ms,
            archived_ms=project.archived_ms,
            unreadable=project.unreadable,
            spent_usd=format_usd(spent),
            credit_usd=None if paid is None else format_usd(paid),
            credit_left_usd=None if paid is None else format_usd(paid - spent),
        )

    def key_view(self, key: Key, spent: dict[str, Spent] | None = None) -> KeyView:
        found = self.accounts.spent() if spent is None else spent
        return KeyView(
            id=key.id,
            name=key.name,
            project_id=key.project_id,
            rules=key.rules,
            created_ms=key.created_ms,
            expires_ms=key.expires_ms,
            revoked_ms=key.revoked_ms,
            unreadable=key.unreadable,
            hints=list(key.hints),
            spent_usd=format_usd(found.get(f"key:{key.id}", NOTHING).total),
        )

    def budgets(self) -> list[BudgetView]:
        snapshot, spent = self.accounts.snapshot(), self.accounts.spent()
        owners = [(f"project:{one.id}", one.rules) for one in snapshot.projects.values()]
        owners += [(f"key:{one.id}", one.rules) for one in snapshot.keys.values()]
        return [_budget_view(scope, rule, spent) for scope, rules in owners for rule in rules.budgets]


def _budget_view(owner: str, rule: BudgetRule, spent: dict[str, Spent]) -> BudgetView:
    part = f"/model:{rule.model}" if rule.model else f"/tag:{rule.tag}" if rule.tag else ""
    scope = owner + part
    found = spent.get(scope, NOTHING)
    meter = Meter(scope, dict(found.slots), found.before)
    meter.set_budgets([(rule.amount, rule.period, rule.hard, rule.timezone)])
    [budget] = meter.budgets
    used = budget.used_at(meter.window(time.time()))
    end = budget.window_bounds[1]
    return BudgetView(
        scope=scope,
        period=rule.period,
        timezone=rule.timezone,
        hard=rule.hard,
        amount_usd=format_usd(rule.amount),
        spent_usd=format_usd(used),
        left_usd=format_usd(max(0, rule.amount - used)),
        ends_ms=None if rule.period == "lifetime" else end * SLOT_S * 1_000,
    )


def routes(gateway: Gateway) -> list[Any]:
    desk = Desk(gateway)

    @get("/projects")
    async def list_projects() -> list[ProjectView]:
        """All projects, oldest first."""
        return await to_thread(lambda: [desk.project_view(one) for one in desk.accounts.projects()])

    @post("/projects")
    async def create_project(request: AnyRequest, data: Annotated[NewProject, Body()]) -> ProjectView:
        """Its rules hold for all its keys together."""
        desk.check(data.rules)
        made = await to_thread(desk.for_(request).create_project, data.name, data.rules.over(Rules()))
        await desk.follow()
        view = await to_thread(desk.project_view, made)
        view.warnings = await to_thread(desk.warnings, data.rules)
        return view

    @get("/projects/{project:str}")
    async def show_project(project: ProjectId) -> ProjectView:
        return await to_thread(lambda: desk.project_view(desk.accounts.project(project)))

    @patch("/projects/{project:str}")
    async def edit_project(
        request: AnyRequest, project: ProjectId, data: Annotated[ProjectPatch, Body()]
    ) -> ProjectView:
        """What is left out stays as it is."""

        def edit() -> ProjectView:
            found = desk.accounts.project(project)
            desk.check(data.rules)
            changed = desk.for_(request).edit_project(
                found.id,
                name=data.name if isinstance(data.name, str) else None,
                rules=None if data.rules is UNSET else data.rules.over,
            )
            return desk.project_view(changed)

        view = await to_thread(edit)
        view.warnings = await to_thread(desk.warnings, data.rules)
        await desk.follow()
        return view

    @post("/projects/{project:str}/archive", status_code=200)
    async def archive_project(request: AnyRequest, project: ProjectId) -> ProjectView:
        """Its keys stop working within two seconds; its records stay."""
        made = await to_thread(desk.for_(request).archive_project, project)
        await desk.follow()
        return await to_thread(desk.project_view, made)

    @post("/projects/{project:str}/restore", status_code=200)
    async def restore_project(request: AnyRequest, project: ProjectId) -> ProjectView:
        """It is archived no more: its keys work again within two seconds."""
        made = await to_thread(desk.for_(request).restore_project, project)
        await desk.follow()
        return await to_thread(desk.project_view, made)

    @post("/projects/{project:str}/credits")
    async def add_credit(
        request: AnyRequest, project: ProjectId, data: Annotated[NewCredit, Body()]
    ) -> ProjectView:
        """Pays in, or with a minus takes back. A project with credits cannot spend more than was ever paid in."""
        try:
            amount = parse_usd(data.amount_usd)
        except ValueError as error:
            raise InvalidRequest(f"{error}.", param="amount_usd") from None
        await to_thread(desk.for_(request).add_credit, project, amount, data.note)
        await desk.follow()
        return await to_thread(lambda: desk.project_view(desk.accounts.project(project)))

    @get("/keys")
    async def list_keys(
        project: Annotated[str | None, Parameter(max_length=200, description="Only its keys")] = None,
    ) -> list[KeyView]:
        """All keys, oldest first, without their secrets."""

        def listing() -> list[KeyView]:
            spent = desk.accounts.spent()
            return [desk.key_view(one, spent) for one in desk.accounts.keys(project)]

        return await to_thread(listing)

    @post("/keys")
    async def create_key(request: AnyRequest, data: Annotated[NewKey, Body()]) -> MadeKey:
        """The secret is in this answer and never shown again."""
        desk.check(data.rules)
        key, secret = await to_thread(
            lambda: desk.for_(request).create_key(
                data.project, data.name, data.rules.over(Rules()), expires_ms=data.expires_ms
            )
        )
        await desk.follow()
        view = await to_thread(desk.key_view, key)
        view.warnings = await to_thread(desk.warnings, data.rules)
        return MadeKey(key=view, secret=secret)

    @get("/keys/{key:str}")
    async def show_key(key: KeyId) -> KeyView:
        return await to_thread(lambda: desk.key_view(desk.accounts.key(key)))

    @patch("/keys/{key:str}")
    async def edit_key(request: AnyRequest, key: KeyId, data: Annotated[KeyPatch, Body()]) -> KeyView:
        """What is left out stays as it is; ``expires_ms: null`` means never."""

        def edit() -> KeyView:
            found = desk.accounts.key(key)
            desk.check(data.rules)
            changed = desk.for_(request).edit_key(
                found.id,
                name=data.name if isinstance(data.name, str) else None,
                rules=None if data.rules is UNSET else data.rules.over,
                expires_ms=data.expires_ms,
            )
            return desk.key_view(changed)

        view = await to_thread(edit)
        view.warnings = await to_thread(desk.warnings, data.rules)
        await desk.follow()
        return view

    @post("/keys/{key:str}/rotate", status_code=200)
    async def rotate_key(request: AnyRequest, key: KeyId, data: Annotated[Rotation, Body()]) -> MadeKey:
        """A new secret; the earlier one stays valid for the overlap."""
        accounts = desk.for_(request)
        found, secret = await to_thread(lambda: accounts.rotate_key(key, overlap_s=data.overlap_s))
        await desk.follow()
        return MadeKey(key=await to_thread(desk.key_view, found), secret=secret)

    @post("/keys/{key:str}/revoke", status_code=200)
    async def revoke_key(request: AnyRequest, key: KeyId) -> KeyView:
        """For good: refused here at once, by every gateway within two seconds."""
        found = await to_thread(desk.for_(request).revoke_key, key)
        await desk.follow()
        return await to_thread(desk.key_view, found)

    @get("/budgets")
    async def list_budgets() -> list[BudgetView]:
        """Every budget of every key and project with what is spent of it."""
        return await to_thread(desk.budgets)

    @get("/limits")
    async def list_limits() -> list[LimitView]:
        """Limits of the keys and projects that this process has served, and what counts against them now."""
        now = gateway.admission.clock()
        return [
            LimitView(scope=gate.scope, name=gate.name, unit=share.unit, limit=share.limit, used=used)
            for gate in gateway.admission.gates()
            for share, used in zip(gate.shares, gate.used(now), strict=True)
            if share.limit is not None
        ]

    return [
        list_projects,
        create_project,
        show_project,
        edit_project,
        archive_project,
        restore_project,
        add_credit,
        list_keys,
        create_key,
        show_key,
        edit_key,
        rotate_key,
        revoke_key,
        list_budgets,
        list_limits,
    ]
