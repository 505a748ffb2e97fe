"""``${NAME}`` and ``${NAME:-default}`` in strings, ``file:/path`` for secrets."""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path

_REFERENCE = re.compile(r"\$\$\{|\$\{([^}]*)\}")
_NAME = re.compile(r"([A-Za-z_][A-Za-z0-9_]*)(?::-(.*))?\Z", re.DOTALL)
_MAX_SECRET_BYTES = 64 * 1024
"""A service account file is 2.5 KB; a larger file is the wrong file."""


class ExpansionError(ValueError):
    """What is wrong with a reference, with the fix."""


def expand(text: str, environ: Mapping[str, str]) -> str:
    """Replaces references once, from left to right; ``$${`` is a literal ``${``. Raises ExpansionError."""
    if "${" not in text:
        return text
    return _REFERENCE.sub(lambda match: _value(match, environ), text)


def _value(match: re.Match[str], environ: Mapping[str, str]) -> str:
    if match.group(1) is None:
        return "${"
    named = _NAME.match(match.group(1))
    if named is None:
        raise ExpansionError(f"`{match.group(0)}` is not ${{NAME}} or ${{NAME:-default}}")
    name, default = named.groups()
    value = environ.get(name)
    if value or (value is not None and default is None):
        return value
    if default is not None:
        return default
    raise ExpansionError(f"{name} is not set in the environment; set it, or write ${{{name}:-default}}")


def read_secret(text: str, environ: Mapping[str, str]) -> str:
    """A secret as written in the configuration -> itself. Raises ExpansionError, which never shows the secret."""
    value = expand(text, environ)
    if value.startswith("file:"):
        value = _read_file(value[len("file:") :])
    value = value.strip()
    if not value:
        raise ExpansionError("the key is empty")
    return value


def file_named(text: str, environ: Mapping[str, str]) -> Path | None:
    """The file that a secret is read from; None for one that stands there itself. Raises ExpansionError."""
    value = expand(text, environ)
    return Path(value[len("file:") :]).expanduser() if value.startswith("file:") else None


def _read_file(path: str) -> str:
    try:
        with Path(path).expanduser().open("rb") as file:
            data = file.read(_MAX_SECRET_BYTES + 1)
    except OSError as error:
        raise ExpansionError(f"cannot read the file {path}: {error.strerror}") from error
    if len(data) > _MAX_SECRET_BYTES:
        raise ExpansionError(f"the file {path} is larger than {_MAX_SECRET_BYTES // 1024} KB: not a key")
    try:
        return data.decode()
    except UnicodeDecodeError as error:
        raise ExpansionError(f"the file {path} is not UTF-8 text") from error


_URL = re.compile(r"([A-Za-z][A-Za-z0-9+.-]*://)?([^@?]*@)?([^@?]*)(\?[^@]*)?", re.DOTALL)


def without_password(url: str) -> str:
    """What may be a URL, however wrong it is, without the parts that may hold a password: what stands before an ``@``,
    and the query."""
    match = _URL.fullmatch(url)
    if match is None:
        return "…"
    scheme, user, place, query = match.groups()
    return f"{scheme or ''}{'…@' if user else ''}{place}{'?…' if query else ''}"


def reference_name(text: str) -> str | None:
    """The environment name when the text is one whole reference, for labels."""
    match = _REFERENCE.fullmatch(text.strip())
    named = _NAME.match(match.group(1)) if match and match.group(1) else None
    return named.group(1) if named else None
