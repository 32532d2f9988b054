"""NAC: Neural Architecture Construction using EnvelopeNets (arXiv 1803.06744 section 3, algorithm 1).

It never trains a candidate to the end. It trains an over-complete network for a truncated cycle, compares the blocks
inside that one network by a statistic of their feature maps, prunes the weak, grows the network deeper, and repeats. The
phases are pure functions on an architecture; their names are those of the design and, behind them, of the brain:
``initialise`` (neurogenesis), ``prune_branches`` (apoptosis), ``grow`` (hippocampal neurogenesis), ``prune_skips``
(synaptic pruning), ``set_widths``.

Two ways to run it. ``afresh``, as published: every iteration trains its network from nothing, and so does the final
trial. ``while_training``: every iteration inherits the train state of the one before, the surgery lying between the two,
all along one learning-rate schedule; the last trial trains to the end and is the final one, so that the search costs no
more than one training.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Literal, NamedTuple

import numpy as np
from pydantic import Field, JsonValue

from amla import registry
from amla.errors import SearchError
from amla.searchers.base import Searcher, SearcherSettings
from amla.spaces.envelope import EnvelopeSpace, with_skips
from amla.spec.architecture import MacroArchitecture, Stage
from amla.spec.experiment import Problem
from amla.spec.graph import weights
from amla.spec.lower import lower
from amla.spec.statistics import agreement
from amla.spec.training import Budget
from amla.spec.trial import Settle, Trial, TrialSpec

Criterion = Literal["mean_square", "variance", "taylor", "covariance_entropy", "random", "worst", "size", "none"]
Scores = dict[str, float]

#: The statistic of a block that a criterion ranks by, and the instrument that measures it.
_STATISTICS = {
    "mean_square": ("feature_map", "mean_square"),
    "worst": ("feature_map", "mean_square"),
    "variance": ("feature_map", "variance"),
    "taylor": ("taylor", "taylor"),
    "covariance_entropy": ("covariance_entropy", "covariance_entropy"),
}
#: After so many failed attempts at the same iteration in a row, the search gives up.
MAX_FAILURES = 3


class NACSettings(SearcherSettings):
    """Numbers have the paper's defaults (section 4)."""

    mode: Literal["afresh", "while_training"] = "while_training"
    iterations: int = Field(5, ge=1, le=1000, description="truncated trainings, each followed by a construction")
    criterion: Criterion = Field("mean_square", description="what ranks the branches; the lowest are pruned")
    point: Literal["after_activation", "before_norm"] = Field(
        "after_activation", description="where in a branch its feature map is taken"
    )
    normalise: Literal["raw", "kind"] = Field("raw", description="kind: a score relative to its kind of operation")
    max_prune: int = Field(6, ge=0, description="branches pruned from a stage at most")
    fraction: float = Field(1 / 3, ge=0.0, le=1.0, description="share of a stage's branches pruned at most")
    construction: tuple[bool, ...] | None = Field(None, description="which stages change; None: all")
    prune_skips: bool = True
    skip_ranking: Literal["absolute", "signed"] = Field("absolute", description="signed: as the original ranked them")
    feed_later: bool = Field(True, description="a grown layer is read by every older layer behind it, as published")
    freed_channels: Literal["pass_on", "lapse"] = Field(
        "pass_on", description="what becomes of a pruned branch's channels: to the survivors, or gone"
    )
    settle: Settle | None = Field(None, description="stop a truncated training when the ranking holds still")


class Change(NamedTuple):
    """What one construction did, in names: for people, diagrams and the notes of the next trial."""

    pruned: tuple[str, ...]
    grown: tuple[str, ...]
    unlinked: tuple[str, ...]


