"""The smallest dataset, trainer and searcher there can be, for tests of what lies between them: stores, executors, schedulers.

They are named by their import paths, so that a worker anywhere finds them. The trainer fits a softmax to random features
in numpy; all it does follows from the job, it checkpoints, and by ``settings`` of the trial it misbehaves on demand.
"""

from __future__ import annotations

import os
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, ClassVar

import numpy as np
import numpy.typing as npt
from pydantic import JsonValue

from amla import artifacts
from amla.datasets.base import Dataset, Images, Labels
from amla.errors import DataError, TrialFailure
from amla.searchers.base import Searcher, SearcherSettings
from amla.spec import architecture as a
from amla.spec.base import Document
from amla.spec.data import DatasetInfo, DatasetSpec, Split
from amla.spec.experiment import Experiment, ExperimentSpec, Problem
from amla.spec.graph import Graph
from amla.spec.training import Budget, Constant, Training
from amla.spec.trial import Cost, Job, Point, Progress, Result, Trial, TrialSpec
from amla.trainers.base import Floats, Reporter, Trainer, silent

DATASET = DatasetSpec(name=f"{__name__}.TinyDataset")
TRAINER = f"{__name__}:TinyTrainer"
SEARCHER = f"{__name__}:TinySearcher"
TRAINING = Training(batch_size=16, schedule=Constant(rate=0.1))
MODEL, STATE = "model.safetensors", "state.safetensors"

Weights = npt.NDArray[np.float64]


def network(channels: int) -> a.MacroArchitecture:
    """One layer of so many channels."""
    branch = a.Branch(name="branch1", operation="1x1", channels=channels)
    stage = a.Stage(name="stage1", layers=(a.Layer(name="layer1", branches=(branch,)),))
    return a.MacroArchitecture(stem=(a.ConvStep(channels=1),), stages=(stage,))


def width(architecture: a.Architecture) -> int:
    """The channels of its one layer."""
    assert isinstance(architecture, a.MacroArchitecture)
    return architecture.stages[0].layers[0].width


class TinyDataset(Dataset):
    """Three noisy patterns of 4x4 pixels."""

    sizes: ClassVar[dict[Split, int]] = {"train": 96, "valid": 60, "test": 60}

    @property
    def info(self) -> DatasetInfo:
        return DatasetInfo(
            name="tiny", shape=(4, 4, 1), classes=("a", "b", "c"), sizes=self.sizes, mean=(0.5,), std=(0.3,)
        )

    def arrays(self, split: Split) -> tuple[Images, Labels]:
        rng = np.random.default_rng([self.spec.seed, list(self.sizes).index(split)])
        patterns = np.random.default_rng(self.spec.seed).integers(80, 176, (3, 4, 4, 1))
        labels = np.arange(self.sizes[split], dtype=np.int64) % 3
        noisy = patterns[labels] + rng.normal(0.0, 60.0, (len(labels), 4, 4, 1))
        return noisy.clip(0, 255).astype(np.uint8), labels

    def batches(self, split: Split, size: int, *, seed: int | None = None) -> Iterator[tuple[Images, Labels]]:
        images, labels = self.arrays(split)
        order = np.arange(len(labels)) if seed is None else np.random.default_rng(seed).permutation(len(labels))
        for start in range(0, len(order), size):
            chosen = order[start : start + size]
            yield images[chosen], labels[chosen]


class Misbehaviour(Document):
    """``settings`` of a tiny trial: what it does, and from which step on."""

    pause: float = 0.0  # seconds that a step takes
    step: int = 3
    fail: str | None = (
        None  # "nan" and the like; "data": a DataError; "memory": a MemoryError; "bug": something unforeseen
    )
    die: int = 0  # so many attempts end without a word
    stubborn: bool = False  # does not stop when it is told to
    child: bool = False  # leaves a process of its own running, its number in the file child.json


