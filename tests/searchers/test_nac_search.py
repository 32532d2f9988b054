"""Whole searches of NAC on made-up results, both ways."""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np
import pytest
from nac_helpers import (
    ENVELOPE,
    PROBLEM,
    done,
    failed,
    position_of,
)

from amla.errors import ConfigError, SearchError
from amla.searchers.base import space_of
from amla.searchers.envelope import Envelope
from amla.searchers.nac import NAC, NACSettings
from amla.spaces.base import AnyArchitecture, SearchSpace, SpaceSettings
from amla.spaces.edits import branches_of
from amla.spec.architecture import MacroArchitecture
from amla.spec.experiment import Problem
from amla.spec.training import Budget
from amla.spec.trial import Settle, Trial


class OtherSpace(SearchSpace):
    """A space of one network."""

    Settings = SpaceSettings

    def sample(self, rng: np.random.Generator) -> MacroArchitecture:
        return ENVELOPE

    def mutate(self, architecture: AnyArchitecture, rng: np.random.Generator) -> MacroArchitecture:
        raise NotImplementedError

    def neighbors(self, architecture: AnyArchitecture) -> Iterator[MacroArchitecture]:
        return iter(())

    def contains(self, architecture: AnyArchitecture) -> bool:
        return architecture == ENVELOPE

    def decisions(self) -> dict[str, tuple[str, ...]]:
        return {}

    def encode(self, architecture: AnyArchitecture) -> dict[str, str]:
        return {}

    def decode(self, taken: Mapping[str, str]) -> MacroArchitecture:
        return ENVELOPE

    def size(self) -> int:
        return 1


def search(problem: Problem = PROBLEM, failing: Sequence[int] = (), **settings: Any) -> list[Trial]:
    """All trials, the final one last; a searcher rebuilt from its trials must agree at every step."""
    chosen = NACSettings.parse(settings)
    searcher, trials = NAC(chosen, problem), list[Trial]()
    for number in itertools.count():
        if searcher.finished:
            break
        rebuilt = NAC(NACSettings.from_json(chosen.to_json()), problem)
        rebuilt.observe(trials)
        spec = searcher.suggest([], number)
        assert spec == rebuilt.suggest([], number)
        assert spec is not None
        trials.append(failed(spec, number) if number in failing else done(spec, number, position_of(spec, trials)))
        searcher.observe(trials[-1:])
    if not searcher.closes:
        final = searcher.final(trials)
        assert final is not None
        trials.append(done(final, len(trials), position_of(final, trials)))
    return trials


def depths(trials: Sequence[Trial]) -> list[list[int]]:
    return [[len(stage.layers) for stage in trial.spec.architecture.stages] for trial in trials]


def test_while_training_is_one_chain_whose_last_trial_is_the_final_one() -> None:
    trials = search(iterations=3)
    assert [trial.spec.purpose for trial in trials] == ["search"] * 3 + ["final"]
    assert [(trial.spec.parent, trial.spec.inherit) for trial in trials] == [
        (None, "none"),
        (0, "state"),
        (1, "state"),
        (2, "state"),
    ]
    assert [trial.spec.budget.steps for trial in trials] == [10, 10, 10, 40]
    assert {trial.spec.horizon for trial in trials} == {Budget(steps=3 * 10 + 40)}
    # growth goes on while a stage has at most [3, 1] layers, and so reaches one more
    assert depths(trials) == [[2, 1], [3, 2], [4, 2], [4, 2]]


def test_afresh_ends_in_a_separate_final_trial() -> None:
    trials = search(mode="afresh", iterations=3)
    assert [trial.spec.purpose for trial in trials] == ["search"] * 3 + ["final"]
    assert {(trial.spec.parent, trial.spec.inherit, trial.spec.horizon) for trial in trials} == {(None, "none", None)}
    assert [trial.spec.budget.steps for trial in trials] == [10, 10, 10, 40]
    assert depths(trials) == [[2, 1], [3, 2], [4, 2], [4, 2]]


