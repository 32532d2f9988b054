"""NAC: Neural Architecture Construction using EnvelopeNets (arXiv 1803.06744 section 3, algorithm 1).

It never trains a candidate to the end. It trains an over-complete network for a truncated cycle, compares the blocks
inside that one network by a statistic of their feature maps, prunes the weak, grows the network deeper, and repeats. The
phases are in ``nac_phases``, what ranks the branches in ``nac_criteria``; ``construct`` puts them together.

Two ways to run it. ``afresh``, as published: every iteration trains its network from nothing, and so does the final
trial. ``while_training``: every iteration inherits the train state of the one before, the surgery lying between the two,
all along one learning-rate schedule; the last trial trains to the end and is the final one.

A truncated training ends at the experiment's ``budget`` (the paper: 10,000 steps of 50 images), and the final one comes on
top. With ``share``, all of it together is one training as long as the final budget, of which that share goes into
constructing: the search takes no step more than training its network alone.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping, Sequence
from typing import ClassVar, Literal, NamedTuple

from pydantic import Field, JsonValue

from amla.errors import ConfigError, SpecError
from amla.searchers import nac_phases as phases
from amla.searchers.base import Searcher, envelope_space, given_up
from amla.searchers.nac_criteria import CriterionSettings, Scores, agreement_at_half, measure_of, scores_of, settles
from amla.spaces.edits import links_of
from amla.spaces.envelope import EnvelopeSpace
from amla.spaces.limits import excess, unlimited
from amla.spec.architecture import Architecture, MacroArchitecture
from amla.spec.experiment import Problem
from amla.spec.objectives import usable
from amla.spec.training import Budget
from amla.spec.trial import Result, Settle, Trial, TrialSpec


class NACSettings(CriterionSettings):
    """Numbers have the paper's defaults (section 4); the criterion is the one that beat random pruning."""

    mode: Literal["afresh", "while_training"] = "while_training"
    iterations: int = Field(5, ge=1, le=1000, description="truncated trainings, each followed by a construction")
    share: float | None = Field(
        None,
        gt=0.0,
        lt=1.0,
        description="while_training: the share of one training, as long as the final budget, that goes into constructing; "
        "None: each truncated training takes the search budget, and the final one comes on top",
    )
    max_prune: int = Field(6, ge=0, description="branches pruned from a stage at most; 0: none")
    fraction: float = Field(1 / 3, ge=0.0, le=1.0, description="share of a stage's branches pruned at most (one is)")
    grow: bool = Field(
        True, description="a layer in every stage that changes; false: prune only, at the depth of the beginning"
    )
    construction: tuple[bool, ...] | None = Field(None, description="which stages change; None: all")
    prune_skips: bool = True
    skip_ranking: Literal["absolute", "signed"] = Field("absolute", description="signed: as the original ranked them")
    feed_later: bool = Field(True, description="a grown layer is read by every older layer behind it, as published")
    freed_channels: Literal["pass_on", "lapse"] = Field(
        "pass_on", description="what becomes of a pruned branch's channels: to the survivors, or gone"
    )
    settle: Settle | None = Field(
        None, description="stop a truncated training when its ranking (the criterion's statistic) holds still"
    )
    max_failures: int = Field(3, ge=1, description="the search ends when an iteration fails so often in a row")


class Change(NamedTuple):
    """What one construction did, in names: for people, diagrams and the notes of the next trial."""

    pruned: tuple[str, ...]
    grown: tuple[str, ...]
    unlinked: tuple[str, ...]


def construct(
    network: MacroArchitecture,
    space: EnvelopeSpace,
    settings: NACSettings,
    scores: Scores,
    scalars: Scores,
    growing: Collection[str],
) -> tuple[MacroArchitecture, Change]:
    """One construction (algorithm 1): in every stage that may change, prune the weakest branches and, where it is
    ``growing``, grow a layer; then prune the skips of the layers that were there, and share the widths out anew."""
    before = network
    weak: list[str] = []
    for name in changing(before, settings, space):
        stage = before.stage(name)
        branches = sum(len(layer.branches) for layer in stage.layers)
        count = phases.prune_count(branches, settings.max_prune, settings.fraction)
        weak += phases.weakest_branches(stage, scores, count) if settings.criterion != "none" else []
    network = phases.prune_branches(network, weak)
    network, grown = phases.grow(network, growing, space)
    if space.skips and settings.prune_skips:
        network = phases.prune_skips(network, scalars, grown, signed=settings.skip_ranking == "signed")
    if space.skips and settings.feed_later:
        network = phases.feed_later(network, grown)
    network = phases.set_widths(network, space)
    if settings.freed_channels == "lapse":
        network = phases.lapse(before, network)
    # model_copy checks nothing: read it again, so that what leaves here is a valid document
    network = MacroArchitecture.parse(network.to_data())
    left = set(links_of(network))
    unlinked = [link for link in links_of(before) if link not in left]
    return network, Change(tuple(weak), tuple(grown), tuple(unlinked))


