"""Commands that train: search, run, train, resume, stop."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from amla.cli.options import (
    DataDirOption,
    JsonOption,
    OutOption,
    QuietOption,
    SeedOption,
    SetOption,
    StoreOption,
)
from amla.engine.options import with_settings

if TYPE_CHECKING:
    from amla.api import SearchResult
    from amla.spec.experiment import ExperimentSpec

INTERRUPTED = 130

TimeOption = Annotated[
    str | None,
    typer.Option(
        help="For search and final training together, e.g. 30m; everything is fitted to it.", show_default=False
    ),
]
JobsOption = Annotated[int | None, typer.Option(help="Trials at once (with --executor process).", show_default=False)]
ThreadsOption = Annotated[int | None, typer.Option(help="CPU threads a trial.", show_default=False)]
ExecutorOption = Annotated[str | None, typer.Option(help="inline, process or simulated.", show_default=False)]
TrainerOption = Annotated[
    str | None, typer.Option(help="The ML library: torch or keras; or tabular.", show_default=False)
]
FinalTrainerOption = Annotated[
    str | None, typer.Option(help="Another library for the final training and the test.", show_default=False)
]
EpochsOption = Annotated[float | None, typer.Option(help="Epochs of the final training.", show_default=False)]
StepsOption = Annotated[int | None, typer.Option(help="Steps of the final training.", show_default=False)]
BatchOption = Annotated[int | None, typer.Option(help="Images a step.", show_default=False)]
LimitOption = Annotated[int | None, typer.Option(help="At most so many images of each split.", show_default=False)]
SizeOption = Annotated[int | None, typer.Option(help="Side in pixels to bring images to.", show_default=False)]
PrecisionOption = Annotated[str | None, typer.Option(help="auto, float32 or bfloat16.", show_default=False)]
NameOption = Annotated[str | None, typer.Option(help="A name for the experiment.", show_default=False)]


def search(
    dataset: Annotated[str, typer.Argument(help="digits, cifar10, folder:PATH, parquet:PATH, ... (`amla datasets`)")],
    searcher: Annotated[str | None, typer.Option(help="See `amla searchers`.", show_default="nac")] = None,
    space: Annotated[str | None, typer.Option(help="See `amla spaces`.", show_default="envelope")] = None,
    time_budget: TimeOption = None,
    seed: SeedOption = None,
    data_dir: DataDirOption = None,
    criterion: Annotated[str | None, typer.Option(help="nac: what ranks the branches.", show_default=False)] = None,
    mode: Annotated[str | None, typer.Option(help="nac: while_training or afresh.", show_default=False)] = None,
    iterations: Annotated[int | None, typer.Option(help="nac: constructions.", show_default=False)] = None,
    trials: Annotated[int | None, typer.Option(help="Search trials at most.", show_default=False)] = None,
    width: Annotated[int | None, typer.Option(help="Channels of the first stage.", show_default=False)] = None,
    skips: Annotated[bool | None, typer.Option(help="Skip connections.", show_default=False)] = None,
    epochs: EpochsOption = None,
    steps: StepsOption = None,
    search_epochs: Annotated[float | None, typer.Option(help="Epochs of a search trial.", show_default=False)] = None,
    search_steps: Annotated[int | None, typer.Option(help="Steps of a search trial.", show_default=False)] = None,
    batch_size: BatchOption = None,
    precision: PrecisionOption = None,
    limit: LimitOption = None,
    image_size: SizeOption = None,
    objectives: Annotated[
        list[str] | None,
        typer.Option(
            "--objective",
            metavar="NAME",
            help="accuracy, parameters, flops, latency_ms or size_mb; again for several.",
            show_default="accuracy",
        ),
    ] = None,
    max_params: Annotated[int | None, typer.Option(help="Parameters at most.", show_default=False)] = None,
    max_flops: Annotated[
        int | None, typer.Option(help="Multiply-adds of one image at most.", show_default=False)
    ] = None,
    max_size_mb: Annotated[
        float | None, typer.Option(help="Megabytes of the weights at most.", show_default=False)
    ] = None,
    max_latency_ms: Annotated[
        float | None, typer.Option(help="Milliseconds of one image at most, measured.", show_default=False)
    ] = None,
    trainer: TrainerOption = None,
    final_trainer: FinalTrainerOption = None,
    executor: ExecutorOption = None,
    jobs: JobsOption = None,
    threads: ThreadsOption = None,
    name: NameOption = None,
    assignments: SetOption = None,
    out: OutOption = None,
    store: StoreOption = None,
    quiet: QuietOption = False,
    as_json: JsonOption = False,
) -> None:
    """Search a network for a dataset, train it, test it once, export and explain it."""
    options = dict(locals())
    for key in ("assignments", "out", "store", "quiet", "as_json"):
        options.pop(key)
    from amla.engine.options import spec_of

    said = {key: value for key, value in options.items() if value not in (None, [])}
    _start(spec_of(with_settings(said, assignments)), out, store, quiet, as_json)


def run(
    file: Annotated[Path, typer.Argument(help="An experiment (YAML), or a task file of AMLA 0.x (JSON).")],
    data_dir: DataDirOption = None,
    seed: SeedOption = None,
    epochs: EpochsOption = None,
    steps: StepsOption = None,
    search_steps: Annotated[int | None, typer.Option(help="Steps of a search trial.", show_default=False)] = None,
    limit: LimitOption = None,
    time_budget: TimeOption = None,
    executor: ExecutorOption = None,
    jobs: JobsOption = None,
    name: NameOption = None,
    assignments: SetOption = None,
    out: OutOption = None,
    store: StoreOption = None,
    quiet: QuietOption = False,
    as_json: JsonOption = False,
) -> None:
    """Run an experiment file. Options given here take the place of the file's keys."""
    from amla.cli.files import read_experiment

    overrides = {
        "data_dir": data_dir,
        "seed": seed,
        "epochs": epochs,
        "steps": steps,
        "search_steps": search_steps,
        "limit": limit,
        "time_budget": time_budget,
        "executor": executor,
        "jobs": jobs,
        "name": name,
    }
    spec, manner = read_experiment(file, overrides, assignments)
    where = Path(str(manner["out"])) if "out" in manner else None
    _start(
        spec,
        out or where,
        store or manner.get("store"),
        quiet or bool(manner.get("quiet")),
        as_json or bool(manner.get("json")),
        rename=name is None,  # a file may be run again; what is typed is meant
    )


