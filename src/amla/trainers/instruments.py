"""Instruments, as far as they belong to no library: which steps they listen to, what they sum, what is read from the sums.

An instrument listens at the nodes that a block names (``Graph.blocks``), on a sample of the steps: every ``EVERY``-th and
nothing in between, which bounds its cost; which steps those are depends on their number alone. Sums are over samples, in
64 bits, one for each position and channel; they do not grow with the training.

With x the feature map of a block (n samples, c channels, h x w positions) and L the loss:

- ``mean``, ``variance``, ``mean_square``: E[x], E[x^2] - E[x]^2 and E[x^2] over samples, for each position and channel, then
  averaged over those (arXiv 1803.06744 section 3);
- ``taylor``: |mean over positions of x * dL/dx|, averaged over channels and samples (arXiv 1611.06440 equation 8), with L
  the sample's own loss, whatever the size of the batch;
- ``covariance_entropy``: see ``entropy``;
- ``scalar``, ``norm`` of a skip: its learned number as it is now; the L2 norm of the scaled map, averaged over samples;
- ``seconds``: the shortest forward pass through the block, of a few: what disturbs it only ever adds.

``switched_off`` is no sum: it takes passes of its own (``trainers.switched``), and stands with each library.

The sums of an instrument have the keys ``BLOCK:INSTRUMENT:WHAT``, with WHAT one of ``count``, ``sum``, ``square``,
``product``, ``norm``, ``least``. The order of positions is the library's own.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable

import numpy as np

from amla.spec.graph import Block, Graph
from amla.spec.trial import Statistics
from amla.trainers.surgery import Array, Arrays

#: One step in so many is listened to (all instruments together then cost less than 5 % of a step: benchmarks/instruments.py).
EVERY = 12

BEFORE_NORM = "_before_norm"


def read_sums(graph: Graph, names: Iterable[str], sums: Arrays, scalar: Callable[[str], float]) -> Statistics:
    """The statistics of every block, by the names in ``spec.trial.INSTRUMENTS``, from the sums of these instruments.

    ``scalar``: the learned number of a scale node, by the node's name.
    """
    found: Statistics = {}
    for name in sorted(set(names)):
        for block in graph.blocks:
            if (block.kind == "skip") == (name == "skip") and f"{block.name}:{name}:count" in sums:
                found.setdefault(block.name, {}).update(_read(name, block, sums, scalar))
    return found


def _read(name: str, block: Block, sums: Arrays, scalar: Callable[[str], float]) -> dict[str, float]:
    key = f"{block.name}:{name}"
    count = sums[f"{key}:count"]
    base, suffix = (name.removesuffix(BEFORE_NORM), BEFORE_NORM if name.endswith(BEFORE_NORM) else "")
    if base == "feature_map":
        mean = sums[f"{key}:sum"] / count
        square = sums[f"{key}:square"] / count
        values = {"mean": mean, "variance": np.maximum(square - mean**2, 0.0), "mean_square": square}
        return {f"{what}{suffix}": float(value.mean()) for what, value in values.items()}
    if base == "covariance_entropy":
        mean = sums[f"{key}:sum"] / count
        return {f"{base}{suffix}": entropy(sums[f"{key}:product"] / count - np.outer(mean, mean))}
    if name == "taylor":
        return {"taylor": _number(sums[f"{key}:sum"] / count)}
    if name == "skip":
        return {"scalar": scalar(block.output), "norm": _number(sums[f"{key}:norm"] / count)}
    return {"seconds": _number(sums[f"{key}:least"])}


def _number(value: Array) -> float:
    """A checkpoint gives a scalar back with one axis."""
    return float(value.item())


def entropy(covariance: Array) -> float:
    """Entropy of the normalised eigenvalues, divided by its largest value log(channels), in [0, 1]; 0 for one channel.

    The expressivity of AZ-NAS (arXiv 2403.19232 section 3.2), divided so that branches of other widths can be compared.
    """
    channels = covariance.shape[0]
    if not np.isfinite(covariance).all():
        return math.nan
    if channels < 2:
        return 0.0
    eigenvalues = np.maximum(np.linalg.eigvalsh(covariance), 0.0)
    total = eigenvalues.sum()
    if total <= 0.0:
        return 0.0
    share = eigenvalues / total
    return max(0.0, float(-(share * np.log(np.maximum(share, 1e-30))).sum() / math.log(channels)))
