"""``SearcherSuite``: what every searcher must do. Subclass it, give it your searcher, run pytest.

Networks are not trained here: a trial's result is drawn from its seed, with a statistic for every block that any
instrument could give, which is all that a searcher may depend on.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, ClassVar

from amla import registry
from amla.engine.rehearsal import drawn_result
from amla.searchers.base import Searcher, space_of
from amla.spaces.limits import excess
from amla.spec.experiment import Limits, Problem, trial_seed
from amla.spec.lower import lower
from amla.spec.training import Budget
from amla.spec.trial import Failure, Result, Trial, TrialSpec

ENOUGH = 200


class SearcherSuite:
    """Override ``name`` (as registered, or ``module:Class``), and ``settings`` and ``problem`` where it needs others."""

    name: ClassVar[str]
    #: Whether it may build what its space has not: networks that are narrower, or given.
    leaves_space: ClassVar[bool] = False
    settings: ClassVar[dict[str, Any]] = {}
    problem: ClassVar[Problem] = Problem(
        input_shape=(1, 8, 8),
        num_classes=10,
        train_size=1000,
        trials=6,
        budget=Budget(steps=10),
        final_budget=Budget(steps=20),
        space_settings={"width": 12},
    )

    def make(self, problem: Problem | None = None) -> Searcher[Any]:
        cls = registry.load("searchers", self.name)
        searcher: Searcher[Any] = cls(cls.Settings.parse(self.settings), problem or self.problem)
        return searcher

    def run(
        self, jobs: int = 1, failing: Sequence[int] = (), seed: int = 0, problem: Problem | None = None
    ) -> list[Trial]:
        """A whole search: ``jobs`` at once, the trials of these numbers failing; rebuilt from its trials at every step, and
        compared with the live one."""
        problem = (problem or self.problem).model_copy(update={"seed": seed})
        live = self.make(problem)
        finished: list[Trial] = []
        active: list[Trial] = []
        number = 0
        while not (live.finished and not active):
            assert number < ENOUGH, "it does not come to an end"
            rebuilt = self.make(problem)
            rebuilt.observe(finished)
            while len(active) < jobs:
                spec = live.suggest(active, number)
                assert spec == live.suggest(active, number), "suggest changes something"
                assert spec == rebuilt.suggest(active, number), "rebuilt from its trials it suggests something else"
                if spec is None:
                    break
                self.check(spec, [*finished, *active], problem)
                active.append(Trial(number=number, seed=trial_seed(seed, number), state="running", spec=spec))
                number += 1
            assert active or live.finished, "it neither suggests nor waits, and is not finished"
            if active:
                finished.append(self.ended(active.pop(0), failing, finished, problem))
                live.observe(finished[-1:])
        return finished

    def ended(self, trial: Trial, failing: Sequence[int], finished: Sequence[Trial], problem: Problem) -> Trial:
        if trial.number in failing:
            result = Result(failure=Failure(kind="nan", reason="loss is nan at step 3"))
            state = "failed"
        else:
            parents = {t.number: t.result.position for t in finished if t.result}
            position = parents.get(trial.spec.parent, 0) if trial.spec.parent is not None else 0
            result, state = drawn_result(trial.spec, trial.seed, problem, position), "done"
        return Trial.parse(
            trial.to_data() | {"state": state, "result": result.to_data(), "finished_seq": len(finished)}
        )

    def check(self, spec: TrialSpec, known: Sequence[Trial], problem: Problem) -> None:
        lower(spec.architecture, problem.input_shape, problem.num_classes)
        space = space_of(problem)
        whole = space.supernet() if spec.procedure not in ("train", "score") else None
        if whole is None or spec.architecture != whole.architecture:  # all networks in one are none of them
            assert self.leaves_space or space.contains(spec.architecture), "the space has no such network"
            assert excess(spec.architecture, problem) is None, "the network breaks a limit"
        assert TrialSpec.from_json(spec.to_json()) == spec
        assert spec.purpose in ("search", "selection", "final")
        if spec.parent is not None:
            assert spec.parent in {trial.number for trial in known if trial.state == "done"}

    # ------------------------------------------------------------------------------------------------------------ the tests
    def test_suggestions_are_valid_and_it_comes_to_an_end(self) -> None:
        trials = self.run()
        assert self.make().final(trials) is not None or trials or not self.make().finished

    def test_same_seed_same_experiment(self) -> None:
        assert self.run(seed=3) == self.run(seed=3)

    def test_rebuilt_from_its_trials_with_several_at_once(self) -> None:
        self.run(jobs=3)

    def test_limits_hold(self) -> None:
        """At most as many parameters as the first network that it tried."""
        first = next((trial.result for trial in self.run() if trial.result), None)
        if first is not None:
            self.run(problem=self.problem.model_copy(update={"limits": Limits(max_params=first.parameters)}))

    def test_failed_trials_do_not_stop_it(self) -> None:
        trials = self.run(failing=(0, 2))
        searched = [trial for trial in trials if trial.state == "done"]
        assert searched or not trials

    def test_settings_survive_json(self) -> None:
        searcher = self.make()
        assert type(searcher.settings).from_json(searcher.settings.to_json()) == searcher.settings

    def test_finished_is_honest(self) -> None:
        searcher = self.make()
        trials = self.run()
        searcher.observe(trials)
        assert searcher.finished
        assert searcher.suggest([], len(trials)) is None

    def test_the_final_network_is_trained_to_the_end(self) -> None:
        trials = self.run()
        searcher = self.make()
        searcher.observe(trials)
        if not any(trial.spec.purpose == "final" for trial in trials):
            final = searcher.final(trials)
            assert final is not None
            assert final.purpose == "final"
            assert final.budget == self.problem.final_budget
            self.check(final, trials, self.problem)
