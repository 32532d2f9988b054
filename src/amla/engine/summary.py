"""An experiment in a few numbers: the document that ``amla search --json`` prints."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

from pydantic import JsonValue

from amla.spec.experiment import Experiment
from amla.spec.hyperparameters import value_of
from amla.spec.objectives import fitness, measured, pareto
from amla.spec.trial import Purpose, Trial

#: What training time is spent on, in order.
TRAINED: tuple[Purpose, ...] = ("search", "selection", "final")


def summary(experiment: Experiment, trials: Sequence[Trial]) -> dict[str, Any]:
    """``experiment``, ``name``, ``state``, ``best`` (the final network, else the best so far, with the
    hyperparameters that were searched), ``front`` (of several objectives), ``test``, ``seconds`` by purpose,
    ``trials`` (how many ended) and ``device``. Accuracies are in [0, 1]."""
    best = _best(experiment, trials)
    test = next((t.result for t in trials if t.spec.purpose == "test" and t.state == "done" and t.result), None)
    devices = sorted({t.result.cost.device for t in trials if t.result and t.result.cost.device})
    return {
        "experiment": experiment.id,
        "name": experiment.name,
        "state": experiment.state,
        "dataset": experiment.spec.dataset.name,
        "searcher": experiment.spec.searcher,
        "seed": experiment.spec.seed,
        "best": best,
        "front": front(experiment, trials),
        "test": dict(test.metrics["test"]) if test else None,
        "seconds": {purpose: _seconds(trials, purpose) for purpose in TRAINED},
        "trials": sum(trial.finished for trial in trials),
        "device": ", ".join(devices),
    }


def final_trial(trials: Sequence[Trial]) -> Trial | None:
    """The trial that was trained to the end, the last one where there are several; None while there is none."""
    return next((t for t in reversed(trials) if t.spec.purpose == "final" and t.state == "done"), None)


def left_out(trials: Sequence[Trial]) -> int:
    """Steps that the final training left out, because there was no time for them (``TrialSpec.within``)."""
    final = final_trial(trials)
    if final is None or final.result is None or final.spec.within is None:
        return 0
    return (final.spec.budget.steps or final.result.cost.steps) - final.result.cost.steps


def search_seconds(trials: Sequence[Trial]) -> float:
    """Seconds that searching has cost so far, choosing among what was found included."""
    return _seconds(trials, "search") + _seconds(trials, "selection")


def trained_seconds(trials: Sequence[Trial]) -> float:
    """Seconds that everything but the test has cost so far: search, selection and final training."""
    return sum(_seconds(trials, purpose) for purpose in TRAINED)


def _seconds(trials: Sequence[Trial], purpose: Purpose) -> float:
    costs = [t.result.cost.seconds for t in trials if t.result and t.spec.purpose == purpose]
    return round(sum(costs, 0.0), 3)


def tuned_values(experiment: Experiment, trial: Trial) -> dict[str, JsonValue]:
    """The values that a trial has of the hyperparameters that were searched."""
    return {name: value_of(trial.spec.training, name) for name in experiment.problem.hyperparameters}


def front(experiment: Experiment, trials: Sequence[Trial]) -> list[dict[str, Any]]:
    """The search trials that keep the limits and that no other dominates, by number and ``figures`` (the objectives), the
    best by the first one first. Empty with one objective. The final training, being longer, is not compared with them."""
    problem = experiment.problem
    if len(problem.objectives) == 1:
        return []
    found = pareto([trial for trial in trials if trial.spec.purpose == "search"], problem)
    return [
        {"trial": trial.number, "figures": {o.metric: measured(trial.result, o.metric) for o in problem.objectives}}
        for trial in found
        if trial.result
    ]


def _best(experiment: Experiment, trials: Sequence[Trial]) -> dict[str, Any] | None:
    """The final network, whatever it came to; else the best by the first objective of those that keep the limits."""
    chosen = final_trial(trials) or _leading(experiment, trials)
    if chosen is None or chosen.result is None:
        return None
    return {
        "trial": chosen.number,
        "accuracy": chosen.result.accuracy,
        "parameters": chosen.result.parameters,
        "flops": chosen.result.flops,
        "size_mb": chosen.result.size_mb,
        "latency_ms": chosen.result.latency_ms,
        "feasible": chosen.result.feasible,
        "hyperparameters": tuned_values(experiment, chosen),
    }


def _leading(experiment: Experiment, trials: Sequence[Trial]) -> Trial | None:
    worth = {t.number: fitness(t, experiment.problem) for t in trials if t.spec.purpose in ("search", "selection")}
    sound = [trial for trial in trials if math.isfinite(worth.get(trial.number, -math.inf))]
    return max(sound, key=lambda trial: worth[trial.number], default=None)
