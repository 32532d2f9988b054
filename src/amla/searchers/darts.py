"""DARTS, first order (arXiv 1806.09055): the strengths of all operations are learnt with the weights of the supernet, and
the strongest make the network that is trained to the end."""

from __future__ import annotations

from collections.abc import Mapping

from pydantic import JsonValue

from amla.searchers.base import SearcherSettings
from amla.searchers.one_shot import OneShot, strengths_of
from amla.spaces.base import AnyArchitecture
from amla.spaces.limits import excess
from amla.spec.costs import costs
from amla.spec.lower import lower
from amla.spec.procedures import STRENGTH, ArchitectureAdam, DartsSettings
from amla.spec.trial import Result

Strengths = dict[str, dict[str, float]]
#: Taken off the strength of an option that is given up: more than any strength is.
GIVEN_UP = 2.0


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

    def derived(self, result: Result) -> AnyArchitecture | None:
        strengths: Strengths | None = strengths_of(result.statistics, STRENGTH, self.supernet.mixtures)
        while strengths is not None:
            network = self.space.derive(strengths)
            if excess(network, self.problem) is None:
                return network
            strengths = self._yielding(network, strengths)
        return None

    def _yielding(self, network: AnyArchitecture, strengths: Strengths) -> Strengths | None:
        """The strengths without the weakest option that is in the network and makes it larger; None where there is none."""
        taken = [(strengths[mixture][option], mixture, option) for mixture, option in self._kept(network)]
        for strength, mixture, option in sorted(taken):
            weaker = {**strengths, mixture: {**strengths[mixture], option: strength - GIVEN_UP}}
            if self._size(self.space.derive(weaker)) < self._size(network):
                return weaker
        return None

    def _kept(self, network: AnyArchitecture) -> list[tuple[str, str]]:
        return [(mixture, option) for mixture, options in self.space.kept(network).items() for option in options]

    def _size(self, network: AnyArchitecture) -> tuple[int, int]:
        found = costs(lower(network, self.problem.input_shape, self.problem.num_classes))
        return found.parameters, found.flops
