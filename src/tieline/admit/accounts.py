"""Projects, keys and credits in the database, for the CLI and the admin API. Call from a thread.

Every change raises the revision in the same transaction; running gateways look at it at least every two seconds.
"""

from __future__ import annotations

import contextlib
import secrets
import time
from collections.abc import Callable, Iterator, Mapping
from typing import TYPE_CHECKING, Any

import msgspec
from msgspec import UNSET, Struct, UnsetType, field

from tieline.admit.budgets import KEPT_SLOTS
from tieline.admit.keys import digest_of, hint_of, make_secret
from tieline.admit.rules import CLOSED, Rules, check_rules, encode_rules, read_rules
from tieline.admit.snapshot import Key, Project, Secret, Snapshot
from tieline.record.rows import SLOT_S
from tieline.store import audit
from tieline.store.database import noted
from tieline.types.errors import InvalidRequest, NotFound
from tieline.types.money import Pico, format_usd

if TYPE_CHECKING:
    from sqlalchemy import Connection

    from tieline.store.database import Database

RulesChange = Rules | Callable[[Rules], Rules | None]
"""New rules, or what makes them of the present ones: then two who edit at the same time undo nothing of each other's."""
MAX_NAME_CHARS = 200
MAX_MS = 253_402_300_799_000
"""The end of the year 9999."""
MAX_OVERLAP_S = 90 * 86_400
_MICRO = 10**6
_AT_ONCE = 500
"""Scopes in one query; SQLite takes 999 parameters where it is old."""
_RUN_DAYS = 7
"""Budgets of runs are remembered over a restart for this long."""


class Spent(Struct, frozen=True):
    """What a scope had spent when it was read: by slot, and before the slots that are kept."""

    slots: dict[int, Pico]
    before: Pico
    foreign: dict[int, Pico] = field(default_factory=dict)
    """The part of ``slots`` that other writers spent, and of ``before``."""
    foreign_before: Pico = 0

    @property
    def total(self) -> Pico:
        return self.before + sum(self.slots.values())


NOTHING = Spent({}, 0)


