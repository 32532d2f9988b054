"""A search fitted to a time budget: width, depth, iterations and epochs, by a short measurement on this machine."""

from __future__ import annotations

import time
from collections.abc import Sequence
from typing import Any, NamedTuple

from pydantic import JsonValue

from amla import registry
from amla.engine.rehearsal import make_searcher, rehearse
from amla.errors import AmlaError, ConfigError, SpecError
from amla.spec.data import DatasetInfo
from amla.spec.experiment import ExperimentSpec, Problem
from amla.spec.lower import lower
from amla.spec.procedures import PASSES
from amla.spec.training import Budget
from amla.spec.trial import Trial
from amla.trainers.base import Trainer

#: A search trial's budget, as a share of the final training's.
SEARCH_SHARE = 0.1
#: Share of a time budget left for loading, measuring, evaluating and exporting.
RESERVE = 0.2
#: A wide network does more multiply-adds a second than the narrow one that is measured first: so much more, at most.
WIDE_GAIN = 4.0
#: Epochs that a network has to get, and those that it gets at most, as shares of what suits the data.
ENOUGH = (1 / 3, 2.0)
#: Images that a trial without a training takes the time of, about: several passes over a batch.
LOOKED_AT = 500

Measured = dict[str, JsonValue]


class Plan(NamedTuple):
    """A search that could be: what is asked for, with all its trials, the final one last."""

    spec: ExperimentSpec
    problem: Problem
    trials: list[Trial]

    @property
    def relative_cost(self) -> float:
        """Multiply-adds of the whole search with its final training, for one step of that; in those of the first trial."""
        flops = [float(max(1, trial.result.flops)) for trial in self.trials if trial.result]
        passes = [PASSES.get(trial.spec.procedure, 1.0) for trial in self.trials]
        searched = sum(f * p for f, p in zip(flops[:-1], passes[:-1], strict=True))
        return (SEARCH_SHARE * searched + flops[-1]) / flops[0]

    @property
    def flops(self) -> float:
        """Of the first network."""
        result = self.trials[0].result
        return float(max(1, result.flops)) if result else 1.0


def fit(
    spec: ExperimentSpec, info: DatasetInfo, problem: Problem, trainer: Trainer, suited_epochs: float
) -> tuple[ExperimentSpec, Problem, Measured]:
    """The richest search that has enough epochs within ``spec.time_budget`` seconds, and what was measured.

    The most frugal one is measured first; from it follows which of the richer ones are worth measuring. What the user set
    is left as it is. Errors: ``ConfigError`` where not even the most frugal search fits.
    """
    assert spec.time_budget is not None
    end = time.monotonic() + spec.time_budget * (1.0 - RESERVE)

    def seconds() -> float:
        """That are left for trials: all, where the final training ends by the clock, which counts trials only."""
        return float(spec.time_budget or 0.0) if spec.exact_time else end - time.monotonic()

    plans = _plans(spec, problem)
    least = suited_epochs * ENOUGH[0]
    threads = spec.resources.threads
    measured = measure(plans[-1].trials, plans[-1].problem, trainer, threads)
    speed = plans[-1].flops / _step_seconds(measured)
    left = _left(seconds(), plans[-1], info, measured)
    chosen, epochs = plans[-1], _epochs(plans[-1], left, _step_seconds(measured))
    for plan in plans[:-1]:
        if _epochs(plan, seconds(), plan.flops / speed / WIDE_GAIN) < least:
            continue
        found = measure(plan.trials, plan.problem, trainer, threads)
        if (affordable := _epochs(plan, _left(seconds(), plan, info, found), _step_seconds(found))) >= least:
            chosen, epochs, measured = plan, affordable, found
            break
    step = problem.training.batch_size / problem.train_size
    if spec.exact_time:  # whatever the measurement says: the clock ends search and final training
        epochs = max(epochs, step)
    elif epochs < step:
        raise ConfigError(f"time_budget: {spec.time_budget:g} s is too short for a search here; give more")
    measured = measured | _remembered(spec, chosen, info, measured)
    return chosen.spec, _with_budgets(chosen, min(epochs, suited_epochs * ENOUGH[1])), measured


def _remembered(spec: ExperimentSpec, chosen: Plan, info: DatasetInfo, measured: Measured) -> Measured:
    """The settings of the searcher that were fitted, not said; and how long the validation split takes to read."""
    fitted = {key: value for key, value in chosen.spec.settings.items() if key not in spec.settings}
    seconds = float(str(measured.get("evaluate_seconds", 0.0))) * info.sizes["valid"]
    return {"fitted": fitted, "valid_seconds": seconds}


def measure(trials: Sequence[Trial], problem: Problem, trainer: Trainer, threads: int = 0) -> Measured:
    """What the trainer measures on the first of these trials, with so many CPU threads (0: as many as are best)."""
    if not trials:
        return {}
    graph = lower(trials[0].spec.architecture, problem.input_shape, problem.num_classes)
    return dict(trainer.measure(graph, problem.training, {"threads": threads} if threads else {}))


def _plans(spec: ExperimentSpec, problem: Problem) -> list[Plan]:
    """From the richest to the most frugal; at least one. Errors: those of the last, where none makes a network."""
    plans: list[Plan] = []
    refused: AmlaError | None = None
    for settings, space_settings in registry.load("searchers", spec.searcher).scales(spec.settings, problem):
        said = spec.model_copy(update={"settings": spec.settings | settings})
        told = problem.model_copy(update={"space_settings": problem.space_settings | space_settings})
        try:
            plans.append(Plan(said, told, rehearse(make_searcher(said, told), told)))
        except (SpecError, ConfigError) as error:  # too narrow or too large; another may do
            refused = error
    if not plans:
        raise refused or ConfigError(
            f"searcher: {spec.searcher!r} cannot be fitted to a time budget; give its settings"
        )
    return plans


def _epochs(plan: Plan, seconds: float, step_seconds: float) -> float:
    """Of the final training, where the whole is to take so many seconds and a step of the first trial so many."""
    batch = plan.problem.training.batch_size
    steps = seconds / (step_seconds * plan.relative_cost)
    return steps / max(1, plan.problem.train_size // batch)


def _left(seconds: float, plan: Plan, info: DatasetInfo, measured: Measured) -> float:
    """Of so many seconds, those for training. Every training also looks at the validation split once, the last network at the
    test split too; a trial that trains nothing looks at a few images."""
    image = float(str(measured.get("evaluate_seconds", 0.0))) / plan.flops
    flops = [float(trial.result.flops) for trial in plan.trials if trial.result]
    seen = [info.sizes["valid"] if trains else LOOKED_AT for trains in map(_trains, plan.trials)]
    work = sum(count * f for count, f in zip(seen, flops, strict=True)) + info.sizes["test"] * flops[-1]
    return seconds - image * work


def _trains(trial: Trial) -> bool:
    return PASSES.get(trial.spec.procedure, 1.0) > 0.0


def _with_budgets(plan: Plan, epochs: float) -> Problem:
    problem, spec = plan.problem, plan.spec
    fitted: dict[str, Any] = {}
    if spec.final_budget is None:
        fitted["final_budget"] = Budget(steps=_steps(problem, epochs))
    if spec.budget is None:
        fitted["budget"] = Budget(steps=_steps(problem, epochs * SEARCH_SHARE))
    return problem.model_copy(update=fitted)


def _steps(problem: Problem, epochs: float) -> int:
    steps = Budget(epochs=epochs).in_steps(problem.train_size, problem.training.batch_size)
    assert steps is not None
    return steps


def _step_seconds(measured: Measured) -> float:
    return float(str(measured["step_seconds"]))
