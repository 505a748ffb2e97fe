"""Virtual keys: what they look like, how they are kept, how one is found.

A secret is 256 random bits, so its plain SHA-256 is kept: there is nothing to guess, and a slow hash (for passwords) would
cost each request what it is meant to cost an attacker. Lookup is one dictionary access by digest; how long that takes
tells at most something about digests, and the digest found is compared in constant time. (A secret that was good is looked
up by itself afterwards, in a dictionary whose hash of it nobody outside can know.)
"""

from __future__ import annotations

import hashlib
import hmac
import secrets

from tieline.admit.snapshot import Key, Snapshot
from tieline.types.errors import Unauthenticated

PREFIX = "tl-"
_SECRET_BYTES = 32
MAX_SECRET_CHARS = 512
"""Longer than any key; what is longer is not hashed."""


def make_secret() -> str:
    """A new key to be shown once."""
    return PREFIX + secrets.token_urlsafe(_SECRET_BYTES)


def digest_of(secret: str) -> bytes:
    """Raises Unauthenticated for what is too long to be hashed."""
    if len(secret) > MAX_SECRET_CHARS:
        raise _wrong()
    return hashlib.sha256(secret.encode("utf-8", "replace")).digest()


def hint_of(secret: str) -> str:
    return secret[-4:]


def find(snapshot: Snapshot, digest: bytes, now_ms: float) -> Key:
    """The key that a secret of this digest presents. Raises Unauthenticated; the message never shows the secret."""
    known = snapshot.secrets.get(digest)
    if known is None or not hmac.compare_digest(known.digest, digest):
        raise _wrong()
    key = snapshot.keys[known.key_id]
    if known.expires_ms is not None and now_ms >= known.expires_ms:
        raise Unauthenticated(
            f"This secret of key {key.name!r} was replaced and is not valid any more.",
            hint="Use the new one.",
        )
    if key.revoked_ms is not None:
        raise Unauthenticated(f"Key {key.name!r} was revoked.")
    if key.expires_ms is not None and now_ms >= key.expires_ms:
        raise Unauthenticated(f"Key {key.name!r} has expired.", hint="Ask for a new one, or extend it.")
    if snapshot.projects[key.project_id].archived_ms is not None:
        raise Unauthenticated(f"The project of key {key.name!r} is archived.")
    return key


def _wrong() -> Unauthenticated:
    return Unauthenticated(
        "Incorrect API key provided.", hint="Virtual keys begin with tl-; `tieline keys create` makes one."
    )
