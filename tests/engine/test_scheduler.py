"""One experiment from beginning to end, whatever happens in between."""

import errno
import itertools
import json
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from scripted import Scripted, content, purposes

from amla import artifacts
from amla.engine.scheduler import MAX_LOSSES, Scheduler
from amla.engine.store import Store
from amla.engine.summary import summary
from amla.errors import ConfigError, SearchError
from amla.executors.base import Executor
from amla.executors.inline import InlineExecutor
from amla.executors.process import ProcessExecutor
from amla.spec.training import Budget
from amla.spec.trial import Progress, Trial
from amla.testing import tiny

Make = Callable[..., Store]


@pytest.fixture
def made(tmp_path: Path) -> Iterator[Make]:
    """Make a store with a tiny experiment: ``spec`` are keys of its spec."""
    stores = []

    def make(name: str = "a", **spec: Any) -> Store:
        stores.append(Store(str(tmp_path / f"{name}.db")))
        stores[-1].create(tiny.experiment(str(tmp_path / name), **spec))
        return stores[-1]

    yield make
    for store in stores:
        store.close()


def run(store: Store, executor: Executor | None = None, **options: Any) -> str:
    options.setdefault("sleep", lambda seconds: None)
    return Scheduler(store, executor or InlineExecutor(), "tiny", **options).run().state


# ------------------------------------------------------------------------------------------------------ from end to end
def test_an_experiment_is_searched_trained_and_tested_once(made: Make) -> None:
    store, heard = made(), list[Trial]()
    assert run(store, on_event=heard.append) == "done"
    assert purposes(store) == "ssssssft"
    trials = store.trials("tiny")
    assert [trial.finished_seq for trial in trials] == list(range(8))
    best = max(trials[:6], key=lambda trial: trial.result.accuracy if trial.result else 0.0)
    assert trials[6].spec.architecture == trials[7].spec.architecture == best.spec.architecture
    assert trials[6].spec.budget == store.experiment("tiny").problem.final_budget
    assert (trials[7].spec.parent, trials[7].spec.procedure, trials[7].spec.settings) == (
        6,
        "evaluate",
        {"split": "test"},
    )
    assert [(trial.number, trial.state) for trial in heard[:4]] == [
        (0, "queued"),
        (0, "running"),
        (0, "running"),
        (0, "done"),
    ]
    assert {trial.number for trial in heard if trial.state == "done"} == set(range(8))
    assert heard[-1].result == trials[7].result
    found = summary(store.experiment("tiny"), trials)
    assert found["test"] == trials[7].result.metrics["test"] if trials[7].result else False
    assert found["best"]["trial"] == 6
    assert found["seconds"]["search"] > 0.0
    assert run(store) == "done"
    assert len(store.trials("tiny")) == 8


def test_a_searcher_may_end_with_its_own_final_trial(made: Make) -> None:
    store = made(settings={"own_final": True, "trials": 3})
    assert run(store) == "done"
    assert purposes(store) == "sssft"


def test_processes_give_what_one_process_gives(made: Make) -> None:
    inline, process = made("a", jobs=2), made("b", jobs=2)
    run(inline)
    executor = ProcessExecutor()
    assert Scheduler(process, executor, "tiny").run().state == "done"
    executor.close()
    assert content(process) == content(inline)


# ---------------------------------------------------------------------------------------------------------- determinism
SETTINGS = ({}, {"greedy": True}, {"own_final": True}, {"own_final": True, "greedy": True}, {"failing": [0, 3]})


@pytest.mark.parametrize("settings", SETTINGS)
def test_the_order_in_which_jobs_end_does_not_matter(made: Make, settings: dict[str, Any]) -> None:
    reference = made("reference", jobs=3, settings=settings)
    assert run(reference) == "done"
    orders = set()
    for seed in range(5):
        store, executor = made(str(seed), jobs=3, settings=settings), Scripted(seed)
        assert run(store, executor) == "done"
        assert content(store) == content(reference)
        assert executor.most <= (1 if settings.get("greedy") else 3)
        orders.add(tuple(trial.finished_seq for trial in store.trials("tiny")))
    assert len(orders) > 1 or settings.get("greedy")


def test_jobs_run_at_once(made: Make) -> None:
    executor = Scripted()
    run(made(jobs=4), executor)
    assert executor.most == 4


def test_another_seed_is_another_experiment(made: Make) -> None:
    one, other = made("1", seed=1), made("2", seed=2)
    run(one)
    run(other)
    assert content(one) != content(other)


