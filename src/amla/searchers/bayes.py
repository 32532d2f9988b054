"""Bayesian optimisation: a Gaussian process over decisions and hyperparameters, and expected improvement (Jones et al. 1998).

The kernel is a Hamming one with a relevance for every decision; numbers take part by their distance. Networks that are
being trained count as if they had come out as the model expects (Ginsbourger et al. 2010, "kriging believer").
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
from pydantic import Field
from sklearn.gaussian_process import GaussianProcessRegressor

from amla.searchers.axes import Axes, Rows
from amla.searchers.gaussian_process import Fit, conditioned, expected_improvement, fitted
from amla.searchers.model_based import ModelBased, ModelBasedSettings
from amla.searchers.searched import Point
from amla.spaces.limits import excess
from amla.spec.experiment import Problem
from amla.spec.trial import Trial, TrialSpec

#: The kernel is fitted anew whenever so many times more is known.
GROWTH = 1.4
#: Trials at most that it is fitted to; its cost grows with their cube.
FITTED = 200
#: Candidates looked at closely at a time, best first: as the space writes them, new, and within the limits.
CLOSELY = 8


class BayesSettings(ModelBasedSettings):
    candidates: int = Field(300, ge=1, description="points drawn at random among which the model chooses")
    incumbents: int = Field(5, ge=1, description="the best trials, whose neighbours the model chooses among as well")
    relevances: int = Field(
        16, ge=0, description="decisions of the space at most that have each a relevance of their own; more share one"
    )


class Bayes(ModelBased[BayesSettings]):
    """Train the network that is expected to improve most on the best; a Gaussian process says what to expect."""

    Settings = BayesSettings

    def __init__(self, settings: BayesSettings, problem: Problem) -> None:
        super().__init__(settings, problem)
        self.axes = Axes(self.searched)
        self._rows: list[Rows] = []  # of ``points``
        self._tried: set[bytes] = set()  # where trials have ended, failed ones too
        self._fitted: tuple[int, Fit] | None = None  # to the first so many points; follows from them
        self._conditioned: tuple[int, Rows, GaussianProcessRegressor] | None = None  # on so many points; their features

    def observe(self, trials: Sequence[Trial]) -> None:
        super().observe(trials)
        self._rows += [self.axes.row(point) for point in self.points[len(self._rows) :]]
        self._tried |= {_key(self.axes.row(point)) for point in self.tried[-len(trials) :]}

    def proposed(self, active: Sequence[Point], rng: np.random.Generator) -> TrialSpec:
        known = self.known(len(self.points), self.settings.memory)
        rows = [self._rows[index] for index in known]
        running = [self.axes.row(point) for point in active]
        process = self._process(rows, list(known.values()), running)
        ranked = sorted(known, key=lambda index: (-known[index], index))
        incumbents = [self._rows[index] for index in ranked[: self.settings.incumbents]]
        best = float(process.predict(self._features(incumbents)).max())
        running_at = {_key(row) for row in running}

        def gain(candidates: Sequence[Rows] | Rows) -> Rows:
            return expected_improvement(process, self._features(candidates), best)

        candidates = self._candidates(incumbents, rng)
        if not len(candidates):  # everything near and all that was drawn has been tried
            return self.searched.drawn(rng, self.settings.draws)
        order = np.argsort(-gain(candidates), kind="stable")
        for start in range(0, len(order), CLOSELY):
            specs: list[TrialSpec] = [
                self.searched.spec(self.axes.point(row)) for row in candidates[order[start : start + CLOSELY]]
            ]
            places = [self.axes.row(self.searched.point(spec)) for spec in specs]
            taken = [_key(place) in self._tried or _key(place) in running_at for place in places]
            gains = np.where(taken, -np.inf, gain(places))
            for index in map(int, np.argsort(-gains, kind="stable")):
                spec = specs[index]
                if gains[index] > -np.inf and excess(spec.architecture, self.problem) is None:
                    return spec
        return self.searched.drawn(rng, self.settings.draws)

    def _process(
        self, rows: Sequence[Rows], worths: Sequence[float], running: Sequence[Rows]
    ) -> GaussianProcessRegressor:
        """The process, with what runs taken to come out as it expects."""
        fit = self._fit()
        if self._conditioned is None or self._conditioned[0] != len(self.points):
            features = self._features(rows)
            self._conditioned = len(self.points), features, conditioned(fit, features, np.array(worths))
        _, features, process = self._conditioned
        if not running:
            return process
        more = self._features(running)
        values = np.concatenate([worths, process.predict(more)])
        return conditioned(fit, np.concatenate([features, more]), values)

    def _candidates(self, incumbents: Sequence[Rows], rng: np.random.Generator) -> Rows:
        """(candidates, axes): drawn anywhere, and the neighbours of the best; none that was tried as it stands."""
        near = [self.axes.around(row, rng) for row in incumbents]
        found = np.concatenate([*near, self.axes.random(rng, self.settings.candidates)])
        return found[[_key(row) not in self._tried for row in found]]

    def _features(self, rows: Sequence[Rows] | Rows) -> Rows:
        return self.axes.features(rows)[0]

    def _fit(self) -> Fit:
        """The parameters, fitted to as many of the first points as ``GROWTH`` says."""
        count = self.settings.startup
        while count * GROWTH <= len(self.points):
            count = math.ceil(count * GROWTH)
        count = max(count, 1 + next(index for index, worth in enumerate(self.worths) if math.isfinite(worth)))
        if self._fitted is None or self._fitted[0] != count:
            known = self.known(count, FITTED)
            features, axes = self.axes.features([self._rows[index] for index in known])
            decisions = len(self.searched.decisions)
            groups = axes if decisions <= self.settings.relevances else np.maximum(axes - decisions + 1, 0)
            self._fitted = count, fitted(features, np.array(list(known.values())), groups)
        return self._fitted[1]


def _key(row: Rows) -> bytes:
    """A row, to be looked up."""
    return row.tobytes()
