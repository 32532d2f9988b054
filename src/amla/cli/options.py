"""Options that several commands share. Each is a key of an experiment file too (dashes become underscores)."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated, Any

import typer
import yaml

from amla.errors import ConfigError

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


def with_settings(options: dict[str, Any], assignments: list[str] | None) -> dict[str, Any]:
    """The options with ``--set KEY=VALUE`` put in: dots go down into a key, values are YAML. Errors: ``ConfigError``."""
    merged: dict[str, Any] = json.loads(json.dumps(options))
    for assignment in assignments or ():
        key, sign, text = assignment.partition("=")
        if not sign or not key.strip():
            raise ConfigError(f"--set {assignment}: write KEY=VALUE")
        place = merged
        *above, last = key.strip().split(".")
        for part in above:
            inner = place.setdefault(part, {})
            if isinstance(inner, str):
                inner = place[part] = {"name": inner}
            if not isinstance(inner, dict):
                raise ConfigError(f"--set {assignment}: {part} is a value, not a group of keys")
            place = inner
        try:
            place[last] = yaml.safe_load(text)
        except yaml.YAMLError:
            raise ConfigError(f"--set {assignment}: the value is not YAML") from None
    return merged
