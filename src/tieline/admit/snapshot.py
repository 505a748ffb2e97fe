"""All keys and projects at one moment: what requests are checked against."""

from __future__ import annotations

from msgspec import Struct

from tieline.admit.rules import Rules


class Project(Struct, frozen=True, kw_only=True):
    id: str
    name: str
    rules: Rules
    created_ms: int
    archived_ms: int | None = None
    unreadable: str | None = None
    """Why its rules cannot be read: its keys are refused, and ``rules`` allow nothing."""


class Key(Struct, frozen=True, kw_only=True):
    id: str
    project_id: str
    name: str
    rules: Rules
    created_ms: int
    expires_ms: int | None = None
    revoked_ms: int | None = None
    hints: tuple[str, ...] = ()
    """The last four characters of each secret that is valid."""
    unreadable: str | None = None
    """Why its rules cannot be read: it is refused, and ``rules`` allow nothing."""


class Secret(Struct, frozen=True):
    """A way to present a key; two overlap while a key is rotated. Holds no secret, only its digest."""

    digest: bytes
    key_id: str
    expires_ms: int | None = None


class Snapshot(Struct, frozen=True):
    """All keys and projects at one revision."""

    revision: int
    projects: dict[str, Project]
    keys: dict[str, Key]
    secrets: dict[bytes, Secret]

    def unreadable(self) -> list[Key | Project]:
        """Those in use that this version cannot hold to their rules."""
        return [
            *(one for one in self.projects.values() if one.unreadable and one.archived_ms is None),
            *(one for one in self.keys.values() if one.unreadable and one.revoked_ms is None),
        ]


EMPTY = Snapshot(0, {}, {}, {})
