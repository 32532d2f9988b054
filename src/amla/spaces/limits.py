"""What a network may cost at most (``Problem.limits``), judged from the architecture alone, before anything is trained."""

from __future__ import annotations

from amla.errors import SpecError
from amla.spaces.base import AnyArchitecture, SearchSpace
from amla.spec.costs import costs
from amla.spec.experiment import Limits, Problem
from amla.spec.lower import lower


def unlimited(problem: Problem) -> bool:
    """Whether a network may cost whatever it does, as far as the network alone tells."""
    return problem.limits.model_copy(update={"max_latency_ms": None}) == Limits()


def excess(architecture: AnyArchitecture, problem: Problem) -> str | None:
    """The first limit that a network breaks, in words; None where it keeps all of them."""
    if unlimited(problem):
        return None
    for name, value, most in _measures(architecture, problem):
        if value > most:
            return f"limits.{name}: the network has {value}, and may have {most}"
    return None


def repaired(architecture: AnyArchitecture, space: SearchSpace, problem: Problem) -> AnyArchitecture:
    """A network that keeps the limits, made of one that does not: by the edit that brings it nearest, again and again.

    Errors: ``SpecError`` where no edit brings it nearer: such limits leave nothing.
    """
    while (broken := excess(architecture, problem)) is not None:
        nearest = min(space.neighbors(architecture), key=lambda other: _beyond(other, problem), default=architecture)
        if _beyond(nearest, problem) >= _beyond(architecture, problem):
            raise SpecError(f"{broken}; no smaller one was found in the space {problem.space!r}, so allow more")
        architecture = nearest
    return architecture


def _beyond(architecture: AnyArchitecture, problem: Problem) -> float:
    """By what factor the limits are broken, at worst; at most 1 where all are kept."""
    return max((value / most for _, value, most in _measures(architecture, problem)), default=0.0)


def _measures(architecture: AnyArchitecture, problem: Problem) -> list[tuple[str, float, float]]:
    """(limit, what the network has, what it may have) of every limit that is set and follows from the network alone."""
    limits = problem.limits
    found = costs(lower(architecture, problem.input_shape, problem.num_classes))
    every = (
        ("max_params", found.parameters, limits.max_params),
        ("max_flops", found.flops, limits.max_flops),
        ("max_size_mb", found.size_mb, limits.max_size_mb),
    )
    return [(name, value, most) for name, value, most in every if most is not None]
