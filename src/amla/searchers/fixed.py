"""One given network: nothing to search. Its training, measuring and export take the same road as any other's."""

from __future__ import annotations

from collections.abc import Sequence

from amla.searchers.base import Searcher, SearcherSettings
from amla.spec.architecture import Architecture
from amla.spec.trial import Trial, TrialSpec


class FixedSettings(SearcherSettings):
    architecture: Architecture


class Fixed(Searcher[FixedSettings]):
    """``amla train ARCHITECTURE``, and task files of AMLA 0.x that name their network."""

    Settings = FixedSettings

    def observe(self, trials: Sequence[Trial]) -> None:
        """There is nothing to learn."""

    def suggest(self, active: Sequence[Trial], number: int) -> TrialSpec | None:  # noqa: ARG002  # the contract's names
        return None

    @property
    def finished(self) -> bool:
        return True

    def final(self, trials: Sequence[Trial]) -> TrialSpec | None:  # noqa: ARG002
        return TrialSpec(
            architecture=self.settings.architecture,
            training=self.problem.training,
            budget=self.problem.final_budget,
            purpose="final",
        )
