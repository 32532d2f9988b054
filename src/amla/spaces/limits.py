"""What a network may cost at most (``Problem.limits``), judged from the architecture alone, before anything is trained."""

from __future__ import annotations

import math

from amla.spaces.base import AnyArchitecture
from amla.spec.costs import costs
from amla.spec.experiment import Limits, Problem
from amla.spec.graph import Graph, weights
from amla.spec.lower import lower


def excess(architecture: AnyArchitecture, problem: Problem) -> str | None:
    """The first limit that a network breaks, in words; None where it keeps all of them."""
    limits = problem.limits
    if limits == Limits():
        return None
    graph = lower(architecture, problem.input_shape, problem.num_classes)
    found = costs(graph)
    for name, value, most in (
        ("max_params", found.parameters, limits.max_params),
        ("max_flops", found.flops, limits.max_flops),
        ("max_size_mb", megabytes(graph), limits.max_size_mb),
    ):
        if most is not None and value > most:
            return f"limits.{name}: the network has {value}, and may have {most}"
    return None


def megabytes(graph: Graph) -> float:
    """Of the weights that a trained network keeps (running statistics too), as float32; 1 MB is 10^6 bytes."""
    return 4e-6 * sum(math.prod(weight.shape) for weight in weights(graph.inference()))
