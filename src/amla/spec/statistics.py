"""Ranking blocks by their statistics: pure functions on numbers."""

from __future__ import annotations

import math
from collections.abc import Mapping


def agreement(first: Mapping[str, float], second: Mapping[str, float]) -> float | None:
    """Kendall's tau-b between two rankings of the same blocks, in [-1, 1]; None where there is nothing to rank."""
    from scipy.stats import kendalltau  # takes a second to import, and few searches ask

    names = sorted(set(first) & set(second))
    if len(names) < 2:
        return None
    tau = float(kendalltau([first[name] for name in names], [second[name] for name in names]).statistic)
    return None if math.isnan(tau) else tau