def construct_within(
    network: MacroArchitecture, space: EnvelopeSpace, settings: NACSettings, scores: Scores, scalars: Scores
) -> tuple[MacroArchitecture, Change]:
    """A construction that keeps the problem's limits if ``network`` does.

    A stage that would grow out of them does not grow, the first stages being asked first. Pruning too can make a network
    larger, where a cheap branch passes its channels to a costly one: then they lapse.
    """
    growing = changing(network, settings, space) if settings.grow else []
    built = construct(network, space, settings, scores, scalars, growing)
    if excess(built[0], space.problem) is None:
        return built
    affordable: list[str] = []
    for stage in growing:
        larger = construct(network, space, settings, scores, scalars, [*affordable, stage])
        if excess(larger[0], space.problem) is None:
            affordable.append(stage)
    built = construct(network, space, settings, scores, scalars, affordable)
    if excess(built[0], space.problem) is None:
        return built
    lapsing = settings.model_copy(update={"freed_channels": "lapse"})
    return construct(network, space, lapsing, scores, scalars, ())


def changing(network: MacroArchitecture, settings: NACSettings, space: EnvelopeSpace) -> list[str]:
    """The stages that change; where nothing grows, all under construction, however deep they are."""
    most = space.max_layers if settings.grow else [len(stage.layers) for stage in network.stages]
    return phases.open_stages(network, construction_of(settings, space), most)


def construction_of(settings: NACSettings, space: EnvelopeSpace) -> tuple[bool, ...]:
    """Which stages change, one by one. Errors: ``ConfigError`` where there are more or fewer stages."""
    stages = len(space.layers)
    construction = settings.construction or (True,) * stages
    if len(construction) != stages:
        raise ConfigError(f"settings.construction: {len(construction)} values for {stages} stages; give one a stage")
    return construction


