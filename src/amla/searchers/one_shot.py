"""What the searchers share that train all networks of a space as one: a single search trial on the supernet, then the
network that is derived from what it has learnt."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Mapping, Sequence
from typing import ClassVar

from pydantic import JsonValue

from amla.errors import ConfigError
from amla.searchers.base import S, Searcher, space_of
from amla.spaces.base import AnyArchitecture
from amla.spaces.limits import repaired
from amla.spec.experiment import Problem
from amla.spec.trial import Result, Trial, TrialSpec

#: How often the supernet's trial is tried, where it fails.
TRIES = 3


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
        self.seen: list[Trial] = []

    @abstractmethod
    def asked(self) -> Mapping[str, JsonValue]:
        """The settings of the procedure."""

    @abstractmethod
    def derived(self, result: Result) -> AnyArchitecture | None:
        """The network that the supernet's trial has found; None where none keeps the limits."""

    def observe(self, trials: Sequence[Trial]) -> None:
        self.seen += trials

    def suggest(self, active: Sequence[Trial], number: int) -> TrialSpec | None:
        """The supernet's trial. Errors: ``SpecError`` where no network of the space is small enough for the limits."""
        if active or self.finished:
            return None
        repaired(self.space.sample(self.problem.rng(number)), self.space, self.problem)
        return TrialSpec(
            architecture=self.supernet.architecture,
            training=self.problem.training,
            budget=self.problem.budget,
            procedure=self.procedure,
            settings=dict(self.asked()),
        )

    @property
    def finished(self) -> bool:
        return len(self.seen) >= TRIES or any(trial.state == "done" for trial in self.seen)

    def final(self, trials: Sequence[Trial]) -> TrialSpec | None:
        done = next(
            (trial for trial in trials if trial.state == "done" and trial.spec.procedure == self.procedure), None
        )
        network = self.derived(done.result) if done and done.result else None
        if done is None or network is None:
            return None
        return TrialSpec(
            architecture=network,
            training=self.problem.training,
            budget=self.problem.final_budget,
            purpose="final",
            memo={"found_by": done.number},
        )


def strengths_of(
    statistics: Mapping[str, Mapping[str, float]], statistic: str, mixtures: Mapping[str, Mapping[str, tuple[str, ...]]]
) -> dict[str, dict[str, float]]:
    """Mixture -> option -> strength, from the statistic of the blocks. An option without blocks has what the others leave
    of 1."""
    found: dict[str, dict[str, float]] = {}
    for mixture, options in mixtures.items():
        own = {option: statistics[blocks[0]][statistic] for option, blocks in options.items() if blocks}
        found[mixture] = {option: own.get(option, 1.0 - sum(own.values())) for option in options}
    return found