def train(
    architecture: Annotated[Path, typer.Argument(help="architecture.json of a run, or written by hand.")],
    dataset: Annotated[str, typer.Argument(help="See `amla datasets`.")],
    epochs: EpochsOption = None,
    steps: StepsOption = None,
    batch_size: BatchOption = None,
    precision: PrecisionOption = None,
    seed: SeedOption = None,
    data_dir: DataDirOption = None,
    limit: LimitOption = None,
    image_size: SizeOption = None,
    trainer: TrainerOption = None,
    weights: Annotated[
        Path | None, typer.Option(help="Folder of weights to begin with: a run's, or one of `amla convert`.")
    ] = None,
    prune: Annotated[
        int | None,
        typer.Option(min=1, help="Branches to take away first, the weakest, one by one.", show_default=False),
    ] = None,
    executor: ExecutorOption = None,
    threads: ThreadsOption = None,
    name: NameOption = None,
    assignments: SetOption = None,
    out: OutOption = None,
    store: StoreOption = None,
    quiet: QuietOption = False,
    as_json: JsonOption = False,
) -> None:
    """Train one given network, test it once, and export it."""
    options = dict(locals())
    for key in ("architecture", "weights", "assignments", "out", "store", "quiet", "as_json"):
        options.pop(key)
    from amla.cli.files import read_text
    from amla.engine.options import spec_of
    from amla.spec.architecture import parse_architecture

    network = parse_architecture(read_text(architecture))
    said = {key: value for key, value in options.items() if value is not None}
    said |= {"weights": str(weights.resolve())} if weights else {}
    said |= {"searcher": "prune" if prune else "fixed", "settings": {"architecture": network.to_data()}}
    _start(spec_of(with_settings(said, assignments)), out, store, quiet, as_json)


def resume(
    experiment: Annotated[str, typer.Argument(help="Its id or name (`amla experiments list`).")],
    store: StoreOption = None,
    quiet: QuietOption = False,
    as_json: JsonOption = False,
) -> None:
    """Go on with a stopped, interrupted or crashed experiment; nothing that was finished is done again."""
    from amla import api
    from amla.cli.console import watching

    with watching(quiet or as_json, store) as watch:
        result = api.resume(experiment, store=store, watch=watch)
    _show(result, as_json)


def stop(
    experiment: Annotated[str, typer.Argument(help="Its id or name.")],
    store: StoreOption = None,
    as_json: JsonOption = False,
) -> None:
    """Stop a running experiment after its next checkpoint; `amla resume` goes on."""
    from amla.engine.store import Store

    with Store(store, create=False) as opened:
        found = opened.experiment(experiment)
        stopped = found.state in ("created", "running")
        if stopped:
            opened.update(found.id, state="stopped")
    if as_json:
        typer.echo(json.dumps({"experiment": found.id, "state": "stopped" if stopped else found.state}))
    elif stopped:
        typer.echo(f"{found.id} stops; go on with: amla resume {found.id}")
    else:
        typer.echo(f"{found.id} does not run: it is {found.state}")


def _start(
    spec: ExperimentSpec, out: Path | None, store: str | None, quiet: bool, as_json: bool, *, rename: bool = False
) -> None:
    from amla import api
    from amla.cli.console import watching

    with watching(quiet or as_json, store) as watch:
        result = api.run(spec, store=store, out=out, watch=watch, rename=rename)
    _show(result, as_json)


def _show(result: SearchResult, as_json: bool) -> None:
    from amla.cli.console import print_result

    document: dict[str, Any] = result.summary | {"artifacts": _artifacts(result.folder)}
    if as_json:
        typer.echo(json.dumps(document, indent=2))
    else:
        print_result(result)
    if result.experiment.state == "stopped":
        raise typer.Exit(INTERRUPTED)


def _artifacts(folder: Path) -> dict[str, str]:
    return {path.name: str(path) for path in sorted(folder.iterdir()) if path.is_file()} if folder.is_dir() else {}
