"""ENAS (arXiv 1802.03268): a controller learns, with the weights of the supernet, which networks to draw; of some drawn at
last, the best with the shared weights is trained to the end."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

from pydantic import JsonValue

from amla.searchers.base import SearcherSettings
from amla.searchers.one_shot import OneShot
from amla.spaces.base import AnyArchitecture
from amla.spec.procedures import ControllerSettings, EnasSettings
from amla.spec.trial import Result


class EnasSearchSettings(SearcherSettings, ControllerSettings):
    """How the controller learns. Everything else is said by the training and the budget."""


class Enas(OneShot[EnasSearchSettings]):
    """Networks beyond the limits have no reward, and are no candidates."""

    Settings = EnasSearchSettings
    procedures = frozenset({"enas", "train"})
    procedure = "enas"

    def asked(self) -> Mapping[str, JsonValue]:
        data: dict[str, JsonValue] = EnasSettings(problem=self.problem, **self.settings.model_dump()).to_data()
        return data

    def ranked(self, result: Result) -> Iterator[AnyArchitecture]:
        """The candidates; where none of them will do, and the trial has said how often each block was on, what the most
        frequent ones make."""
        yield from (candidate.architecture for candidate in result.candidates)
        if result.statistics:
            yield from super().ranked(result)
