"""``Problem`` (what a searcher is told), ``ExperimentSpec`` (what a user asks for) and ``Experiment`` (what is stored)."""

from __future__ import annotations

from typing import Any, Literal

import numpy as np
from pydantic import Field, JsonValue, model_validator

from amla.spec.base import Document
from amla.spec.data import DatasetSpec
from amla.spec.hyperparameters import Hyperparameter
from amla.spec.training import Budget, Training
from amla.spec.trial import Resources

ExperimentState = Literal["created", "running", "stopped", "done", "failed"]
VERSION = "1.0.0.dev0"


Metric = Literal["accuracy", "parameters", "flops", "latency_ms", "size_mb"]


class Objective(Document):
    """A figure to be made large or small. ``accuracy`` is that on validation; ``latency_ms`` of one image is measured in
    onnxruntime on the device that runs the trial; the others follow from the network alone.

    The name of the metric alone is read as well; ``direction`` then follows from it.
    """

    metric: Metric = "accuracy"
    direction: Literal["maximize", "minimize"] = "maximize"

    @model_validator(mode="before")
    @classmethod
    def _directed(cls, data: Any) -> Any:
        said = {"metric": data} if isinstance(data, str) else data
        if isinstance(said, dict) and "direction" not in said:
            natural = "maximize" if said.get("metric", "accuracy") == "accuracy" else "minimize"
            return {**said, "direction": natural}
        return said


class Limits(Document):
    """What a network may cost at most; None is no limit."""

    max_params: int | None = Field(None, ge=1)
    max_flops: int | None = Field(None, ge=1, description="multiply-adds of one image")
    max_size_mb: float | None = Field(None, gt=0.0, description="megabytes (10^6) of all weights as float32")
    max_latency_ms: float | None = Field(
        None,
        gt=0.0,
        description="milliseconds of one image in onnxruntime, measured after a trial: it is not feasible then",
    )


class Problem(Document):
    """What a searcher is told. It sees no data, only their measures. ``input_shape`` is (channels, height, width)."""

    space: str = "envelope"
    space_settings: dict[str, JsonValue] = {}
    hyperparameters: dict[str, Hyperparameter] = Field({}, description="keys of `training` that are searched too")
    objectives: tuple[Objective, ...] = Field((Objective(),), min_length=1)
    limits: Limits = Limits()
    input_shape: tuple[int, int, int]
    num_classes: int = Field(ge=2)
    train_size: int = Field(ge=1)
    seed: int = Field(0, ge=0)
    training: Training = Training()
    budget: Budget = Budget(epochs=1)
    final_budget: Budget = Budget(epochs=10)
    trials: int | None = Field(None, ge=1, description="how many search trials at most")

    def rng(self, number: int) -> np.random.Generator:
        """The generator of the n-th suggestion: it can be made again at any time."""
        return np.random.default_rng([self.seed, number])


class ExperimentSpec(Document):
    """What a user asks for; the experiment file (YAML) has these keys. None means: chosen to suit the data."""

    name: str | None = Field(None, max_length=200)
    dataset: DatasetSpec
    searcher: str = "nac"
    settings: dict[str, JsonValue] = Field({}, description="of the searcher; see `amla searchers NAME`")
    space: str = "envelope"
    space_settings: dict[str, JsonValue] = Field({}, description="of the space: width, stages, operations, ...")
    trainer: str = "torch"
    training: dict[str, JsonValue] = Field(
        {}, description="keys of Training; those left out are chosen to suit the data"
    )
    budget: Budget | None = Field(None, description="of one search trial")
    final_budget: Budget | None = Field(None, description="of the final training")
    trials: int | None = Field(None, ge=1, description="how many search trials at most")
    time_budget: float | None = Field(None, gt=0.0, description="seconds for search and final training together")
    exact_time: bool = Field(
        False, description="with a time budget: the final training ends by the clock, with the budget, not after steps"
    )
    hyperparameters: dict[str, Hyperparameter] = Field(
        {}, description="keys of `training`, dots going down, with the values to search among"
    )
    objectives: tuple[Objective, ...] = Field((Objective(),), min_length=1)
    limits: Limits = Limits()
    executor: str = "inline"
    jobs: int = Field(1, ge=1, le=1024)
    deterministic: bool = Field(True, description="suggestion k sees only trials numbered up to k - jobs")
    resources: Resources = Resources()
    seed: int = Field(0, ge=0, lt=2**32)


class Experiment(Document):
    """A stored experiment: the spec as asked for, and everything that was decided once (``problem``, ``measured``), so that
    resuming decides nothing anew."""

    id: str
    state: ExperimentState = "created"
    created: str = Field(description="UTC, ISO 8601")
    spec: ExperimentSpec
    problem: Problem
    folder: str = Field(description="URI under which everything that the experiment leaves behind stands")
    measured: dict[str, JsonValue] = Field({}, description="dtype, threads and the like, measured once")
    version: str = VERSION
    reason: str | None = Field(None, description="why it failed or stopped")

    @property
    def name(self) -> str:
        return self.spec.name or self.id

    def trial_folder(self, number: int) -> str:
        """The URI of a trial's own folder."""
        return f"{self.folder}/trials/{number:04d}"


def trial_seed(experiment_seed: int, number: int) -> int:
    """The seed of the n-th trial: it decides initial weights, the order of the data and every random draw in training."""
    return int(np.random.SeedSequence([experiment_seed, number]).generate_state(1, np.uint32)[0])
