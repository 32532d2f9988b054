"""Katib's trials -> ours. They come unordered, unfinished, failed and foreign ones among them: what does not fit is left out."""

from __future__ import annotations

import functools
import math
from collections.abc import Iterable, Mapping
from typing import Any

from amla.errors import SpecError
from amla.services.katib import parcels, slots
from amla.services.katib.parcels import Parcel
from amla.services.katib.setup import Setup
from amla.services.katib.wire import ENUMS, message
from amla.spec.costs import Costs, costs
from amla.spec.experiment import Problem
from amla.spec.lower import lower
from amla.spec.objectives import judged
from amla.spec.trial import Cost, Failure, Result, Trial, TrialSpec

CONDITIONS = ENUMS["TrialConditionType"]
#: Conditions of a trial that has ended.
WELL = ("SUCCEEDED", "EARLYSTOPPED")
BADLY = ("KILLED", "FAILED", "METRICSUNAVAILABLE")


class Past:
    """A trial as Katib has it, in our words. Most are never looked at closely, such as those of a search that is over: so it is
    read when that is asked for."""

    def __init__(self, name: str, parcel: Parcel, content: bytes, history: History) -> None:
        self.name, self.parcel = name, parcel
        self._content, self._history = content, history

    @functools.cached_property
    def trial(self) -> Trial:
        """Errors: ``SpecError`` where its texts are not those of a suggestion after all."""
        return _trial(message("Trial").FromString(self._content), self.parcel, self._history)

    @property
    def fits(self) -> bool:
        """Whether it can be read."""
        try:
            return self.trial is not None
        except SpecError:
            return False

    @property
    def closes(self) -> bool:
        """Whether it is a search's training to the end, which has been done."""
        return self.parcel.spec.get("purpose") == "final" and self.fits and self.trial.state == "done"


class History:
    """Reads the trials of one search. What the last request had is known still: it has been the same bytes ever since."""

    def __init__(self, setup: Setup) -> None:
        self.setup = setup
        self.fingerprint = setup.fingerprint
        self.reads = setup.searcher().reads
        self._known: dict[bytes, Past | None] = {}

    def past(self, trials: Iterable[Any]) -> list[Past]:
        """The trials of this search, by number, each once: of two with one number, the one that has been done."""
        contents = [(trial, trial.SerializeToString()) for trial in trials]
        self._known = {
            content: self._known[content] if content in self._known else self._read(trial, content)
            for trial, content in contents
        }
        found: dict[int, Past] = {}
        for past in self._known.values():
            if past is None:
                continue
            known = found.get(past.parcel.number)
            if known is None or (past.fits and (not known.fits or _rank(past) < _rank(known))):
                found[past.parcel.number] = past
        return [found[number] for number in sorted(found)]

    def _read(self, trial: Any, content: bytes) -> Past | None:
        """None for a stranger."""
        said = _said(trial)
        if not said.get("architecture") or not said.get("trial"):
            return None
        try:
            parcel = parcels.parcel_of(said["trial"])
        except SpecError:
            return None
        if parcel.experiment != self.fingerprint or (parcel.after is not None and parcel.after >= parcel.number):
            return None
        return Past(trial.name, parcel, content, self)


def past_of(trials: Iterable[Any], setup: Setup) -> list[Past]:
    """The trials of this search that can be read, by number, each once."""
    return [past for past in History(setup).past(trials) if past.fits]


def _said(trial: Any) -> dict[str, str]:
    return {one.name: one.value for one in trial.spec.parameter_assignments.assignments}


def _rank(past: Past) -> tuple[int, str]:
    return (("done", "failed").index(past.trial.state) if past.trial.finished else 2, past.name)


def _trial(found: Any, parcel: Parcel, history: History) -> Trial:
    """Errors: ``SpecError``."""
    said = _said(found)
    spec = parcels.spec_of(said["architecture"], said["trial"])
    condition = CONDITIONS[found.status.condition] if found.status.condition < len(CONDITIONS) else ""
    trial = Trial(number=parcel.number, seed=parcel.seed, state="running", spec=spec)
    if condition in WELL:
        metrics = {metric.name: _number(metric.value) for metric in found.status.observation.metrics}
        result = _result(metrics, spec, parcel, history)
    elif condition in BADLY:
        result = Result(failure=Failure(kind="crashed", reason=f"Katib says that it is {condition.lower()}"))
    else:
        return trial
    state = "failed" if result.failure else "done"
    return trial.model_copy(update={"state": state, "result": result})


def _result(metrics: Mapping[str, float | None], spec: TrialSpec, parcel: Parcel, history: History) -> Result:
    """What came back. A trial whose objective is no number, or whose statistics did not all arrive, has failed."""
    problem = history.setup.problem
    accuracy = metrics.get("valid_accuracy")
    if spec.procedure != "score" and (accuracy is None or math.isnan(accuracy)):
        return _failed("nan", "its valid_accuracy is no number")
    there = slots.places(spec, history.reads, problem)
    values = [metrics.get(slots.name(number)) for number in range(len(there))]
    sent = [value for value in values if value is not None]
    if len(sent) < len(there):
        return _failed("data", "its statistics did not arrive; are all slots declared as additionalMetricNames?")
    known: dict[str, Any] = slots.found(sent, there, spec)
    if spec.procedure != "score":
        known["metrics"] = {"valid": {"accuracy": accuracy, "loss": _or(metrics.get("valid_loss"), math.nan)}}
    known |= _measures(metrics, spec, problem)
    latency = metrics.get("latency_ms")
    steps = spec.budget.in_steps(problem.train_size, spec.training.batch_size) or 0
    result = Result(
        **known,
        latency_ms=None if latency is None or math.isnan(latency) else latency,
        position=int(_or(metrics.get("position"), parcel.position + steps)),
        cost=Cost(seconds=_or(metrics.get("seconds"), 0.0)),
    )
    return judged(result, problem.limits)


def _measures(metrics: Mapping[str, float | None], spec: TrialSpec, problem: Problem) -> dict[str, Any]:
    """Sizes as the trial printed them; reckoned anew only where the search looks at them."""
    names = ("parameters", "flops", "size_mb")
    told = {name: metrics.get(name) for name in names}
    wanted = {objective.metric for objective in problem.objectives}
    found: Costs | None = None
    if any(told[name] is None or math.isnan(_or(told[name], math.nan)) for name in names if name in wanted):
        found = costs(lower(spec.architecture, problem.input_shape, problem.num_classes))
    if found is not None:
        return {"parameters": found.parameters, "flops": found.flops, "size_mb": found.size_mb}
    sizes = {name: _or(value, 0.0) for name, value in told.items()}
    return {"parameters": int(sizes["parameters"]), "flops": int(sizes["flops"]), "size_mb": sizes["size_mb"]}


def _failed(kind: str, reason: str) -> Result:
    return Result(failure=Failure(kind=kind, reason=reason))


def _or(value: float | None, otherwise: float) -> float:
    return otherwise if value is None or not math.isfinite(value) else value


def _number(text: str) -> float | None:
    """A metric's value; NaN where the collector could not read one (it then sends an empty text); None where none came."""
    if text in ("", "nan", "NaN"):
        return math.nan
    try:
        return float(text)
    except ValueError:  # "unavailable"
        return None
