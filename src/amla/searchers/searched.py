"""What a model-based search decides, as one point: the decisions of the space, hyperparameters of training, or both."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Literal, NamedTuple

import numpy as np
from pydantic import JsonValue

from amla.errors import ConfigError, SpecError
from amla.searchers.base import drawn_within, space_of
from amla.spaces.base import AnyArchitecture
from amla.spaces.envelope import EnvelopeSpace
from amla.spaces.limits import excess
from amla.spec.experiment import Problem
from amla.spec.hyperparameters import Choice, Hyperparameter, drawn, tuned, value_of
from amla.spec.trial import TrialSpec

What = Literal["architecture", "training", "both"]


class Point(NamedTuple):
    """The option of every decision of the space, and the value of every hyperparameter, by name."""

    options: dict[str, str]
    values: dict[str, JsonValue]


class Searched:
    """Trials as points, and points as trials. A point is read from a trial's spec alone, so nothing else need be stored.

    ``architecture`` is the network whose training is searched, where the architecture is not. ``what`` None is chosen by
    whether there are hyperparameters. Errors: ``ConfigError`` where these contradict each other, ``SpecError`` where that
    architecture breaks a limit.
    """

    def __init__(self, problem: Problem, what: What | None, architecture: AnyArchitecture | None) -> None:
        self.problem = problem
        self.what: What = what or _natural(problem, architecture)
        _check(problem, self.what, architecture)
        self.space = space_of(problem)
        self.decisions = {} if self.what == "training" else self.space.decisions()
        self.parameters: dict[str, Hyperparameter] = {} if self.what == "architecture" else problem.hyperparameters
        self.fixed = (architecture or self._initial()) if self.what == "training" else None
        broken = excess(self.fixed, problem) if self.fixed else None
        if broken:
            raise SpecError(broken)
        self._choices = {
            name: [value_of(tuned(problem.training, {name: option}), name) for option in parameter.options]
            for name, parameter in self.parameters.items()
            if isinstance(parameter, Choice)
        }

    def point(self, spec: TrialSpec) -> Point:
        """Where a trial stands. Errors: ``SpecError`` where the space has not its architecture."""
        options = self.space.encode(spec.architecture) if self.decisions else {}
        values = {name: self._value(spec, name, parameter) for name, parameter in self.parameters.items()}
        return Point(options, values)

    def spec(self, point: Point) -> TrialSpec:
        """The trial that stands there."""
        return self._spec(self.fixed or self.space.decode(point.options), point.values)

    def drawn(self, rng: np.random.Generator, tries: int) -> TrialSpec:
        """One at random that keeps the limits, by repair where none of ``tries`` does. Errors: ``SpecError`` where nothing
        is small enough."""
        network = self.fixed or drawn_within(self.problem, lambda: self.space.sample(rng), tries, self.space)
        return self._spec(network, drawn(self.parameters, rng))

    def _spec(self, network: AnyArchitecture, values: Mapping[str, JsonValue]) -> TrialSpec:
        training = tuned(self.problem.training, values)
        return TrialSpec(architecture=network, training=training, budget=self.problem.budget)

    def _value(self, spec: TrialSpec, name: str, parameter: Hyperparameter) -> JsonValue:
        value = value_of(spec.training, name)
        if isinstance(parameter, Choice):  # the document may have written it out: 1 as 1.0, a kind with all its keys
            return parameter.options[self._choices[name].index(value)]
        return value

    def _initial(self) -> AnyArchitecture:
        if isinstance(self.space, EnvelopeSpace):
            return self.space.initial()
        raise ConfigError(
            f"settings.architecture: the space {self.problem.space!r} has no initial network; give the one to train"
        )


def _natural(problem: Problem, architecture: AnyArchitecture | None) -> What:
    if not problem.hyperparameters:
        return "architecture"
    return "both" if architecture is None else "training"


def _check(problem: Problem, what: What, architecture: AnyArchitecture | None) -> None:
    if what == "architecture" and problem.hyperparameters:
        raise ConfigError("settings.what: 'architecture' leaves the hyperparameters unsearched; say 'both'")
    if what != "architecture" and not problem.hyperparameters:
        raise ConfigError(f"settings.what: {what!r} needs hyperparameters, and there are none")
    if what != "training" and architecture is not None:
        raise ConfigError(f"settings.architecture: with what: {what!r} the architecture is searched")
