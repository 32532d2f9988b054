"""``amla katib``: the searchers inside Kubeflow Katib."""

from __future__ import annotations

import json
import signal
import sys
import threading
from pathlib import Path
from typing import Annotated

import typer
import yaml

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

app = typer.Typer(help="The searchers inside Kubeflow Katib (docs/kubeflow.md).", no_args_is_help=True)


@app.command()
def serve(
    port: Annotated[int, typer.Option(help="Katib expects 6789; 0 takes a free one.", min=0, max=65535)] = 6789,
    host: Annotated[str, typer.Option(help="Address to listen at.")] = "[::]",
    quiet: QuietOption = False,
) -> None:
    """Serve suggestions and rules of early stopping over gRPC until it is told to stop."""
    from amla.cli.extras import needs

    needs("grpc", "grpc_health", what="amla katib serve")
    from amla.services.katib.server import serving

    stopped = threading.Event()
    for kind in (signal.SIGINT, signal.SIGTERM):
        signal.signal(kind, lambda *_: stopped.set())
    with serving(port, host) as taken:
        if not quiet:
            typer.echo(f"serving api.v1.beta1 at {host}:{taken}", err=True)
        stopped.wait()


@app.command()
def trial(
    dataset: Annotated[
        str, typer.Option(envvar="AMLA_DATASET", help="A dataset's name, or its specification as JSON.")
    ],
    architecture: Annotated[
        str, typer.Option(envvar="AMLA_ARCHITECTURE", help="A suggestion's `architecture`.", show_default=False)
    ] = "",
    parcel: Annotated[
        str, typer.Option("--trial", envvar="AMLA_TRIAL", help="A suggestion's `trial`.", show_default=False)
    ] = "",
    search: Annotated[
        str, typer.Option(envvar="AMLA_SEARCH", help="Flattened: an experiment file as JSON.", show_default=False)
    ] = "",
    decisions: Annotated[
        str, typer.Option(envvar="AMLA_DECISIONS", help="Flattened: NAME=VALUE;NAME=VALUE;...", show_default=False)
    ] = "",
    experiment: Annotated[str, typer.Option(envvar="AMLA_EXPERIMENT", help="The Experiment's name.")] = "experiment",
    artifacts: Annotated[
        str | None, typer.Option(envvar="AMLA_ARTIFACTS", help="URL that all trials reach.", show_default=False)
    ] = None,
    trainer: Annotated[str, typer.Option(envvar="AMLA_TRAINER", help="The ML library.")] = "torch",
    threads: Annotated[int, typer.Option(envvar="AMLA_THREADS", help="CPU threads; 0: as many as there are.")] = 0,
) -> None:
    """Run one trial in its container: train the network of the environment, print what Katib collects."""
    from amla.errors import ConfigError
    from amla.services.katib.trial import Place, run, run_flat
    from amla.spec.data import DatasetSpec

    data = DatasetSpec.from_json(dataset) if dataset.startswith("{") else DatasetSpec(name=dataset)
    place = Place(experiment=experiment, dataset=data, trainer=trainer, threads=threads, artifacts=artifacts or None)
    if search:
        run_flat(search, decisions, place, _now)
    elif architecture and parcel:
        run(architecture, parcel, place, _now)
    else:
        raise ConfigError("--architecture and --trial, or --search and --decisions, say what is to be trained")


