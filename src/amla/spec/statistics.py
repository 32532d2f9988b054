"""Ranking blocks by their statistics: pure functions on numbers."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import numpy.typing as npt


def agreement(first: Mapping[str, float], second: Mapping[str, float]) -> float | None:
    """Kendall's tau-b between two rankings of the same blocks, in [-1, 1]; None where there is nothing to rank.

    Written out, since SciPy's takes longer to import than a search takes over all its suggestions.
    """
    names = sorted(set(first) & set(second))
    one, other = np.array([[first[name], second[name]] for name in names], dtype=float).reshape(-1, 2).T
    if np.isnan(one).any() or np.isnan(other).any():
        return None
    signs, other_signs = _signs(one), _signs(other)
    ranked, other_ranked = np.abs(signs).sum() / 2, np.abs(other_signs).sum() / 2  # pairs without a tie
    if not ranked or not other_ranked:
        return None
    tau = (signs * other_signs).sum() / 2 / np.sqrt(ranked) / np.sqrt(other_ranked)
    return float(min(1.0, max(-1.0, tau)))


def _signs(values: npt.NDArray[np.float64]) -> npt.NDArray[np.int_]:
    """(n, n): whether a value is above another one (1), below it (-1) or the same (0)."""
    return (values[:, None] > values).astype(int) - (values[:, None] < values)
