"""The shipped suite, on every executor that ships."""

import pytest

from amla import registry
from amla.executors.base import Executor
from amla.executors.process import ProcessExecutor
from amla.testing.executors import ExecutorSuite
from amla.trainers.base import Reporter, silent


class TestInline(ExecutorSuite):
    def make(self, report: Reporter = silent) -> Executor:
        executor: Executor = registry.load("executors", "inline")(report)
        return executor


class TestSimulated(ExecutorSuite):
    elsewhere = False

    def make(self, report: Reporter = silent) -> Executor:
        executor: Executor = registry.load("executors", "simulated")(report)
        return executor


class TestProcess(ExecutorSuite):
    grace = 2.0

    def make(self, report: Reporter = silent) -> Executor:
        return ProcessExecutor(report, grace=1.0)


def test_the_suite_asks_for_an_executor() -> None:
    with pytest.raises(NotImplementedError):
        ExecutorSuite().make()
