"""What the tests of searchers' behaviour share: small cells, and trials that ended as a test says."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from amla import registry
from amla.searchers.base import Searcher
from amla.spaces.base import AnyArchitecture, space_of
from amla.spaces.nasbench201 import cell_operations
from amla.spec.experiment import Limits, Problem
from amla.spec.objectives import judged
from amla.spec.training import Budget
from amla.spec.trial import Failure, Result, Trial, TrialSpec

CELLS = Problem(
    space="nasbench201",
    space_settings={"width": 4, "cells": 1},
    input_shape=(1, 8, 8),
    num_classes=10,
    train_size=1000,
    budget=Budget(steps=8),
    trials=1000,
)
#: No network may take longer than so many milliseconds.
FAST = CELLS.model_copy(update={"limits": Limits(max_latency_ms=10.0)})


def make(name: str, problem: Problem = CELLS, **settings: Any) -> Searcher[Any]:
    cls = registry.load("searchers", name)
    searcher: Searcher[Any] = cls(cls.Settings.parse(settings), problem)
    return searcher


def cell(*operations: str) -> AnyArchitecture:
    """The network whose six edges have these operations."""
    space = space_of(CELLS)
    return space.decode(dict(zip(space.decisions(), operations, strict=True)))


def operations_of(architecture: AnyArchitecture) -> tuple[str, ...]:
    found = cell_operations(architecture)
    assert found is not None
    return found


def ended(
    number: int, spec: TrialSpec, accuracy: float | None, latency: float | None = None, parameters: int = 0
) -> Trial:
    """A trial that was done, judged by the limits of ``FAST``; without an accuracy it failed."""
    if accuracy is None:
        result = Result(failure=Failure(kind="nan", reason="the loss is nan"))
        return Trial(number=number, seed=number, state="failed", spec=spec, result=result)
    metrics: Any = {"valid": {"accuracy": accuracy}}
    result = judged(Result(metrics=metrics, latency_ms=latency, parameters=parameters), FAST.limits)
    return Trial(number=number, seed=number, state="done", spec=spec, result=result)


def given(number: int, accuracy: float | None, *operations: str, **more: Any) -> Trial:
    """A trial of the network with these operations, by default of one that has the same everywhere."""
    network = cell(*(operations or ("identity",) * 6))
    return ended(number, TrialSpec(architecture=network, budget=CELLS.budget), accuracy, **more)


def played(
    searcher: Searcher[Any], trials: int, accuracy: Callable[[AnyArchitecture], float | None]
) -> Sequence[Trial]:
    """A search of so many trials, one after the other, whose accuracies follow from the networks."""
    seen: list[Trial] = []
    while len(seen) < trials:
        spec = searcher.suggest([], len(seen))
        assert spec is not None
        seen.append(ended(len(seen), spec, accuracy(spec.architecture)))
        searcher.observe(seen[-1:])
    return seen
