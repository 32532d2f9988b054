"""Commands that list: experiments, searchers, datasets, schema."""

from __future__ import annotations

import json
from typing import Annotated, Any

import typer

from amla.cli.options import JsonOption, StoreOption

experiments = typer.Typer(help="List, show and delete experiments.", no_args_is_help=True)

#: The documents whose JSON Schema can be printed.
SCHEMAS = ("architecture", "graph", "experiment", "trial", "result")


@experiments.command("list")
def list_experiments(store: StoreOption = None, as_json: JsonOption = False) -> None:
    """All experiments of the store, the oldest first; none where there is no store yet."""
    found = _summaries(store)
    if as_json:
        typer.echo(json.dumps([{"id": item.pop("experiment"), **item} for item in found], indent=2))
        return
    rows = [
        [
            item["experiment"],
            item["name"] if item["name"] != item["experiment"] else "",
            item["dataset"],
            item["searcher"],
            item["state"],
            f"{100 * item['test']['accuracy']:.2f} %" if item["test"] else "",
            item["created"],
        ]
        for item in found
    ]
    _table(["id", "name", "dataset", "searcher", "state", "test", "created"], rows)


def _summaries(url: str | None) -> list[dict[str, Any]]:
    from amla.engine.database import is_missing, shown
    from amla.engine.store import Store, default_url
    from amla.engine.summary import summary

    asked = url or default_url()
    if is_missing(asked):
        typer.echo(f"amla: there is no store {shown(asked)} yet", err=True)
        return []
    with Store(asked, create=False) as opened:
        return [summary(e, opened.trials(e.id)) | {"created": e.created} for e in opened.experiments()]


@experiments.command("show")
def show_experiment(
    experiment: Annotated[str, typer.Argument(help="Its id or name.")],
    store: StoreOption = None,
    as_json: JsonOption = False,
) -> None:
    """One experiment with its trials."""
    from amla.engine.store import Store
    from amla.engine.summary import summary
    from amla.reports.words import phrase
    from amla.spec.data import Split

    with Store(store, create=False) as opened:
        found = opened.experiment(experiment)
        trials = opened.trials(found.id)
    document = summary(found, trials)
    if as_json:
        document = {"id": document.pop("experiment"), **document}
        document["folder"] = found.folder
        document["trials"] = [trial.to_data() for trial in trials]
        typer.echo(json.dumps(document, indent=2))
        return
    for key in ("experiment", "name", "state", "dataset", "searcher", "seed", "device"):
        typer.echo(f"{key:>12}  {document[key]}")
    typer.echo(f"{'folder':>12}  {found.folder}")
    for name, value in (document["best"] or {}).get("hyperparameters", {}).items():
        typer.echo(f"{'best':>12}  {name} = {phrase(value) or value}")
    rows = []
    for trial in trials:
        result = trial.result
        split: Split = "test" if trial.spec.purpose == "test" else "valid"
        accuracy = result.metrics[split]["accuracy"] if result and split in result.metrics else None
        rows.append(
            [
                str(trial.number),
                trial.spec.purpose,
                trial.state,
                f"{100 * accuracy:.2f} %" if accuracy is not None else "",
                f"{result.parameters:,}" if result and result.parameters else "",
                f"{result.cost.seconds:.1f}" if result else "",
                result.failure.reason if result and result.failure else "",
            ]
        )
    _table(["trial", "purpose", "state", "accuracy", "parameters", "seconds", ""], rows)


@experiments.command("delete")
def delete_experiment(
    experiment: Annotated[str, typer.Argument(help="Its id or name.")],
    store: StoreOption = None,
    files: Annotated[bool, typer.Option("--files", help="Delete its folder as well.")] = False,
    as_json: JsonOption = False,
) -> None:
    """Forget an experiment and its trials."""
    from amla import artifacts
    from amla.engine.store import Store

    with Store(store, create=False) as opened:
        found = opened.experiment(experiment)
        opened.delete(found.id)
    if files:
        artifacts.remove_folder(found.folder)
    kept = "" if files else f"; its files stay in {found.folder}"
    typer.echo(json.dumps({"deleted": found.id}) if as_json else f"deleted {found.id}{kept}")


NameArgument = Annotated[str | None, typer.Argument(help="Show the settings of this one.", show_default=False)]


def searchers(name: NameArgument = None, as_json: JsonOption = False) -> None:
    """The search algorithms, or the settings of one."""
    _plugins("searchers", name, as_json)


def spaces(name: NameArgument = None, as_json: JsonOption = False) -> None:
    """The search spaces, or the settings of one."""
    _plugins("spaces", name, as_json)


def datasets(as_json: JsonOption = False) -> None:
    """The kinds of datasets."""
    _plugins("datasets", None, as_json)


def schema(
    document: Annotated[str, typer.Argument(help=f"One of {', '.join(SCHEMAS)}.")] = "architecture",
    as_json: JsonOption = False,
) -> None:
    """The JSON Schema of a document; it is JSON with and without --json."""
    from amla.errors import ConfigError
    from amla.spec.architecture import architecture_schema
    from amla.spec.base import Document
    from amla.spec.experiment import ExperimentSpec
    from amla.spec.graph import Graph
    from amla.spec.trial import Result, TrialSpec

    kinds: dict[str, type[Document]] = {
        "graph": Graph,
        "experiment": ExperimentSpec,
        "trial": TrialSpec,
        "result": Result,
    }
    if document == "architecture":
        found: dict[str, Any] = architecture_schema()
    elif document in kinds:
        found = kinds[document].model_json_schema()
    else:
        raise ConfigError(f"there is no document {document!r}; there are: {', '.join(SCHEMAS)}")
    typer.echo(json.dumps(found, indent=2))


def _plugins(kind: str, name: str | None, as_json: bool) -> None:
    """All plug-ins of a kind, or the settings of the one of that name."""
    from amla import registry

    if name is None:
        _print_named({key: _about(kind, key) for key in registry.names(kind)}, as_json)
        return
    schema: dict[str, Any] = registry.load(kind, name).Settings.model_json_schema()
    if as_json:
        typer.echo(json.dumps(schema, indent=2))
        return
    typer.echo(_first_line(registry.load(kind, name)))
    rows = [
        [key, json.dumps(value.get("default")), value.get("description", "")]
        for key, value in schema.get("properties", {}).items()
    ]
    _table(["setting", "default", "meaning"], rows)


def _about(kind: str, name: str) -> str:
    """What a plug-in is; where a library is missing, what it needs, so that the others are listed all the same."""
    from amla import registry
    from amla.errors import PluginError

    try:
        return _first_line(registry.load(kind, name))
    except PluginError as error:
        return str(error)


def _first_line(plugin: Any) -> str:
    import inspect

    own = inspect.getdoc(plugin) or ""
    module = inspect.getdoc(inspect.getmodule(plugin)) or ""
    return (module or own).splitlines()[0].replace("``", "")


def _print_named(found: dict[str, str], as_json: bool) -> None:
    if as_json:
        typer.echo(json.dumps([{"name": key, "about": value} for key, value in found.items()], indent=2))
        return
    width = max(len(key) for key in found)
    for key, value in found.items():
        typer.echo(f"{key:<{width}}  {value}")


def _table(head: list[str], rows: list[list[str]]) -> None:
    widths = [max(len(row[i]) for row in [head, *rows]) for i in range(len(head))]
    for row in [head, *rows]:
        typer.echo("  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip())
