"""What a network may cost at most (``Problem.limits``), judged from the architecture alone, before anything is trained."""

from __future__ import annotations

from amla.spaces.base import AnyArchitecture
from amla.spec.costs import costs
from amla.spec.experiment import Problem
from amla.spec.lower import lower


def excess(architecture: AnyArchitecture, problem: Problem) -> str | None:
    """The first limit that a network breaks, in words; None where it keeps ``max_params`` and ``max_flops``."""
    limits = problem.limits
    if limits.max_params is None and limits.max_flops is None:
        return None
    found = costs(lower(architecture, problem.input_shape, problem.num_classes))
    for name, value, most in (
        ("max_params", found.parameters, limits.max_params),
        ("max_flops", found.flops, limits.max_flops),
    ):
        if most is not None and value > most:
            return f"limits.{name}: the network has {value}, and may have {most}"
    return None
