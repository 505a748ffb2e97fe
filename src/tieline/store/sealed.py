"""Provider credentials at rest: AES-256-GCM, under a key that is not in the database.

The key comes from ``TIELINE_SECRET_KEY`` (``TIELINE_SECRET_KEY=file:/path`` reads a file): 32 bytes in base64 or
hexadecimal, or any passphrase of 20 characters or more. Several, separated by commas, are tried when reading; the first
one seals. That is how it is rotated: put a new one in front, run ``tieline credentials rotate``, drop the old one.
"""

from __future__ import annotations

import base64
import binascii
import hashlib
import os
import secrets
import time
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from msgspec import Struct

from tieline.store import audit
from tieline.store.database import noted
from tieline.types.errors import ConfigError, InvalidRequest, NotFound

if TYPE_CHECKING:
    from sqlalchemy import Connection

    from tieline.store.database import Database

VARIABLE = "TIELINE_SECRET_KEY"
MIN_PASSPHRASE = 20
MAX_SECRET_CHARS = 20_000
"""A service account's JSON key has 2,400."""
MAX_FOR_PROVIDER = 100
_NONCE_BYTES = 12
_ROUNDS = 2**14


class Stored(Struct, frozen=True, kw_only=True):
    """A credential without its secret."""

    id: str
    provider: str
    label: str
    created_ms: int
    disabled_ms: int | None
    sealed_by: str
    """Which key of ours encrypted it (a fingerprint)."""


class Keyring:
    """The keys of ``TIELINE_SECRET_KEY``. Cannot be shown."""

    __slots__ = ("_keys",)

    def __init__(self, texts: list[str]) -> None:
        self._keys = {_fingerprint(key): key for key in map(_key, texts)}

    def __repr__(self) -> str:
        return f"<Keyring of {len(self._keys)}>"

    def __bool__(self) -> bool:
        return bool(self._keys)

    @property
    def first(self) -> str:
        """The fingerprint of the one that seals. Raises ConfigError when there is none."""
        if not self._keys:
            raise ConfigError(
                "is not set, and credentials are only kept encrypted.",
                place=VARIABLE,
                hint="`tieline credentials key` makes one; set it for every gateway that shares the database.",
            )
        return next(iter(self._keys))

    def seal(self, text: str, about: str) -> tuple[str, bytes, bytes]:
        """Fingerprint, nonce, ciphertext. ``about`` is bound to it: a row copied to another place does not open."""
        nonce = os.urandom(_NONCE_BYTES)
        return (
            self.first,
            nonce,
            _cipher(self._keys[self.first]).encrypt(nonce, text.encode(), about.encode()),
        )

    def open(self, sealed_by: str, nonce: bytes, sealed: bytes, about: str) -> str:
        """Raises ConfigError, without any of it, when the key is missing or the row was changed."""
        from cryptography.exceptions import InvalidTag

        key = self._keys.get(sealed_by)
        if key is None:
            raise ConfigError(
                f"{about} was encrypted with the key {sealed_by}, which is not among those given.",
                place=VARIABLE,
                hint="Add that key after the present one, separated by a comma.",
            )
        try:
            return str(_cipher(key).decrypt(nonce, sealed, about.encode()), "utf-8")
        except InvalidTag:
            raise ConfigError(f"{about} does not decrypt: its row was changed.", place=VARIABLE) from None


def keyring(environ: Mapping[str, str]) -> Keyring:
    """From the environment. Raises ConfigError that shows none of it."""
    text = environ.get(VARIABLE, "").strip()
    if text.startswith("file:"):
        try:
            with open(text[5:], encoding="utf-8") as file:
                text = ",".join(file.read().split())
        except (OSError, UnicodeDecodeError):
            raise ConfigError("names a file that cannot be read.", place=VARIABLE) from None
    return Keyring([part.strip() for part in text.split(",") if part.strip()])


def new_key() -> str:
    return base64.b64encode(os.urandom(32)).decode()


def _key(text: str) -> bytes:
    for decode in (bytes.fromhex, lambda value: base64.b64decode(value, validate=True)):
        try:
            key = decode(text)
        except (ValueError, binascii.Error):
            continue
        if len(key) == 32:
            return key
    if len(text) < MIN_PASSPHRASE:
        raise ConfigError(
            f"is too short: 32 bytes in base64, or a passphrase of {MIN_PASSPHRASE} characters or more.",
            place=VARIABLE,
            hint="`tieline credentials key` makes one.",
        )
    return hashlib.scrypt(text.encode(), salt=b"tieline credentials", n=_ROUNDS, r=8, p=1, dklen=32)


def _fingerprint(key: bytes) -> str:
    return hashlib.sha256(b"tieline fingerprint" + key).hexdigest()[:12]


def _cipher(key: bytes) -> Any:
    try:
        from cryptography.hazmat.primitives.ciphers.aead import AESGCM
    except ModuleNotFoundError as error:
        raise ConfigError(
            "Encrypted credentials need the package cryptography.", hint='pip install "tieline[server]"'
        ) from error
    return AESGCM(key)


