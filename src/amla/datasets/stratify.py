"""Which rows go to which split: seeded, stratified by class, disjoint. Labels only, no pixels."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import numpy.typing as npt

from amla.datasets.base import Labels
from amla.spec.data import Split

Rows = npt.NDArray[np.int64]
Counts = npt.NDArray[np.int64]


def allot(counts: Counts, total: int, free: Counts) -> Counts:
    """Share ``total`` out over classes in proportion to ``counts``, giving no class more than ``free`` of it.

    By the largest remainder, ties to the lower class; every class is within one of its exact share unless ``free``
    binds. The sum is smaller than ``total`` only where ``free`` has no more to give.
    """
    exact = counts * (total / max(int(counts.sum()), 1))
    given: Counts = np.minimum(np.floor(exact).astype(np.int64), free)
    while (left := total - int(given.sum())) > 0:
        wanting = np.argsort(given - exact, kind="stable")
        wanting = wanting[given[wanting] < free[wanting]][:left]
        if not len(wanting):
            break
        given[wanting] += 1
    return given


def cut(labels: Labels, fractions: Mapping[Split, float], seed: int) -> dict[Split, Rows]:
    """Rows of ``train`` and of every split in ``fractions`` (parts of the whole), each in ascending order.

    At least one row of each class stays in ``train``, and a split gets at least one row wherever that leaves any.
    """
    counts = np.bincount(labels)
    by_class = _shuffled_by_class(labels, seed)
    starts = np.cumsum(counts) - counts
    free = np.maximum(counts - 1, 0)
    rows: dict[Split, Rows] = {}
    for split, fraction in fractions.items():
        given = allot(counts, max(1, round(fraction * len(labels))), free)
        rows[split] = _take(by_class, starts, given)
        starts, free = starts + given, free - given
    rows["train"] = _take(by_class, starts, np.cumsum(counts) - starts)
    return rows


def subset(labels: Labels, limit: int, seed: int) -> Rows:
    """At most ``limit`` rows, stratified, in ascending order; each class keeps one if ``limit`` has room for all."""
    counts = np.bincount(labels)
    given = allot(counts, min(limit, len(labels)), counts)
    for absent in np.flatnonzero((given == 0) & (counts > 0)):
        given[np.argmax(given)] -= 1
        given[absent] = 1
    return _take(_shuffled_by_class(labels, seed), np.cumsum(counts) - counts, given)


def _shuffled_by_class(labels: Labels, seed: int) -> Rows:
    """All rows, class by class, in seeded random order within a class."""
    order: Rows = np.random.default_rng(seed).permutation(len(labels))
    by_class: Rows = order[np.argsort(labels[order], kind="stable")]
    return by_class


def _take(by_class: Rows, starts: Counts, given: Counts) -> Rows:
    chosen = [by_class[start : start + count] for start, count in zip(starts, given, strict=True)]
    return np.sort(np.concatenate(chosen))
