"""The documents that pass between the parts: what a searcher asks for, what an executor runs, what comes back."""

from __future__ import annotations

from typing import Literal

from pydantic import Field, JsonValue

from amla.spec.architecture import Architecture
from amla.spec.base import Document
from amla.spec.data import DatasetSpec, Split
from amla.spec.training import Budget, Training

#: Instruments by name, and the statistics of a block that each gives. A trainer says which it ``provides``.
INSTRUMENTS: dict[str, tuple[str, ...]] = {
    "feature_map": ("mean", "variance", "mean_square"),
    "feature_map_before_norm": ("mean_before_norm", "variance_before_norm", "mean_square_before_norm"),
    "taylor": ("taylor",),
    "covariance_entropy": ("covariance_entropy",),
    "covariance_entropy_before_norm": ("covariance_entropy_before_norm",),
    "skip": ("scalar", "norm"),
    "block_time": ("seconds",),
    "switched_off": ("switched_off",),
}
#: Instruments that look at a network in passes of their own: for a snapshot and when the training has ended, not for ``Settle``.
OWN_PASSES = frozenset({"switched_off"})

Procedure = str  # "train", "evaluate", and whatever else a trainer provides: "score", "darts", "enas"
#: ``selection`` is a training whose only end is to choose among networks that were found (the best k once more, say).
Purpose = Literal["search", "selection", "final", "test"]
Inherit = Literal["none", "weights", "state"]
TrialState = Literal["queued", "running", "done", "failed", "cancelled"]
#: Statistics of blocks: block name -> statistic -> value.
Statistics = dict[str, dict[str, float]]


class Settle(Document):
    """Stop a truncated training once the ranking of blocks holds still: Kendall's tau of the ranking at one look with
    that at the look before is above ``tau``, ``looks`` times in a row. It settles falsely; that is why it is off."""

    statistic: str = "mean_square"
    tau: float = Field(0.95, gt=-1.0, le=1.0)
    every: int = Field(20, ge=1, description="steps between two looks")
    looks: int = Field(2, ge=1)


class TrialSpec(Document):
    """One network to be trained, as a searcher asks for it.

    ``parent`` is the number of a finished trial whose train state this one begins from: its ``weights`` only, or its
    ``state`` (weights, momentum, averages, and the place in one learning-rate schedule of length ``horizon``, which all
    trials of the chain share). ``budget`` counts from where the parent stopped. A training that would take longer than
    ``within`` makes fewer steps than its budget says, along a schedule that is as much shorter.
    """

    architecture: Architecture
    training: Training = Training()
    budget: Budget
    within: float | None = Field(
        None, gt=0.0, description="seconds: where the budget's steps would take longer, the last ones are left out"
    )
    horizon: Budget | None = None
    instruments: tuple[str, ...] = ()
    snapshots: tuple[float, ...] = Field((), description="shares of the budget at which statistics are read as well")
    settle: Settle | None = None
    parent: int | None = None
    origin: str | None = Field(None, description="in place of a parent: URI of a folder with a network and its weights")
    inherit: Inherit = "none"
    procedure: Procedure = "train"
    settings: dict[str, JsonValue] = Field({}, description="of the procedure")
    purpose: Purpose = "search"
    memo: dict[str, JsonValue] = Field({}, description="small notes of the searcher's own, given back as they are")


class Failure(Document):
    """Why a trial ended badly."""

    kind: str
    reason: str


class Cost(Document):
    """What a trial cost. Seconds are measured on ``device``, or looked up in a table (``simulated``)."""

    seconds: float = 0.0
    train_seconds: float = 0.0
    evaluate_seconds: float = 0.0
    steps: int = 0
    images: int = 0
    device: str = ""
    simulated: bool = False


class Point(Document):
    """A place on a learning curve: ``step`` counts from the beginning of the chain, ``seconds`` from that of the trial."""

    step: int
    seconds: float
    loss: float
    accuracy: float | None = Field(None, description="on the validation split, where it was read here")


class Snapshot(Document):
    """Statistics as they stood after ``step`` steps of this trial."""

    step: int
    statistics: Statistics


class Candidate(Document):
    """A network that was tried with weights that it shares with others, and its accuracy on some training images that
    these were not learnt by."""

    architecture: Architecture
    accuracy: float


class Result(Document):
    """What came of a trial."""

    metrics: dict[Split, dict[str, float]] = {}
    statistics: Statistics = {}
    scores: dict[str, float] = Field({}, description="of the network at its initialisation, by name; more is better")
    candidates: tuple[Candidate, ...] = Field((), description="networks found by this one trial, the best first")
    snapshots: tuple[Snapshot, ...] = ()
    curve: tuple[Point, ...] = ()
    feasible: bool = True
    parameters: int = 0
    flops: int = 0
    size_mb: float = Field(0.0, description="megabytes (10^6) of all weights as float32")
    latency_ms: float | None = Field(None, description="of one image in onnxruntime, where it was to be measured")
    position: int = Field(0, description="optimizer steps of the whole chain so far")
    cost: Cost = Cost()
    artifacts: dict[str, str] = Field({}, description="what it left behind, by name, relative to the trial's folder")
    failure: Failure | None = None

    @property
    def accuracy(self) -> float:
        """Accuracy on the validation split, in [0, 1]; -1 where it was not measured, so that it ranks last."""
        return self.metrics.get("valid", {}).get("accuracy", -1.0)


class Trial(Document):
    """A suggestion with its number, its fate and its result. ``finished_seq`` is the order in which trials ended."""

    number: int = Field(ge=0)
    seed: int = Field(ge=0)
    state: TrialState = "queued"
    attempt: int = Field(0, ge=0)
    finished_seq: int | None = None
    handle: str | None = None
    spec: TrialSpec
    result: Result | None = None

    @property
    def finished(self) -> bool:
        return self.state in ("done", "failed", "cancelled")


class Resources(Document):
    """What a job may use. ``threads`` 0 leaves it to the machine."""

    threads: int = Field(0, ge=0)
    gpu: str | None = Field(None, description="the device that this job is bound to, such as cuda:1")


class Job(Document):
    """What an executor runs: one attempt at one trial. Everything in it is plain data or a URI, so that it can run
    anywhere that reaches the artifacts."""

    experiment: str
    number: int
    seed: int
    attempt: int = 0
    spec: TrialSpec
    dataset: DatasetSpec
    trainer: str = "torch"
    folder: str = Field(description="URI of the trial's own folder: checkpoints, weights, result.json")
    parent_folder: str | None = Field(None, description="URI of the folder of the trial that it inherits from")
    resources: Resources = Resources()
    measured: dict[str, JsonValue] = Field({}, description="choices measured once for the experiment: dtype, threads")
    measures: tuple[Literal["latency_ms"], ...] = Field(
        (), description="what to measure of the trained network besides"
    )


class Progress(Document):
    """What a trainer tells while it works."""

    number: int
    phase: Literal["train", "evaluate"] = "train"
    step: int
    steps: int | None = None
    loss: float | None = None
    accuracy: float | None = None
    accuracy_step: int | None = Field(None, description="where the training was when this accuracy was read")
    images_per_second: float | None = None