class NAC(Searcher[NACSettings]):
    """The search as a sequence of trials; trial i + 1 is constructed from the statistics of trial i."""

    Settings = NACSettings

    def __init__(self, settings: NACSettings, problem: Problem) -> None:
        super().__init__(settings, problem)
        if problem.space != "envelope":
            raise SearchError(f"nac constructs in the space 'envelope', not in {problem.space!r}")
        space = registry.load("spaces", problem.space)
        self.space: EnvelopeSpace = space(space.Settings.parse(problem.space_settings), problem)
        stages = len(self.space.layers)
        self.construction = settings.construction or (True,) * stages
        if len(self.construction) != stages:
            raise SearchError(
                f"settings.construction: {len(self.construction)} values for {stages} stages; give one a stage"
            )
        self.closes = settings.mode == "while_training"
        self.chain: list[Trial] = []
        self.failures = 0
        self.needs = frozenset(_instruments(settings, self.space.skips))

    # -------------------------------------------------------------------------------------------------------- the contract
    def observe(self, trials: Sequence[Trial]) -> None:
        for trial in trials:
            if trial.state == "done":
                self.chain.append(trial)
                self.failures = 0
            else:
                self.failures += 1

    def suggest(self, active: Sequence[Trial], number: int) -> TrialSpec | None:
        if active or self.finished:
            return None
        if self.failures >= MAX_FAILURES:
            raise SearchError(f"nac: iteration {len(self.chain)} failed {self.failures} times in a row")
        iteration = len(self.chain)
        if iteration == 0:
            return self._trial(self.space.initial(), iteration, {})
        network, notes = self._constructed(number)
        if iteration < self.settings.iterations:
            return self._trial(network, iteration, notes)
        return self._last(network, notes)

    @property
    def finished(self) -> bool:
        last = 1 if self.settings.mode == "while_training" else 0
        return len(self.chain) >= self.settings.iterations + last

    def final(self, trials: Sequence[Trial]) -> TrialSpec | None:
        """The network constructed after the last truncated training. Where the budget ended a ``while_training`` search
        early, that network still inherits what its parent has learnt."""
        if not self.chain:
            return None
        number = max(trial.number for trial in trials) + 1
        network, notes = self._constructed(number)
        return self._last(network, notes)

    # ------------------------------------------------------------------------------------------------------------- helpers
    def _constructed(self, number: int) -> tuple[MacroArchitecture, dict[str, JsonValue]]:
        parent = self.chain[-1]
        network = parent.spec.architecture
        assert isinstance(network, MacroArchitecture)  # the space has no others
        scores = self._scores(parent, network, number)
        new, change = construct(network, scores, _skip_scalars(parent, self.settings), self)
        notes: dict[str, JsonValue] = {
            "pruned": list(change.pruned),
            "grown": list(change.grown),
            "unlinked": list(change.unlinked),
        }
        tau = ranking_agreement(parent, self.settings)
        if tau is not None:
            notes["agreement"] = tau
        return new, notes

    def _scores(self, parent: Trial, network: MacroArchitecture, number: int) -> Scores:
        """What ranks the branches, by name; the lowest go first."""
        names = {
            f"{s.name}/{x.name}/{b.name}": b.operation for s in network.stages for x in s.layers for b in x.branches
        }
        criterion = self.settings.criterion
        if criterion == "none":
            return {}
        if criterion == "random":
            rng = self.problem.rng(number)
            return dict(zip(names, rng.random(len(names)).tolist(), strict=True))
        if criterion == "size":
            scores = branch_sizes(network, self.problem)
        else:
            scores = statistic_of(parent, self.settings)
        scores = {name: scores[name] for name in names}
        if self.settings.normalise == "kind":
            scores = relative_to_kind(scores, names)
        return {name: -score for name, score in scores.items()} if criterion == "worst" else scores

    def _trial(self, network: MacroArchitecture, iteration: int, notes: dict[str, JsonValue]) -> TrialSpec:
        memo: dict[str, JsonValue] = {"iteration": iteration, **notes}
        return TrialSpec(
            architecture=network,
            training=self.problem.training,
            budget=self.problem.budget,
            horizon=self._horizon(),
            instruments=tuple(sorted(self.needs)),
            snapshots=(0.5,),
            settle=self.settings.settle,
            parent=self._parent(),
            inherit="state" if self._parent() is not None else "none",
            memo=memo,
        )

    def _last(self, network: MacroArchitecture, notes: dict[str, JsonValue]) -> TrialSpec:
        memo: dict[str, JsonValue] = {"iteration": len(self.chain), **notes}
        return TrialSpec(
            architecture=network,
            training=self.problem.training,
            budget=self.problem.final_budget,
            horizon=self._horizon(ending=True),
            instruments=tuple(sorted(self.needs)),
            parent=self._parent(),
            inherit="state" if self._parent() is not None else "none",
            purpose="final",
            memo=memo,
        )

    def _parent(self) -> int | None:
        return self.chain[-1].number if self.chain and self.settings.mode == "while_training" else None

    def _horizon(self, *, ending: bool = False) -> Budget | None:
        """The length of the one schedule: every truncated training and the last one; for the ``ending`` trial, what has
        been trained and what it adds. None where each trial has its own schedule."""
        if self.settings.mode == "afresh":
            return None
        problem = self.problem
        size, batch = problem.train_size, problem.training.batch_size
        truncated, last = problem.budget.in_steps(size, batch), problem.final_budget.in_steps(size, batch)
        if truncated is None or last is None:
            raise SearchError("nac: construction while training needs budgets in steps or epochs, not in seconds")
        if ending and self.chain[-1].result:
            return Budget(steps=self.chain[-1].result.position + last)
        return Budget(steps=self.settings.iterations * truncated + last)


