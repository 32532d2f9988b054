"""Tests over seeds, against numbers worked out by hand."""

from __future__ import annotations

import math

import pytest
from scipy import stats

from amla.reports.significance import difference, spread


def test_spread():
    found = spread([1.0, 2.0, 4.0])
    assert found is not None
    assert found.mean == pytest.approx(7 / 3)
    assert found.std == pytest.approx(math.sqrt((16 + 1 + 25) / 9 / 2))
    assert spread([3.0]).std is None
    assert spread([]) is None


def test_pairs():
    """Differences 1, 2, 3, 6: mean 3, deviation sqrt(14 / 3), so t = 3 / sqrt(14 / 12)."""
    found = difference({0: 2.0, 1: 4.0, 2: 6.0, 3: 10.0}, {3: 4.0, 2: 3.0, 1: 2.0, 0: 1.0})
    t = 3 / math.sqrt(14 / 12)
    half = stats.t.ppf(0.975, 3) * math.sqrt(14 / 12)
    assert (found.kind, found.n) == ("paired", 4)
    assert found.difference == pytest.approx(3.0)
    assert found.p == pytest.approx(2 * stats.t.sf(t, 3))
    assert (found.low, found.high) == pytest.approx((3 - half, 3 + half))


def test_only_seeds_that_both_have_are_pairs():
    found = difference({0: 1.0, 1: 3.0, 7: 100.0}, {0: 0.0, 1: 1.0, 8: -100.0})
    assert (found.kind, found.n, found.difference) == ("paired", 2, 1.5)


def test_welch_where_no_seeds_match():
    """Means 2 and 5, variances 1 and 4, three values each."""
    found = difference({0: 1.0, 1: 2.0, 2: 3.0}, {3: 3.0, 4: 5.0, 5: 7.0})
    freedom = (5 / 3) ** 2 / ((1 / 3) ** 2 / 2 + (4 / 3) ** 2 / 2)
    error = math.sqrt(5 / 3)
    half = stats.t.ppf(0.975, freedom) * error
    assert (found.kind, found.n) == ("welch", 3)
    assert found.p == pytest.approx(2 * stats.t.sf(3 / error, freedom))
    assert (found.low, found.high) == pytest.approx((-3 - half, -3 + half))


def test_where_there_is_nothing_to_test():
    assert difference({0: 1.0}, {0: 2.0}) is None
    assert difference({0: 1.0, 1: 2.0}, {5: 2.0}) is None
    same = difference({0: 1.0, 1: 2.0}, {0: 0.5, 1: 1.5})
    assert (same.difference, same.p) == (0.5, None)
