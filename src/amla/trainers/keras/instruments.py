"""Instruments in Keras: the sums of one step are a program of their own, their total is kept in numpy.

What they measure is said in ``amla.trainers.instruments``. The time of a block is not among them: inside a compiled program
a block has no time of its own.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from typing import Any

import numpy as np
from keras import ops

from amla.spec.graph import Block, Graph
from amla.spec.trial import INSTRUMENTS, OWN_PASSES, Statistics
from amla.trainers.instruments import BEFORE_NORM, EVERY, read_sums
from amla.trainers.keras import backend
from amla.trainers.surgery import Array

PROVIDED = frozenset(INSTRUMENTS) - {"block_time"}


class Watched:
    """What a compiled step looks at for these instruments: the outputs of ``nodes``, and the gradients at ``probes``."""

    def __init__(self, graph: Graph, names: Iterable[str]) -> None:
        self.names = sorted(set(names))
        self.pairs = [(name, block, _node(name, block)) for name in self.names for block in _blocks(graph, name)]
        self.nodes = sorted({node for _, _, node in self.pairs})
        self.probes = sorted({node for name, _, node in self.pairs if name == "taylor"})

    def sums(self, outputs: Mapping[str, Any], gradients: Mapping[str, Any]) -> dict[str, Any]:
        """The sums of one step, in float32."""
        found: dict[str, Any] = {}
        for name, block, node in self.pairs:
            x = ops.cast(outputs[node], "float32")
            values = _sums(name.removesuffix(BEFORE_NORM), x, gradients.get(node))
            found |= {f"{block.name}:{name}:{what}": value for what, value in values.items()}
        return found


class Instruments:
    """The totals of one training."""

    def __init__(self, graph: Graph, names: Iterable[str]) -> None:
        self.graph, self.names = graph, tuple(sorted(set(names) - OWN_PASSES))
        self.sums: dict[str, Array] = {}

    def listens(self, step: int) -> bool:
        """Whether the sums of this step are taken."""
        return bool(self.names) and step % EVERY == 0

    def add(self, sums: Mapping[str, Any]) -> None:
        """Take the sums of a step in."""
        for key, value in sums.items():
            number = backend.numpy(value).astype(np.float64)
            self.sums[key] = self.sums[key] + number if key in self.sums else number

    def read(self, scalar: Callable[[str], float]) -> Statistics:
        """The statistics of every block so far; ``scalar`` gives the number of a scale node."""
        return read_sums(self.graph, self.names, self.sums, scalar)


def _blocks(graph: Graph, name: str) -> list[Block]:
    return [block for block in graph.blocks if (block.kind == "skip") == (name == "skip")]


def _node(name: str, block: Block) -> str:
    return block.before_norm if name.endswith(BEFORE_NORM) else block.output


def _sums(name: str, x: Any, gradient: Any) -> dict[str, Any]:
    count = float(x.shape[0])
    match name:
        case "feature_map":
            return {"count": ops.array(count), "sum": ops.sum(x, 0), "square": ops.sum(ops.square(x), 0)}
        case "covariance_entropy":
            flat = ops.reshape(x, (-1, x.shape[-1]))
            product = ops.matmul(ops.transpose(flat), flat)
            return {"count": ops.array(float(flat.shape[0])), "sum": ops.sum(flat, 0), "product": product}
        case (
            "taylor"
        ):  # the loss is a mean over the batch, so a sample's own gradient is the batch's size times this one
            change = ops.mean(x * ops.cast(gradient, "float32"), (1, 2)) * count
            return {"count": ops.array(count), "sum": ops.sum(ops.mean(ops.abs(change), 1))}
        case _:
            return {"count": ops.array(count), "norm": ops.sum(ops.sqrt(ops.sum(ops.square(x), (1, 2, 3))))}
