"""``amla benchmark``: searchers raced on a table of published results."""

from __future__ import annotations

import functools
import json
import os
import shlex
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from amla.cli.options import JsonOption, QuietOption
from amla.engine.options import with_settings
from amla.errors import ConfigError

if TYPE_CHECKING:
    from pydantic import JsonValue

    from amla.engine.benchmark import Race
    from amla.reports.races import Ran

app = typer.Typer(help="Race searchers on a table of published results.", no_args_is_help=True)


@app.command()
def nasbench201(
    table: Annotated[Path, typer.Option(help="The table, Parquet or CSV (docs/benchmark.md).")],
    dataset: Annotated[str, typer.Option(help="cifar10, cifar100, imagenet16, several with commas, or all.")] = "all",
    searchers: Annotated[str, typer.Option(help="Names with commas between.")] = "random,evolution",
    seeds: Annotated[str, typer.Option(help="How many, or a list with commas.")] = "200",
    evaluations: Annotated[
        str | None, typer.Option(help="Networks a search; several with commas.", show_default="200")
    ] = None,
    time_budget: Annotated[
        str | None, typer.Option(help="Simulated time a search, e.g. 20000s.", show_default=False)
    ] = None,
    workers: Annotated[int, typer.Option(help="Simulated machines a search.", min=1)] = 1,
    jobs: Annotated[int, typer.Option(help="Processes here; 0: one a CPU.", min=0)] = 0,
    assignments: Annotated[
        list[str] | None,
        typer.Option("--set", metavar="SEARCHER.KEY=VALUE", help="A setting, e.g. evolution.population=20."),
    ] = None,
    out: Annotated[Path, typer.Option(help="Folder for the plots.")] = Path("amla-runs/nasbench201"),
    quiet: QuietOption = False,
    as_json: JsonOption = False,
) -> None:
    """Test accuracy and regret of what each searcher finds on NAS-Bench-201, over many seeds."""
    from amla.engine import benchmark
    from amla.engine.options import seconds as duration
    from amla.reports.races import require_plots, write_races

    numbers, names = _seeds(seeds), _listed(searchers, "--searchers")
    settings = _settings(names, assignments)
    seconds = duration(time_budget) if time_budget is not None else None
    races = [
        benchmark.Race(
            table=str(table),
            dataset=data,
            searcher=name,
            settings=settings[name],
            evaluations=count,
            time_budget=seconds,
            workers=workers,
        )
        for data in _datasets(dataset)
        for name in names
        for count in _evaluations(evaluations, benchmark.ALL if seconds else benchmark.USUAL)
    ]
    require_plots()
    benchmark.check(races)
    ran = _run(races, numbers, jobs or os.cpu_count() or 1, quiet or as_json)
    written = write_races(ran, shlex.join(["amla", *sys.argv[1:]]), out)
    if as_json:
        artifacts = {path.name: str(path) for path in written}
        typer.echo(json.dumps({"rows": [one.row.to_data() for one in ran], "artifacts": artifacts}, indent=2))
    else:
        _print(ran, written)


@app.command()
def convert(
    source: Annotated[
        Path, typer.Argument(help="NATS-tss-...-simple, NATS-tss-....pickle.pbz2 or NAS-Bench-201-....pth.")
    ],
    out: Annotated[Path, typer.Option("--out", "-o", help="The table, .parquet or .csv.")] = Path(
        "nasbench201.parquet"
    ),
    quiet: QuietOption = False,
    as_json: JsonOption = False,
) -> None:
    """Make the table out of the files that NATS-Bench and NAS-Bench-201 give out; nothing in them is run."""
    from rich.console import Console
    from rich.progress import track

    from amla.datasets.nasbench_files import official_rows
    from amla.datasets.table import write_table
    from amla.engine.benchmark import ALL

    shown = track(
        official_rows(source),
        description="cells",
        total=ALL,
        console=Console(stderr=True),
        transient=True,
        disable=quiet or as_json,
    )
    rows = write_table(source, shown, out)
    typer.echo(json.dumps({"table": str(out), "rows": rows}) if as_json else str(out))


