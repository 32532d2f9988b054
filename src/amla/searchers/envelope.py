"""The unpruned envelope as it is, trained to the end: the control that any construction must beat."""

from __future__ import annotations

from collections.abc import Sequence

from amla import registry
from amla.searchers.base import Searcher, SearcherSettings
from amla.spec.trial import Trial, TrialSpec


class Envelope(Searcher[SearcherSettings]):
    """Nothing is searched: the space's initial network is the final one."""

    def observe(self, trials: Sequence[Trial]) -> None:
        """There is nothing to learn."""

    def suggest(self, active: Sequence[Trial], number: int) -> TrialSpec | None:  # noqa: ARG002  # the contract's names
        return None

    @property
    def finished(self) -> bool:
        return True

    def final(self, trials: Sequence[Trial]) -> TrialSpec | None:  # noqa: ARG002
        space = registry.load("spaces", "envelope")
        network = space(space.Settings.parse(self.problem.space_settings), self.problem).initial()
        return TrialSpec(
            architecture=network, training=self.problem.training, budget=self.problem.final_budget, purpose="final"
        )