# --------------------------------------------------------------------------------------- the phases, one function each
def construct(
    network: MacroArchitecture, scores: Scores, scalars: Scores, nac: NAC
) -> tuple[MacroArchitecture, Change]:
    """One construction (algorithm 1): in every stage that may change, prune the weakest branches and grow a layer; then
    prune the skips of the layers that were there, and share the widths out anew."""
    settings, space = nac.settings, nac.space
    before = network
    pruned: list[str] = []
    grown: list[str] = []
    for index, stage in enumerate(network.stages):
        if not nac.construction[index] or len(stage.layers) > space.max_layers[index]:
            continue
        if settings.criterion != "none":
            weak = weakest_branches(stage, scores, settings)
            network = prune_branches(network, weak)
            pruned += weak
        network = space.grow(network, stage.name)
        grown.append(f"{stage.name}/{network.stage(stage.name).layers[-1].name}")
    if space.skips and settings.prune_skips:
        network = prune_skips(network, scalars, grown, settings)
    if space.skips and settings.feed_later:
        network = feed_later(network, grown)
    network = space.set_widths(network)
    if settings.freed_channels == "lapse":
        network = lapse(before, network)
    # model_copy checks nothing: read it again, so that what leaves here is a valid document
    network = MacroArchitecture.parse(network.to_data())
    return network, Change(tuple(pruned), tuple(grown), tuple(_unlinked(before, network)))


def weakest_branches(stage: Stage, scores: Mapping[str, float], settings: NACSettings) -> list[str]:
    """The branches of a stage to prune: ascending by score, never the last branch of a layer, at least one and at most
    min(``max_prune``, floor(``fraction`` * branches))."""
    left = {layer.name: len(layer.branches) for layer in stage.layers}
    branches = [
        (f"{stage.name}/{layer.name}/{branch.name}", layer.name) for layer in stage.layers for branch in layer.branches
    ]
    count = max(1, min(settings.max_prune, math.floor(settings.fraction * len(branches) + 1e-9)))
    if settings.max_prune == 0:
        return []
    weak: list[str] = []
    for name, layer in sorted(branches, key=lambda pair: scores[pair[0]]):
        if left[layer] > 1 and len(weak) < count:
            left[layer] -= 1
            weak.append(name)
    return weak


def prune_branches(network: MacroArchitecture, names: Sequence[str]) -> MacroArchitecture:
    """The network without these branches (``stage/layer/branch``)."""
    gone = set(names)
    stages = []
    for stage in network.stages:
        layers = []
        for layer in stage.layers:
            kept = tuple(b for b in layer.branches if f"{stage.name}/{layer.name}/{b.name}" not in gone)
            layers.append(layer.model_copy(update={"branches": kept}))
        stages.append(stage.model_copy(update={"layers": tuple(layers)}))
    return network.model_copy(update={"stages": tuple(stages)})


def prune_skips(
    network: MacroArchitecture, scalars: Mapping[str, float], grown: Sequence[str], settings: NACSettings
) -> MacroArchitecture:
    """Each older layer keeps the ceil(n/2) of its n skip inputs whose learned scalar is largest."""
    for stage in network.stages:
        for layer in stage.layers:
            place = f"{stage.name}/{layer.name}"
            if place in grown or not layer.skips:
                continue
            values = {skip: scalars.get(f"{place}/skip/{skip}", 0.0) for skip in layer.skips}
            if settings.skip_ranking == "absolute":
                values = {skip: abs(value) for skip, value in values.items()}
            ranked = sorted(layer.skips, key=lambda skip, values=values: -values[skip])  # type: ignore[misc]
            network = with_skips(network, stage.name, layer.name, ranked[: math.ceil(len(ranked) / 2)])
    return network