def _run(races: Sequence[Race], seeds: Sequence[int], processes: int, quiet: bool) -> list[Ran]:
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, SpinnerColumn, TextColumn, TimeElapsedColumn

    from amla.engine import benchmark
    from amla.reports.races import Ran

    columns = (
        SpinnerColumn(),
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TimeElapsedColumn(),
    )
    ran = []
    with Progress(*columns, console=Console(stderr=True), transient=True, disable=quiet) as progress:
        for race in races:
            bar = progress.add_task(f"{race.dataset} {race.searcher}", total=len(seeds))
            row, curve = benchmark.run(race, seeds, processes, functools.partial(progress.advance, bar))
            ran.append(Ran(row, curve))
    return ran


def _print(ran: Sequence[Ran], written: Sequence[Path]) -> None:
    from rich.box import SIMPLE_HEAD
    from rich.console import Console
    from rich.table import Table

    title = f"NAS-Bench-201: per cent, mean ± deviation over {ran[0].row.seeds} seeds"
    table = Table(title=title, title_style="bold", box=SIMPLE_HEAD)
    for name in ("data set", "searcher"):
        table.add_column(name, no_wrap=True)
    for name in ("networks", "test", "regret", "simulated", "took"):
        table.add_column(name, justify="right", no_wrap=True)
    for row, _ in ran:
        test = f"{row.test_mean:.2f} ± {row.test_std:.2f}"
        hours, took = f"{row.simulated_seconds / 3600:.1f} h", f"{row.seconds:.1f} s"
        networks = f"{row.evaluations_mean:g}"
        table.add_row(row.dataset, row.searcher, networks, test, f"{row.regret_mean:.2f}", hours, took)
    console = Console()
    console.print(table)
    for path in written:
        console.print(str(path), soft_wrap=True)


# ---------------------------------------------------------------------------------------------------------------- options
def _listed(text: str, option: str) -> list[str]:
    names = list(dict.fromkeys(name.strip() for name in text.split(",") if name.strip()))
    if not names:
        raise ConfigError(f"{option}: the list is empty; give at least one")
    return names


def _numbers(text: str, option: str, least: int) -> list[int]:
    found = []
    for word in _listed(text, option):
        if not word.isdecimal() or int(word) < least:
            raise ConfigError(f"{option}: {word!r} is no whole number from {least} on")
        found.append(int(word))
    return found


def _seeds(text: str) -> list[int]:
    """A single number is how many: 0, 1, 2, ..."""
    found = _numbers(text, "--seeds", 0)
    if len(found) > 1:
        return found
    if not found[0]:
        raise ConfigError("--seeds: the list is empty; give at least one")
    return list(range(found[0]))


def _evaluations(text: str | None, usual: int) -> list[int]:
    return [usual] if text is None else _numbers(text, "--evaluations", 1)


def _datasets(text: str) -> list[str]:
    from amla.datasets.table import BENCHMARKED

    names = _listed(text, "--dataset")
    if names == ["all"]:
        return list(BENCHMARKED)
    unknown = next((name for name in names if name not in BENCHMARKED), None)
    if unknown is not None:
        raise ConfigError(f"--dataset {unknown}: it is one of {', '.join(BENCHMARKED)}, or all")
    return names


def _settings(names: Sequence[str], assignments: list[str] | None) -> dict[str, dict[str, JsonValue]]:
    """Settings by searcher. Errors: ``ConfigError``."""
    found = with_settings({name: {} for name in names}, assignments)
    stranger = next((key for key, value in found.items() if key not in names or not isinstance(value, dict)), None)
    if stranger is not None:
        raise ConfigError(f"--set {stranger}: write SEARCHER.KEY=VALUE, SEARCHER being one of {', '.join(names)}")
    return found
