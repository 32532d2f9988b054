"""The application: all commands, in the order in which a user meets them."""

from __future__ import annotations

from collections.abc import Callable

import typer

from amla.cli import benchmark, comparisons, katib, lists, networks, runs

app = typer.Typer(
    name="amla",
    help="Construct a small, accurate network for your own images, and compare architecture-search algorithms fairly.",
    no_args_is_help=True,
    add_completion=False,
    rich_markup_mode=None,
    pretty_exceptions_enable=False,
    epilog="Every command takes --help; --debug shows the traceback of an error.",
)
COMMANDS: tuple[Callable[..., None], ...] = (
    runs.search,
    runs.run,
    runs.train,
    runs.resume,
    runs.stop,
    comparisons.compare,
    networks.evaluate,
    networks.predict,
    networks.export,
    networks.convert,
    lists.searchers,
    lists.spaces,
    lists.datasets,
    lists.schema,
)
for command in COMMANDS:
    app.command()(command)
app.add_typer(lists.experiments, name="experiments")
app.add_typer(benchmark.app, name="benchmark")
app.add_typer(katib.app, name="katib")


@app.callback(invoke_without_command=True)
def _root(version: bool = typer.Option(False, "--version", help="Print the version and leave.")) -> None:
    if version:
        from amla import __version__

        typer.echo(__version__)
        raise typer.Exit
