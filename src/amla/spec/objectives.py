"""What makes one trial better than another: pure functions on results."""

from __future__ import annotations

import math
from collections.abc import Sequence

from amla.spec.experiment import Limits, Metric, Objective, Problem
from amla.spec.trial import Result, Trial

#: Figures of a trial, each to be made small.
Losses = tuple[float, ...]


def measured(result: Result, metric: Metric) -> float:
    """A figure of a result; NaN where it was not measured."""
    match metric:
        case "accuracy":
            return result.metrics.get("valid", {}).get("accuracy", math.nan)
        case "latency_ms":
            return math.nan if result.latency_ms is None else result.latency_ms
        case "parameters":
            return float(result.parameters)
        case "flops":
            return float(result.flops)
        case "size_mb":
            return result.size_mb


def losses(result: Result, objectives: Sequence[Objective]) -> Losses:
    """All objectives of a result, turned so that less is better; infinite where one was not measured."""
    values = [
        measured(result, objective.metric) * (-1.0 if objective.direction == "maximize" else 1.0)
        for objective in objectives
    ]
    return tuple(math.inf if math.isnan(value) else value for value in values)


def usable(trial: Trial) -> bool:
    """Whether a trial was done and keeps the limits."""
    return trial.state == "done" and trial.result is not None and trial.result.feasible


def fitness(trial: Trial, problem: Problem) -> float:
    """The first objective, turned so that more is better; minus infinity where the trial failed or breaks a limit."""
    if not usable(trial) or trial.result is None:
        return -math.inf
    return -losses(trial.result, problem.objectives[:1])[0]


def judged(result: Result, limits: Limits) -> Result:
    """The result, not feasible where what was measured breaks a limit."""
    most, latency = limits.max_latency_ms, result.latency_ms
    if most is None or latency is None or latency <= most:
        return result
    return result.model_copy(update={"feasible": False})


def measures(problem: Problem) -> tuple[Metric, ...]:
    """What must be measured of every trained network, besides what any training tells."""
    wanted = problem.limits.max_latency_ms is not None or any(o.metric == "latency_ms" for o in problem.objectives)
    return ("latency_ms",) if wanted else ()


def dominates(one: Losses, other: Losses) -> bool:
    """Whether the first is nowhere worse and somewhere better (Pareto)."""
    return all(a <= b for a, b in zip(one, other, strict=True)) and one != other


def fronts(points: Sequence[Losses]) -> list[list[int]]:
    """Indices of the points by non-dominated front, the best front first (Deb et al. 2002, section III.A)."""
    left = list(range(len(points)))
    found: list[list[int]] = []
    while left:
        front = [i for i in left if not any(dominates(points[j], points[i]) for j in left)]
        found.append(front)
        left = [i for i in left if i not in set(front)]
    return found