class TinyTrainer(Trainer):
    """A softmax over random features: as many as the network has channels."""

    provides = frozenset({"train", "evaluate"})

    def train(self, job: Job, data: Dataset, report: Reporter = silent) -> Result:
        asked = Misbehaviour.parse(job.spec.settings)
        images, labels = data.arrays("train")
        channels, steps = width(job.spec.architecture), job.spec.budget.in_steps(len(labels), TRAINING.batch_size) or 1
        weights, step = _begin(job, channels, data.info.num_classes)
        features, began = _features(images, channels), time.perf_counter()
        while step < steps:
            batch = np.random.default_rng([job.seed, step]).integers(0, len(labels), TRAINING.batch_size)
            loss, slope = _loss(weights, features[batch], labels[batch])
            weights = weights - 0.1 * slope
            step += 1
            time.sleep(asked.pause)
            artifacts.write(job.folder, STATE, artifacts.pack({"weights": weights, "step": np.array([step])}))
            _misbehave(job, asked, step)
            told = report(Progress(number=job.number, step=step, steps=steps, loss=loss))
            if not told and step < steps and not asked.stubborn:
                raise TrialFailure("cancelled", f"stopped at step {step}")
        artifacts.write(job.folder, MODEL, artifacts.pack({"weights": weights}))
        seconds = time.perf_counter() - began
        return Result(
            metrics={"valid": _measure(weights, channels, data, "valid")},
            curve=(Point(step=steps, seconds=seconds, loss=_loss(weights, features, labels)[0]),),
            parameters=weights.size,
            flops=weights.size,
            position=steps,
            cost=Cost(seconds=seconds, steps=steps, device="numpy"),
        )

    def evaluate(self, job: Job, data: Dataset, split: Split) -> Result:
        content = artifacts.read(job.parent_folder or job.folder, MODEL)
        if content is None:
            raise TrialFailure("data", f"there is no {MODEL} in {job.parent_folder}")
        channels = width(job.spec.architecture)
        return Result(metrics={split: _measure(artifacts.unpack(content)["weights"], channels, data, split)})

    def predict(self, graph: Graph, weights: Mapping[str, Floats], info: DatasetInfo, images: Images) -> Floats:
        del graph, weights
        return np.full((len(images), info.num_classes), 1.0 / info.num_classes, np.float32)

    def measure(self, graph: Graph, training: Training, measured: Mapping[str, JsonValue]) -> dict[str, Any]:
        del graph, training
        return {
            "dtype": "float32",
            "threads": 1,
            "step_seconds": 1e-3,
            "evaluate_seconds": 1e-5,
            "device": "numpy",
        } | dict(measured)


class TinySettings(SearcherSettings):
    trials: int = 6
    steps: int = 6
    trial: dict[str, JsonValue] = {}  # settings of every trial
    failing: tuple[int, ...] = ()  # numbers of trials that fail
    greedy: bool = False  # waits for each result before it suggests
    own_final: bool = False  # suggests its own last trial
    silent: bool = False  # suggests nothing, though it is not finished
    parent: int | None = None  # of every trial but the first
    reads: tuple[str, ...] = ()  # instruments


class TinySearcher(Searcher[TinySettings]):
    """The channels of the best network so far, changed at random; so what it suggests depends on all that it was shown."""

    Settings = TinySettings

    def __init__(self, settings: TinySettings, problem: Problem) -> None:
        super().__init__(settings, problem)
        self.closes = settings.own_final
        self.needs = frozenset(settings.reads)
        self.seen: list[Trial] = []

    def observe(self, trials: Sequence[Trial]) -> None:
        assert all(trial.finished for trial in trials)
        assert not {trial.number for trial in trials} & {trial.number for trial in self.seen}
        self.seen += trials

    def suggest(self, active: Sequence[Trial], number: int) -> TrialSpec | None:
        waits = self.settings.silent or (active and self.settings.greedy)
        ending = len(self.seen) + len(active) >= self.settings.trials
        if waits or self.finished or (ending and (active or not self.settings.own_final)):
            return None
        rng = self.problem.rng(number)
        done = [trial for trial in self.seen if trial.result and trial.state == "done"]
        best = max(done, key=lambda trial: trial.result.accuracy if trial.result else -1.0, default=None)
        channels = 4 if best is None else width(best.spec.architecture)
        channels = max(1, channels + int(rng.integers(-2, 4)) + len(self.seen))
        fails = {"fail": "nan"} if number in self.settings.failing else {}
        return TrialSpec(
            architecture=network(channels),
            training=TRAINING,
            budget=Budget(steps=self.settings.steps),
            purpose="final" if ending else "search",
            parent=self.settings.parent if number else None,
            settings={**self.settings.trial, **fails},
            memo={"seen": len(self.seen)},
        )

    @property
    def finished(self) -> bool:
        done = any(trial.spec.purpose == "final" and trial.state == "done" for trial in self.seen)
        return done if self.settings.own_final else len(self.seen) >= self.settings.trials


