"""What a network may cost at most (``Problem.limits``), judged from the architecture alone, before anything is trained."""

from __future__ import annotations

from amla.spaces.base import AnyArchitecture
from amla.spec.costs import costs
from amla.spec.experiment import Limits, Problem
from amla.spec.lower import lower


def excess(architecture: AnyArchitecture, problem: Problem) -> str | None:
    """The first limit that a network breaks, in words; None where it keeps all of them."""
    limits = problem.limits
    if limits.model_copy(update={"max_latency_ms": None}) == Limits():
        return None
    graph = lower(architecture, problem.input_shape, problem.num_classes)
    found = costs(graph)
    for name, value, most in (
        ("max_params", found.parameters, limits.max_params),
        ("max_flops", found.flops, limits.max_flops),
        ("max_size_mb", found.size_mb, limits.max_size_mb),
    ):
        if most is not None and value > most:
            return f"limits.{name}: the network has {value}, and may have {most}"
    return None
