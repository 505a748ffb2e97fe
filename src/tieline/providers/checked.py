"""What of a provider's settings would fail each of its requests, said when they are loaded."""

from __future__ import annotations

import re
import ssl
from collections.abc import Mapping

from tieline.dialects.base import Quirks
from tieline.dialects.turns import fitting_id
from tieline.transport.base import TransportError
from tieline.transport.origin import split_url
from tieline.types.errors import ConfigError, InvalidRequest

_TOKEN = re.compile(r"[!#$%&'*+.^_`|~0-9A-Za-z-]*")
"""What a header's name is made of (RFC 9110, 5.6.2)."""
_CONTROL = re.compile(r"[\x00-\x08\x0a-\x1f\x7f\ud800-\udfff]")
_PATH = re.compile(r"/[\x21-\x7e]*")
_EXPRESSIONS = ("tool_id_pattern", "completions")


def check_address(url: str, place: str) -> None:
    """Raises ConfigError, which does not show the address: a password may stand in it."""
    try:
        split_url(url)
    except TransportError as error:
        hint = "Write it as https://host:port/path; a key belongs into `api_key`."
        raise ConfigError(f"{error}.", place=place, hint=hint) from None


def check_headers(headers: Mapping[str, str], place: str) -> None:
    """Raises ConfigError, which shows no value, nor of a name what may be one."""
    for name, value in headers.items():
        match = _TOKEN.match(name)
        good = match[0] if match else ""
        if not good or good != name:
            raise ConfigError(
                f"the name of a header has letters, digits and `-`, and no other character behind `{good}`.",
                place=place,
                hint="Write `name: value`.",
            )
        if _CONTROL.search(value):
            raise ConfigError(
                "the value of the header holds a line break or another control character.",
                place=f"{place}.{name}",
                hint="Was it copied whole, without the end of the line?",
            )


def check_ca_file(path: str, place: str) -> None:
    """Raises ConfigError."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    try:
        context.load_verify_locations(cafile=path)
        found = context.cert_store_stats()["x509"]
    except ssl.SSLError:
        found = 0
    except (OSError, ValueError) as error:
        why = getattr(error, "strerror", None) or "it is no path"
        hint = "Name a PEM file with the authority's certificate."
        raise ConfigError(f"cannot read the file {path}: {why}.", place=place, hint=hint) from None
    if not found:
        hint = "In PEM it begins with -----BEGIN CERTIFICATE-----."
        raise ConfigError(f"the file {path} holds no certificate in PEM.", place=place, hint=hint)


def noted_quirks(quirks: Quirks, place: str) -> ConfigError | None:
    """A word on settings that work for some requests only: ids of the host's own making fit, whatever they must look like."""
    try:
        fitting_id("", quirks.tool_id_pattern)
    except InvalidRequest:
        return ConfigError(
            "none of the tool ids that can be made matches it: a conversation with another host's tool calls cannot go on here.",
            place=f"{place}.tool_id_pattern",
            hint="9 to 64 letters and digits match ^[a-zA-Z0-9_-]{1,64}$, for one.",
        )
    return None


def check_quirks(quirks: Quirks, place: str) -> None:
    """Raises ConfigError."""
    for name in _EXPRESSIONS:
        try:
            re.compile(getattr(quirks, name))
        except (re.error, OverflowError, RecursionError) as error:
            hint = "Write it as Python's `re` has them."
            raise ConfigError(
                f"not a regular expression: {error}.", place=f"{place}.{name}", hint=hint
            ) from None
    if quirks.path and not _PATH.fullmatch(quirks.path):
        raise ConfigError("not a path:", place=f"{place}.path", hint="it begins with `/` and has no blanks.")