def experiment(
    folder: str, id: str = "tiny", measured: Mapping[str, JsonValue] | None = None, **spec: Any
) -> Experiment:
    """An experiment with the tiny plug-ins; ``spec`` are keys of ``ExperimentSpec``."""
    asked = ExperimentSpec.parse({"dataset": DATASET, "searcher": SEARCHER, "trainer": TRAINER} | spec)
    problem = Problem(
        input_shape=(1, 4, 4),
        num_classes=3,
        train_size=96,
        seed=asked.seed,
        training=TRAINING,
        budget=asked.budget or Budget(steps=6),
        final_budget=asked.final_budget or Budget(steps=10),
        trials=asked.trials,
    )
    return Experiment(
        id=id,
        created="2026-01-01T00:00:00+00:00",
        spec=asked,
        problem=problem,
        folder=folder,
        measured=dict(measured or {}),
    )


def job(folder: str, number: int = 0, attempt: int = 0, steps: int = 6, **settings: JsonValue) -> Job:
    """A tiny trial's job; ``settings`` are those of ``Misbehaviour``."""
    spec = TrialSpec(architecture=network(4), training=TRAINING, budget=Budget(steps=steps), settings=settings)
    return Job(
        experiment="tiny",
        number=number,
        seed=number,
        attempt=attempt,
        spec=spec,
        dataset=DATASET,
        trainer=TRAINER,
        folder=folder,
    )


# --------------------------------------------------------------------------------------------------------------- helpers
def _begin(job: Job, channels: int, classes: int) -> tuple[Weights, int]:
    """Weights and the step at which they stand: the checkpoint's, else fresh ones."""
    content = artifacts.read(job.folder, STATE)
    if content is not None:
        arrays = artifacts.unpack(content)
        return arrays["weights"], int(arrays["step"][0])
    return np.random.default_rng(job.seed).normal(0.0, 0.1, (channels + 1, classes)), 0


def _features(images: Images, channels: int) -> Weights:
    projection = np.random.default_rng(7).normal(0.0, 0.5, (16, 4096))[:, :channels]
    flat = images.reshape(len(images), -1).astype(np.float64) / 255.0 - 0.5
    return np.concatenate([np.tanh(flat @ projection), np.ones((len(flat), 1))], axis=1)


def _loss(weights: Weights, features: Weights, labels: Labels) -> tuple[float, Weights]:
    scores = features @ weights
    odds = np.exp(scores - scores.max(1, keepdims=True))
    odds /= odds.sum(1, keepdims=True)
    loss = -float(np.log(odds[np.arange(len(labels)), labels]).mean())
    odds[np.arange(len(labels)), labels] -= 1.0
    return loss, features.T @ odds / len(labels)


def _measure(weights: Weights, channels: int, data: Dataset, split: Split) -> dict[str, float]:
    images, labels = data.arrays(split)
    features = _features(images, channels)
    accuracy = float(((features @ weights).argmax(1) == labels).mean())
    return {"accuracy": accuracy, "loss": _loss(weights, features, labels)[0]}


def _misbehave(job: Job, asked: Misbehaviour, step: int) -> None:
    if step < asked.step:
        return
    if asked.child and artifacts.read(job.folder, "child.json") is None:
        child = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(60)"])
        artifacts.write_json(job.folder, "child.json", child.pid)
    if job.attempt < asked.die:
        sys.stderr.write("my last words\n")
        sys.stderr.flush()
        os._exit(9)
    if asked.fail == "data":
        raise DataError("image 3 is corrupt")
    if asked.fail == "memory":
        raise MemoryError
    if asked.fail == "bug":
        raise RuntimeError("unforeseen")
    if asked.fail is not None:
        raise TrialFailure(asked.fail, f"{asked.fail} at step {step}")
