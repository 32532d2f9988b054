"""Networks that are too large are made to fit, in every space."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from amla.errors import SpecError
from amla.spaces.base import AnyArchitecture, space_of
from amla.spaces.limits import excess, repaired
from amla.spec.costs import costs
from amla.spec.experiment import Limits, Problem
from amla.spec.lower import lower

SPACES: dict[str, dict[str, Any]] = {
    "envelope": {"width": 6, "layers": [1], "max_layers": [2]},
    "nasbench201": {"width": 4, "cells": 1},
    "darts_cell": {"width": 4, "cells": 3, "nodes": 2},
}
MEASURES = {"max_params": "parameters", "max_flops": "flops", "max_size_mb": "size_mb"}


def problem_of(space: str, **limits: float) -> Problem:
    return Problem(
        space=space,
        space_settings=SPACES[space],
        input_shape=(1, 8, 8),
        num_classes=10,
        train_size=1000,
        limits=Limits.parse(limits),
    )


@pytest.mark.parametrize("limit", MEASURES)
@pytest.mark.parametrize("name", SPACES)
@given(seed=st.integers(0, 10_000), of=st.integers(0, 10_000))
def test_a_repaired_network_keeps_the_limits_and_is_in_the_space(name: str, limit: str, seed: int, of: int) -> None:
    """What another network of the space has is the limit: something in the space keeps it."""
    free = problem_of(name)
    space = space_of(free)
    network, other = (space.sample(np.random.default_rng(number)) for number in (seed, of))

    def cost(architecture: AnyArchitecture) -> float:
        return float(getattr(costs(lower(architecture, free.input_shape, free.num_classes)), MEASURES[limit]))

    most = cost(other)
    problem = problem_of(name, **{limit: most})
    found = repaired(network, space, problem)
    assert cost(found) <= most
    assert space.contains(found)
    assert (found == network) == (cost(network) <= most), "what fits is left as it is"


@pytest.mark.parametrize("name", SPACES)
def test_where_nothing_is_small_enough_it_says_so(name: str) -> None:
    problem = problem_of(name, max_params=1)
    space = space_of(problem)
    with pytest.raises(SpecError, match=f"limits.max_params: .* no smaller one was found in the space '{name}'"):
        repaired(space.sample(np.random.default_rng(0)), space, problem)


def test_a_limit_on_latency_is_nobodys_to_judge_from_the_network() -> None:
    problem = problem_of("nasbench201", max_latency_ms=1e-9)
    space = space_of(problem)
    network = space.sample(np.random.default_rng(0))
    assert excess(network, problem) is None
    assert repaired(network, space, problem) == network
