"""What the loss would rise by if a branch were switched off: looked at once, when a training has ended.

The images are of the training split, not augmented, so that the validation split keeps its word for the networks; norms go
by the statistics of the batch, as they will while the training goes on without the branch. The same images are seen with
and without each branch, so that a few of them are enough.

A library says what the losses are; this is what becomes of them.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence

from amla.spec.graph import Block, Graph
from amla.spec.trial import Cost, Job, Result

NAME = "switched_off"
#: Images that are looked at, once for every branch. With 10 epochs of 20,000 images, 24 branches and 5 looks that is a
#: twentieth of the training's own passes.
IMAGES = 256

#: Nodes whose outputs are zeros meanwhile -> the mean cross-entropy of the network, in nats.
Loss = Callable[[Sequence[str]], float]


def with_switched_off(result: Result, job: Job, graph: Graph, loss: Callable[[], Loss]) -> Result:
    """The result with ``switched_off`` of every branch, where the job asks for it: cross-entropy without the branch minus
    that with it. ``loss`` makes ready what looks. What it takes counts as evaluation."""
    if NAME not in job.spec.instruments:
        return result
    began = time.perf_counter()
    without = loss()
    whole = without(())
    rises = {block.name: {NAME: without((block.output,)) - whole} for block in branches_of(graph)}
    statistics = {block: {**values, **rises.get(block, {})} for block, values in result.statistics.items()}
    return result.model_copy(
        update={"statistics": rises | statistics, "cost": _longer(result.cost, time.perf_counter() - began)}
    )


def branches_of(graph: Graph) -> list[Block]:
    """The blocks that can be switched off: all but the skips."""
    return [block for block in graph.blocks if block.kind != "skip"]


def _longer(cost: Cost, seconds: float) -> Cost:
    return cost.model_copy(
        update={"seconds": cost.seconds + seconds, "evaluate_seconds": cost.evaluate_seconds + seconds}
    )
