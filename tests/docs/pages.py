"""The documentation as data: pages, fenced blocks, marked tables."""

from __future__ import annotations

import re
from pathlib import Path

from msgspec import Struct

ROOT = Path(__file__).resolve().parent.parent.parent
DOCS = ROOT / "docs"

_FENCE = re.compile(r"^(?P<indent> *)```(?P<language>\w*)\n(?P<body>.*?)^(?P=indent)```$", re.M | re.S)
_COMMENT = re.compile(r"<!-- (?P<text>[^>]*?) -->\s*\Z")
_CODE = re.compile(r"`([^`\n]+)`")


class Block(Struct, frozen=True):
    page: str
    line: int
    language: str
    mark: str
    """The HTML comment that stands right before it, or nothing."""
    body: str

    @property
    def id(self) -> str:
        return f"{self.page}:{self.line}"


def pages() -> list[Path]:
    return [*sorted(ROOT.glob("*.md")), *sorted(DOCS.rglob("*.md"))]


def blocks(language: str) -> list[Block]:
    return [block for page in pages() for block in _blocks_of(page) if block.language == language]


def _blocks_of(page: Path) -> list[Block]:
    text = page.read_text("utf-8")
    found = []
    for match in _FENCE.finditer(text):
        before = text[: match.start()]
        mark = _COMMENT.search(before)
        indent = len(match["indent"])
        body = "\n".join(line[indent:] for line in match["body"].splitlines())
        name = page.relative_to(ROOT).as_posix()
        found.append(
            Block(name, before.count("\n") + 1, match["language"], mark["text"] if mark else "", body)
        )
    return found


def table(page: str, name: str) -> list[list[str]]:
    """The rows of the table between ``<!-- name -->`` and ``<!-- /name -->``, cell by cell, without its head."""
    text = (DOCS / page).read_text("utf-8")
    inner = text.split(f"<!-- {name} -->")[1].split(f"<!-- /{name} -->")[0]
    rows = [line for line in inner.splitlines() if line.startswith("|")][2:]
    return [[cell.strip() for cell in re.split(r"(?<!\\)\|", row)[1:-1]] for row in rows]


def codes(cell: str) -> list[str]:
    """What a cell has in backticks."""
    return _CODE.findall(cell)
