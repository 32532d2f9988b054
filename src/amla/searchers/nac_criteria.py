"""What ranks the branches of an envelope: NAC's criteria, as pure functions on a network and its statistics."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Literal, NamedTuple

import numpy as np
from pydantic import Field

from amla.errors import SearchError
from amla.searchers.base import SearcherSettings
from amla.spaces.edits import branches_of
from amla.spec.architecture import MacroArchitecture
from amla.spec.experiment import Problem
from amla.spec.graph import weights
from amla.spec.lower import lower
from amla.spec.statistics import agreement
from amla.spec.trial import OWN_PASSES, Result, Statistics

Criterion = Literal[
    "mean_square", "variance", "taylor", "covariance_entropy", "switched_off", "random", "worst", "size", "none"
]
#: A number for every branch by its name, ``stage/layer/branch``; the lowest go first.
Scores = dict[str, float]


class Measure(NamedTuple):
    """The statistic of a block that a criterion ranks by, and the instrument that gives it."""

    instrument: str
    statistic: str


_MEASURES = {
    "mean_square": Measure("feature_map", "mean_square"),
    "worst": Measure("feature_map", "mean_square"),
    "variance": Measure("feature_map", "variance"),
    "taylor": Measure("taylor", "taylor"),
    "covariance_entropy": Measure("covariance_entropy", "covariance_entropy"),
    "switched_off": Measure("switched_off", "switched_off"),
}
#: Criteria that are the same whatever ``point`` says.
_WHOLE = ("taylor", "switched_off")


class CriterionSettings(SearcherSettings):
    """How the branches of a stage are ranked."""

    criterion: Criterion = Field(
        "switched_off",
        description="what ranks the branches; the lowest are pruned (mean_square: as published; worst: the highest mean "
        "square; size: the fewest parameters; none: nothing is pruned)",
    )
    point: Literal["after_activation", "before_norm"] = Field(
        "after_activation",
        description="where in a branch its feature map is taken; taylor and switched_off: always after_activation",
    )
    normalise: Literal["raw", "kind", "layer"] = Field(
        "raw", description="a score as it is, or relative to the mean of its kind of operation or of its layer"
    )


def measure_of(settings: CriterionSettings) -> Measure | None:
    """What is to be measured; None where the criterion looks at no training."""
    measure = _MEASURES.get(settings.criterion)
    if measure is None or settings.point == "after_activation" or settings.criterion in _WHOLE:
        return measure
    return Measure(*(f"{name}_before_norm" for name in measure))


def settles(measure: Measure | None) -> bool:
    """Whether a ranking is read along the way, at no cost, so that it may be waited for."""
    return measure is not None and measure.instrument not in OWN_PASSES


def scores_of(
    settings: CriterionSettings, network: MacroArchitecture, result: Result | None, problem: Problem, number: int
) -> Scores:
    """What ranks the branches of ``network`` for the ``number``-th suggestion, ``result`` being what its training gave.

    Errors: ``SearchError`` where the criterion's statistic is missing.
    """
    if settings.criterion == "none":
        return {}
    if settings.criterion == "random":
        names = [name for name, _ in branches_of(network)]
        return dict(zip(names, problem.rng(number).random(len(names)).tolist(), strict=True))
    if settings.criterion == "size":
        return relative(branch_sizes(network, problem), settings, network)
    return measured(settings, network, result.statistics if result else {})


def measured(settings: CriterionSettings, network: MacroArchitecture, statistics: Statistics) -> Scores:
    """The criterion's statistic of every branch, normalised; with its sign changed for ``worst``."""
    measure = measure_of(settings)
    assert measure is not None  # only criteria with a measure come here
    scores: Scores = {}
    for name, _ in branches_of(network):
        if measure.statistic not in statistics.get(name, {}):
            raise SearchError(f"nac: the training gave no {measure.statistic} of {name}, by which it is to be ranked")
        scores[name] = statistics[name][measure.statistic]
    scores = relative(scores, settings, network)
    return {name: -score for name, score in scores.items()} if settings.criterion == "worst" else scores


def agreement_at_half(settings: CriterionSettings, network: MacroArchitecture, result: Result | None) -> float | None:
    """Kendall's tau of the ranking at half the steps with the one at the end: a diagnostic. None where there is none."""
    if measure_of(settings) is None or result is None or not result.snapshots:
        return None
    half = measured(settings, network, result.snapshots[0].statistics)
    return agreement(half, measured(settings, network, result.statistics))


def branch_sizes(network: MacroArchitecture, problem: Problem) -> Scores:
    """Trained numbers of every branch, its norm among them. No training is looked at: a control."""
    sizes = {name: 0.0 for name, _ in branches_of(network)}
    for weight in weights(lower(network, problem.input_shape, problem.num_classes)):
        branch = "/".join(weight.name.split("/")[:3])
        if weight.trained and branch in sizes:
            sizes[branch] += math.prod(weight.shape)
    return sizes


def relative(scores: Mapping[str, float], settings: CriterionSettings, network: MacroArchitecture) -> Scores:
    """Scores as they are; or each divided by the mean of its group within the stage, so that usefulness is compared, not
    kind (``kind``: the branches of the same operation) or depth (``layer``: those of the same layer)."""
    if settings.normalise == "raw":
        return dict(scores)
    groups: dict[str, tuple[str, str]] = {}
    for name, branch in branches_of(network):
        stage, layer, _ = name.split("/")
        groups[name] = (stage, branch.operation if settings.normalise == "kind" else layer)
    members: dict[tuple[str, str], list[float]] = {}
    for name, score in scores.items():
        members.setdefault(groups[name], []).append(score)
    means = {group: float(np.mean(values)) for group, values in members.items()}
    return {name: score / means[groups[name]] if means[groups[name]] else 0.0 for name, score in scores.items()}
