"""One given network: nothing to search. Its training, measuring and export take the same road as any other's."""

from __future__ import annotations

from amla.searchers.base import SearcherSettings
from amla.searchers.unsearched import Unsearched
from amla.spec.architecture import Architecture


class FixedSettings(SearcherSettings):
    architecture: Architecture


class Fixed(Unsearched[FixedSettings]):
    """``amla train ARCHITECTURE``, and task files of AMLA 0.x that name their network."""

    Settings = FixedSettings

    def network(self) -> Architecture:
        return self.settings.architecture
