"""Options that commands share."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

ConfigOption = Annotated[
    Path | None, typer.Option("--config", "-c", help="tieline.yaml; else ./tieline.yaml or $TIELINE_CONFIG.")
]
JsonOption = Annotated[bool, typer.Option("--json", help="For machines.")]
