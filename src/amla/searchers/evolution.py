"""Evolution: regularized (Real et al. 2019, arXiv 1802.01548, algorithm 1) with one objective, NSGA-II (Deb et al. 2002)
with several.

With one objective the population is the last ``population`` networks that finished: the oldest dies, however good. The
best of ``sample`` members, drawn with replacement, is the parent of the next network. The defaults are those of NATS-Bench
(arXiv 2009.00437), which with one edge's operation exchanged in NAS-Bench-201 is the published baseline exactly.

With several objectives the population is what non-dominated sorting and crowding distance have kept of all that finished,
one by one as they finish (the steady state of NSGA-II, which needs no generations and so no waiting); the parent wins a
binary tournament.

A network that failed does not enter. One that breaks a limit which only measuring could tell enters behind all that keep
it, the less it breaks it the better (Deb et al. 2002, section VI).
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import ClassVar, NamedTuple

import numpy as np
from pydantic import Field

from amla.searchers.base import Searcher, SearcherSettings, drawn_within, space_of
from amla.spaces.base import AnyArchitecture
from amla.spec.experiment import Problem
from amla.spec.objectives import Losses, crowding, fronts, losses, violation
from amla.spec.trial import Trial, TrialSpec

#: Members that meet in a tournament of NSGA-II.
BINARY = 2


class EvolutionSettings(SearcherSettings):
    trials: int = Field(100, ge=1, description="networks tried, where the experiment sets no number of trials")
    population: int = Field(10, ge=1, description="networks that are alive; so many are drawn at random to begin with")
    sample: int = Field(3, ge=1, description="members drawn for one parent; with several objectives always two")
    mutations: int = Field(1, ge=1, description="edits between a parent and its child")
    draws: int = Field(200, ge=1, description="networks drawn at most for one that keeps the limits")


class Member(NamedTuple):
    """A network that finished, with what it is judged by."""

    number: int
    network: AnyArchitecture
    violation: float
    losses: Losses


class Evolution(Searcher[EvolutionSettings]):
    """The population is a fold over the finished trials, whatever still runs."""

    Settings = EvolutionSettings
    several_objectives: ClassVar[bool] = True

    def __init__(self, settings: EvolutionSettings, problem: Problem) -> None:
        super().__init__(settings, problem)
        self.space = space_of(problem)
        self.trials = problem.trials or settings.trials
        self.seen = 0
        self.population: list[Member] = []

    def observe(self, trials: Sequence[Trial]) -> None:
        self.seen += len(trials)
        several = len(self.problem.objectives) > 1
        for trial in trials:
            if trial.state != "done" or trial.result is None:
                continue
            found = losses(trial.result, self.problem.objectives)
            broken = violation(trial.result, self.problem.limits)
            self.population.append(Member(trial.number, trial.spec.architecture, broken, found))
            if len(self.population) > self.settings.population:
                del self.population[_worst(self.population) if several else 0]

    def suggest(self, active: Sequence[Trial], number: int) -> TrialSpec | None:
        if self.seen + len(active) >= self.trials:
            return None
        rng = self.problem.rng(number)
        born = len(self.population) + len(active) < self.settings.population or not self.population
        if born:
            network = drawn_within(self.problem, lambda: self.space.sample(rng), self.settings.draws, self.space)
            return TrialSpec(architecture=network, training=self.problem.training, budget=self.problem.budget)
        parent = self._parent(rng)
        network = drawn_within(self.problem, lambda: self._child(parent, rng), self.settings.draws, self.space)
        return TrialSpec(
            architecture=network,
            training=self.problem.training,
            budget=self.problem.budget,
            memo={"mutated_from": parent.number},
        )

    @property
    def finished(self) -> bool:
        return self.seen >= self.trials

    # ------------------------------------------------------------------------------------------------------------- helpers
    def _parent(self, rng: np.random.Generator) -> Member:
        """The best of a sample; the first drawn where several are as good."""
        if len(self.problem.objectives) == 1:
            drawn: list[int] = rng.integers(len(self.population), size=self.settings.sample).tolist()
            return min(
                (self.population[index] for index in drawn), key=lambda member: (member.violation, member.losses)
            )
        places = _places(self.population)
        drawn = rng.integers(len(self.population), size=BINARY).tolist()
        return self.population[min(drawn, key=lambda index: places[index])]

    def _child(self, parent: Member, rng: np.random.Generator) -> AnyArchitecture:
        network = parent.network
        for _ in range(self.settings.mutations):
            network = self.space.mutate(network, rng)
        return network


def _places(members: Sequence[Member]) -> list[tuple[float, int, float]]:
    """(violation, front, crowding) of every member, less being better: the crowded-comparison operator with constraints
    (Deb et al. 2002, sections III.B and VI)."""
    places = [(member.violation, 0, 0.0) for member in members]
    sound = [index for index, member in enumerate(members) if not member.violation]
    for rank, front in enumerate(fronts([members[index].losses for index in sound])):
        chosen = [sound[index] for index in front]
        spread = crowding([members[index].losses for index in chosen])
        for index, distance in zip(chosen, spread, strict=True):
            places[index] = (0.0, rank, -distance)
    return places


def _worst(members: Sequence[Member]) -> int:
    """The index of the one to go: the last by rank, of its equals the most crowded, then the oldest."""
    places = _places(members)
    return max(range(len(members)), key=lambda index: (places[index], -index))
