"""What a trial found out about its network, as numbers in numbered slots: the one way from a Katib trial to the service.

A slot's meaning follows from the trial alone: both sides reckon it from the trial's own specification. Statistics of
blocks come in the order of the blocks (branches by stage and layer, then skips by layer and source), scores in the order
in which they were asked for; of the networks that a controller drew, only the best is sent, decision by decision.
"""

from __future__ import annotations

import functools
import math
import re
import sys
from collections.abc import Collection, Sequence
from typing import Any, NamedTuple

from amla.spaces.base import space_of
from amla.spaces.edits import branches_of, links_of
from amla.spec.architecture import MacroArchitecture
from amla.spec.experiment import Problem
from amla.spec.lower import lower
from amla.spec.procedures import EnasSettings, ScoreSettings
from amla.spec.trial import Candidate, Result, Statistics, TrialSpec

#: Statistics of skips; all others are of the other blocks.
OF_SKIPS = frozenset({"scalar", "norm"})
_SLOT = re.compile(r"nac_\d{3,}")


class Place(NamedTuple):
    """What a slot holds: a statistic of a block; a score, or the option of a decision (``block`` is then empty)."""

    block: str
    name: str


@functools.cache
def name(number: int) -> str:
    """The metric of a slot."""
    return f"nac_{number:03d}"


def is_slot(metric: str) -> bool:
    return _SLOT.fullmatch(metric) is not None


def places(spec: TrialSpec, reads: Collection[str], problem: Problem) -> list[Place]:
    """What the slots of a trial hold, of statistics those that the searcher ``reads``."""
    if spec.procedure == "score":
        return [Place("", score) for score in ScoreSettings.parse(spec.settings).scores]
    if spec.procedure == "enas":
        return [Place("", "accuracy"), *(Place("", one) for one in _space(spec).decisions())]
    if spec.purpose == "final" or not reads:
        return []
    branches, links = _blocks(spec, problem)
    return [
        *(Place(block, statistic) for block in branches for statistic in sorted(set(reads) - OF_SKIPS)),
        *(Place(link, statistic) for link in links for statistic in sorted(set(reads) & OF_SKIPS)),
    ]


def numbers(result: Result, spec: TrialSpec, reads: Collection[str], problem: Problem) -> list[float]:
    """The slots of a trial, filled. NaN where something was not measured, or there is no network to be sent."""
    found = places(spec, reads, problem)
    if spec.procedure == "score":
        return [_finite(result.scores.get(place.name, math.nan)) for place in found]
    if spec.procedure == "enas":
        if not result.candidates:
            return [math.nan] * len(found)
        best, space = result.candidates[0], _space(spec)
        taken, options = space.encode(best.architecture), space.decisions()
        return [best.accuracy, *(float(options[key].index(taken[key])) for key in options)]
    return [_finite(result.statistics.get(place.block, {}).get(place.name, math.nan)) for place in found]


def found(values: Sequence[float], there: Sequence[Place], spec: TrialSpec) -> dict[str, Any]:
    """The keys of a ``Result`` that the slots of a trial fill; ``there``: its ``places``."""
    if spec.procedure == "score":
        return {"scores": {place.name: value for place, value in zip(there, values, strict=True)}}
    if spec.procedure == "enas":
        return {"candidates": _candidates(values, spec)}
    statistics: Statistics = {}
    for place, value in zip(there, values, strict=True):
        statistics.setdefault(place.block, {})[place.name] = value
    return {"statistics": statistics}


def _candidates(values: Sequence[float], spec: TrialSpec) -> tuple[Candidate, ...]:
    options = _space(spec).decisions()
    accuracy, *indices = values
    inside = [0 <= index < len(own) for index, own in zip(indices, options.values(), strict=True)]  # not so for NaN
    if not all(inside):
        return ()
    taken = {key: own[int(index)] for (key, own), index in zip(options.items(), indices, strict=True)}
    return (Candidate(architecture=_space(spec).decode(taken), accuracy=accuracy),)


def _blocks(spec: TrialSpec, problem: Problem) -> tuple[list[str], list[str]]:
    """The names of the blocks, and of the skips, in order."""
    network = spec.architecture
    if isinstance(network, MacroArchitecture):
        return [branch for branch, _ in branches_of(network)], links_of(network)
    blocks = lower(network, problem.input_shape, problem.num_classes).blocks
    return [b.name for b in blocks if b.kind != "skip"], [b.name for b in blocks if b.kind == "skip"]


def _space(spec: TrialSpec) -> Any:
    return space_of(EnasSettings.parse(spec.settings).problem)


def _finite(value: float) -> float:
    """Katib's numbers have no infinity; the largest there is ranks alike."""
    return math.copysign(sys.float_info.max, value) if math.isinf(value) else value
