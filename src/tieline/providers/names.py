"""One name for a model, whatever a host calls it.

Two ids mean the same model only when nothing but the host's way of writing differs: a path or vendor prefix, a region,
a revision of the *listing* (Bedrock's ``-v1:0``), ``:free``, dots against hyphens. Everything that may mean other weights
or another behaviour stays in the name: sizes, quantisation (``-fp8``, ``-turbo``), ``-thinking``, ``:online``, short dates
(``-0528`` *is* another DeepSeek R1), and full dates. A full date is dropped only where the catalog holds that snapshot as
what its plain name means (``Catalog.name_of``); a moving ``-latest`` keeps its own name. A wrong "same model" is worse
than a missed one.
"""

from __future__ import annotations

import re

_REGION = re.compile(r"^(us|eu|apac|ap|jp|au|ca|global|us-gov)\.")
_BEDROCK_DEEPSEEK = re.compile(r"^deepseek\.(?=[rv]\d)")
_BEDROCK_VENDOR = re.compile(
    r"^(ai21|amazon|anthropic|cohere|deepseek|google|meta|minimax|mistral|moonshot|moonshotai|nvidia|openai|qwen|writer"
    r"|xai|zai)\.(?=[a-z])"
)
_BEDROCK_VERSION = re.compile(r"-v0:(\d+)$")
_BEDROCK_REVISION = re.compile(r"-v[1-9]:\d+(:\d+k)?$|(?<=^claude-opus-4-6)-v1$")
_VERTEX_DATE = re.compile(r"@(default|\d{8}|\d{3})$")
_SAME_WEIGHTS = re.compile(r":(free|beta|nitro|floor|exacto|extended|fastest|cheapest)$|-maas$")
_WORDED_VENDOR = re.compile(
    r"^(databricks-|anthropic-(?=claude)|openai-(?=gpt-|o\d)|meta-(?=llama)|deepseek-ai-(?=deepseek)|google-(?=gem))"
)
_LONG_DATE = re.compile(r"-(20[2-3]\d)-?(0[1-9]|1[0-2])-?(0[1-9]|[12]\d|3[01])(?=$|-)")
_CLAUDE_ORDER = re.compile(
    r"^claude-([4-9](?:[.-]\d{1,2})?)-(opus|sonnet|haiku)(?=$|-)"
)  # the order of Claude 3
_CLAUDE_LATEST = re.compile(r"^(claude-.*)-latest$")
_POINT_AS_P = re.compile(r"(?<=\d)p(?=\d)")
_GLUED_VERSION = re.compile(r"^(llama|gemma|claude)(?=\d)")
_SEPARATORS = re.compile(r"[._\s-]+")


MAX_PASSES = 4
"""Decorations nest (`databricks-meta-llama-…`); two passes are the most seen."""


def clean(model_id: str) -> str:
    """The id without what only the host adds; dates as ``-YYYYMMDD``."""
    name = model_id.strip().lower().rstrip("/")
    for _ in range(MAX_PASSES):
        before, name = name, _clean(name)
        if name == before:
            break
    return name


def _clean(name: str) -> str:
    if name.startswith("accounts/fireworks/"):
        name = _POINT_AS_P.sub(".", name)  # Fireworks writes deepseek-v3p1
    name = name.rpartition("/")[2].strip() or name
    name = _REGION.sub("", name)
    name = _BEDROCK_DEEPSEEK.sub("deepseek-", name)
    name = _BEDROCK_VENDOR.sub("", name)
    name = _BEDROCK_VERSION.sub(r"-v0.\1", name)  # mistral-7b-instruct-v0:2 is Mistral's v0.2
    name = _BEDROCK_REVISION.sub("", name)
    name = _SAME_WEIGHTS.sub("", name)
    name = _VERTEX_DATE.sub(_at_date, name)
    name = _WORDED_VENDOR.sub("", name)
    name = _LONG_DATE.sub(r"-\1\2\3", name)
    name = _CLAUDE_LATEST.sub(r"\1", name)  # Anthropic's -latest and its undated names are the same aliases
    name = _CLAUDE_ORDER.sub(r"claude-\2-\1", name)
    return _GLUED_VERSION.sub(r"\1-", name)


def _at_date(match: re.Match[str]) -> str:
    return "" if match.group(1) == "default" else f"-{match.group(1)}"


def key(model_id: str) -> str:
    """What equal models have in common: ``claude-sonnet-4.5`` and ``claude-sonnet-4-5`` have one key."""
    return _SEPARATORS.sub("-", clean(model_id))


def undated(name: str) -> str | None:
    """The name without its full date; None when it has none at its end."""
    match = _LONG_DATE.search(name)
    return name[: match.start()] if match and match.end() == len(name) else None