class NAC(Searcher[NACSettings]):
    """The search as a sequence of trials; trial i + 1 is constructed from the statistics of trial i."""

    Settings = NACSettings
    any_objective: ClassVar[bool] = False
    sequential: ClassVar[bool] = True

    def __init__(self, settings: NACSettings, problem: Problem) -> None:
        super().__init__(settings, problem)
        self.space = envelope_space(problem, "nac")
        construction_of(settings, self.space)
        broken = None if unlimited(problem) else excess(phases.initialise(self.space), problem)
        if broken:
            raise SpecError(f"{broken}; begin with fewer layers, operations or channels (space_settings)")
        self.measure = measure_of(settings)
        if settings.settle and not settles(self.measure):
            raise ConfigError(
                f"settings.settle: the criterion {settings.criterion!r} has no ranking that could settle; mean_square has"
            )
        skips = ["skip"] if self.space.skips and settings.prune_skips else []
        self.needs = frozenset([self.measure.instrument, *skips] if self.measure else skips)
        self.reads = frozenset(([self.measure.statistic] if self.measure else []) + (["scalar"] if skips else []))
        self.closes = settings.mode == "while_training"
        self.steps = _steps(problem, settings) if self.closes else None
        if settings.share is not None and not self.closes:
            raise ConfigError("settings.share: only mode while_training is one training; leave it out")
        self.chain: list[Trial] = []
        self.failed: list[Trial] = []

    # -------------------------------------------------------------------------------------------------------- the contract
    @classmethod
    def scales(
        cls, said: Mapping[str, JsonValue], problem: Problem
    ) -> Iterator[tuple[dict[str, JsonValue], dict[str, JsonValue]]]:
        """Those of the space; with the most frugal one, fewer and fewer iterations."""
        scale: dict[str, JsonValue] = {}
        for settings, scale in super().scales(said, problem):
            yield settings, scale
        if "iterations" not in said:
            for iterations in (3, 2, 1):
                yield {"iterations": iterations}, scale

    def observe(self, trials: Sequence[Trial]) -> None:
        for trial in trials:
            if trial.state == "done":
                self.chain.append(trial)
                self.failed = []
            else:
                self.failed.append(trial)

    def suggest(self, active: Sequence[Trial], number: int) -> TrialSpec | None:
        if active or self.finished:
            return None
        if len(self.failed) >= self.settings.max_failures:
            raise given_up(f"nac: iteration {len(self.chain)}", self.failed)
        if not self.chain:
            return self._truncated(phases.initialise(self.space), {})
        if len(self.chain) < self.settings.iterations:
            return self._truncated(*self._constructed(number))
        return self._closing(number)

    @property
    def finished(self) -> bool:
        lasts = self.closes and bool(self._kept())
        return len(self.chain) >= self.settings.iterations + (1 if lasts else 0)

    def final(self, trials: Sequence[Trial]) -> TrialSpec | None:
        """The network constructed after the last truncated training. Where the budget ended a ``while_training`` search
        early, that network still inherits what its parent has learnt.

        With a limit on latency, which only measuring tells: the last network that was measured and keeps it, as it is; None
        where none does.
        """
        return self._closing(max((trial.number for trial in trials), default=-1) + 1)

    # ------------------------------------------------------------------------------------------------------------- helpers
    def _closing(self, number: int) -> TrialSpec | None:
        """The training to the end."""
        kept = self._kept()
        if not kept:
            return None
        if self.problem.limits.max_latency_ms is None:
            return self._last(*self._constructed(number), kept[-1])
        return self._last(kept[-1].spec.architecture, {"found_by": kept[-1].number}, kept[-1])

    def _kept(self) -> list[Trial]:
        """The trials of the chain that keep the limits, as far as these were measured."""
        return [trial for trial in self.chain if usable(trial)]

    def _constructed(self, number: int) -> tuple[MacroArchitecture, dict[str, JsonValue]]:
        """The network made of the last one, and notes on how."""
        parent = self.chain[-1]
        network = parent.spec.architecture
        assert isinstance(network, MacroArchitecture)  # the space has no others
        scores = scores_of(self.settings, network, parent.result, self.problem, number)
        scalars = _scalars(parent.result)
        if usable(parent):
            new, change = construct_within(network, self.space, self.settings, scores, scalars)
        else:  # measured too slow: it gets smaller only
            lapsing = self.settings.model_copy(update={"freed_channels": "lapse"})
            new, change = construct(network, self.space, lapsing, scores, scalars, ())
        notes: dict[str, JsonValue] = {name: list(names) for name, names in change._asdict().items()}
        tau = agreement_at_half(self.settings, network, parent.result)
        if tau is not None:
            notes["agreement"] = tau
        return new, notes

    def _truncated(self, network: MacroArchitecture, notes: dict[str, JsonValue]) -> TrialSpec:
        """The next iteration's training."""
        settle = self.settings.settle
        if settle and self.measure:
            settle = settle.model_copy(update={"statistic": self.measure.statistic})
        parent = self.chain[-1] if self.chain else None
        return self._trial(network, notes, self._budget(last=False), self._horizon(), parent).model_copy(
            update={"snapshots": (0.5,) if self.measure else (), "settle": settle}
        )

    def _last(self, network: Architecture, notes: dict[str, JsonValue], parent: Trial) -> TrialSpec:
        """The training to the end, of what ``parent`` has learnt where it inherits."""
        final = self._trial(network, notes, self._budget(last=True), self._horizon(parent), parent)
        return final.model_copy(update={"purpose": "final"})

    def _trial(
        self,
        network: Architecture,
        notes: dict[str, JsonValue],
        budget: Budget,
        horizon: Budget | None,
        parent: Trial | None,
    ) -> TrialSpec:
        inherits = parent is not None and self.closes
        return TrialSpec(
            architecture=network,
            training=self.problem.training,
            budget=budget,
            horizon=horizon,
            instruments=tuple(sorted(self.needs)),
            parent=parent.number if parent is not None and inherits else None,
            inherit="state" if inherits else "none",
            memo={"iteration": len(self.chain), **notes},
        )

    def _budget(self, *, last: bool) -> Budget:
        if self.steps is None or self.settings.share is None:
            return self.problem.final_budget if last else self.problem.budget
        return Budget(steps=self.steps[last])

    def _horizon(self, ending: Trial | None = None) -> Budget | None:
        """The length of the one schedule: every truncated training and the last one; for the last trial, what has been
        trained up to the one that it is ``ending`` and what it adds. None where each trial has its own schedule."""
        if self.steps is None:
            return None
        truncated, last = self.steps
        if ending and ending.result:
            return Budget(steps=ending.result.position + last)
        return Budget(steps=self.settings.iterations * truncated + last)


def _steps(problem: Problem, settings: NACSettings) -> tuple[int, int]:
    """Steps of a truncated training and of the last one. Errors: ``ConfigError`` where their number is open, or too small
    for so many trainings."""
    size, batch = problem.train_size, problem.training.batch_size
    truncated, last = problem.budget.in_steps(size, batch), problem.final_budget.in_steps(size, batch)
    if last is None or (truncated is None and settings.share is None):
        raise ConfigError("budget: nac while_training needs steps or epochs, not seconds, for its one schedule")
    if settings.share is None:
        assert truncated is not None  # said above
        return truncated, last
    truncated = max(1, round(settings.share * last / settings.iterations))
    if settings.iterations * truncated >= last:
        raise ConfigError(
            f"settings.share: {last} steps are too few for {settings.iterations} truncated trainings and a last one"
        )
    return truncated, last - settings.iterations * truncated


def _scalars(result: Result | None) -> Scores:
    """The learned scalar of every skip connection, by its name."""
    statistics = result.statistics if result else {}
    return {block: values["scalar"] for block, values in statistics.items() if "scalar" in values}
