"""What makes one trial better than another: pure functions on results."""

from __future__ import annotations

import math
from collections.abc import Sequence

from amla.spec.experiment import Limits, Metric, Objective, Problem
from amla.spec.procedures import WHOLE
from amla.spec.trial import Procedure, Result, Trial

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


def measures(problem: Problem, procedure: Procedure = "train") -> tuple[Metric, ...]:
    """What must be measured of a trial's network, besides what any training tells."""
    if procedure in WHOLE:
        return ()
    wanted = problem.limits.max_latency_ms is not None or any(o.metric == "latency_ms" for o in problem.objectives)
    return ("latency_ms",) if wanted else ()


def violation(result: Result, limits: Limits) -> float:
    """By what share a result breaks a limit that only measuring could tell; 0 where it keeps all, infinite where it is not
    feasible for another reason."""
    if result.feasible:
        return 0.0
    most, latency = limits.max_latency_ms, result.latency_ms
    return math.inf if most is None or latency is None or latency <= most else latency / most - 1.0


def dominates(one: Losses, other: Losses) -> bool:
    """Whether the first is nowhere worse and somewhere better (Pareto)."""
    return all(a <= b for a, b in zip(one, other, strict=True)) and one != other


def fronts(points: Sequence[Losses]) -> list[list[int]]:
    """Indices of the points by non-dominated front, the best front first (Deb et al. 2002, section III.A), ascending in
    each.

    Taken in lexicographic order, no point can be dominated by a later one; so each goes to the first front none of whose
    members dominates it, and dominance passing on from front to front, that front is found by bisection (efficient
    non-dominated sort, Zhang et al. 2015).
    """
    found: list[list[int]] = []
    for index in sorted(range(len(points)), key=points.__getitem__):
        point = points[index]
        low, high = 0, len(found)
        while low < high:
            middle = (low + high) // 2
            if any(dominates(points[member], point) for member in reversed(found[middle])):
                low = middle + 1
            else:
                high = middle
        if low == len(found):
            found.append([])
        found[low].append(index)
    return [sorted(front) for front in found]


def crowding(points: Sequence[Losses]) -> list[float]:
    """The crowding distance of every point of one front; infinite at its ends (Deb et al. 2002, section III.B)."""
    distance = [0.0] * len(points)
    for axis in range(len(points[0]) if points else 0):
        order = sorted(range(len(points)), key=lambda index: points[index][axis])
        width = points[order[-1]][axis] - points[order[0]][axis]
        distance[order[0]] = distance[order[-1]] = math.inf
        if not 0.0 < width < math.inf:
            continue
        for before, index, after in zip(order, order[1:], order[2:], strict=False):
            distance[index] += (points[after][axis] - points[before][axis]) / width
    return distance


def pareto(trials: Sequence[Trial], problem: Problem) -> list[Trial]:
    """The usable trials that no other dominates, by the first objective, the best first. Of equals the first counts; one
    of which an objective was not measured does not."""
    by_losses: dict[Losses, Trial] = {}
    for trial in trials:
        if usable(trial) and trial.result is not None:
            found = losses(trial.result, problem.objectives)
            if all(map(math.isfinite, found)):
                by_losses.setdefault(found, trial)
    points = list(by_losses)
    best = fronts(points)[0] if points else []
    return [by_losses[points[index]] for index in sorted(best, key=points.__getitem__)]