def feed_later(network: MacroArchitecture, grown: Sequence[str]) -> MacroArchitecture:
    """Every older layer behind a grown one takes it as a skip input."""
    seen: list[str] = []
    predecessor = ""
    for stage in network.stages:
        for layer in stage.layers:
            place = f"{stage.name}/{layer.name}"
            new = [name for name in seen if name != predecessor]
            if place not in grown and new:
                network = with_skips(network, stage.name, layer.name, (*(layer.skips or ()), *new))
            if place in grown:
                seen.append(place)
            predecessor = place
        predecessor = f"{stage.name}/widener"
    return network


def lapse(before: MacroArchitecture, after: MacroArchitecture) -> MacroArchitecture:
    """The survivors of a layer that lost branches keep the channels they had; the layer becomes narrower."""
    had = {
        f"{stage.name}/{layer.name}/{branch.name}": branch.channels
        for stage in before.stages
        for layer in stage.layers
        for branch in layer.branches
    }
    stages = []
    for stage in after.stages:
        layers = []
        for layer in stage.layers:
            place = f"{stage.name}/{layer.name}"
            branches = tuple(
                b.model_copy(update={"channels": had.get(f"{place}/{b.name}", b.channels)}) for b in layer.branches
            )
            layers.append(layer.model_copy(update={"branches": branches}))
        stages.append(stage.model_copy(update={"layers": tuple(layers)}))
    return after.model_copy(update={"stages": tuple(stages)})


# ------------------------------------------------------------------------------------------------------------- statistics
def statistic_of(trial: Trial, settings: NACSettings, share: float = 1.0) -> Scores:
    """The criterion's statistic of every block, at the end of a trial or (share 0.5) at half its steps."""
    if trial.result is None:
        return {}
    _, name = _criterion_statistic(settings)
    statistics = trial.result.statistics
    if share < 1.0:
        statistics = trial.result.snapshots[0].statistics if trial.result.snapshots else {}
    return {block: values[name] for block, values in statistics.items() if name in values}


def ranking_agreement(trial: Trial, settings: NACSettings) -> float | None:
    """Kendall's tau of the ranking at half the steps with that at the end: a diagnostic, not a reason to stop."""
    if settings.criterion not in _STATISTICS:
        return None
    return agreement(statistic_of(trial, settings, 0.5), statistic_of(trial, settings))


def branch_sizes(network: MacroArchitecture, problem: Problem) -> Scores:
    """Trained numbers of every branch, its norm among them. No training is looked at: a control."""
    graph = lower(network, problem.input_shape, problem.num_classes)
    sizes = {block.name: 0.0 for block in graph.blocks if block.kind != "skip"}
    for weight in weights(graph):
        for name in sizes:
            if weight.trained and weight.name.startswith(f"{name}/"):
                sizes[name] += math.prod(weight.shape)
    return sizes


def relative_to_kind(scores: Mapping[str, float], kinds: Mapping[str, str]) -> Scores:
    """Each score divided by the mean of its kind of operation within its stage, so that usefulness is compared, not kind."""
    groups: dict[tuple[str, str], list[float]] = {}
    for name, score in scores.items():
        groups.setdefault((name.split("/")[0], kinds[name]), []).append(score)
    means = {group: float(np.mean(values)) for group, values in groups.items()}
    relative: Scores = {}
    for name, score in scores.items():
        mean = means[name.split("/")[0], kinds[name]]
        relative[name] = score / mean if mean else 0.0
    return relative


def _criterion_statistic(settings: NACSettings) -> tuple[str, str]:
    instrument, statistic = _STATISTICS[settings.criterion]
    if settings.point == "before_norm" and instrument != "taylor":
        return f"{instrument}_before_norm", f"{statistic}_before_norm"
    return instrument, statistic


def _instruments(settings: NACSettings, skips: bool) -> list[str]:
    needed = [_criterion_statistic(settings)[0]] if settings.criterion in _STATISTICS else []
    return [*needed, "skip"] if skips and settings.prune_skips else needed


def _skip_scalars(trial: Trial, settings: NACSettings) -> Scores:
    if trial.result is None or not settings.prune_skips:
        return {}
    return {block: values["scalar"] for block, values in trial.result.statistics.items() if "scalar" in values}


def _unlinked(before: MacroArchitecture, after: MacroArchitecture) -> list[str]:
    def links(network: MacroArchitecture) -> list[str]:
        return [f"{s.name}/{x.name}/skip/{skip}" for s in network.stages for x in s.layers for skip in x.skips or ()]

    left = set(links(after))
    return [link for link in links(before) if link not in left]