class Vault:
    """Credentials in the database. Call from a thread."""

    def __init__(self, database: Database, ring: Keyring, *, actor: str = "gateway") -> None:
        self._database = database
        self._ring = ring
        self._actor = actor

    def by(self, actor: str) -> Vault:
        return Vault(self._database, self._ring, actor=actor)

    def all(self, provider: str | None = None) -> list[Stored]:
        return [_stored(row) for row in self._rows() if provider in (None, row.provider)]

    def get(self, credential: str) -> Stored:
        """By id or ``provider/label``. Raises NotFound."""
        for row in self._rows():
            if credential in (row.id, f"{row.provider}/{row.label}"):
                return _stored(row)
        raise NotFound(
            f"no credential {credential!r}", param="credential", hint="`tieline credentials list` shows them."
        )

    def put(self, provider: str, label: str, secret: str) -> Stored:
        """Adds a credential, or replaces the secret of the one with this label."""
        label, secret = _label(label), _secret(secret)
        sealed_by, nonce, sealed = self._ring.seal(secret, f"{provider}/{label}")
        values = {
            "cipher_key": sealed_by,
            "nonce": nonce,
            "secret": sealed,
            "created_ms": time.time_ns() // 1_000_000,
            "disabled_ms": None,
        }
        table = _table()
        same = (table.c.provider == provider) & (table.c.label == label)
        with self._database.write() as connection:
            found = connection.execute(table.update().where(same).values(**values)).rowcount
            if not found:
                self._check_room(connection, provider)
                credential = f"crd_{secrets.token_hex(8)}"
                row = {"id": credential, "provider": provider, "label": label, **values}
                connection.execute(table.insert().values(**row))
            action = "credential.replace" if found else "credential.add"
            self._changed(connection, action, f"{provider}/{label}")
        return self.get(f"{provider}/{label}")

    def set_enabled(self, credential: str, enabled: bool) -> Stored:
        found = self.get(credential)
        table = _table()
        at = None if enabled else time.time_ns() // 1_000_000
        with self._database.write() as connection:
            connection.execute(table.update().where(table.c.id == found.id).values(disabled_ms=at))
            action = "credential.enable" if enabled else "credential.disable"
            self._changed(connection, action, f"{found.provider}/{found.label}")
        return self.get(found.id)

    def remove(self, credential: str) -> Stored:
        found = self.get(credential)
        table = _table()
        with self._database.write() as connection:
            connection.execute(table.delete().where(table.c.id == found.id))
            self._changed(connection, "credential.remove", f"{found.provider}/{found.label}")
        return found

    def rotate(self) -> int:
        """Seals every credential anew with the first key, all or none; how many. Raises ConfigError."""
        table = _table()
        first = self._ring.first
        with self._database.write() as connection:
            rows = [row for row in connection.execute(table.select()) if row.cipher_key != first]
            for row in rows:
                about = f"{row.provider}/{row.label}"
                text = self._ring.open(row.cipher_key, bytes(row.nonce), bytes(row.secret), about)
                sealed_by, nonce, sealed = self._ring.seal(text, about)
                changes = {"cipher_key": sealed_by, "nonce": nonce, "secret": sealed}
                connection.execute(table.update().where(table.c.id == row.id).values(**changes))
            if rows:
                self._changed(connection, "credential.rotate", f"{len(rows)} credentials", {"key": first})
        return len(rows)

    def reveal(self) -> tuple[dict[str, list[tuple[str, str]]], list[ConfigError]]:
        """Provider -> (label, secret) of those in use, for a gateway; and why others cannot be opened."""
        found: dict[str, list[tuple[str, str]]] = {}
        problems: list[ConfigError] = []
        for row in self._rows():
            if row.disabled_ms is not None:
                continue
            about = f"{row.provider}/{row.label}"
            try:
                text = self._ring.open(row.cipher_key, bytes(row.nonce), bytes(row.secret), about)
            except ConfigError as error:
                problems.append(error)
            else:
                found.setdefault(row.provider, []).append((row.label, text))
        return found, problems

    def _rows(self) -> Any:
        table = _table()
        with self._database.read() as connection:
            return connection.execute(table.select().order_by(table.c.created_ms, table.c.id)).all()

    def _check_room(self, connection: Connection, provider: str) -> None:
        table = _table()
        rows = connection.execute(table.select().where(table.c.provider == provider)).all()
        if len(rows) >= MAX_FOR_PROVIDER:
            raise InvalidRequest(f"at most {MAX_FOR_PROVIDER} credentials for a provider", param="provider")

    def _changed(
        self, connection: Connection, action: str, subject: str, detail: Mapping[str, Any] | None = None
    ) -> None:
        import sqlalchemy as sa

        connection.execute(
            sa.text(
                "INSERT INTO meta (name, value) VALUES ('credentials_revision', '1') ON CONFLICT (name) "
                "DO UPDATE SET value = CAST(CAST(meta.value AS BIGINT) + 1 AS TEXT)"
            )
        )
        audit.note(connection, self._actor, action, subject, detail)


def revision(database: Database) -> int:
    """Grows with every change of a credential."""
    with database.read() as connection:
        return int(noted(connection, "credentials_revision") or 0)


def _table() -> Any:
    from tieline.store.tables import credentials

    return credentials


def _stored(row: Any) -> Stored:
    return Stored(
        id=row.id,
        provider=row.provider,
        label=row.label,
        created_ms=row.created_ms,
        disabled_ms=row.disabled_ms,
        sealed_by=row.cipher_key,
    )


def _label(label: str) -> str:
    label = label.strip()
    if not label or len(label) > 100 or not label.isprintable() or "/" in label:
        raise InvalidRequest("a label has 1 to 100 printable characters and no /", param="label")
    return label


def _secret(secret: str) -> str:
    secret = secret.strip()
    if not secret or len(secret) > MAX_SECRET_CHARS or "\0" in secret:
        raise InvalidRequest(f"a secret has 1 to {MAX_SECRET_CHARS} characters", param="secret")
    return secret
