"""Whether keys and projects are as the audit log says: what its changes come to, compared with what is there."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import msgspec

from tieline.admit.rules import decode_rules
from tieline.types.money import format_usd, parse_usd

if TYPE_CHECKING:
    from tieline.store.database import Database

MAX_PROBLEMS = 100
_MAX_SHOWN = 200
_UNKNOWN: Any = object()
"""The log does not say it: an entry of an older version, or rules that this one cannot read."""
_SET: Any = object()
"""Not null, whatever it is."""
_OF_PROJECT = ("name", "rules", "archived_ms")
_OF_KEY = ("name", "project_id", "rules", "expires_ms", "revoked_ms")
_EDITS: dict[str, tuple[str, ...]] = {
    "project.edit": ("name", "rules"),
    "key.edit": ("name", "rules", "expires_ms"),
}
_MOMENTS = {"project.archive": "archived_ms", "key.revoke": "revoked_ms"}


class _Implied:
    """What the log's changes come to, by id."""

    def __init__(self) -> None:
        self.projects: dict[str, dict[str, Any]] = {}
        self.keys: dict[str, dict[str, Any]] = {}
        self.secrets: dict[str, int] = {}
        """Of each key how many were made: none is ever deleted."""
        self.credits: dict[str, Any] = {}

    def take(self, action: str, subject: str, detail: dict[str, Any]) -> None:
        kind, _, what = action.partition(".")
        if kind not in ("key", "project"):
            return
        known = (self.keys if kind == "key" else self.projects).setdefault(subject, {})
        if what == "create":
            for name in _OF_KEY if kind == "key" else _OF_PROJECT:
                known[name] = _said(detail, {"project_id": "project"}.get(name, name), name)
            known["revoked_ms" if kind == "key" else "archived_ms"] = None
        elif action in _EDITS:
            for name in detail or _EDITS[action]:
                known[name] = _said(detail, name, name)
        elif action in _MOMENTS:
            name = _MOMENTS[action]
            known[name] = detail.get(name, _SET)
        elif action == "project.restore":
            known["archived_ms"] = None
        elif action == "project.credit":
            self._add_credit(subject, detail.get("amount_usd"))
        if action in ("key.create", "key.rotate"):
            self.secrets[subject] = self.secrets.get(subject, 0) + 1

    def _add_credit(self, project: str, amount: object) -> None:
        sum_ = self.credits.get(project, 0)
        self.credits[project] = (
            _UNKNOWN if sum_ is _UNKNOWN or not isinstance(amount, str) else sum_ + parse_usd(amount)
        )


def verify(database: Database) -> tuple[list[str], list[str]]:
    """What differs from the log, and what it cannot be compared with because the log does not say it."""
    import sqlalchemy as sa

    from tieline.store import tables

    implied = _Implied()
    problems: list[str] = []
    silent: list[str] = []
    with database.read() as connection:
        for row in connection.execute(sa.select(tables.audit).order_by(tables.audit.c.seq)):
            try:
                implied.take(row.action, row.subject, msgspec.json.decode(row.detail, type=dict[str, Any]))
            except (msgspec.MsgspecError, ValueError):
                silent.append(f"audit {row.seq}: its detail cannot be read")
        for kind, table, known in (
            ("project", tables.projects, implied.projects),
            ("key", tables.keys, implied.keys),
        ):
            rows = {row["id"]: row for row in connection.execute(sa.select(table)).mappings()}
            for name in sorted(known.keys() | rows.keys()):
                _compare(f"{kind} {name}", known.get(name), rows.get(name), problems, silent)
        found = dict.fromkeys(implied.secrets, 0)
        for (key,) in connection.execute(sa.select(tables.key_secrets.c.key_id)):
            found[key] = found.get(key, 0) + 1
        added = dict.fromkeys(implied.credits, 0)
        for row in connection.execute(sa.select(tables.credits)):
            added[row.project_id] = added.get(row.project_id, 0) + row.amount
    for key, count in sorted(found.items()):
        if count != implied.secrets.get(key, 0):
            problems.append(f"key {key}: has {count} secrets, the log made {implied.secrets.get(key, 0)}")
    for project, amount in sorted(added.items()):
        said = implied.credits.get(project, 0)
        if said is _UNKNOWN:
            silent.append(f"project {project}: credits")
        elif said != amount:
            text = f"credits of {format_usd(amount)} USD, the log says {format_usd(said)}"
            problems.append(f"project {project}: {text}")
    return problems[:MAX_PROBLEMS], silent[:MAX_PROBLEMS]


def _compare(
    about: str, known: dict[str, Any] | None, row: Any | None, problems: list[str], silent: list[str]
) -> None:
    if row is None:
        problems.append(f"{about}: is in the log and not there: it was deleted")
        return
    if known is None:
        problems.append(f"{about}: is not in the log: it was inserted")
        return
    wanted = _OF_KEY if about.startswith("key") else _OF_PROJECT
    unsaid = [name for name in wanted if known.get(name, _UNKNOWN) is _UNKNOWN]
    if unsaid:
        silent.append(f"{about}: {', '.join(unsaid)}")
    changed = [
        f"{name} (is {_shown(row[name])}, the log says {_shown(known[name])})"
        for name in wanted
        if name not in unsaid and not _fits(name, row[name], known[name])
    ]
    if changed:
        problems.append(f"{about}: changed: {'; '.join(changed)}")


def _said(detail: dict[str, Any], name: str, column: str) -> Any:
    value = detail.get(name, _UNKNOWN)
    return _rules(value) if column == "rules" and value is not _UNKNOWN else value


def _rules(value: Any) -> Any:
    """Edits note the column's text, the making of a key its object."""
    try:
        return decode_rules(value if isinstance(value, str) else msgspec.json.encode(value))
    except msgspec.MsgspecError:
        return _UNKNOWN


def _fits(name: str, value: Any, said: Any) -> bool:
    if said is _SET:
        return value is not None
    return bool((_rules(value) if name == "rules" else value) == said)


def _shown(value: Any) -> str:
    if value is _SET:
        return "set"
    text = value if isinstance(value, str) else msgspec.json.encode(value).decode()
    return text if len(text) <= _MAX_SHOWN else text[: _MAX_SHOWN - 1] + "…"