class Accounts:
    def __init__(self, database: Database, *, actor: str = "gateway") -> None:
        self._database = database
        self._actor = actor

    def by(self, actor: str) -> Accounts:
        """The same, with changes noted as this actor's."""
        return Accounts(self._database, actor=actor)

    # Projects.

    def create_project(self, name: str, rules: Rules | None = None) -> Project:
        """Raises InvalidRequest for a taken or bad name and for bad rules."""
        rules = rules or Rules()
        check_rules(rules, of_project=True)
        project = Project(id=_new_id("prj"), name=_name(name), rules=rules, created_ms=_now_ms())
        with self._free_name(project.name), self._database.write() as connection:
            connection.execute(
                _tables()
                .projects.insert()
                .values(
                    id=project.id,
                    name=project.name,
                    rules=encode_rules(rules).decode(),
                    created_ms=project.created_ms,
                )
            )
            self._changed(connection, "project.create", project.id, {"name": project.name, "rules": rules})
        return project

    def edit_project(
        self, name_or_id: str, *, name: str | None = None, rules: RulesChange | None = None
    ) -> Project:
        project = self.project(name_or_id)
        changes: dict[str, Any] = {}
        if name is not None and _name(name) != project.name:
            changes["name"] = _name(name)
        with self._free_name(name or ""), self._database.write() as connection:
            changes |= _new_rules(connection, "projects", project.id, rules)
            self._update(connection, "projects", project.id, changes, "project.edit")
        return self.project(project.id)

    def archive_project(self, name_or_id: str) -> Project:
        """Its keys stop working; its records stay."""
        return self._archive(name_or_id, _now_ms(), "project.archive")

    def restore_project(self, name_or_id: str) -> Project:
        """It is archived no more: its keys work again."""
        return self._archive(name_or_id, None, "project.restore")

    def _archive(self, name_or_id: str, at_ms: int | None, action: str) -> Project:
        project = self.project(name_or_id)
        with self._database.write() as connection:
            self._update(connection, "projects", project.id, {"archived_ms": at_ms}, action)
        return self.project(project.id)

    def projects(self) -> list[Project]:
        return sorted(self.snapshot().projects.values(), key=lambda project: project.created_ms)

    def project(self, name_or_id: str) -> Project:
        """Raises NotFound."""
        projects = self.snapshot().projects
        if name_or_id in projects:
            return projects[name_or_id]
        for project in projects.values():
            if project.name == name_or_id:
                return project
        known = ", ".join(sorted(project.name for project in projects.values())[:10]) or "none yet"
        raise NotFound(f"no project {name_or_id!r}", param="project", hint=f"Known: {known}.")

    # Keys.

    def create_key(
        self, project: str, name: str, rules: Rules | None = None, *, expires_ms: int | None = None
    ) -> tuple[Key, str]:
        """The key and its secret, which is shown here and never again. A project ``default`` is made when missing."""
        rules = rules or Rules()
        check_rules(rules, of_project=False)
        _check_expiry(expires_ms)
        if project == "default" and not any(known.name == "default" for known in self.projects()):
            with contextlib.suppress(InvalidRequest):  # another made it in this moment
                self.create_project("default")
        owner = self.project(project)
        _check_alive(owner)
        key_id, secret = _new_id("key"), make_secret()
        tables = _tables()
        with self._database.write() as connection:
            connection.execute(
                tables.keys.insert().values(
                    id=key_id,
                    project_id=owner.id,
                    name=_name(name),
                    rules=encode_rules(rules).decode(),
                    created_ms=_now_ms(),
                    expires_ms=expires_ms,
                )
            )
            _add_secret(connection, key_id, secret)
            detail = {"name": _name(name), "project": owner.id, "rules": rules, "expires_ms": expires_ms}
            self._changed(connection, "key.create", key_id, detail)
        return self.key(key_id), secret

    def edit_key(
        self,
        name_or_id: str,
        *,
        name: str | None = None,
        rules: RulesChange | None = None,
        expires_ms: int | UnsetType | None = UNSET,
    ) -> Key:
        key = self.key(name_or_id)
        changes: dict[str, Any] = {}
        if name is not None:
            changes["name"] = _name(name)
        if not isinstance(expires_ms, UnsetType):
            _check_expiry(expires_ms)
            changes["expires_ms"] = expires_ms
        with self._database.write() as connection:
            changes |= _new_rules(connection, "keys", key.id, rules)
            self._update(connection, "keys", key.id, changes, "key.edit")
        return self.key(key.id)

    def rotate_key(self, name_or_id: str, *, overlap_s: float = 86_400) -> tuple[Key, str]:
        """A new secret; the ones before stay valid for the overlap."""
        if not 0 <= overlap_s <= MAX_OVERLAP_S:
            raise InvalidRequest(f"must be between 0 and {MAX_OVERLAP_S} seconds", param="overlap_s")
        key = self.key(name_or_id)
        if key.revoked_ms is not None:
            raise InvalidRequest(f"key {key.name!r} is revoked", param="key", hint="Create a new one.")
        _check_alive(self.project(key.project_id))
        end, secret = _now_ms() + int(overlap_s * 1_000), make_secret()
        table = _tables().key_secrets
        with self._database.write() as connection:
            earlier = (table.c.key_id == key.id) & (table.c.expires_ms.is_(None) | (table.c.expires_ms > end))
            connection.execute(table.update().where(earlier).values(expires_ms=end))
            _add_secret(connection, key.id, secret)
            self._changed(connection, "key.rotate", key.id, {"earlier_secrets_end_ms": end})
        return self.key(key.id), secret

    def revoke_key(self, name_or_id: str) -> Key:
        """At once here, within two seconds in every other gateway."""
        key = self.key(name_or_id)
        if key.revoked_ms is None:
            with self._database.write() as connection:
                self._update(connection, "keys", key.id, {"revoked_ms": _now_ms()}, "key.revoke")
        return self.key(key.id)

    def keys(self, project: str | None = None) -> list[Key]:
        owner = self.project(project).id if project else None
        found = [key for key in self.snapshot().keys.values() if owner in (None, key.project_id)]
        return sorted(found, key=lambda key: (key.created_ms, key.id))

    def key(self, name_or_id: str) -> Key:
        """By id, or by a name that only one key has. Raises NotFound."""
        keys = self.snapshot().keys
        if name_or_id in keys:
            return keys[name_or_id]
        named = [key for key in keys.values() if key.name == name_or_id]
        if len(named) == 1:
            return named[0]
        if named:
            ids = ", ".join(key.id for key in named[:10])
            raise InvalidRequest(
                f"several keys are named {name_or_id!r}", param="key", hint=f"Use an id: {ids}."
            )
        raise NotFound(f"no key {name_or_id!r}", param="key", hint="`tieline keys list` shows them.")

    # Credits.

    def add_credit(self, project: str, amount: Pico, note: str = "") -> Pico:
        """Adds to (or, negative, takes from) a project's prepaid balance. Returns all that was ever added."""
        if not amount or abs(amount) >= 2**63:
            raise InvalidRequest("must not be 0 and must be below 9,000,000 USD", param="amount_usd")
        owner = self.project(project)
        with self._database.write() as connection:
            connection.execute(
                _tables()
                .credits.insert()
                .values(project_id=owner.id, at_ms=_now_ms(), amount=amount, note=note[:MAX_NAME_CHARS])
            )
            detail = {"amount_usd": format_usd(amount), "note": note[:MAX_NAME_CHARS]}
            self._changed(connection, "project.credit", owner.id, detail)
        return self.credits()[owner.id]

    def credits(self) -> dict[str, Pico]:
        """Project id -> the sum of its credits; projects without any are not prepaid."""
        table = _tables().credits
        sums: dict[str, Pico] = {}
        with self._database.read() as connection:
            for row in connection.execute(table.select()):
                sums[row.project_id] = sums.get(row.project_id, 0) + row.amount
        return sums

    # What a running gateway reads.

    def revision(self) -> int:
        with self._database.read() as connection:
            return _revision(connection)

    def snapshot(self) -> Snapshot:
        """Everything at one moment."""
        tables = _tables()
        with self._database.read() as connection:
            revision = _revision(connection)
            projects = {row.id: _project(row) for row in connection.execute(tables.projects.select())}
            keys = {row.id: _key(row) for row in connection.execute(tables.keys.select())}
            found = connection.execute(tables.key_secrets.select()).all()
        secrets_by_digest: dict[bytes, Secret] = {}
        hints: dict[str, list[str]] = {}
        now = _now_ms()
        for row in found:
            digest = bytes(row.digest)
            secrets_by_digest[digest] = Secret(digest, row.key_id, row.expires_ms)
            if row.expires_ms is None or row.expires_ms > now:
                hints.setdefault(row.key_id, []).append(row.hint)
        keys = {
            key.id: msgspec.structs.replace(key, hints=tuple(hints.get(key.id, ()))) for key in keys.values()
        }
        return Snapshot(revision, projects, keys, secrets_by_digest)

    def spent(self, now: float | None = None, *, writer: str | None = None) -> dict[str, Spent]:
        """Scope -> what was spent; runs only of the last days. ``writer``: tells its own from others'."""
        import sqlalchemy as sa

        table = _tables().spend
        slot = int(now if now is not None else time.time()) // SLOT_S
        oldest, run_oldest = slot - KEPT_SLOTS, slot - _RUN_DAYS * 96
        foreign = (table.c.writer != (writer or "")).label("is_foreign")
        sums = (sa.func.sum(table.c.micros), sa.func.sum(table.c.rest))
        recent = sa.select(table.c.scope, table.c.slot, foreign, *sums).where(table.c.slot >= oldest)
        before = sa.select(table.c.scope, foreign, *sums).where(
            table.c.slot < oldest, ~table.c.scope.like("run:%")
        )
        totals: dict[str, Spent] = {}
        with self._database.read() as connection:
            for scope, other, micros, rest in connection.execute(before.group_by(table.c.scope, foreign)):
                amount = int(micros) * _MICRO + int(rest)
                found = totals.get(scope) or Spent({}, 0)
                totals[scope] = Spent(
                    {}, found.before + amount, {}, found.foreign_before + (amount if other else 0)
                )
            rows = connection.execute(recent.group_by(table.c.scope, table.c.slot, foreign))
            for scope, at, other, micros, rest in rows:
                if scope.startswith("run:") and at < run_oldest:
                    continue
                amount = int(micros) * _MICRO + int(rest)
                found = totals.setdefault(scope, Spent({}, 0))
                found.slots[at] = found.slots.get(at, 0) + amount
                if other:
                    found.foreign[at] = amount
        return totals

    def spent_by_writer(self, scope: str, start: int, end: int) -> dict[str, Pico]:
        """What each writer spent of a scope from slot ``start`` to before ``end``."""
        import sqlalchemy as sa

        table = _tables().spend
        query = (
            sa.select(table.c.writer, sa.func.sum(table.c.micros), sa.func.sum(table.c.rest))
            .where(table.c.scope == scope, table.c.slot >= start, table.c.slot < end)
            .group_by(table.c.writer)
        )
        with self._database.read() as connection:
            return {
                writer: int(micros) * _MICRO + int(rest) for writer, micros, rest in connection.execute(query)
            }

    def spent_elsewhere(
        self, windows: Mapping[tuple[int, int], list[str]], *, writer: str
    ) -> dict[tuple[int, int], dict[str, Pico]]:
        """What all writers but ``writer`` spent of the scopes in each window of slots."""
        import sqlalchemy as sa

        table = _tables().spend
        found: dict[tuple[int, int], dict[str, Pico]] = {}
        sums = (sa.func.sum(table.c.micros), sa.func.sum(table.c.rest))
        with self._database.read() as connection:
            for (start, end), scopes in windows.items():
                within = (table.c.slot >= start) & (table.c.slot < end) & (table.c.writer != writer)
                of_window: dict[str, Pico] = {}
                found[start, end] = of_window
                for at in range(0, len(scopes), _AT_ONCE):
                    query = sa.select(table.c.scope, *sums).where(
                        table.c.scope.in_(scopes[at : at + _AT_ONCE]), within
                    )
                    for scope, micros, rest in connection.execute(query.group_by(table.c.scope)):
                        of_window[scope] = int(micros) * _MICRO + int(rest)
        return found

    def note_passed(self, scope: str, window: str, text: str) -> bool:
        """A soft budget was passed: into the audit log, once for each window, whoever notices. False: it is there."""
        import sqlalchemy as sa

        name = f"passed:{window.rpartition('|')[0]}"
        with self._database.write() as connection:
            told = connection.execute(
                sa.text(
                    "INSERT INTO meta (name, value) VALUES (:name, :value) ON CONFLICT (name) "
                    "DO UPDATE SET value = excluded.value WHERE meta.value <> excluded.value"
                ),
                {"name": name, "value": window},
            ).rowcount
            if told:
                audit.note(connection, self._actor, "budget.passed", scope, {"text": text})
        return bool(told)

    @staticmethod
    @contextlib.contextmanager
    def _free_name(name: str) -> Iterator[None]:
        """The database itself keeps names apart, also from one that is made at the same time elsewhere."""
        from sqlalchemy.exc import IntegrityError

        try:
            yield
        except IntegrityError:
            raise InvalidRequest(
                f"a project named {name.strip()!r} exists", param="name", hint="Choose another name."
            ) from None

    def _update(
        self, connection: Connection, name: str, row_id: str, changes: Mapping[str, Any], action: str
    ) -> None:
        if changes:
            table = getattr(_tables(), name)
            connection.execute(table.update().where(table.c.id == row_id).values(**changes))
            self._changed(connection, action, row_id, changes)

    def _changed(self, connection: Connection, action: str, subject: str, detail: Mapping[str, Any]) -> None:
        raise_revision(connection)
        audit.note(connection, self._actor, action, subject, detail)