@app.command("experiment")
def make_experiment(
    dataset: Annotated[str, typer.Argument(help="See `amla datasets`; it is read here, for its sizes.")],
    searcher: Annotated[str, typer.Option(help="See `amla searchers`.")] = "nac",
    space: Annotated[str | None, typer.Option(help="See `amla spaces`.", show_default="envelope")] = None,
    form: Annotated[
        str,
        typer.Option(help="nas (nasConfig), parameters (with hyperparameters), or flat (for Katib's own algorithms)."),
    ] = "nas",
    name: Annotated[str | None, typer.Option(help="The Experiment's name.", show_default="SEARCHER-DATASET")] = None,
    namespace: Annotated[str | None, typer.Option(help="Its namespace.", show_default=False)] = None,
    kind: Annotated[str, typer.Option(help="What runs a trial: Job or TrainJob.")] = "Job",
    image: Annotated[str | None, typer.Option(help="The trials' image.", show_default=False)] = None,
    algorithm: Annotated[str, typer.Option(help="Flat: Katib's algorithm.")] = "random",
    early_stopping: Annotated[
        str | None,
        typer.Option(
            help="amla-medianstop or successive-halving, and its settings: NAME,KEY=VALUE,...", show_default=False
        ),
    ] = None,
    parallel: Annotated[int, typer.Option(help="Trials at once.", min=1)] = 1,
    gpus: Annotated[int, typer.Option(help="GPUs a trial.", min=0)] = 0,
    cpu: Annotated[str, typer.Option(help="CPUs a trial.")] = "1",
    memory: Annotated[str, typer.Option(help="Memory a trial.")] = "4Gi",
    artifacts: Annotated[
        str | None, typer.Option(help="URL or path that all trials reach: weights are inherited.", show_default=False)
    ] = None,
    artifacts_claim: Annotated[
        str | None, typer.Option(help="PersistentVolumeClaim to mount at /artifacts.", show_default=False)
    ] = None,
    data_claim: Annotated[
        str | None, typer.Option(help="PersistentVolumeClaim to mount at /data, with the dataset.", show_default=False)
    ] = None,
    env_secret: Annotated[
        str | None, typer.Option(help="Secret whose keys a trial has in its environment.", show_default=False)
    ] = None,
    data_dir: DataDirOption = None,
    seed: SeedOption = None,
    assignments: SetOption = None,
    as_json: JsonOption = False,
) -> None:
    """Print a complete Experiment, ready for `kubectl apply -f -`."""
    options = dict(locals())
    from amla import datasets
    from amla.engine.options import spec_of
    from amla.services.katib import manifest
    from amla.services.katib.templates import ARTIFACTS, Pod

    given = {key: value for key, value in options.items() if value is not None}
    of_search = ("dataset", "searcher", "space", "data_dir", "seed")
    spec = spec_of(with_settings({key: given[key] for key in of_search if key in given}, assignments))
    if artifacts_claim is not None:
        given.setdefault("artifacts", ARTIFACTS)
    asked = manifest.Form.parse(
        {
            "name": name or f"{searcher}-{spec.dataset.plugin}".replace("_", "-"),
            "namespace": namespace,
            "parameters": form,
            "parallel": parallel,
            "algorithm": algorithm,
            "early_stopping": early_stopping,
            "pod": {key: given[key] for key in Pod.model_fields if key in given},
        }
    )
    found = manifest.experiment(spec, datasets.load(spec.dataset).info, asked)
    typer.echo(json.dumps(found, indent=2) if as_json else manifest.text_of(found), nl=as_json)


@app.command()
def config(
    searchers: Annotated[
        str | None, typer.Option(help="Names with commas between.", show_default="all installed")
    ] = None,
    image: Annotated[str | None, typer.Option(help="The service's image.", show_default=False)] = None,
    stopping_image: Annotated[
        str | None, typer.Option(help="That of early stopping.", show_default="IMAGE-early-stopping")
    ] = None,
    as_json: JsonOption = False,
) -> None:
    """Print the entries that are to be merged into Katib's `katib-config`."""
    from amla import registry
    from amla.services.katib.config import config as config_of
    from amla.services.katib.templates import IMAGE

    names = searchers.split(",") if searchers else registry.names("searchers")
    found = config_of(names, image or IMAGE, stopping_image)
    typer.echo(json.dumps(found, indent=2) if as_json else yaml.safe_dump(found, sort_keys=False), nl=as_json)


@app.command("import")
def import_experiment(
    file: Annotated[Path, typer.Argument(help="`kubectl get experiment/NAME trials -o json`.")],
    artifacts: Annotated[
        str | None, typer.Option(help="Where the shared artifacts stand here, for weights.", show_default=False)
    ] = None,
    out: OutOption = None,
    store: StoreOption = None,
    as_json: JsonOption = False,
) -> None:
    """Bring a finished Experiment and its Trials into the store: report, drawings, code and, with its weights, ONNX."""
    from amla.cli.files import read_text
    from amla.engine.store import Store, default_url
    from amla.services.katib import importing

    found = importing.read(read_text(file))
    with Store(store or default_url()) as opened:
        folder = out or Path("amla-runs") / opened.free_name(found.setup.name)
        experiment, trials = importing.store_it(found, opened, folder)
    written = [str(path) for path in importing.write(found, experiment, trials, artifacts)]
    if as_json:
        typer.echo(json.dumps({"experiment": experiment.id, "trials": len(trials), "artifacts": written}, indent=2))
    else:
        typer.echo("\n".join([f"{experiment.id}: {len(trials)} trials", *written]))


def _now(text: str) -> None:
    """The collector reads while the trial runs."""
    sys.stdout.write(f"{text}\n")
    sys.stdout.flush()