def test_both_ways_construct_the_same_networks_from_the_same_statistics() -> None:
    one, other = (search(mode=mode, iterations=3) for mode in ("afresh", "while_training"))
    assert [trial.spec.architecture for trial in one] == [trial.spec.architecture for trial in other]


def test_all_networks_are_in_the_space_and_say_how_they_were_made() -> None:
    of = space_of(PROBLEM)
    for before, after in itertools.pairwise(search()):
        assert of.contains(after.spec.architecture)
        memo = after.spec.memo
        assert memo["iteration"] == before.spec.memo["iteration"] + 1  # type: ignore[operator]
        assert -1.0 <= memo["agreement"] <= 1.0  # type: ignore[operator]
        names = [dict(branches_of(trial.spec.architecture)) for trial in (before, after)]  # type: ignore[arg-type]
        assert set(memo["pruned"]) == names[0].keys() - names[1].keys()  # type: ignore[arg-type]
        new = {"/".join(name.split("/")[:2]) for name in names[1].keys() - names[0].keys()}
        assert set(memo["grown"]) == new  # type: ignore[arg-type]


def test_the_weakest_by_the_statistics_of_the_parent_go() -> None:
    trials = search(iterations=1, max_prune=1)
    parent = trials[0].result
    assert parent is not None
    for stage in ("stage1", "stage2"):
        values = {name: parent.statistics[name]["switched_off"] for name, _ in branches_of(ENVELOPE) if stage in name}
        assert min(values, key=values.__getitem__) in trials[1].spec.memo["pruned"]  # type: ignore[operator]
    worst = search(iterations=1, max_prune=1, criterion="worst")[1].spec.memo["pruned"]
    values = {name: parent.statistics[name]["mean_square"] for name, _ in branches_of(ENVELOPE) if "stage1" in name}
    assert worst[0] == max(values, key=values.__getitem__)  # type: ignore[index]


def test_random_pruning_differs_by_seed_and_the_unpruned_envelope_loses_nothing() -> None:
    pruned = [
        [
            trial.spec.memo.get("pruned")
            for trial in search(PROBLEM.model_copy(update={"seed": seed}), criterion="random")
        ]
        for seed in (0, 0, 1)
    ]
    assert pruned[0] == pruned[1] != pruned[2]
    assert all(not trial.spec.memo.get("pruned") for trial in search(criterion="none"))
    alone = Envelope(Envelope.Settings(), PROBLEM)
    final = alone.final([])
    assert alone.finished
    assert final is not None
    assert final.architecture == ENVELOPE


@pytest.mark.parametrize("mode", ["afresh", "while_training"])
def test_a_failed_trial_is_tried_again_under_a_new_number(mode: str) -> None:
    trials = search(failing=(0, 2, 3), iterations=2, mode=mode)
    assert [trial.state for trial in trials] == ["failed", "done", "failed", "failed", "done", "done"]
    assert trials[0].spec == trials[1].spec
    assert trials[2].spec == trials[3].spec == trials[4].spec
    assert trials[4].spec.parent == (1 if mode == "while_training" else None)


def test_an_iteration_that_keeps_failing_ends_the_search() -> None:
    searcher = NAC(NACSettings(max_failures=2), PROBLEM)
    first = searcher.suggest([], 0)
    assert first is not None
    searcher.observe([failed(first, 0)])
    assert searcher.suggest([], 1) == first
    searcher.observe([failed(first, 1)])
    with pytest.raises(SearchError, match="iteration 0 failed 2 times in a row, at last by: the loss is nan"):
        searcher.suggest([], 2)
    assert searcher.final([failed(first, 0)]) is None, "nothing was learnt"


def test_it_waits_for_the_running_trial() -> None:
    searcher = NAC(NACSettings(), PROBLEM)
    spec = searcher.suggest([], 0)
    assert spec is not None
    running = Trial(number=0, seed=0, state="running", spec=spec)
    assert searcher.suggest([running], 1) is None


