"""One given network: nothing to search. Its training, measuring and export take the same road as any other's."""

from __future__ import annotations

from collections.abc import Sequence

from pydantic import Field

from amla.searchers.base import SearcherSettings
from amla.searchers.unsearched import Unsearched
from amla.spec.architecture import Architecture
from amla.spec.trial import Trial, TrialSpec


class FixedSettings(SearcherSettings):
    architecture: Architecture
    weights: str | None = Field(None, description="folder of weights to begin with; left out, fresh ones")


class Fixed(Unsearched[FixedSettings]):
    """``amla train ARCHITECTURE``, and task files of AMLA 0.x that name their network."""

    Settings = FixedSettings

    def network(self) -> Architecture:
        return self.settings.architecture

    def final(self, trials: Sequence[Trial]) -> TrialSpec | None:
        spec = super().final(trials)
        if spec is None or self.settings.weights is None:
            return spec
        return spec.model_copy(update={"origin": self.settings.weights, "inherit": "weights"})
