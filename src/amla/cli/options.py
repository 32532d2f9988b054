"""Options that several commands share. Each is a key of an experiment file too (dashes become underscores)."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

StoreOption = Annotated[
    str | None,
    typer.Option(
        envvar="AMLA_STORE", help="URL of the store; by default sqlite:///amla-runs/amla.db", show_default=False
    ),
]
OutOption = Annotated[Path | None, typer.Option(help="Folder of the run; by default amla-runs/ID", show_default=False)]
JsonOption = Annotated[bool, typer.Option("--json", help="Print one JSON document instead of tables.")]
QuietOption = Annotated[bool, typer.Option("--quiet", "-q", help="No progress.")]
SeedOption = Annotated[int | None, typer.Option(help="Seed of everything; 0 if left out.", show_default=False)]
DataDirOption = Annotated[
    str | None,
    typer.Option(envvar="AMLA_DATA_DIR", help="Where the dataset's files are.", show_default=False),
]
SetOption = Annotated[
    list[str] | None,
    typer.Option("--set", metavar="KEY=VALUE", help="Any other key, e.g. settings.max_prune=3, training.clip=null."),
]
