"""``amla katib``: the searchers inside Kubeflow Katib."""

from __future__ import annotations

import signal
import threading
from typing import Annotated

import typer

from amla.cli.options import QuietOption

app = typer.Typer(help="The searchers inside Kubeflow Katib (docs/kubeflow.md).", no_args_is_help=True)


@app.command()
def serve(
    port: Annotated[int, typer.Option(help="Katib expects 6789; 0 takes a free one.", min=0, max=65535)] = 6789,
    host: Annotated[str, typer.Option(help="Address to listen at.")] = "[::]",
    quiet: QuietOption = False,
) -> None:
    """Serve suggestions and early stopping over gRPC until it is told to stop."""
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
    architecture: Annotated[str, typer.Option(envvar="AMLA_ARCHITECTURE", help="A suggestion's `architecture`.")],
    parcel: Annotated[str, typer.Option("--trial", envvar="AMLA_TRIAL", help="A suggestion's `trial`.")],
    dataset: Annotated[
        str, typer.Option(envvar="AMLA_DATASET", help="A dataset's name, or its specification as JSON.")
    ],
    experiment: Annotated[str, typer.Option(envvar="AMLA_EXPERIMENT", help="The Experiment's name.")] = "experiment",
    artifacts: Annotated[
        str | None, typer.Option(envvar="AMLA_ARTIFACTS", help="URL that all trials reach.", show_default=False)
    ] = None,
    trainer: Annotated[str, typer.Option(envvar="AMLA_TRAINER", help="The ML library.")] = "torch",
    threads: Annotated[int, typer.Option(envvar="AMLA_THREADS", help="CPU threads; 0: as many as there are.")] = 0,
    precision: Annotated[
        str | None, typer.Option(envvar="AMLA_PRECISION", help="float32 or bfloat16.", show_default=False)
    ] = None,
) -> None:
    """Run one trial in its container: train the network of the environment, print what Katib collects."""
    from amla.services.katib.trial import Place, run
    from amla.spec.data import DatasetSpec

    data = DatasetSpec.from_json(dataset) if dataset.startswith("{") else DatasetSpec(name=dataset)
    place = Place(
        experiment=experiment,
        dataset=data,
        trainer=trainer,
        threads=threads,
        precision=precision or None,
        artifacts=artifacts or None,
    )
    run(architecture, parcel, place, lambda text: print_now(text))


def print_now(text: str) -> None:
    """The collector reads while the trial runs."""
    typer.echo(text)
    typer.get_text_stream("stdout").flush()
