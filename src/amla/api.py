"""The Python face of AMLA: ``search``, ``run``, ``resume``, and what can be done with a run's folder.

The command line is built on these functions and adds nothing but printing.
"""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import yaml

from amla import artifacts, datasets, registry, reports
from amla.datasets.arrays import ArrayDataset
from amla.datasets.base import Dataset, Images
from amla.engine.options import spec_of
from amla.engine.prepare import new_id, prepare
from amla.engine.scheduler import Scheduler
from amla.engine.store import Store, default_url
from amla.engine.summary import final_trial, summary
from amla.errors import ConfigError, DataError, SearchError, SpecError
from amla.exporters.base import Model, Weights
from amla.exporters.folder import load_model, read_weights
from amla.spec.architecture import AnyArchitecture
from amla.spec.data import DatasetSpec, Split
from amla.spec.experiment import Experiment, ExperimentSpec
from amla.spec.training import Budget
from amla.spec.trial import Job, Result, Trial, TrialSpec
from amla.trainers.base import Reporter, Trainer, silent

#: Where runs and the default store go, below the current folder.
RUNS = Path("amla-runs")
#: What every run leaves behind, by exporter.
EXPORTS = ("safetensors", "onnx", "source")
#: How far the exported network may be from the trained one.
TOLERANCE = 1e-4


@dataclass(frozen=True)
class Watch:
    """Who is told what while a search runs: every step now and then, every change of a trial, and who may stop it."""

    report: Reporter = silent
    on_begin: Callable[[Experiment], None] = lambda experiment: None  # noqa: ARG005
    on_trial: Callable[[Trial], None] = lambda trial: None  # noqa: ARG005
    stop: Callable[[], bool] = lambda: False


@dataclass(frozen=True)
class SearchResult:
    """A finished (or stopped) experiment: its documents, and the folder with the constructed network."""

    experiment: Experiment
    trials: tuple[Trial, ...]
    summary: dict[str, Any]

    @property
    def folder(self) -> Path:
        """Where ``model.safetensors``, ``model.onnx``, ``network.py``, ``report.html`` and the rest stand."""
        return Path(self.experiment.folder)

    @property
    def final(self) -> Trial:
        """The trial that was trained to the end. Errors: ``SearchError`` where there is none yet."""
        found = final_trial(self.trials)
        if found is None:
            raise SearchError(
                f"{self.experiment.id} has no finished network yet; `amla resume {self.experiment.id}` goes on"
            )
        return found

    @property
    def architecture(self) -> AnyArchitecture:
        return self.final.spec.architecture

    @property
    def valid_accuracy(self) -> float:
        """Of the final network, in [0, 1]."""
        return self.final.result.accuracy if self.final.result else -1.0

    @property
    def test_accuracy(self) -> float:
        """Read once, at the very end, in [0, 1]. Errors: ``SearchError`` where it was not read."""
        test = self.summary["test"]
        if test is None:
            raise SearchError(f"the test split of {self.experiment.id} has not been read")
        return float(test["accuracy"])

    def predict_proba(self, images: Images) -> npt.NDArray[np.float32]:
        """Class probabilities (n, classes) of raw images (n, height, width, channels)."""
        return predict_proba(self.folder, images)


def search(
    dataset: str | Images,
    labels: npt.ArrayLike | None = None,
    *,
    store: str | None = None,
    out: str | Path | None = None,
    watch: Watch = Watch(),  # frozen
    **options: Any,
) -> SearchResult:
    """Construct a network for a dataset: a name as on the command line, or images with their ``labels``.

    ``options`` are those of ``amla search``, with underscores: ``searcher``, ``time_budget`` ("30m"), ``seed``, ``jobs``,
    ``criterion``, ``width``, ``epochs``, ``settings``, ... Errors: ``AmlaError`` in one line.
    """
    if isinstance(dataset, str):
        spec = spec_of({"dataset": dataset, **options})
        return run(spec, store=store, out=out, watch=watch)
    if labels is None:
        raise DataError("labels: images alone cannot be learnt from; give one label an image")
    folder = Path(out) if out else Path(tempfile.mkdtemp(prefix="amla-"))
    folder.mkdir(parents=True, exist_ok=True)
    asked = spec_of({"dataset": "npz:", **options})
    data = ArrayDataset(asked.dataset, dataset, labels).save(folder / "data.npz")
    return run(asked.model_copy(update={"dataset": data}), store=store, out=folder, watch=watch)


def run(
    spec: ExperimentSpec,
    *,
    store: str | None = None,
    out: str | Path | None = None,
    watch: Watch = Watch(),
    rename: bool = False,
) -> SearchResult:
    """Prepare, store and run an experiment to its end, and export what it found. Errors: ``AmlaError``.

    ``rename``: where its name is taken in the store, it gets a number (an error otherwise).
    """
    trainer = make_trainer(spec.trainer)
    final = make_trainer(spec.final_trainer) if spec.final_trainer not in (None, spec.trainer) else None
    registry.load("executors", spec.executor)
    data = datasets.load(spec.dataset)
    _check_kind(spec, trainer, data)
    if final is not None and final.trains != trainer.trains:
        raise ConfigError(f"final_trainer: {spec.final_trainer!r} cannot finish what {spec.trainer!r} has begun")
    experiment_id = new_id(spec)
    folder = (Path(out) if out else RUNS / experiment_id).absolute()
    if (folder / "report.html").exists():
        raise SpecError(f"{folder} already holds a run; give another --out")
    experiment = prepare(spec, data.info, trainer, str(folder), experiment_id, final)
    with Store(store or default_url()) as opened:
        if rename and spec.name is not None:
            named = spec.model_copy(update={"name": opened.free_name(spec.name)})
            experiment = experiment.model_copy(update={"spec": named})
        folder.mkdir(parents=True, exist_ok=True)
        opened.create(experiment)
        return _drive(opened, experiment, watch)