@pytest.mark.parametrize("settings", SETTINGS)
@pytest.mark.parametrize("deterministic", [True, False])
def test_a_new_scheduler_at_every_tick_changes_nothing(
    made: Make, settings: dict[str, Any], deterministic: bool
) -> None:
    spec = {"jobs": 3, "settings": settings, "deterministic": deterministic}
    live, rebuilt = made("live", **spec), made("rebuilt", **spec)
    run(live, Scripted())
    executor = Scripted()
    for count in itertools.count():
        assert count < 200
        if not Scheduler(rebuilt, executor, "tiny").tick():
            break
    assert content(rebuilt) == content(live)
    assert rebuilt.experiment("tiny").state == "done"


def test_suggestions_use_what_is_known_where_order_is_free(made: Make) -> None:
    store = made(jobs=2, deterministic=False)
    run(store, Scripted(3))
    seen = [trial.spec.memo["seen"] for trial in store.trials("tiny") if trial.spec.purpose == "search"]
    assert seen == [0, 0, 1, 2, 3, 4]


# -------------------------------------------------------------------------------------------------------------- crashes
class Crash(Exception):
    """The process dies here."""


class Fragile(Store):
    """Dies at the ``n``-th write, before or after it."""

    left, late = 10**9, False

    def _count(self) -> bool:
        self.left -= 1
        if self.left == 0 and not self.late:
            raise Crash
        return self.left == 0

    def add_trial(self, *args: Any, **kwargs: Any) -> bool:
        dies, added = self._count(), super().add_trial(*args, **kwargs)
        if dies:
            raise Crash
        return added

    def transition(self, *args: Any, **kwargs: Any) -> bool:
        dies, changed = self._count(), super().transition(*args, **kwargs)
        if dies:
            raise Crash
        return changed

    def update(self, *args: Any, **kwargs: Any) -> Any:
        dies, new = self._count(), super().update(*args, **kwargs)
        if dies:
            raise Crash
        return new


@pytest.mark.parametrize("late", [False, True])
@pytest.mark.parametrize("executor", [InlineExecutor, Scripted])
def test_a_crash_at_any_write_is_mended(made: Make, tmp_path: Path, executor: type[Executor], late: bool) -> None:
    spec = {"jobs": 2, "settings": {"trials": 3, "steps": 1}}
    reference = made("reference", **spec)
    run(reference, executor())
    for write in itertools.count(1):
        store = made(str(write), **spec)
        outlives = executor()
        with Fragile(store.url) as fragile:
            fragile.left, fragile.late = write, late
            try:
                run(fragile, outlives)
                break
            except Crash:
                pass
        assert run(store, outlives if write % 2 else executor()) == "done"
        assert content(store) == content(reference)
    assert write > 15


def test_what_is_unforeseen_leaves_a_trial_that_can_run_again(made: Make) -> None:
    store = made(settings={"trial": {"fail": "bug"}})
    with pytest.raises(RuntimeError, match="unforeseen"):
        run(store)
    assert [trial.state for trial in store.trials("tiny")] == ["running"]
    with pytest.raises(RuntimeError, match="unforeseen"):
        run(store)


def test_a_full_disk_stops_everything_and_loses_nothing(made: Make, monkeypatch: pytest.MonkeyPatch) -> None:
    reference, store = made("reference"), made("full")
    run(reference)
    write, left = artifacts.write, itertools.count(-20)

    def until_full(folder: str, name: str, content: bytes) -> None:
        if next(left) == 0:
            raise OSError(errno.ENOSPC, "No space left on device")
        write(folder, name, content)

    with monkeypatch.context() as patched:
        patched.setattr(artifacts, "write", until_full)
        with pytest.raises(OSError, match="No space left"):
            run(store)
    assert run(store) == "done"
    assert content(store) == content(reference)


def test_a_lost_worker_is_replaced(made: Make) -> None:
    reference, store = made("reference", jobs=2), made("lost", jobs=2)
    run(reference)
    assert run(store, Scripted(lost={0: 1, 3: 2, 7: 2})) == "done"
    assert content(store) == content(reference)
    assert [trial.attempt for trial in store.trials("tiny")] == [1, 0, 0, 2, 0, 0, 0, 2]


