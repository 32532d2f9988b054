"""``kill -9`` of any process at any moment loses nothing."""

import os
import random
import signal
import subprocess
import sys
import time
from collections import Counter
from pathlib import Path
from typing import Any

import psutil
import pytest
from scripted import content

from amla.engine.scheduler import MAX_LOSSES, Scheduler
from amla.engine.store import Store
from amla.executors.folder import holder
from amla.executors.inline import InlineExecutor
from amla.executors.process import MARK
from amla.testing import tiny

#: Some seconds of work, in trials that last about as long as their process takes to start.
SPEC: dict[str, Any] = {
    "jobs": 2,
    "executor": "process",
    "settings": {"trials": 8, "steps": 16, "trial": {"pause": 0.02}, "failing": [2]},
}
SCHEDULER = """
import sys
from amla import registry
from amla.engine.scheduler import MAX_LOSSES, Scheduler
from amla.engine.store import Store
from amla.testing import tiny

url, name = sys.argv[1:]
with Store(url) as store:
    executor = registry.load("executors", store.experiment(name).spec.executor)()
    print("ready")
    sys.stdout.flush()
    Scheduler(store, executor, name).run()
    executor.close()
"""


class Run:
    """A scheduler in a process of its own; it and its workers are killed, half and half, until no kill is left."""

    def __init__(self, url: str, folder: Path, kills: int, seed: int) -> None:
        self.url, self.folder = url, folder
        self.random = random.Random(seed)
        self.left = ["scheduler", "worker"] * (kills // 2)
        self.random.shuffle(self.left)
        self.rounds = 0

    def run(self) -> None:
        """Run experiments to their end, as many as it takes for all the kills."""
        while self.left:
            name = f"round-{self.rounds}"
            self.rounds += 1
            with Store(self.url) as store:
                store.create(tiny.experiment(str(self.folder / name), name, **SPEC))
            while not self.life(name):
                pass

    def life(self, name: str) -> bool:
        """From one start of the scheduler to its death; True where that was the experiment's end."""
        scheduler = subprocess.Popen([sys.executable, "-c", SCHEDULER, self.url, name], stdout=subprocess.PIPE)
        hit: Counter[Path] = Counter()
        try:
            assert scheduler.stdout is not None
            assert scheduler.stdout.readline() == b"ready\n"
            while self.left:
                try:
                    return scheduler.wait(self.random.uniform(0.0, 0.5)) == 0
                except subprocess.TimeoutExpired:
                    pass
                if self.left[-1] == "scheduler":
                    self.left.pop()
                    scheduler.kill()
                    scheduler.wait()
                    return False
                self.kill_worker(name, hit)
            assert scheduler.wait(60) == 0
            return True
        finally:
            scheduler.kill()
            scheduler.communicate()

    def kill_worker(self, name: str, hit: Counter[Path]) -> None:
        """Kill one, but not so often that the scheduler must think it is the trial's fault: it may yet have to notice one
        that was killed before its time."""
        folders = [path.parent for path in sorted((self.folder / name).glob("trials/*/owner.json"))]
        held = [(folder, holder(folder)) for folder in folders if hit[folder] < MAX_LOSSES - 2]
        workers = [(folder, worker) for folder, worker in held if worker is not None]
        if not workers:
            return
        folder, worker = self.random.choice(workers)
        try:
            os.kill(worker.pid, signal.SIGKILL)
        except ProcessLookupError:
            return
        self.left.pop()
        hit[folder] += 1


def survivors(folder: Path) -> list[psutil.Process]:
    """Processes that work for an experiment below the folder."""
    found = []
    for process in psutil.process_iter():
        try:
            mark = process.environ().get(MARK, "")
        except (psutil.Error, OSError):
            continue
        if mark.startswith(str(folder)) and process.status() != psutil.STATUS_ZOMBIE:
            found.append(process)
    return found


@pytest.mark.parametrize(("database", "kills"), [("sqlite", 20), ("postgresql", 4)])
def test_killed_at_random_it_ends_as_if_nothing_had_happened(
    request: pytest.FixtureRequest, tmp_path: Path, database: str, kills: int
) -> None:
    url = request.getfixturevalue(f"{database}_url")
    run = Run(url, tmp_path, kills, seed=20)
    run.run()
    with Store(url) as store:
        spec = SPEC | {"executor": "inline", "settings": SPEC["settings"] | {"trial": {}}}
        store.create(tiny.experiment(str(tmp_path / "reference"), "reference", **spec))
        Scheduler(store, InlineExecutor(), "reference").run()
        expected = comparable(store, "reference")
        assert [trial["state"] for trial in expected].count("failed") == 1
        for number in range(run.rounds):
            assert store.experiment(f"round-{number}").state == "done"
            assert comparable(store, f"round-{number}") == expected
    until = time.monotonic() + 10.0
    while survivors(tmp_path):
        assert time.monotonic() < until, "a worker outlived its experiment"
        time.sleep(0.1)


def comparable(store: Store, name: str) -> list[dict[str, Any]]:
    """All but how long a step takes, which is said in the settings."""
    found = content(store, name)
    for trial in found:
        trial["spec"]["settings"].pop("pause", None)
    return found
