"""Kendall's tau is SciPy's, to the last bit: a stored search must be the same whatever gave it."""

from __future__ import annotations

import math

import numpy as np
import pytest
from scipy.stats import kendalltau

from amla.spec.statistics import agreement


@pytest.mark.parametrize("seed", range(50))
def test_it_is_scipys(seed: int) -> None:
    rng = np.random.default_rng(seed)
    size, values = int(rng.integers(2, 40)), int(rng.choice([3, 10, 1000]))
    first, second = (rng.integers(0, values, size).astype(float) for _ in range(2))
    if seed % 5 == 0:
        first[0] = math.inf
    if seed % 7 == 0:
        second[0] = math.nan
    expected = float(kendalltau(first, second).statistic)
    names = [f"{index:02}" for index in range(size)]
    found = agreement(dict(zip(names, first, strict=True)), dict(zip(names, second, strict=True)))
    assert found == (None if math.isnan(expected) else expected)


def test_only_what_both_have_is_ranked() -> None:
    assert agreement({"a": 1.0, "b": 2.0, "c": 0.0}, {"a": 3.0, "b": 4.0, "d": 9.0}) == 1.0
    assert agreement({"a": 1.0, "b": 2.0}, {"a": 3.0, "c": 4.0}) is None
    assert agreement({}, {}) is None
    assert agreement({"a": 1.0, "b": 1.0}, {"a": 3.0, "b": 4.0}) is None
