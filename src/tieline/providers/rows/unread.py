"""Why a row makes no claim about data: one wording for each reason, so that a reader sees which rows to ask about."""

from __future__ import annotations

from tieline.providers.row import DataPolicy

LOOKED = "2026-11-22"

NOT_FOUND = DataPolicy(
    note="looked for a privacy policy, terms and a data-usage page of the vendor: none at hand speaks of API prompts",
    date=LOOKED,
)
PASSES_ON = DataPolicy(note="passes prompts on: what becomes of them depends on the host that it chooses")


def not_at_hand(note: str) -> DataPolicy:
    """Looked for, and what was found says nothing about API prompts."""
    return DataPolicy(date=LOOKED, note=note)


def no_one_answer(source: str, note: str, page_date: str | None = None) -> DataPolicy:
    """The vendor's page was read, and what it says depends on something that a row does not know."""
    return DataPolicy(source=source, date=LOOKED, page_date=page_date, note=note)
