"""A Gaussian process over axes of options and numbers: scikit-learn's regressor with a kernel of its own."""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt
from scipy.optimize import minimize
from scipy.stats import norm
from sklearn.gaussian_process import GaussianProcessRegressor
from sklearn.gaussian_process.kernels import (
    ConstantKernel,
    Hyperparameter,
    Kernel,
    NormalizedKernelMixin,
    StationaryKernelMixin,
    WhiteKernel,
)

Rows = npt.NDArray[np.float64]

#: Where the search for the kernel's parameters begins, and between what it goes: relevance of an axis, signal, noise.
RELEVANCE = (0.4, (1e-3, 1e2))
SIGNAL = (1.0, (1e-2, 1e3))
NOISE = (1e-2, (1e-5, 1.0))
#: Steps of that search at most; more bring little.
STEPS = 40


class Relevance(StationaryKernelMixin, NormalizedKernelMixin, Kernel):  # type: ignore[misc]  # scikit-learn has no types
    """exp(-sum over groups of relevance * squared distance in that group's features).

    On one-hot features of length 1/sqrt(2) the squared distance is the Hamming distance, so this is the product of an
    exponentiated Hamming kernel and a Gaussian one, each axis with a relevance of its own (automatic relevance
    determination: Rasmussen and Williams 2006, section 5.1). ``groups`` says the group of every feature, from 0.
    """

    def __init__(self, relevance: Any, groups: Any) -> None:
        self.relevance = relevance
        self.groups = groups

    @property
    def hyperparameter_relevance(self) -> Hyperparameter:
        return Hyperparameter("relevance", "numeric", RELEVANCE[1], np.size(self.relevance))

    def __call__(self, X: Rows, Y: Rows | None = None, eval_gradient: bool = False) -> Any:  # the library's
        relevance = np.atleast_1d(self.relevance)
        weights = relevance[self.groups]
        other = X if Y is None else Y
        kernel = np.exp(-_squared(X, other, weights))
        if not eval_gradient:
            return kernel
        gradients = [
            -weight * _squared(X, other, (self.groups == group).astype(float)) * kernel
            for group, weight in enumerate(relevance)
        ]
        return kernel, np.stack(gradients, axis=-1)


class Fit(NamedTuple):
    """A kernel, and the variance of the noise on standardised values."""

    kernel: Kernel
    noise: float


def fitted(rows: Rows, values: Rows, groups: npt.NDArray[np.intp]) -> Fit:
    """The parameters of greatest marginal likelihood, sought from one fixed beginning: the same for the same data.

    ``rows`` (n, features), ``values`` (n,), ``groups`` (features,): what shares a relevance, numbered from 0.
    """
    signal = ConstantKernel(*SIGNAL) * Relevance(np.full(int(groups.max()) + 1, RELEVANCE[0]), groups)
    noisy = GaussianProcessRegressor(signal + WhiteKernel(*NOISE), optimizer=None, normalize_y=True).fit(rows, values)

    def loss(theta: Rows) -> tuple[float, Rows]:
        value, gradient = noisy.log_marginal_likelihood(theta, eval_gradient=True, clone_kernel=False)
        return -value, -gradient

    bounds, options = noisy.kernel.bounds, {"maxiter": STEPS}
    found = minimize(loss, noisy.kernel.theta, jac=True, method="L-BFGS-B", bounds=bounds, options=options)
    best = noisy.kernel.clone_with_theta(found.x)
    return Fit(best.k1, float(best.k2.noise_level))


def conditioned(fit: Fit, rows: Rows, values: Rows) -> GaussianProcessRegressor:
    """The process with these parameters, given what was seen. Its deviation is that of the function, without the noise."""
    return GaussianProcessRegressor(fit.kernel, alpha=fit.noise, optimizer=None, normalize_y=True).fit(rows, values)


def expected_improvement(process: GaussianProcessRegressor, rows: Rows, best: float) -> Rows:
    """E[max(f - best, 0)] at every row (Jones et al. 1998, equation 15)."""
    mean, deviation = process.predict(rows, return_std=True)
    deviation = np.maximum(deviation, 1e-12)
    better = (mean - best) / deviation
    found: Rows = deviation * (better * norm.cdf(better) + norm.pdf(better))
    return found


def _squared(a: Rows, b: Rows, weights: Rows) -> Rows:
    """Weighted squared distances (rows of a, rows of b), never below zero."""
    scaled = a * weights
    squares = (scaled * a).sum(axis=1)[:, None] + ((b * weights) * b).sum(axis=1)[None]
    found: Rows = np.maximum(squares - 2.0 * scaled @ b.T, 0.0)
    return found
