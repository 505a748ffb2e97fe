"""LiveBench's figures, matched to names. A variant is a model at one effort; the name's own figure is the default's."""

from __future__ import annotations

import csv
import re
from collections.abc import Callable
from pathlib import Path

EFFORT = re.compile(
    r"-(?P<thinking>thinking-(?:auto-|\d+k-))?(?P<effort>xhigh|high|medium|low|minimal|none|nothinking|highthinking|base)"
    r"(?:-effort)?$|-(?P<plain>thinking)(?:-\d+k)?$"
)


def read(path: Path) -> dict[str, dict[str, float]]:
    """Variant -> category -> 0..100; what was not measured is left out."""
    with path.open(newline="") as file:
        return {
            row.pop("variant"): {name: float(value) for name, value in row.items() if value}
            for row in csv.DictReader(file)
        }


def split(
    variant: str, known: Callable[[str], str | None], overrides: dict[str, str]
) -> tuple[str | None, str]:
    """(our name or None, effort): the variant itself when that is a model's name, else without its effort."""
    match = EFFORT.search(variant)
    effort = _label(match) if match else ""
    if variant in overrides:
        return known(overrides[variant]), effort
    whole = known(variant)
    if whole is not None:
        return whole, ""
    return (known(variant[: match.start()]), effort) if match else (None, "")


def _label(match: re.Match[str]) -> str:
    """``high``, or ``thinking high`` for Claude's two switches."""
    return " ".join(
        part for part in ("thinking" if match["thinking"] else "", match["effort"] or match["plain"]) if part
    )


def default_effort(name: str) -> tuple[str, ...]:
    """What a request that says nothing gets, then the nearest weaker ones that may have been measured.

    OpenAI: medium, none from GPT-5.1 on; Claude: thinking off and effort high, from 4.6 adaptive; Gemini: thinking on.
    (see platform.openai.com/docs/guides/reasoning, platform.claude.com/docs/en/build-with-claude/effort,
    ai.google.dev/gemini-api/docs/thinking)
    """
    if re.match(r"gpt-5\.[1-4](?!.*codex)", name):
        return ("", "nothinking", "none", "low", "medium", "high", "xhigh")
    if name.startswith("claude-") and re.search(r"-(4-[6-9]|[5-9])(-|$)", name):
        return ("high", "thinking high", "medium", "thinking medium", "low", "", "xhigh")
    if name.startswith("claude-"):
        return ("", "base", "high", "medium", "low")
    if name.startswith("gemini-"):
        return ("high", "highthinking", "medium", "low", "")
    return ("", "medium", "low", "high", "xhigh", "thinking")


def choose(name: str, variants: dict[str, str]) -> str:
    """Of {effort: variant} the one that stands for the name."""
    for effort in default_effort(name):
        if effort in variants:
            return variants[effort]
    return variants[min(variants)]
