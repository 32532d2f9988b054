"""Fronts and crowding, against their definitions."""

import math

from hypothesis import given
from hypothesis import strategies as st

from amla.engine.summary import summary
from amla.spec.data import DatasetSpec, Split
from amla.spec.experiment import Experiment, ExperimentSpec, Objective, Problem
from amla.spec.objectives import crowding, dominates, fronts, pareto
from amla.spec.training import Budget
from amla.spec.trial import Result, Trial, TrialSpec
from amla.testing.tiny import network

POINTS = st.lists(st.tuples(*[st.sampled_from([0.0, 1.0, 2.0, 3.0, math.inf])] * 3), max_size=25)


@given(POINTS)
def test_each_front_is_what_nobody_left_dominates(points: list[tuple[float, ...]]) -> None:
    left = set(range(len(points)))
    for front in fronts(points):
        assert front == sorted(i for i in left if not any(dominates(points[j], points[i]) for j in left))
        left -= set(front)
    assert not left


def test_crowding_by_hand() -> None:
    assert crowding([(0.0, 4.0), (1.0, 2.0), (4.0, 0.0)]) == [math.inf, 4 / 4 + 4 / 4, math.inf]
    assert crowding([]) == []


OBJECTIVES = tuple(Objective.parse(name) for name in ("accuracy", "parameters"))
PROBLEM = Problem(input_shape=(1, 8, 8), num_classes=3, train_size=100, objectives=OBJECTIVES)
FIGURES = st.lists(
    st.tuples(st.sampled_from([None, 0.1, 0.5, 0.9]), st.integers(1, 4), st.booleans(), st.booleans()), max_size=12
)


def trial(number: int, accuracy: float | None, parameters: int, feasible: bool, done: bool) -> Trial:
    metrics: dict[Split, dict[str, float]] = {} if accuracy is None else {"valid": {"accuracy": accuracy}}
    result = Result(metrics=metrics, parameters=parameters, feasible=feasible)
    spec = TrialSpec(architecture=network(1), budget=Budget(steps=1))
    return Trial(number=number, seed=0, state="done" if done else "failed", spec=spec, result=result)


@given(FIGURES)
def test_nothing_usable_dominates_the_pareto_front_and_it_leaves_nothing_out(
    figures: list[tuple[float | None, int, bool, bool]],
) -> None:
    trials = [trial(number, *values) for number, values in enumerate(figures)]
    sound = {t.number: (-a, p) for t, (a, p, *kept) in zip(trials, figures, strict=True) if a is not None and all(kept)}
    front = [t.number for t in pareto(trials, PROBLEM)]
    best = {point for point in sound.values() if not any(dominates(other, point) for other in sound.values())}
    assert [sound[number] for number in front] == sorted(best)


def test_the_front_and_the_best_by_direction_within_the_limits() -> None:
    trials = [trial(0, 0.9, 4, True, True), trial(1, 0.5, 1, True, True), trial(2, 0.5, 2, True, True)]
    trials += [trial(3, 1.0, 1, False, True), trial(4, 1.0, 1, True, False)]
    for names, best in ((("accuracy", "parameters"), 0), (("parameters", "accuracy"), 1), (("parameters",), 1)):
        objectives = tuple(map(Objective.parse, names))
        spec = ExperimentSpec(dataset=DatasetSpec(name="digits"), objectives=objectives)
        problem = PROBLEM.model_copy(update={"objectives": objectives})
        found = summary(Experiment(id="a", created="", spec=spec, problem=problem, folder="a"), trials)
        assert found["best"]["trial"] == best
        assert found["best"]["feasible"]
        assert sorted(point["trial"] for point in found["front"]) == ([0, 1] if len(names) > 1 else [])
    assert found["best"]["parameters"] == 1
