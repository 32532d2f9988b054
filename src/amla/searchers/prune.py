"""Pruning of one given network, from its weights: train a little, take the weakest branch away, and again; then train on.

The network may have been made elsewhere (a Graph, read from ONNX): its branches are those of its concatenations. What ranks
them is what NAC ranks by, a statistic of the feature map (arXiv 1803.06744 section 3.2); what takes them away is the surgery
of ``spec.surgery``, so that all that remains goes on from what it had learnt.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, ClassVar, Literal

from pydantic import Field

from amla.searchers.base import Searcher, SearcherSettings, given_up
from amla.spec.architecture import Architecture, GraphArchitecture
from amla.spec.branches import prunable, pruned
from amla.spec.experiment import Problem
from amla.spec.graph import Graph
from amla.spec.lower import lower
from amla.spec.trial import Trial, TrialSpec

#: How often in a row a trial may fail.
TRIES = 3


class PruneSettings(SearcherSettings):
    architecture: Architecture
    weights: str | None = Field(
        None, description="folder of the network's weights; left out, it begins with fresh ones"
    )
    branches: int = Field(1, ge=1, description="branches to take away, one after the other")
    statistic: Literal["mean_square", "variance"] = Field("mean_square", description="the branch with the least goes")


class Prune(Searcher[PruneSettings]):
    """One trial for each branch, each begun from the one before; the last one is the final training."""

    Settings = PruneSettings
    needs = frozenset({"feature_map"})
    reads = frozenset({"mean_square", "variance"})
    sequential: ClassVar[bool] = True
    closes = True

    def __init__(self, settings: PruneSettings, problem: Problem) -> None:
        super().__init__(settings, problem)
        self.last: Trial | None = None
        self.taken = 0
        self.failed: list[Trial] = []  # since the last one that was done

    def observe(self, trials: Sequence[Trial]) -> None:
        for trial in trials:
            if trial.state == "done":
                self.last = trial
                self.taken += trial.spec.purpose == "search"
                self.failed = []
            else:
                self.failed.append(trial)

    def suggest(self, active: Sequence[Trial], number: int) -> TrialSpec | None:  # noqa: ARG002  # the contract's names
        if active or self.finished:
            return None
        if len(self.failed) >= TRIES:
            raise given_up("prune: the training", self.failed)
        if self.last is None:
            begun = {"origin": self.settings.weights, "inherit": "weights"} if self.settings.weights else {}
            return self._spec(self.settings.architecture, last=False, **begun)
        graph = self._without_the_weakest(self._graph(self.last), self.last)
        last = self.taken >= self.settings.branches or not prunable(graph)
        return self._spec(GraphArchitecture(graph=graph), last, parent=self.last.number, inherit="weights")

    @property
    def finished(self) -> bool:
        return self.last is not None and self.last.spec.purpose == "final"

    def _spec(self, network: Architecture, last: bool, **begun: Any) -> TrialSpec:
        problem = self.problem
        return TrialSpec(
            architecture=network,
            training=problem.training,
            budget=problem.final_budget if last else problem.budget,
            instruments=() if last else tuple(sorted(self.needs)),
            purpose="final" if last else "search",
            **begun,
        )

    def _graph(self, trial: Trial) -> Graph:
        return lower(trial.spec.architecture, self.problem.input_shape, self.problem.num_classes)

    def _without_the_weakest(self, graph: Graph, trial: Trial) -> Graph:
        """The network without the branch that has least to say, by what was measured of it in this trial."""
        assert trial.result is not None
        found = trial.result.statistics
        weakest = min(prunable(graph), key=lambda name: (found[name][self.settings.statistic], name), default=None)
        return graph if weakest is None else pruned(graph, [weakest])