def test_a_trial_whose_worker_is_lost_again_and_again_is_given_up(made: Make) -> None:
    store = made()
    assert run(store, Scripted(lost={2: 99})) == "done"
    assert purposes(store) == "ssSsssft"
    result = store.trials("tiny")[2].result
    assert result is not None
    assert result.failure is not None
    assert result.failure.kind == "crashed"
    assert result.failure.reason == "its process died 3 times; the last it said: one / the last words of 2/2"


def test_a_resume_counts_losses_anew(made: Make) -> None:
    store, executor = made(), Scripted(lost={2: 4})
    for _ in range(2):
        scheduler = Scheduler(store, executor, "tiny")
        while scheduler._losses[2] < MAX_LOSSES - 1:
            scheduler.tick()
    assert run(store, executor) == "done"
    assert purposes(store) == "ssssssft"
    assert store.trials("tiny")[2].attempt == 4


def test_two_schedulers_at_once_do_the_work_of_one(made: Make, tmp_path: Path) -> None:
    reference, store = made("reference", jobs=2), made("shared", jobs=2)
    run(reference)
    heard: list[tuple[int, str]] = []

    def work() -> None:
        executor = ProcessExecutor()
        with Store(store.url) as own:
            Scheduler(own, executor, "tiny", on_event=lambda trial: heard.append((trial.number, trial.state))).run()

    threads = [threading.Thread(target=work) for _ in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert content(store) == content(reference)
    done = [number for number, state in heard if state == "done"]
    assert sorted(done) == sorted(set(done))
    assert all(trial.attempt == 0 for trial in store.trials("tiny"))


# -------------------------------------------------------------------------------------------------------------- failures
def test_failed_trials_are_observed_and_the_search_goes_on(made: Make) -> None:
    store = made(settings={"failing": [0, 2]})
    assert run(store) == "done"
    assert purposes(store) == "SsSsssft"
    result = store.trials("tiny")[0].result
    assert result is not None
    assert result.failure is not None
    assert (result.failure.kind, result.failure.reason) == ("nan", "nan at step 3")


@pytest.mark.parametrize(
    ("failing", "state", "fates", "reason"),
    [
        ([6], "done", "ssssssFft", None),
        ([6, 7], "failed", "ssssssFF", "loss is nan in trial 7"),
        ([7], "done", "ssssssfTt", None),
        ([7, 8], "failed", "ssssssfTT", "loss is nan in trial 8"),
        (range(6), "failed", "SSSSSS", "loss is nan in trial 5"),
    ],
)
def test_what_cannot_be_closed_is_failed(made: Make, failing: Any, state: str, fates: str, reason: str | None) -> None:
    store = made()
    assert run(store, Scripted(failing=failing)) == state
    assert purposes(store) == fates
    assert store.experiment("tiny").reason == reason


def test_a_final_trial_of_the_searchers_own_that_failed_is_its_to_repeat(made: Make) -> None:
    store = made(settings={"own_final": True, "trials": 3})
    assert run(store, Scripted(failing=[3])) == "done"
    assert purposes(store) == "sssFft"


def test_a_searcher_that_says_nothing_is_an_error(made: Make) -> None:
    store = made(settings={"silent": True})
    with pytest.raises(SearchError, match="suggests nothing, waits for nothing, and is not finished"):
        run(store)
    assert store.experiment("tiny").state == "failed"
    assert "suggests nothing" in (store.experiment("tiny").reason or "")


def test_a_parent_must_have_been_done(made: Make) -> None:
    store = made(settings={"parent": 0})
    assert run(store) == "done"
    store = made("b", settings={"parent": 3})
    with pytest.raises(SearchError, match="lets trial 1 inherit from 3, which has not been done"):
        run(store)


def test_needs_are_checked_before_anything_runs(made: Make) -> None:
    store = made(settings={"reads": ["taylor", "skip"]})
    with pytest.raises(ConfigError, match="has no skip, taylor, which the searcher"):
        run(store)
    assert store.trials("tiny") == []


# --------------------------------------------------------------------------------------------------------------- budgets
def test_search_trials_are_counted(made: Make) -> None:
    store = made(trials=4, jobs=3)
    run(store, Scripted())
    assert purposes(store) == "ssssft"
    store = made("own", trials=4, settings={"own_final": True, "trials": 4})
    run(store)
    assert purposes(store) == "ssssft"


@pytest.mark.parametrize("jobs", [1, 3])
def test_seconds_are_counted_as_trials_cost_them(made: Make, jobs: int) -> None:
    store = made(time_budget=2.5, jobs=jobs)
    run(store, Scripted(seconds=1.0))
    # three cost 3 s; what was under way by then, as far as was known, is not taken back
    assert purposes(store) == "s" * (3 + jobs - 1) + "ft"


def test_the_final_training_gets_the_time_that_is_left(made: Make) -> None:
    """The search ends at 70 % of 10 s, with the fourth trial; that leaves 2 s. Where a trial overran all, 5 %."""
    store = made(time_budget=10.0, exact_time=True)
    run(store, Scripted(seconds=2.0))
    assert purposes(store) == "ssssft"
    assert store.trials("tiny")[4].spec.budget == Budget(seconds=2.0)
    store = made("overrun", time_budget=10.0, exact_time=True)
    run(store, Scripted(seconds=11.0))
    assert purposes(store) == "sft"
    assert store.trials("tiny")[1].spec.budget == Budget(seconds=0.5)
    store = made("said", time_budget=10.0, exact_time=True, final_budget=Budget(steps=3))
    run(store, Scripted(seconds=2.0))
    assert store.trials("tiny")[-2].spec.budget == Budget(steps=3)


def test_a_fitted_final_training_takes_no_more_than_what_is_left(made: Make) -> None:
    """The steps were fitted by a measurement: 10 s, and the search takes 8; 1 % is spared. Where it took all, 5 % are left."""
    for name, seconds, trials, left in (("a", 2.0, "ssss", 1.9), ("slow", 4.0, "sss", 0.5)):
        store = made(name, time_budget=10.0, trials=4, measured={"fitted": {}})
        run(store, Scripted(seconds=seconds))
        assert purposes(store) == f"{trials}ft"
        final = store.trials("tiny")[-2].spec
        assert (final.budget, final.within) == (store.experiment("tiny").problem.final_budget, left)
    store = made("said", time_budget=10.0, trials=4, measured={"fitted": {}}, final_budget=Budget(steps=3))
    run(store, Scripted(seconds=2.0))
    assert store.trials("tiny")[-2].spec.within is None


# ------------------------------------------------------------------------------------------------------------------ stop
def test_stopped_and_resumed_it_is_as_if_nothing_had_happened(made: Make) -> None:
    reference, store = made("reference", jobs=2), made("stopped", jobs=2)
    run(reference)
    calls = itertools.count()
    assert run(store, Scripted(), stop=lambda: next(calls) > 4) == "stopped"
    assert {trial.state for trial in store.trials("tiny")} == {"done", "queued"}
    assert run(store, Scripted()) == "done"
    assert content(store) == content(reference)


def test_a_reporter_that_says_stop_ends_a_job_in_this_process(made: Make) -> None:
    reference, store = made("reference"), made("stopped")
    run(reference)
    told: list[Progress] = []

    def report(progress: Progress) -> bool:
        told.append(progress)
        return len(told) != 9

    assert run(store, InlineExecutor(report)) == "stopped"
    assert [trial.state for trial in store.trials("tiny")] == ["done", "queued"]
    assert told[-1].step == 3
    assert run(store, InlineExecutor(report)) == "done"
    assert [progress.step for progress in told[9:12]] == [4, 5, 6]
    assert content(store) == content(reference)


def test_workers_are_stopped_with_a_checkpoint(made: Make, tmp_path: Path) -> None:
    store = made(jobs=2, settings={"steps": 1000, "trial": {"pause": 0.02}})
    executor = ProcessExecutor(grace=5.0)
    folders = [tmp_path / "a" / "trials" / f"{number:04d}" for number in range(2)]

    def both_have_begun() -> bool:
        return all((folder / "state.safetensors").exists() for folder in folders)

    assert Scheduler(store, executor, "tiny", stop=both_have_begun).run().state == "stopped"
    assert [(trial.state, trial.attempt, trial.handle) for trial in store.trials("tiny")] == [("queued", 0, None)] * 2
    assert not any((folder / "owner.json").exists() for folder in folders)
    assert all(json.loads((folder / "job.json").read_text()) for folder in folders)


def test_somebody_else_says_stop_in_the_store(made: Make) -> None:
    store = made()

    def hear(trial: Trial) -> None:
        if trial.number == 2 and trial.state == "done":
            store.update("tiny", state="stopped")

    assert run(store, on_event=hear) == "stopped"
    assert [trial.state for trial in store.trials("tiny")] == ["done"] * 3
    assert run(store) == "done"
