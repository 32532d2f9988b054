"""What a network costs, from its Graph alone: no ML library, no weights, no data."""

from __future__ import annotations

import math

from amla.spec.base import Document
from amla.spec.graph import Graph, weights

BYTES_PER_VALUE = 4


class Costs(Document):
    """Costs of one network. FLOPs are multiply-adds of one image, of convolutions and dense layers only."""

    parameters: int
    flops: int
    activation_bytes: int
    depth: int
    size_mb: float


def costs(graph: Graph) -> Costs:
    """All costs at once."""
    return Costs(
        parameters=parameters(graph),
        flops=flops(graph),
        activation_bytes=activation_bytes(graph),
        depth=depth(graph),
        size_mb=size_mb(graph),
    )


def parameters(graph: Graph) -> int:
    """Trained numbers, auxiliary classifiers left out (they do not leave the training)."""
    return sum(math.prod(weight.shape) for weight in weights(graph.inference()) if weight.trained)


def size_mb(graph: Graph) -> float:
    """Of the weights that a trained network keeps (running statistics too), as float32; 1 MB is 10^6 bytes."""
    return 1e-6 * BYTES_PER_VALUE * sum(math.prod(weight.shape) for weight in weights(graph.inference()))


def flops(graph: Graph) -> int:
    """Multiply-adds of one image at inference: convolutions and matrix products."""
    network = graph.inference()
    shapes = {node.name: node.shape for node in network.nodes}
    total = 0
    for node in network.nodes:
        if node.op == "conv":
            total += math.prod(node.shape) * shapes[node.inputs[0]][0] // node.groups * node.kernel**2
        elif node.op == "dense":
            total += node.shape[0] * shapes[node.inputs[0]][0]
    return total


def activation_bytes(graph: Graph) -> int:
    """Bytes that training holds for one image: every node's output in 32-bit floats, as back-propagation needs them."""
    return BYTES_PER_VALUE * sum(math.prod(node.shape) for node in graph.nodes)


def depth(graph: Graph) -> int:
    """Weighted nodes (convolutions and dense layers) on the longest way from the input to the output."""
    longest: dict[str, int] = {}
    for node in graph.nodes:
        before = max((longest[name] for name in node.inputs), default=0)
        longest[node.name] = before + (node.op in ("conv", "dense"))
    return longest[graph.output]
