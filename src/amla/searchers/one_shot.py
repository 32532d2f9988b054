"""What the searchers share that train all networks of a space as one: a single search trial on the supernet, then the
network that is derived from what it has learnt.

A limit on latency is one that only measuring tells of. Then the networks that the supernet has found are measured one after
the other, the best first and each by a trial of the procedure ``score``, which trains nothing, until one keeps the limit.
"""

from __future__ import annotations

import math
from abc import abstractmethod
from collections.abc import Iterator, Mapping, Sequence
from typing import ClassVar

from pydantic import JsonValue

from amla.errors import ConfigError
from amla.searchers.base import S, Searcher, space_of
from amla.spaces.base import AnyArchitecture
from amla.spaces.limits import excess, repaired
from amla.spec.costs import costs
from amla.spec.experiment import Problem
from amla.spec.lower import lower
from amla.spec.objectives import usable
from amla.spec.procedures import STRENGTH, ScoreSettings
from amla.spec.training import Budget
from amla.spec.trial import Result, Trial, TrialSpec

Strengths = dict[str, dict[str, float]]
#: How often the supernet's trial is tried, where it fails.
TRIES = 3
#: Taken off the strength of an option that is given up: more than any strength is.
GIVEN_UP = 2.0
#: Where a network is too slow, the next to be measured has at most so many of its multiply-adds.
FASTER = 0.9


class OneShot(Searcher[S]):
    """Errors: ``ConfigError`` where the space has no supernet."""

    #: The trainer's procedure for the supernet.
    procedure: ClassVar[str]
    any_objective: ClassVar[bool] = False
    sequential: ClassVar[bool] = True

    def __init__(self, settings: S, problem: Problem) -> None:
        super().__init__(settings, problem)
        self.space = space_of(problem)
        supernet = self.space.supernet()
        if supernet is None:
            raise ConfigError(
                f"space: {self.procedure!r} needs all networks of the space in one, and {problem.space!r} has no such "
                "supernet with these settings"
            )
        self.supernet = supernet
        self.measured = problem.limits.max_latency_ms is not None
        if self.measured:
            self.procedures = self.procedures | {"score"}
        self.seen: list[Trial] = []

    @abstractmethod
    def asked(self) -> Mapping[str, JsonValue]:
        """The settings of the procedure."""

    def ranked(self, result: Result) -> Iterator[AnyArchitecture]:
        """Networks that the supernet's trial has found, the best first, within the limits that follow from a network alone.

        By default what the strongest options make; then, with the weakest of those that cost something giving way to the
        next best, smaller and smaller ones.
        """
        most, between = math.inf, None
        for network in self._ever_smaller(strengths_of(result.statistics, STRENGTH, self.supernet.mixtures)):
            if excess(network, self.problem) is not None:
                continue
            flops = self._size(network)[1]
            if flops > most:
                between = network
                continue
            yield network
            most, between = FASTER * flops, None
        if between is not None:
            yield between

    def observe(self, trials: Sequence[Trial]) -> None:
        self.seen += trials

    def suggest(self, active: Sequence[Trial], number: int) -> TrialSpec | None:
        """The supernet's trial, then the measurements. Errors: ``SpecError`` where no network of the space is small enough
        for the limits."""
        if active or self.finished:
            return None
        done = self._done(self.seen)
        if done is None:
            repaired(self.space.sample(self.problem.rng(number)), self.space, self.problem)
            return TrialSpec(
                architecture=self.supernet.architecture,
                training=self.problem.training,
                budget=self.problem.budget,
                procedure=self.procedure,
                settings=dict(self.asked()),
            )
        best = self._best(self.seen)
        assert best is not None  # else it were finished
        return TrialSpec(
            architecture=best,
            training=self.problem.training,
            budget=Budget(steps=1),
            procedure="score",
            settings=ScoreSettings(scores=("flops",), images=2).to_data(),
            purpose="selection",
            memo={"found_by": done.number},
        )

    @property
    def finished(self) -> bool:
        if self._done(self.seen) is None:
            return len(self.seen) >= TRIES
        best = self._best(self.seen) if self.measured else None
        return best is None or best in self._fast(self.seen)

    def final(self, trials: Sequence[Trial]) -> TrialSpec | None:
        """The best network that was not measured too slow: where the budget ended the search early, one that nobody measured
        yet."""
        done, network = self._done(trials), self._best(trials)
        if done is None or network is None:
            return None
        return TrialSpec(
            architecture=network,
            training=self.problem.training,
            budget=self.problem.final_budget,
            purpose="final",
            memo={"found_by": done.number},
        )

    # ------------------------------------------------------------------------------------------------------------- helpers
    def _done(self, trials: Sequence[Trial]) -> Trial | None:
        """The supernet's trial, once it was done."""
        ours = (trial for trial in trials if trial.spec.procedure == self.procedure)
        return next((trial for trial in ours if trial.state == "done" and trial.result), None)

    def _best(self, trials: Sequence[Trial]) -> AnyArchitecture | None:
        done = self._done(trials)
        if done is None or done.result is None:
            return None
        slow = [t.spec.architecture for t in trials if t.spec.procedure == "score" and not usable(t)]
        return next((network for network in self.ranked(done.result) if network not in slow), None)

    def _fast(self, trials: Sequence[Trial]) -> list[AnyArchitecture]:
        return [t.spec.architecture for t in trials if t.spec.procedure == "score" and usable(t)]

    def _ever_smaller(self, strengths: Strengths | None) -> Iterator[AnyArchitecture]:
        while strengths is not None:
            network = self.space.derive(strengths)
            yield network
            strengths = self._yielding(network, strengths)

    def _yielding(self, network: AnyArchitecture, strengths: Strengths) -> Strengths | None:
        """The strengths without the weakest option that is in the network and makes it larger; None where there is none."""
        taken = [
            (strengths[mixture][option], mixture, option)
            for mixture, options in self.space.kept(network).items()
            for option in options
        ]
        size = self._size(network)
        for strength, mixture, option in sorted(taken):
            weaker = {**strengths, mixture: {**strengths[mixture], option: strength - GIVEN_UP}}
            if self._size(self.space.derive(weaker)) < size:
                return weaker
        return None

    def _size(self, network: AnyArchitecture) -> tuple[int, int]:
        found = costs(lower(network, self.problem.input_shape, self.problem.num_classes))
        return found.parameters, found.flops


def strengths_of(
    statistics: Mapping[str, Mapping[str, float]], statistic: str, mixtures: Mapping[str, Mapping[str, tuple[str, ...]]]
) -> Strengths:
    """Mixture -> option -> strength, from the statistic of the blocks. An option without blocks has what the others leave
    of 1."""
    found: Strengths = {}
    for mixture, options in mixtures.items():
        own = {option: statistics[blocks[0]][statistic] for option, blocks in options.items() if blocks}
        found[mixture] = {option: own.get(option, 1.0 - sum(own.values())) for option in options}
    return found