def _tables() -> Any:
    """Imported when used: SQLAlchemy is not part of ``import tieline``."""
    from tieline.store import tables

    return tables


def _project(row: Any) -> Project:
    rules, unreadable = _rules(row, of_project=True)
    return Project(
        id=row.id,
        name=row.name,
        rules=rules,
        created_ms=row.created_ms,
        archived_ms=row.archived_ms,
        unreadable=unreadable,
    )


def _key(row: Any) -> Key:
    rules, unreadable = _rules(row, of_project=False)
    return Key(
        id=row.id,
        project_id=row.project_id,
        name=row.name,
        rules=rules,
        created_ms=row.created_ms,
        expires_ms=row.expires_ms,
        revoked_ms=row.revoked_ms,
        unreadable=unreadable,
    )


def _rules(row: Any, *, of_project: bool) -> tuple[Rules, str | None]:
    """And why they cannot be read: one row must not take the others with it."""
    try:
        return read_rules(row.rules, of_project=of_project), None
    except InvalidRequest as error:
        return CLOSED, f"{error.param}: {error.message}" if error.param else error.message


def _new_rules(connection: Connection, name: str, row_id: str, rules: RulesChange | None) -> dict[str, Any]:
    """The changed column. Raises InvalidRequest. Whoever edits the same row meanwhile waits for this transaction."""
    import sqlalchemy as sa

    if rules is None:
        return {}
    of_project = name == "projects"
    if not isinstance(rules, Rules):
        table = getattr(_tables(), name)
        query = sa.select(table.c.rules).where(table.c.id == row_id).with_for_update()
        before, unreadable = _rules(connection.execute(query).one(), of_project=of_project)
        if unreadable is not None:
            raise InvalidRequest(
                f"its rules cannot be read: {unreadable}",
                param="rules",
                hint=f"Edit it with the version that wrote them, or {'archive' if of_project else 'revoke'} it.",
            )
        changed = rules(before)
        if changed is None:
            return {}
        rules = changed
    check_rules(rules, of_project=of_project)
    return {"rules": encode_rules(rules).decode()}


