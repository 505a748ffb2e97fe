"""``python -m tests.conformance [--json FILE] [--only TEXT]``: the table; exit code 1 when a cell failed."""

from __future__ import annotations

import argparse
import sys
import tempfile
import warnings
from collections import Counter
from pathlib import Path

import msgspec
from rich.console import Console
from rich.progress import track
from rich.table import Table

from tests.conformance.features import FEATURES
from tests.conformance.matrix import Cell, matrix_world, names, run
from tests.conformance.world import HOSTS

_MARKS = {"passed": "[green]✓[/]", "failed": "[red]✗[/]", "not offered": "[dim]–[/]"}


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.conformance", description=__doc__)
    parser.add_argument("--json", metavar="FILE", help="write every cell with its detail")
    parser.add_argument(
        "--only", metavar="TEXT", default="", help="cells whose `client/host/feature` holds TEXT"
    )
    options = parser.parse_args()
    warnings.simplefilter("ignore")
    console = Console(width=None if sys.stdout.isatty() else 110)
    wanted = [cell for cell in names() if options.only in "/".join(cell)]
    with tempfile.TemporaryDirectory() as folder, matrix_world(Path(folder)) as (world, clients):
        cells = [
            run(world, clients[client], host, feature)
            for client, host, feature in track(wanted, "Cells", console=console, transient=True)
        ]
    for client in dict.fromkeys(cell.client for cell in cells):
        console.print(_table(client, [cell for cell in cells if cell.client == client]))
    _details(console, cells)
    counts = Counter(cell.result for cell in cells)
    console.print(", ".join(f"{counts[result]} {result}" for result in _MARKS))
    if options.json:
        Path(options.json).write_bytes(msgspec.json.format(msgspec.json.encode(cells)))
    return 1 if counts["failed"] else 0


def _table(client: str, cells: list[Cell]) -> Table:
    table = Table(title=f"{client} SDK", title_justify="left")
    table.add_column("feature")
    for host in HOSTS:
        table.add_column(host.dialect, justify="center")
    found = {(cell.feature, cell.host): _MARKS[cell.result] for cell in cells}
    for feature in FEATURES:
        row = [found.get((feature, host.name), "") for host in HOSTS]
        if any(row):
            table.add_row(feature, *row)
    return table


def _details(console: Console, cells: list[Cell]) -> None:
    sources = {cell.detail: cell for cell in cells if cell.result == "not offered"}
    for source, cell in sources.items():
        console.print(f"– {cell.feature}: not offered by the vendor ({source})", markup=False)
    for cell in cells:
        if cell.result == "failed":
            console.print(f"✗ {cell.client} / {cell.host} / {cell.feature}: {cell.detail}", markup=False)


if __name__ == "__main__":
    sys.exit(main())