def resume(name: str, *, store: str | None = None, watch: Watch = Watch()) -> SearchResult:
    """Go on with a stopped or crashed experiment; a finished one is only exported anew. Errors: ``StoreError``."""
    with Store(store, create=False) as opened:
        return _drive(opened, opened.experiment(name), watch)


def _drive(store: Store, experiment: Experiment, watch: Watch) -> SearchResult:
    watch.on_begin(experiment)
    executor = registry.load("executors", experiment.spec.executor)(watch.report)
    try:
        Scheduler(store, executor, experiment.id, on_event=watch.on_trial, stop=watch.stop).run()
    finally:
        executor.close()
    experiment = store.experiment(experiment.id)
    trials = tuple(store.trials(experiment.id))
    result = SearchResult(experiment, trials, summary(experiment, trials))
    if experiment.state == "failed":
        raise SearchError(f"{experiment.id} failed: {experiment.reason}")
    if experiment.state == "done":
        finish(result)
    return result


def finish(result: SearchResult) -> list[Path]:
    """Write everything that a run leaves behind into its folder; the exported network is checked against the trained one.
    A network that was looked up in a table has no weights to be exported.

    Errors: ``ExportError`` where they differ by more than 1e-4.
    """
    experiment, folder = result.experiment, result.folder
    data, trainer = datasets.load(experiment.spec.dataset), make_trainer(experiment.spec.trainer_of("final"))
    written: list[Path] = []
    if trainer.trains:
        model = Model(architecture=result.architecture, data=data.info)
        weights = read_weights(Path(experiment.trial_folder(result.final.number)))
        written += export(model, weights, folder, (*EXPORTS, *trainer.exports))
        _check_onnx(model, weights, folder / "model.onnx", trainer, data)
    return [*written, *reports.write_run(experiment, result.trials, data.info, folder)]


def export(model: Model, weights: Weights, folder: Path, forms: Sequence[str]) -> list[Path]:
    """Write a network into a folder in some of the forms that exporters have. Errors: ``ExportError``, ``PluginError``."""
    exporters = [registry.load("exporters", form)() for form in forms]
    folder.mkdir(parents=True, exist_ok=True)
    return [path for exporter in exporters for path in exporter.export(model, weights, folder)]


def evaluate(folder: Path, dataset: DatasetSpec, split: Split, trainer: str | None = None) -> Result:
    """Accuracy and loss of a run's network on a split of a dataset with the same classes and image size. ``trainer``: by
    default the one that trained it."""
    model, _ = load_model(folder)
    trainer = trainer or trainer_of(folder)
    data = datasets.load(dataset)
    _same_kind(model, data)
    spec = TrialSpec(
        architecture=model.architecture,
        budget=Budget(steps=1),
        procedure="evaluate",
        settings={"split": split},
        purpose="test",
    )
    job = Job(experiment="", number=0, seed=0, spec=spec, dataset=dataset, trainer=trainer, folder=str(folder))
    return make_trainer(trainer).evaluate(job, data, split)


def predict_proba(folder: Path, images: Images, trainer: str | None = None) -> npt.NDArray[np.float32]:
    """Class probabilities (n, classes) by a run's network, computed by the ``trainer``, by default the one that trained it.
    Errors: ``DataError`` where the images have another shape."""
    model, weights = load_model(folder)
    if images.ndim != 4 or images.shape[1:] != model.data.shape:
        raise DataError(f"images of shape {images.shape[1:]} for a network that takes {model.data.shape}")
    return make_trainer(trainer or trainer_of(folder)).predict(model.graph().inference(), weights, model.data, images)


def trainer_of(folder: Path) -> str:
    """The trainer that the network of a run's folder was trained with; ``torch`` where nothing says which."""
    content = artifacts.read(str(folder), "experiment.yaml")
    document = yaml.safe_load(content) if content else {}
    return str(document.get("final_trainer") or document.get("trainer") or "torch")


def make_trainer(name: str) -> Trainer:
    """The trainer of that name. Errors: ``PluginError``, with what to install."""
    trainer: Trainer = registry.load("trainers", name)()
    return trainer


def _check_kind(spec: ExperimentSpec, trainer: Trainer, data: Dataset) -> None:
    if trainer.trains and not data.has_images:
        raise ConfigError(
            f"dataset: {spec.dataset.name} is a table of results, not of images; it goes with --trainer tabular"
        )
    if not trainer.trains and data.has_images:
        raise ConfigError(
            f"dataset: the trainer {spec.trainer!r} looks networks up; give it table:FILE#DATASET, not {spec.dataset.name}"
        )


def _same_kind(model: Model, data: Dataset) -> None:
    if data.info.shape != model.data.shape:
        raise DataError(
            f"the network takes images of {model.data.shape} (height, width, channels), the dataset has {data.info.shape}"
        )
    if data.info.num_classes != model.data.num_classes:
        raise DataError(
            f"the network tells {model.data.num_classes} classes apart, the dataset has {data.info.num_classes}"
        )


def _check_onnx(model: Model, weights: Mapping[str, Any], path: Path, trainer: Trainer, data: Dataset) -> None:
    from amla.exporters.onnx import check

    images, _ = next(data.batches("valid", 32))
    check(path, images, trainer.predict(model.graph().inference(), weights, data.info, images), TOLERANCE)