def _add_secret(connection: Connection, key_id: str, secret: str) -> None:
    connection.execute(
        _tables()
        .key_secrets.insert()
        .values(digest=digest_of(secret), key_id=key_id, hint=hint_of(secret), created_ms=_now_ms())
    )


def _revision(connection: Connection) -> int:
    return int(noted(connection, "accounts_revision") or 0)


def raise_revision(connection: Connection) -> None:
    """Running gateways read everything anew within two seconds."""
    import sqlalchemy as sa

    connection.execute(
        sa.text(
            "INSERT INTO meta (name, value) VALUES ('accounts_revision', '1') ON CONFLICT (name) "
            "DO UPDATE SET value = CAST(CAST(meta.value AS BIGINT) + 1 AS TEXT)"
        )
    )


def _new_id(kind: str) -> str:
    return f"{kind}_{secrets.token_hex(8)}"


def _now_ms() -> int:
    return time.time_ns() // 1_000_000


def _name(name: str) -> str:
    name = name.strip()
    if not name or len(name) > MAX_NAME_CHARS or not name.isprintable():
        raise InvalidRequest(f"a name has 1 to {MAX_NAME_CHARS} printable characters", param="name")
    return name


def _check_alive(project: Project) -> None:
    if project.archived_ms is not None:
        raise InvalidRequest(
            f"project {project.name!r} is archived: its keys do not work",
            param="project",
            hint=f"Choose another project, or `tieline projects restore {project.name}`.",
        )


def _check_expiry(expires_ms: int | None) -> None:
    if expires_ms is not None and expires_ms > MAX_MS:
        raise InvalidRequest("lies after the year 9999", param="expires_ms", hint="null or `never`: no end.")
    if expires_ms is not None and expires_ms <= _now_ms():
        raise InvalidRequest("lies in the past", param="expires_ms")
