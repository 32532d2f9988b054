"""Commands on networks that are there: evaluate, predict, export, convert."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from amla.cli.options import DataDirOption, JsonOption, StoreOption

if TYPE_CHECKING:
    from amla.spec.data import DatasetSpec

RunArgument = Annotated[str, typer.Argument(help="Folder of a run, or the id or name of an experiment.")]


def evaluate(
    run: RunArgument,
    dataset: Annotated[
        str | None, typer.Argument(help="Another dataset; by default the run's own.", show_default=False)
    ] = None,
    split: Annotated[str, typer.Option(help="train, valid or test.")] = "test",
    data_dir: DataDirOption = None,
    store: StoreOption = None,
    as_json: JsonOption = False,
) -> None:
    """Accuracy and loss of a run's network on a split of a dataset."""
    from amla import api
    from amla.errors import ConfigError
    from amla.spec.data import SPLITS

    if split not in SPLITS:
        raise ConfigError(f"--split {split}: it is one of {', '.join(SPLITS)}")
    folder = _folder(run, store)
    result = api.evaluate(folder, _dataset(folder, dataset, data_dir), split)
    found = result.metrics[split]
    if as_json:
        typer.echo(json.dumps({"run": str(folder), "split": split, **found}))
    else:
        typer.echo(f"{split}: accuracy {100 * found['accuracy']:.2f} %, loss {found['loss']:.4f}")


def predict(
    run: RunArgument,
    images: Annotated[list[Path], typer.Argument(help="Image files.")],
    store: StoreOption = None,
    as_json: JsonOption = False,
) -> None:
    """The class of each image file, by its name, and its probability."""
    from amla import api
    from amla.datasets.pixels import read_like
    from amla.exporters.folder import load_model

    folder = _folder(run, store)
    model, _ = load_model(folder)
    probabilities = api.predict_proba(folder, read_like(images, model.data))
    classes = model.data.classes
    answers = [
        {"file": str(path), "class": classes[int(row.argmax())], "probability": round(float(row.max()), 4)}
        for path, row in zip(images, probabilities, strict=True)
    ]
    if as_json:
        typer.echo(json.dumps(answers, indent=2))
    else:
        for answer in answers:
            typer.echo(f"{answer['file']}: {answer['class']} ({100 * float(str(answer['probability'])):.1f} %)")


def export(
    run: RunArgument,
    form: Annotated[
        list[str] | None, typer.Option("--format", help="onnx, safetensors, source, diagram; again for more.")
    ] = None,
    out: Annotated[Path, typer.Option(help="Where to.")] = Path(),
    store: StoreOption = None,
    as_json: JsonOption = False,
) -> None:
    """Write a run's network in other forms."""
    from amla import api
    from amla.exporters.folder import load_model

    model, weights = load_model(_folder(run, store))
    written = api.export(model, weights, out, form or list(api.EXPORTS))
    if as_json:
        typer.echo(json.dumps([str(path) for path in written]))
    else:
        for path in written:
            typer.echo(str(path))


def convert(
    file: Annotated[Path, typer.Argument(help="A task file of AMLA 0.x.")],
    out: Annotated[
        Path | None, typer.Option("--out", "-o", help="By default standard output.", show_default=False)
    ] = None,
    as_json: JsonOption = False,
) -> None:
    """Bring a task file of AMLA 0.x to the form of today (YAML); what has no effect any more is said."""
    import yaml

    from amla import artifacts
    from amla.cli.files import read_text
    from amla.errors import SpecError
    from amla.spec import amla0

    try:
        data = json.loads(read_text(file))
    except ValueError as error:
        raise SpecError(f"{file}: a task file of AMLA 0.x is JSON, and this is not: {error}") from None
    if amla0.recognise(data) == "system":
        lines = amla0.system_report(data)
        typer.echo(json.dumps([line.strip() for line in lines], indent=2) if as_json else "\n".join(lines))
        return
    spec, warnings = amla0.convert(data)
    for warning in warnings:
        typer.echo(f"amla: {file.name}: {warning}", err=True)
    document = spec.model_dump(mode="json", exclude_defaults=True)
    text = json.dumps(document, indent=2) if as_json else yaml.safe_dump(document, sort_keys=False)
    if out is None:
        typer.echo(text, nl=not text.endswith("\n"))
    else:
        artifacts.write(str(out.absolute().parent), out.name, text.encode())


def _folder(run: str, store: str | None) -> Path:
    from amla.engine.store import Store

    if Path(run).is_dir():
        return Path(run)
    with Store(store, create=False) as opened:
        return Path(opened.experiment(run).folder)


def _dataset(folder: Path, name: str | None, data_dir: str | None) -> DatasetSpec:
    """The dataset that is named, at the size of the network's images; else the one that the run was made on, with the same
    split."""
    import yaml

    from amla import artifacts
    from amla.errors import ConfigError
    from amla.exporters.folder import load_model
    from amla.spec.data import DatasetSpec

    if name is not None:
        model, _ = load_model(folder)
        height, width, _ = model.data.shape
        return DatasetSpec(name=name, data_dir=data_dir, image_size=height if height == width else None)
    content = artifacts.read(str(folder), "experiment.yaml")
    if content is None:
        raise ConfigError(f"{folder} holds no experiment.yaml: give the folder of a finished run, or name the dataset")
    spec = DatasetSpec.parse(yaml.safe_load(content)["dataset"])
    return spec.model_copy(update={"data_dir": data_dir}) if data_dir else spec
