"""What REINFORCE learns: the odds of the options that were rewarded."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
import pytest
from histories import CELLS, FAST, ended, make, operations_of, played

from amla.searchers.reinforce import Reinforce
from amla.spec.experiment import Problem
from amla.spec.trial import Trial


def policy(problem: Problem = CELLS, **settings: float) -> Reinforce:
    searcher = make("reinforce", problem, **settings)
    assert isinstance(searcher, Reinforce)
    return searcher


def odds(searcher: Reinforce) -> npt.NDArray[np.float64]:
    """The probability of every option: decisions x options."""
    raised = np.exp(searcher.logits)
    return np.asarray(raised / raised.sum(1, keepdims=True))


def of_taken(searcher: Reinforce, trial: Trial) -> npt.NDArray[np.float64]:
    """The probabilities of the options that a trial took."""
    taken = [list(options).index(taken) for options, taken in _decisions(searcher, trial)]
    return odds(searcher)[np.arange(len(taken)), taken]


def _decisions(searcher: Reinforce, trial: Trial) -> list[tuple[tuple[str, ...], str]]:
    return list(zip(searcher.decisions.values(), operations_of(trial.spec.architecture), strict=True))


def tried(searcher: Reinforce, number: int, accuracy: float | None, latency: float | None = None) -> Trial:
    spec = searcher.suggest([], number)
    assert spec is not None
    trial = ended(number, spec, accuracy, latency=latency)
    searcher.observe([trial])
    return trial


def test_the_rewarded_option_becomes_likely_and_the_others_stay_as_they_are() -> None:
    """Only the operation of the first edge matters."""
    searcher = policy(learning_rate=0.1)
    trials = played(searcher, 150, lambda network: float(operations_of(network)[0] == "3x3"))
    first, *others = odds(searcher)
    place = searcher.decisions["edge_0_1"].index("3x3")
    assert first[place] > 0.9
    assert np.max(others) < 0.7
    late = [operations_of(trial.spec.architecture)[0] for trial in trials[-30:]]
    assert late.count("3x3") > 20


@pytest.mark.parametrize(("second", "sign"), [(0.9, 1.0), (0.1, -1.0)])
def test_one_step_goes_with_the_reward(second: float, sign: float) -> None:
    searcher = policy()
    tried(searcher, 0, 0.5)
    assert np.allclose(odds(searcher), 1 / 5), "the first reward is its own baseline"
    trial = tried(searcher, 1, second)
    assert np.all(sign * (of_taken(searcher, trial) - 1 / 5) > 0)
    assert np.allclose(odds(searcher).sum(1), 1.0)


def test_a_failed_trial_teaches_nothing() -> None:
    searcher = policy()
    tried(searcher, 0, 0.5)
    tried(searcher, 1, 0.9)
    before = odds(searcher)
    tried(searcher, 2, None)
    assert np.array_equal(odds(searcher), before)
    assert searcher.baseline == pytest.approx(0.9 * 0.5 + 0.1 * 0.9)


def test_what_is_too_slow_is_rewarded_as_the_worst_so_far() -> None:
    found = {}
    for name, (accuracy, latency) in {"slow": (1.0, 20.0), "bad": (0.2, 1.0)}.items():
        searcher = policy(FAST)
        tried(searcher, 0, 0.2, latency=1.0)
        tried(searcher, 1, 0.8, latency=1.0)
        trial = tried(searcher, 2, accuracy, latency=latency)
        found[name] = (trial.spec, odds(searcher).tolist())
    assert found["slow"] == found["bad"]


def test_a_decision_with_fewer_options_never_takes_another() -> None:
    problem = Problem(input_shape=(1, 8, 8), num_classes=10, train_size=1000, space_settings={"width": 6}, trials=50)
    searcher = policy(problem)
    counts = {len(options) for options in searcher.decisions.values()}
    assert len(counts) > 1
    assert odds(searcher)[searcher.absent].sum() == 0.0
    for number in range(10):
        spec = searcher.suggest([], number)
        assert spec is not None
        taken = spec.memo["taken"]
        assert isinstance(taken, list)
        sizes = [len(options) for options in searcher.decisions.values()]
        assert all(int(str(index)) < size for index, size in zip(taken, sizes, strict=True))
