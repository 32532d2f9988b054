"""No searcher asks for a network above the limits."""

from __future__ import annotations

from typing import Any

import pytest
from nac_helpers import (
    ENVELOPE,
    PROBLEM,
    ascending,
    done,
    result_of,
    space,
)

from amla.errors import SpecError
from amla.searchers import nac_phases as phases
from amla.searchers.envelope import Envelope
from amla.searchers.fixed import Fixed, FixedSettings
from amla.searchers.nac import NAC, NACSettings, construct, construct_within
from amla.searchers.nac_criteria import branch_sizes
from amla.searchers.random import RandomSearch, RandomSettings
from amla.spaces.edits import links_of
from amla.spaces.envelope import EnvelopeSettings, EnvelopeSpace
from amla.spaces.limits import excess
from amla.spec.costs import costs
from amla.spec.experiment import Limits, Problem
from amla.spec.lower import lower
from amla.spec.trial import TrialSpec


def limited(**limits: int) -> Problem:
    return PROBLEM.model_copy(update={"limits": Limits.parse(limits)})


def cost_of(architecture: Any) -> int:
    return costs(lower(architecture, PROBLEM.input_shape, PROBLEM.num_classes)).parameters


def test_a_stage_grows_only_within_the_limits() -> None:
    before = phases.initialise(space())
    scores, values = ascending(before), dict.fromkeys(links_of(before), 1.0)
    largest, _ = construct_within(before, space(), NACSettings(), scores, values)
    sizes = {}
    for most in (cost_of(largest), cost_of(largest) - 1, cost_of(before)):
        problem = limited(max_params=most)
        of = EnvelopeSpace(EnvelopeSettings.parse(PROBLEM.space_settings), problem)
        after, change = construct_within(before, of, NACSettings(), scores, values)
        assert excess(after, problem) is None
        sizes[most] = len(change.grown)
    assert list(sizes.values()) == [2, 1, 0]


def test_channels_lapse_where_passing_them_on_would_cost_too_much() -> None:
    before = phases.initialise(space())
    problem = limited(max_params=cost_of(before))
    of = EnvelopeSpace(EnvelopeSettings.parse(PROBLEM.space_settings), problem)
    # the cheapest go, so that what is left is dear
    scores, values = branch_sizes(before, PROBLEM), dict.fromkeys(links_of(before), 1.0)
    passed, _ = construct(before, of, NACSettings(), scores, values, ())
    assert excess(passed, problem)
    after, change = construct_within(before, of, NACSettings(), scores, values)
    assert excess(after, problem) is None
    assert change.pruned
    assert not change.grown


@pytest.mark.parametrize("limit", [{"max_params": 100}, {"max_flops": 100}])
def test_a_first_network_above_the_limits_is_refused_before_anything_is_trained(limit: dict[str, int]) -> None:
    (name,) = limit
    problem = limited(**limit)
    with pytest.raises(SpecError, match=f"limits.{name}: the network has .* and may have 100; begin with fewer"):
        NAC(NACSettings(), problem)
    for searcher in (
        lambda: Envelope(Envelope.Settings(), problem),
        lambda: Fixed(FixedSettings(architecture=ENVELOPE), problem),
    ):
        with pytest.raises(SpecError, match=f"limits.{name}"):
            searcher()
    with pytest.raises(SpecError, match=rf"limits.{name}: .* no smaller one was found in the space 'envelope'"):
        RandomSearch(RandomSettings(draws=5), problem).suggest([], 0)


def test_random_search_draws_until_a_network_keeps_the_limits() -> None:
    problem = limited(max_params=cost_of(ENVELOPE))
    searcher = RandomSearch(RandomSettings(trials=8), problem)
    drawn = [searcher.suggest([], number) for number in range(8)]
    assert all(spec is not None and excess(spec.architecture, problem) is None for spec in drawn)
    free = RandomSearch(RandomSettings(trials=8), PROBLEM)
    assert any(spec != free.suggest([], number) for number, spec in enumerate(drawn)), "some were drawn again"


def test_the_best_network_above_the_limits_is_not_the_final_one() -> None:
    small = EnvelopeSpace(EnvelopeSettings.parse(PROBLEM.space_settings | {"skips": False}), PROBLEM).initial()
    trials = [
        done(TrialSpec(architecture=architecture, budget=PROBLEM.budget), number)
        for number, architecture in enumerate((ENVELOPE, small))
    ]
    best = trials[0].model_copy(
        update={"result": result_of(ENVELOPE, metrics={"valid": {"accuracy": 2.0}}), "spec": trials[0].spec}
    )
    for problem, number in ((PROBLEM, 0), (limited(max_params=cost_of(small)), 1)):
        final = RandomSearch(RandomSettings(), problem).final([best, trials[1]])
        assert final is not None
        assert final.memo == {"found_by": number}


@pytest.mark.parametrize("mode", ["afresh", "while_training"])
@pytest.mark.parametrize("slow", [{1}, {1, 2}, {0, 1, 2}])
def test_nac_gets_smaller_where_it_is_too_slow_and_ends_with_a_network_that_is_not(mode: Any, slow: set[int]) -> None:
    problem = limited(max_latency_ms=1)
    searcher, trials = NAC(NACSettings(mode=mode, iterations=3), problem), []
    while not searcher.finished:
        spec = searcher.suggest([], len(trials))
        assert spec is not None
        if spec.purpose == "final":
            break
        trial = done(spec, len(trials))
        assert trial.result is not None
        judged = trial.result.model_copy(update={"feasible": trial.number not in slow})
        trials.append(trial.model_copy(update={"result": judged}))
        searcher.observe(trials[-1:])
    for number in {1, 2} & {number + 1 for number in slow}:
        assert not trials[number].spec.memo["grown"]
        assert cost_of(trials[number].spec.architecture) < cost_of(trials[number - 1].spec.architecture)
    final = searcher.final(trials)
    fast = [trial for trial in trials if trial.number not in slow]
    if not fast:
        assert final is None
        return
    assert final is not None
    assert final.architecture == fast[-1].spec.architecture
    assert final.parent == (fast[-1].number if mode == "while_training" else None)
