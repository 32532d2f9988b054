"""The order of promotions, against algorithm 2 of arXiv 1810.05934: on a history by hand, and on drawn ones."""

from __future__ import annotations

from typing import Any, NamedTuple

import hypothesis
import pytest
from histories import CELLS, FAST, ended, given, make
from hypothesis import strategies as st

from amla.searchers.successive_halving import SuccessiveHalving
from amla.spec.trial import Trial, TrialSpec

#: With three rungs and a budget of 8 steps, the rungs end at 2, 4 and 8 steps.
ETA, RUNGS = 2, 3
STEPS = (2, 2, 4)


class Asked(NamedTuple):
    """A new network, or that of a trial that is promoted; and the rung on which it is trained."""

    parent: int | None
    rung: int


def halving(problem: Any = CELLS, **settings: Any) -> SuccessiveHalving:
    searcher = make("successive_halving", problem, eta=ETA, rungs=RUNGS, **settings)
    assert isinstance(searcher, SuccessiveHalving)
    return searcher


def asked(spec: TrialSpec | None) -> Asked:
    assert spec is not None
    rung = spec.memo["rung"]
    assert isinstance(rung, int)
    assert spec.budget.steps == STEPS[rung]
    assert spec.horizon == CELLS.budget
    assert spec.inherit == ("none" if spec.parent is None else "state")
    return Asked(spec.parent, rung)


#: Trial by trial: what is asked for, and the accuracy that it then has. One job.
BY_HAND = [
    (Asked(None, 0), 0.50),
    (Asked(None, 0), 0.60),
    (Asked(1, 1), 0.70),  # the better one of two
    (Asked(None, 0), 0.80),  # of one on rung 1, none
    (Asked(3, 1), 0.75),  # the best of three
    (Asked(4, 2), 0.90),  # the better of two on rung 1; the higher rung comes first
    (Asked(None, 0), 0.40),  # the upper two of four, 3 and 1, are promoted already
    (Asked(None, 0), 0.65),
    (Asked(7, 1), 0.60),  # of five the upper two are now 3 and 7
]


def test_a_history_by_hand() -> None:
    searcher = halving()
    for number, (expected, accuracy) in enumerate(BY_HAND):
        spec = searcher.suggest([], number)
        assert asked(spec) == expected, number
        assert spec is not None
        searcher.observe([ended(number, spec, accuracy)])


def test_several_jobs_by_hand() -> None:
    """Nobody is promoted twice, though the promotion still runs; nor again where it failed."""
    searcher = halving()
    specs: list[TrialSpec] = []
    running: list[Trial] = []

    def begins(expected: Asked) -> None:
        spec = searcher.suggest(running, len(specs))
        assert asked(spec) == expected
        assert spec is not None
        running.append(Trial(number=len(specs), seed=0, state="running", spec=spec))
        specs.append(spec)

    def ends(number: int, accuracy: float | None) -> None:
        running[:] = [trial for trial in running if trial.number != number]
        searcher.observe([ended(number, specs[number], accuracy)])

    for _ in range(3):
        begins(Asked(None, 0))  # 0, 1, 2
    ends(2, 0.5)
    begins(Asked(None, 0))  # 3: of one, none
    ends(0, 0.9)
    begins(Asked(0, 1))  # 4
    begins(Asked(None, 0))  # 5: while 4 runs
    ends(4, None)
    begins(Asked(None, 0))  # 6: 0 does not go on a second time
    ends(1, 0.7)
    ends(3, 0.6)
    begins(Asked(1, 1))  # 7: of 0, 1, 3, 2 the upper two


class Reference:
    """Algorithm 2, ``get_job``, as it stands there; rungs hold (loss, trial)."""

    def __init__(self) -> None:
        self.rungs: list[list[tuple[float, int]]] = [[] for _ in range(RUNGS)]
        self.promoted: list[set[int]] = [set() for _ in range(RUNGS)]

    def get_job(self) -> Asked:
        for k in range(RUNGS - 2, -1, -1):
            candidates = [number for _, number in sorted(self.rungs[k])[: len(self.rungs[k]) // ETA]]
            promotable = [number for number in candidates if number not in self.promoted[k]]
            if promotable:
                self.promoted[k].add(promotable[0])
                return Asked(promotable[0], k + 1)
        return Asked(None, 0)


# A history takes long to be made shorter, and says enough as it is.
@hypothesis.settings(phases=[hypothesis.Phase.generate])
@hypothesis.given(st.integers(1, 4), st.data())
def test_any_history_with_any_number_of_jobs(jobs: int, data: st.DataObject) -> None:
    searcher, reference = halving(), Reference()
    running: list[Trial] = []
    for number in range(30):
        spec = searcher.suggest(running, number)
        assert asked(spec) == reference.get_job(), number
        assert spec is not None
        running.append(Trial(number=number, seed=0, state="running", spec=spec))
        full = len(running) == jobs
        for _ in range(data.draw(st.integers(int(full), len(running)))):
            trial = running.pop(data.draw(st.integers(0, len(running) - 1)))
            accuracy = data.draw(st.sampled_from([None, 0.1, 0.3, 0.5, 0.7, 0.9]))
            searcher.observe([ended(trial.number, trial.spec, accuracy)])
            if accuracy is not None:
                reference.rungs[asked(trial.spec).rung].append((-accuracy, trial.number))


def test_what_is_too_slow_is_never_promoted() -> None:
    searcher = halving(FAST)
    memo = {"rung": 0}
    for number, (accuracy, latency) in enumerate([(0.9, 20.0), (0.5, 5.0), (0.8, 20.0), (0.4, 20.0)]):
        trial = given(number, accuracy, latency=latency)
        searcher.observe([trial.model_copy(update={"spec": trial.spec.model_copy(update={"memo": memo})})])
    spec = searcher.suggest([], 4)
    assert asked(spec) == Asked(1, 1)
    assert spec is not None
    running = Trial(number=4, seed=0, state="running", spec=spec)
    assert asked(searcher.suggest([running], 5)) == Asked(None, 0), "of the upper two of four, only one was fast enough"


@pytest.mark.parametrize("count", [1, 3])
def test_the_searcher_inside_sees_each_network_once_with_its_last_result(count: int) -> None:
    searcher = halving(searcher="evolution", settings={"population": 4})
    for number, (_, accuracy) in enumerate(BY_HAND[: 2 * count]):
        spec = searcher.suggest([], number)
        assert spec is not None
        searcher.observe([ended(number, spec, accuracy)])
    seen = {member.number: -member.losses[0] for member in searcher.inner.population}  # type: ignore[attr-defined]
    assert seen == ({0: 0.5, 1: 0.6} if count == 1 else {0: 0.5, 1: 0.7, 3: 0.9})