def test_a_budget_spent_early_still_ends_in_the_network_constructed_last() -> None:
    searcher = NAC(NACSettings(), PROBLEM)
    trials = search()[:2]
    searcher.observe(trials)
    final, planned = searcher.final(trials), searcher.suggest([], 2)
    assert final is not None
    assert planned is not None
    assert final.architecture == planned.architecture
    assert (final.purpose, final.parent, final.budget) == ("final", 1, PROBLEM.final_budget)
    assert final.horizon == Budget(steps=20 + 40), "the schedule ends with it"


def test_settling_is_off_and_looks_at_the_criterion_s_own_statistic() -> None:
    assert all(trial.spec.settle is None for trial in search(iterations=1))
    settings = {"criterion": "variance", "point": "before_norm", "settle": {"tau": 0.9}, "iterations": 1}
    first, last = search(**settings)
    assert first.spec.settle == Settle(statistic="variance_before_norm", tau=0.9)
    assert first.spec.snapshots == (0.5,)
    assert (last.spec.settle, last.spec.snapshots) == (None, ()), "the last one trains to the end"


@pytest.mark.parametrize(
    ("settings", "problem", "words"),
    [
        ({"construction": [True]}, {}, "settings.construction: 1 values for 2 stages"),
        ({"criterion": "size", "settle": {}}, {}, "the criterion 'size' has no ranking"),
        ({"criterion": "switched_off", "settle": {}}, {}, "the criterion 'switched_off' has no ranking"),
        ({}, {"budget": Budget(seconds=3)}, "needs steps or epochs, not seconds"),
        ({}, {"space_settings": {"depth": 3}}, "space_settings.depth: unknown key"),
        (
            {},
            {"space": f"{__name__}:OtherSpace", "space_settings": {}},
            "space: the searcher 'nac' needs 'envelope', not",
        ),
    ],
)
def test_what_nac_cannot_do_is_said_at_once(settings: dict[str, Any], problem: dict[str, Any], words: str) -> None:
    with pytest.raises(ConfigError, match=words):
        NAC(NACSettings.parse(settings), PROBLEM.model_copy(update=problem))


def test_afresh_may_be_budgeted_in_seconds() -> None:
    problem = PROBLEM.model_copy(update={"budget": Budget(seconds=3)})
    spec = NAC(NACSettings(mode="afresh"), problem).suggest([], 0)
    assert spec is not None
    assert spec.budget == Budget(seconds=3)
    assert spec.horizon is None


def test_the_defaults_are_the_paper_s_but_for_the_criterion_that_beat_random_pruning() -> None:
    paper = NACSettings()
    assert (paper.criterion, paper.iterations, paper.max_prune, paper.fraction) == ("switched_off", 5, 6, 1 / 3)
    assert (paper.prune_skips, paper.feed_later, paper.normalise, paper.point) == (
        True,
        True,
        "raw",
        "after_activation",
    )
    assert paper.settle is None


def test_with_a_share_everything_is_one_training_of_the_final_budget() -> None:
    trials = search(iterations=3, share=0.6)
    assert [trial.spec.budget.steps for trial in trials] == [8, 8, 8, 16], "40 steps, 0.6 of them constructing"
    assert {trial.spec.horizon for trial in trials} == {Budget(steps=40)}
    last = trials[-1].result
    assert last is not None
    assert last.position == 40
    assert trials[-1].spec.inherit == "state"


def test_a_share_may_leave_the_search_budget_in_seconds_but_not_the_mode_afresh() -> None:
    seconds = PROBLEM.model_copy(update={"budget": Budget(seconds=3)})
    spec = NAC(NACSettings(share=0.5, iterations=2), seconds).suggest([], 0)
    assert spec is not None
    assert spec.budget == Budget(steps=10)
    with pytest.raises(ConfigError, match=r"settings.share: only mode while_training is one training"):
        NAC(NACSettings(share=0.5, mode="afresh"), PROBLEM)
    with pytest.raises(ConfigError, match=r"settings.share: 40 steps are too few for 40 truncated trainings"):
        NAC(NACSettings(share=0.5, iterations=40), PROBLEM)
