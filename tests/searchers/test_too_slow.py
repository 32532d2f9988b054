"""A limit on latency, which only a trial can tell of: whatever the searcher, what breaks it is not the result."""

from __future__ import annotations

from typing import Any

import pytest
from histories import FAST, ended, make, operations_of

from amla.engine.rehearsal import drawn_result
from amla.spec.experiment import Problem, trial_seed
from amla.spec.objectives import judged, measures
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
ONE_SHOT = ("darts", "enas")
PROBLEM = FAST.model_copy(update={"trials": 16})


def measured(number: int, spec: TrialSpec, most: int, problem: Problem) -> Trial:
    """Each 3x3 convolution takes 4 ms and makes the network better; ``most`` of them are within the limit."""
    result = drawn_result(spec, trial_seed(0, number), problem)
    if measures(problem, spec.procedure):
        count = operations_of(spec.architecture).count("3x3")
        result = result.model_copy(update={"latency_ms": 10.0 + (count - most) * 4.0})
    if spec.procedure == "train":
        result = result.model_copy(update={"metrics": {"valid": {"accuracy": count / 6}}})
    return Trial(number=number, seed=0, state="done", spec=spec, result=judged(result, problem.limits))


def searched(name: str, most: int) -> tuple[list[Trial], TrialSpec | None]:
    searcher, trials = make(name, PROBLEM, **SEARCHERS.get(name, {})), list[Trial]()
    while not searcher.finished:
        spec = searcher.suggest([], len(trials))
        assert spec is not None
        trials.append(measured(len(trials), spec, most, PROBLEM))
        searcher.observe(trials[-1:])
    return trials, searcher.final(trials)


@pytest.mark.parametrize("name", SEARCHERS)
def test_the_best_that_is_fast_enough_is_trained_to_the_end(name: str) -> None:
    trials, final = searched(name, most=1)
    counts = {trial.number: operations_of(trial.spec.architecture).count("3x3") for trial in trials}
    assert max(counts.values()) > 1, "a better one was tried, which is too slow"
    trained = [counts[trial.number] for trial in trials if trial.spec.procedure == "train"]
    assert final is not None
    assert final.purpose == "final"
    assert operations_of(final.architecture).count("3x3") == max(count for count in trained if count <= 1)


@pytest.mark.parametrize("name", SEARCHERS)
def test_where_all_are_too_slow_it_comes_to_its_end_and_there_is_no_result(name: str) -> None:
    trials, final = searched(name, most=-1)
    assert len(trials) == 16
    assert final is None


def test_where_zero_cost_found_fast_networks_slow_once_trained_it_takes_the_next_by_its_scores() -> None:
    trials, _ = searched("zero_cost", most=6)
    slow = [t.spec.architecture for t in trials if t.spec.procedure == "train"]
    judgements = [t if t.spec.procedure == "score" else ended(t.number, t.spec, 0.5, latency=11.0) for t in trials]
    final = make("zero_cost", PROBLEM).final(judgements)
    assert len(slow) == 4
    assert final is not None
    assert final.architecture not in slow
    assert final.architecture in [trial.spec.architecture for trial in trials]


@pytest.mark.parametrize("most", range(5))
@pytest.mark.parametrize("name", ONE_SHOT)
def test_what_a_supernet_has_found_is_measured_until_one_is_fast_enough(name: str, most: int) -> None:
    trials, final = searched(name, most=most)
    supernet, *scored = trials
    assert supernet.spec.procedure == name
    assert {trial.spec.procedure for trial in scored} == {"score"}
    assert {trial.spec.purpose for trial in scored} == {"selection"}
    tried = [operations_of(trial.spec.architecture).count("3x3") for trial in scored]
    assert [count <= most for count in tried] == [False] * (len(tried) - 1) + [True]
    assert final is not None
    assert final.architecture == scored[-1].spec.architecture
    assert len({trial.spec.architecture.to_json() for trial in scored}) == len(scored)


@pytest.mark.parametrize("name", ONE_SHOT)
def test_a_supernet_all_of_whose_networks_are_too_slow_has_no_result(name: str) -> None:
    trials, final = searched(name, most=-1)
    assert len(trials) > 2
    assert final is None


@pytest.mark.parametrize("name", ONE_SHOT)
def test_where_the_budget_leaves_no_time_to_measure_the_next_best_is_the_result(name: str) -> None:
    trials, _ = searched(name, most=0)
    searcher = make(name, PROBLEM)
    for known in range(1, len(trials)):
        final = searcher.final(trials[:known])
        assert final is not None
        assert final.architecture == trials[known].spec.architecture


@pytest.mark.parametrize("name", ONE_SHOT)
def test_a_measurement_that_fails_is_no_good_news(name: str) -> None:
    searcher = make(name, PROBLEM)
    supernet = searcher.suggest([], 0)
    assert supernet is not None
    searcher.observe([measured(0, supernet, 6, PROBLEM)])
    first = searcher.suggest([], 1)
    assert first is not None
    searcher.observe([ended(1, first, None)])
    second = searcher.suggest([], 2)
    assert second is not None
    assert second.architecture != first.architecture
