"""``amla compare``: a table of experiments, run before where a file asks for it."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from amla.cli.options import JsonOption, QuietOption, StoreOption

INTERRUPTED = 130


def compare(
    experiments: Annotated[
        list[str], typer.Argument(help="Ids, names or folders of experiments; or one comparison file (YAML).")
    ],
    baseline: Annotated[
        str | None, typer.Option(metavar="ARM", help="The arm that others are tested against.", show_default=False)
    ] = None,
    anyway: Annotated[
        bool, typer.Option("--anyway", help="Compare what differs in data, stem, head or final training.")
    ] = False,
    arms: Annotated[str | None, typer.Option(help="Some arms of the file: a,b", show_default=False)] = None,
    seeds: Annotated[str | None, typer.Option(help="Other seeds than the file's: 0,1", show_default=False)] = None,
    out: Annotated[
        Path | None,
        typer.Option(help="Folder for table, plots and runs; amla-runs/NAME for a file", show_default=False),
    ] = None,
    store: StoreOption = None,
    quiet: QuietOption = False,
    as_json: JsonOption = False,
) -> None:
    """Compare experiments over their seeds: a table with a significance test, and plots. Runs a comparison file."""
    from amla import comparing
    from amla.cli.comparison_screen import overseen, print_comparison

    try:
        found = comparing.compare(
            *experiments,
            baseline=baseline,
            anyway=anyway,
            arms=_words(arms),
            seeds=_numbers(seeds),
            out=out,
            store=store,
            overseer=overseen(quiet or as_json, store),
        )
    except comparing.Stopped:
        typer.echo(f"amla: stopped; `amla compare {experiments[0]}` goes on", err=True)
        raise typer.Exit(INTERRUPTED) from None
    if as_json:
        typer.echo(found.to_json(indent=2))
    else:
        print_comparison(found)
    if any(row.failed for row in found.rows):
        raise typer.Exit(1)


def _words(text: str | None) -> list[str]:
    return [word.strip() for word in text.split(",") if word.strip()] if text else []


def _numbers(text: str | None) -> list[int]:
    from amla.errors import ConfigError

    words = _words(text)
    if not all(word.isdecimal() for word in words) or (text is not None and not words):
        raise ConfigError(f"--seeds {text}: write whole numbers, such as 0,1,2")
    return [int(word) for word in words]
