"""``ExecutorSuite``: what every executor must do. Subclass it, give it your executor, run pytest.

Jobs are those of ``amla.testing.tiny``: some milliseconds of numpy, which fail, die and hang on demand.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, ClassVar

import psutil
import pytest

from amla import artifacts
from amla.executors.base import Executor, JobState
from amla.executors.runner import run_job
from amla.spec.trial import Job, Progress, Result
from amla.testing import tiny
from amla.trainers.base import Reporter, silent

#: Steps of a job that does not end by itself within a test, each of which takes a moment.
LONG, MOMENT = 2000, 0.02


class ExecutorSuite:
    """Override ``make``, and ``folder`` where jobs do not run on this machine. ``patience``: seconds for a job to end;
    ``grace``: seconds in which a cancelled job that does not want to stop is gone; ``elsewhere``: whether jobs run outside
    this process."""

    patience: ClassVar[float] = 20.0
    grace: ClassVar[float] = 5.0
    elsewhere: ClassVar[bool] = True

    def make(self, report: Reporter = silent) -> Executor:
        raise NotImplementedError("give the suite your executor")

    @pytest.fixture
    def executor(self) -> Iterator[Executor]:
        executor = self.make()
        yield executor
        executor.close()

    @pytest.fixture
    def folder(self, tmp_path: Path) -> str:
        return str(tmp_path / "0000")

    def ended(self, executor: Executor, handle: str) -> JobState:
        state: JobState = self.wait(lambda: executor.poll([handle])[handle], lambda found: found.state != "running")
        return state

    def wait(self, look: Callable[[], Any], enough: Callable[[Any], bool]) -> Any:
        until = time.monotonic() + self.patience
        while not enough(found := look()):
            assert time.monotonic() < until, f"it takes too long: {found}"
            time.sleep(0.02)
        return found

    def run(self, executor: Executor, job: Job) -> JobState:
        return self.ended(executor, executor.submit(job))

    # ------------------------------------------------------------------------------------------------------------ they end
    def test_a_job_gives_what_it_gives_anywhere(self, executor: Executor, folder: str, tmp_path: Path) -> None:
        state = self.run(executor, tiny.job(folder))
        assert state.state == "done"
        assert timeless(state.result) == timeless(run_job(tiny.job(str(tmp_path / "here"))))
        assert Result.from_json(artifacts.read(folder, "result.json") or b"") == state.result

    def test_a_test_reads_what_the_training_left(self, executor: Executor, folder: str) -> None:
        self.run(executor, tiny.job(folder))
        test = tiny.job(f"{folder}-test", number=1, split="test")
        spec = test.spec.model_copy(update={"procedure": "evaluate", "parent": 0, "settings": {"split": "test"}})
        state = self.run(executor, test.model_copy(update={"spec": spec, "parent_folder": folder}))
        assert state.result is not None
        assert 0.0 <= state.result.metrics["test"]["accuracy"] <= 1.0
        assert state.result.cost.seconds > 0.0

    @pytest.mark.parametrize(
        ("fail", "kind"), [("nan", "nan"), ("out_of_memory",) * 2, ("data", "data"), ("memory", "out_of_memory")]
    )
    def test_a_trial_that_ends_badly_is_failed_with_the_reason(
        self, executor: Executor, folder: str, fail: str, kind: str
    ) -> None:
        state = self.run(executor, tiny.job(folder, fail=fail))
        assert state.state == "failed"
        assert state.result is not None
        assert state.result.failure is not None
        assert state.result.failure.kind == kind
        assert state.result.failure.reason
        assert "\n" not in state.result.failure.reason

    def test_several_at_once(self, executor: Executor, folder: str) -> None:
        handles = [executor.submit(tiny.job(f"{folder}-{number}", number=number)) for number in range(3)]
        assert len(set(handles)) == 3
        for handle in handles:
            assert self.ended(executor, handle).state == "done"

    # -------------------------------------------------------------------------------------------------- handles and reports
    def test_a_handle_survives_whoever_submitted(self, executor: Executor, folder: str) -> None:
        handle = executor.submit(tiny.job(folder, pause=0.02))
        executor.close()
        other = self.make()
        state = self.ended(other, handle)
        assert state.state == "done"
        other.cancel(handle)
        assert other.poll([handle])[handle].state == "done"
        other.close()

    @pytest.mark.parametrize("handle", ["", "nonsense", '{"folder": "/nowhere", "attempt": 0}', "[]"])
    def test_an_unknown_handle_is_lost(self, executor: Executor, handle: str) -> None:
        assert executor.poll([handle])[handle].state == "lost"
        executor.cancel(handle)
        assert list(executor.logs(handle)) == []
        assert executor.poll([]) == {}

    def test_submitted_twice_it_runs_once(self, executor: Executor, folder: str) -> None:
        job = tiny.job(folder, steps=20, pause=0.01)
        first, second = executor.submit(job), executor.submit(job)
        one, two = self.ended(executor, first), self.ended(executor, second)
        assert (one.state, two.state) == ("done", "done")
        assert self.run(executor, job).result == one.result

    def test_progress_is_told(self, folder: str) -> None:
        told: list[Progress] = []

        def report(progress: Progress) -> bool:
            told.append(progress)
            return True

        executor = self.make(report)
        self.run(executor, tiny.job(folder, number=3, steps=60, pause=0.02))
        executor.close()
        assert told
        assert all((progress.number, progress.steps) == (3, 60) for progress in told)

    # ------------------------------------------------------------------------------------------- they do not always end well
    def test_a_job_that_died_is_lost_and_goes_on(self, executor: Executor, folder: str, tmp_path: Path) -> None:
        self.only_elsewhere(executor)
        handle = executor.submit(tiny.job(folder, die=1))
        assert self.ended(executor, handle).state == "lost"
        assert "my last words" in list(executor.logs(handle))
        state = self.run(executor, tiny.job(folder, attempt=1, die=1))
        assert timeless(state.result) == timeless(run_job(tiny.job(str(tmp_path / "here"))))

    def test_what_is_unforeseen_is_lost_and_said(self, executor: Executor, folder: str) -> None:
        self.only_elsewhere(executor)
        handle = executor.submit(tiny.job(folder, fail="bug"))
        assert self.ended(executor, handle).state == "lost"
        assert any("RuntimeError: unforeseen" in line for line in executor.logs(handle))

    def test_a_cancelled_job_leaves_a_checkpoint(self, executor: Executor, folder: str) -> None:
        self.only_elsewhere(executor)
        handle = executor.submit(tiny.job(folder, steps=LONG, pause=MOMENT))
        self.begun(folder)
        executor.cancel(handle)
        state = executor.poll([handle])[handle]
        assert state.state == "lost" or (
            state.result and state.result.failure and state.result.failure.kind == "cancelled"
        )
        assert artifacts.read(folder, tiny.STATE)
        executor.cancel(handle)  # nothing happens

    @pytest.mark.parametrize("stubborn", [False, True])
    def test_nothing_survives_being_cancelled(self, executor: Executor, folder: str, stubborn: bool) -> None:
        self.only_elsewhere(executor)
        handle = executor.submit(tiny.job(folder, steps=LONG, pause=MOMENT, stubborn=stubborn, child=True))
        child = self.wait(lambda: artifacts.read_json(folder, "child.json"), bool)
        began = time.monotonic()
        executor.cancel(handle)
        assert time.monotonic() - began < self.grace + 1.0
        self.gone(child)
        assert executor.poll([handle])[handle].state != "running"

    def test_what_a_dead_job_left_behind_is_ended(self, executor: Executor, folder: str) -> None:
        self.only_elsewhere(executor)
        handle = executor.submit(tiny.job(folder, die=1, child=True))
        child = self.wait(lambda: artifacts.read_json(folder, "child.json"), bool)
        assert self.ended(executor, handle).state == "lost"
        self.gone(child)

    # ---------------------------------------------------------------------------------------------------------------- helpers
    def only_elsewhere(self, executor: Executor) -> None:
        if executor.blocking or not self.elsewhere:
            pytest.skip("its jobs live and die with this process")

    def begun(self, folder: str) -> None:
        self.wait(lambda: artifacts.read(folder, tiny.STATE), bool)

    def gone(self, pid: int) -> None:
        def alive() -> bool:
            try:
                return bool(psutil.Process(pid).status() != psutil.STATUS_ZOMBIE)
            except psutil.NoSuchProcess:
                return False

        self.wait(alive, lambda found: not found)


def timeless(result: Result | None) -> dict[str, Any] | None:
    """Everything of a result but seconds."""
    if result is None:
        return None
    found = result.to_data()
    del found["cost"]
    found["curve"] = [{key: value for key, value in point.items() if key != "seconds"} for point in found["curve"]]
    return found
