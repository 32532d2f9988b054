"""DARTS, first order (arXiv 1806.09055): the strengths of all operations are learnt with the weights of the supernet, and
the strongest make the network that is trained to the end."""

from __future__ import annotations

from collections.abc import Mapping

from pydantic import JsonValue

from amla.searchers.base import SearcherSettings
from amla.searchers.one_shot import OneShot
from amla.spec.procedures import STRENGTH, ArchitectureAdam, DartsSettings


class DartsSearchSettings(SearcherSettings, ArchitectureAdam):
    """How the strengths are learnt. Everything else is said by the training and the budget."""


class Darts(OneShot[DartsSearchSettings]):
    """Where the strongest operations break a limit, the weakest of those that cost something give way to the next best."""

    Settings = DartsSearchSettings
    procedures = frozenset({"darts", "train"})
    procedure = "darts"
    reads = frozenset({STRENGTH})

    def asked(self) -> Mapping[str, JsonValue]:
        data: dict[str, JsonValue] = DartsSettings(
            mixtures=self.supernet.mixtures, **self.settings.model_dump()
        ).to_data()
        return data
