"""Draws docs/img/demo.svg: the terminal of a real ``tieline demo``. Exits 1 when something did not happen.

python scripts/demo_picture.py
"""

from __future__ import annotations

import io
import sys
from pathlib import Path

from rich.console import Console

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT / "src"))

from tieline.cli import terminal  # noqa: E402

terminal.console = Console(record=True, width=132, file=io.StringIO(), highlight=False)

from tieline.cli.demo import demo  # noqa: E402

if __name__ == "__main__":
    terminal.console.print("[dim]$[/] tieline demo")
    failed = demo(as_json=False)
    svg = terminal.console.export_svg(title="tieline demo", unique_id="demo")
    (ROOT / "docs" / "img" / "demo.svg").write_text(svg, "utf-8")
    sys.exit(failed)
