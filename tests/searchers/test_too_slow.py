"""A limit on latency, which only a trial can tell of: whatever the searcher, what breaks it is not the result."""

from __future__ import annotations

from typing import Any

import pytest
from histories import FAST, make, operations_of

from amla.engine.rehearsal import drawn_result
from amla.spec.experiment import Problem, trial_seed
from amla.spec.objectives import judged
from amla.spec.trial import Trial, TrialSpec

SEARCHERS: dict[str, dict[str, Any]] = {
    "random": {},
    "evolution": {"population": 4},
    "local_search": {},
    "reinforce": {},
    "successive_halving": {"eta": 2},
    "tpe": {"startup": 4},
    "bayes": {"startup": 4},
    "zero_cost": {"best": 4},
}
PROBLEM = FAST.model_copy(update={"trials": 16})


def measured(number: int, spec: TrialSpec, most: int, problem: Problem) -> Trial:
    """Each 3x3 convolution takes 4 ms and makes the network better; ``most`` of them are within the limit."""
    result = drawn_result(spec, trial_seed(0, number), problem)
    if spec.procedure == "train":
        count = operations_of(spec.architecture).count("3x3")
        latency = 10.0 + (count - most) * 4.0
        result = result.model_copy(update={"metrics": {"valid": {"accuracy": count / 6}}, "latency_ms": latency})
    return Trial(number=number, seed=0, state="done", spec=spec, result=judged(result, problem.limits))


def searched(name: str, most: int) -> tuple[list[Trial], TrialSpec | None]:
    searcher, trials = make(name, PROBLEM, **SEARCHERS[name]), list[Trial]()
    while not searcher.finished:
        spec = searcher.suggest([], len(trials))
        assert spec is not None
        trials.append(measured(len(trials), spec, most, PROBLEM))
        searcher.observe(trials[-1:])
    return trials, searcher.final(trials)


@pytest.mark.parametrize("name", SEARCHERS)
def test_the_best_that_is_fast_enough_is_trained_to_the_end(name: str) -> None:
    trials, final = searched(name, most=1)
    trained = [trial for trial in trials if trial.spec.procedure == "train" and trial.result]
    counts = {trial.number: operations_of(trial.spec.architecture).count("3x3") for trial in trained}
    assert max(counts.values()) > 1, "a better one was tried, which is too slow"
    assert final is not None
    assert final.purpose == "final"
    assert operations_of(final.architecture).count("3x3") == max(n for n in counts.values() if n <= 1)


@pytest.mark.parametrize("name", sorted(SEARCHERS.keys() - {"zero_cost"}))
def test_where_all_are_too_slow_it_comes_to_its_end_and_there_is_no_result(name: str) -> None:
    trials, final = searched(name, most=-1)
    assert len(trials) == 16
    assert final is None


def test_zero_cost_then_takes_the_next_by_its_scores_that_nobody_measured() -> None:
    trials, final = searched("zero_cost", most=-1)
    slow = [trial.spec.architecture for trial in trials if trial.spec.procedure == "train"]
    assert len(slow) == 4
    assert final is not None
    assert final.architecture not in slow
    assert final.architecture in [trial.spec.architecture for trial in trials]
