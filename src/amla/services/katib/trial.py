"""What a trial's container runs: the network out of the environment, trained; what was found, printed for Katib's collector.

The collector reads ``NAME=NUMBER`` in lines that begin with an RFC 3339 time.
"""

from __future__ import annotations

import math
import tempfile
from collections.abc import Callable
from datetime import UTC, datetime

from pydantic import Field

from amla import datasets
from amla.datasets.base import Dataset
from amla.engine.prepare import problem_of
from amla.errors import SearchError
from amla.executors.runner import run_job
from amla.services.katib import flat, parcels, slots
from amla.services.katib.parcels import Parcel
from amla.spec.base import Document
from amla.spec.data import DatasetSpec
from amla.spec.experiment import ExperimentSpec, Problem
from amla.spec.training import Budget
from amla.spec.trial import Job, Progress, Resources, Result, TrialSpec

#: Takes a line to where the collector reads it.
Say = Callable[[str], None]


class Place(Document):
    """Where and how a trial runs: what is the same for all trials of an Experiment."""

    experiment: str = Field("experiment", description="Katib's name of it: a folder below the artifacts")
    dataset: DatasetSpec
    trainer: str = "torch"
    threads: int = Field(0, ge=0)
    artifacts: str | None = Field(None, description="URL that all trials reach")


def run(architecture: str, trial: str, place: Place, say: Say) -> Result:
    """Train the network that two texts of a suggestion tell, and say what came of it.

    Errors: ``SpecError`` where the texts are not a suggestion's; ``SearchError`` where the training ended badly.
    """
    return _run(parcels.parcel_of(trial), parcels.spec_of(architecture, trial), place, say)


def _run(parcel: Parcel, spec: TrialSpec, place: Place, say: Say) -> Result:
    data = datasets.load(place.dataset)
    with tempfile.TemporaryDirectory(prefix="amla-katib-") as here:
        whole = spec.purpose == "final" or bool(parcel.reads)
        result = run_job(_job(parcel, spec, place, here), _Reporter(say, whole))
    if result.failure is not None:
        raise SearchError(f"trial {parcel.number} failed, {result.failure.kind}: {result.failure.reason}")
    for name, value in metrics(result, spec, parcel, _problem(place, data)).items():
        say(line(name, value))
    return result


def run_flat(search: str, decisions: str, place: Place, say: Say) -> Result:
    """Train the network that another algorithm's decisions make, and say what came of it. Errors: as ``run``."""
    spec, seed = flat.trial_of(search, decisions, place.dataset)
    digest = parcels.digest(spec.to_data())
    parcel = Parcel(experiment=digest, number=0, seed=seed, folder=digest, spec={})
    return _run(parcel, spec, place, say)


def metrics(result: Result, spec: TrialSpec, parcel: Parcel, problem: Problem) -> dict[str, float]:
    """Everything that a trial sends, by the name of the metric; the objective last, when all else is there."""
    valid = result.metrics.get("valid", {})
    sent: dict[str, float] = {
        slots.name(place): value for place, value in enumerate(slots.numbers(result, spec, parcel.reads, problem))
    }
    if "loss" in valid:
        sent["valid_loss"] = valid["loss"]
    sent |= {"parameters": result.parameters, "flops": result.flops, "size_mb": result.size_mb}
    sent |= {"position": result.position, "seconds": round(result.cost.seconds, 3)}
    if result.latency_ms is not None:
        sent["latency_ms"] = result.latency_ms
    # a score has no accuracy, and Katib drops a trial without its objective
    return sent | {"valid_accuracy": valid.get("accuracy", 0.0)}


def line(name: str, value: float) -> str:
    """A line for the collector. What is no number is sent as such: it arrives as an empty text."""
    now = datetime.now(UTC).isoformat(timespec="microseconds").replace("+00:00", "Z")
    shown = repr(float(value)) if not float(value).is_integer() or abs(value) > 1e15 else str(int(value))
    return f"{now} {name}={'nan' if math.isnan(value) else shown}"


class _Reporter:
    """Says the accuracy on validation whenever it was read anew, so that early stopping has something to look at.

    What must not be stopped says it once, at its end: the last training of a search, and a trial whose statistics the
    search needs, which come last.
    """

    def __init__(self, say: Say, whole: bool) -> None:
        self.say, self.whole = say, whole
        self.said: int | None = None

    def __call__(self, progress: Progress) -> bool:
        if not self.whole and progress.accuracy is not None and progress.accuracy_step != self.said:
            self.said = progress.accuracy_step
            self.say(line("valid_accuracy", progress.accuracy))
        return True


def _job(parcel: Parcel, spec: TrialSpec, place: Place, here: str) -> Job:
    """The job of a trial: in the shared artifacts, where there are any; else in a folder of its own, from nothing."""
    folder, parent = here, None
    if place.artifacts is None:
        spec = afresh(spec, parcel.position)
    else:
        root = f"{place.artifacts.rstrip('/')}/{place.experiment}-{parcel.experiment}"
        folder = f"{root}/{parcel.folder}"
        parent = f"{root}/{parcel.parent_folder}" if parcel.parent_folder else None
    return Job(
        experiment=place.experiment,
        number=parcel.number,
        seed=parcel.seed,
        spec=spec,
        dataset=place.dataset,
        trainer=place.trainer,
        folder=folder,
        parent_folder=parent,
        resources=Resources(threads=place.threads),
        measures=("latency_ms",) if parcel.latency else (),
    )


def afresh(spec: TrialSpec, position: int) -> TrialSpec:
    """The trial without what it would inherit: trained for as long as its parents and it together."""
    if spec.parent is None:
        return spec
    steps = None if spec.budget.steps is None else Budget(steps=position + spec.budget.steps)
    return spec.model_copy(update={"parent": None, "inherit": "none", "horizon": None, "budget": steps or spec.budget})


def _problem(place: Place, data: Dataset) -> Problem:
    """What a slot's meaning needs of the problem: the sizes of images and classes."""
    return problem_of(ExperimentSpec(dataset=place.dataset), data.info)
