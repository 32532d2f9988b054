"""What all searchers share that search nothing: their one network is the final one."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Sequence

from amla.errors import SpecError
from amla.searchers.base import S, Searcher
from amla.spaces.limits import excess
from amla.spec.architecture import Architecture
from amla.spec.experiment import Problem
from amla.spec.trial import Trial, TrialSpec


class Unsearched(Searcher[S]):
    """One network, trained to the end. Its training, measuring and export take the same road as any other's."""

    def __init__(self, settings: S, problem: Problem) -> None:
        super().__init__(settings, problem)
        broken = excess(self.network(), problem)
        if broken:
            raise SpecError(broken)

    @abstractmethod
    def network(self) -> Architecture:
        """The network."""

    def observe(self, trials: Sequence[Trial]) -> None:
        """There is nothing to learn."""

    def suggest(self, active: Sequence[Trial], number: int) -> TrialSpec | None:  # noqa: ARG002  # the contract's names
        return None

    @property
    def finished(self) -> bool:
        return True

    def final(self, trials: Sequence[Trial]) -> TrialSpec | None:  # noqa: ARG002
        return TrialSpec(
            architecture=self.network(),
            training=self.problem.training,
            budget=self.problem.final_budget,
            purpose="final",
        )
