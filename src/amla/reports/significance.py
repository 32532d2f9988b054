"""Whether two arms differ by more than chance: t-tests over seeds."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Literal

import numpy as np
from pydantic import Field
from scipy import stats

from amla.spec.base import Document

#: Confidence of the intervals.
CONFIDENCE = 0.95


class Spread(Document):
    """A figure over the seeds of an arm. ``std`` is that of a sample (n - 1); None for a single value."""

    mean: float
    std: float | None
    values: tuple[float, ...]


class Test(Document):
    """A comparison of an arm with the baseline: mean difference, its 95 % confidence interval, and the two-sided p-value.

    ``p`` is None where the differences have no spread, so that there is nothing to test by.
    """

    kind: Literal["paired", "welch"]
    n: int = Field(description="pairs of seeds; for Welch, seeds of the arm")
    difference: float
    low: float
    high: float
    p: float | None


def spread(values: Sequence[float]) -> Spread | None:
    """None where there is no value."""
    if not values:
        return None
    std = float(np.std(values, ddof=1)) if len(values) > 1 else None
    return Spread(mean=float(np.mean(values)), std=std, values=tuple(values))


def difference(arm: Mapping[int, float], baseline: Mapping[int, float]) -> Test | None:
    """Test values by seed against those of the baseline: paired over the seeds that both have, where there are at least
    two; else Welch's test (Welch 1947), which needs two values on either side. None where neither can be had."""
    seeds = sorted(set(arm) & set(baseline))
    if len(seeds) > 1:
        pairs = [arm[seed] - baseline[seed] for seed in seeds]
        if np.ptp(pairs) <= 1e-12:
            return Test(kind="paired", n=len(seeds), difference=pairs[0], low=pairs[0], high=pairs[0], p=None)
        found = stats.ttest_rel([arm[seed] for seed in seeds], [baseline[seed] for seed in seeds])
        return _test("paired", len(seeds), float(np.mean(pairs)), found)
    ours, theirs = list(arm.values()), list(baseline.values())
    if min(len(ours), len(theirs)) < 2 or max(np.ptp(ours), np.ptp(theirs)) <= 1e-12:
        return None
    found = stats.ttest_ind(ours, theirs, equal_var=False)
    return _test("welch", len(ours), float(np.mean(ours) - np.mean(theirs)), found)


def _test(kind: Literal["paired", "welch"], n: int, mean: float, found: stats._result_classes.TtestResult) -> Test:
    interval = found.confidence_interval(CONFIDENCE)
    p = float(found.pvalue)
    return Test(
        kind=kind,
        n=n,
        difference=mean,
        low=float(interval.low),
        high=float(interval.high),
        p=None if math.isnan(p) else p,
    )
