"""What the loss would rise by if a branch were switched off: looked at where a snapshot asks, and when a training has ended.

The images are of the training split, not augmented, so that the validation split keeps its word for the networks; norms go
by the statistics of the batch, as they will while the training goes on without the branch. The same images are seen with
and without each branch, so that a few of them are enough.

A library says what the losses are; this is what becomes of them.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

from amla.spec.graph import Block, Graph
from amla.spec.trial import Statistics

NAME = "switched_off"
#: Images that are looked at, for every branch.
IMAGES = 256
#: The loss of the whole network in the answer of ``Losses``.
WHOLE = ""

#: Nodes -> the mean cross-entropy, in nats, with zeros for the output of each of them in turn, and that of the ``WHOLE``.
#: A node that nothing depends on may be missing.
Losses = Callable[[Sequence[str]], Mapping[str, float]]


def rises(graph: Graph, losses: Losses) -> Statistics:
    """``switched_off`` of every branch: the cross-entropy without it minus that with it."""
    outputs = {block.name: block.output for block in branches_of(graph)}
    found = losses(list(outputs.values()))
    return {name: {NAME: found.get(output, found[WHOLE]) - found[WHOLE]} for name, output in outputs.items()}


def branches_of(graph: Graph) -> list[Block]:
    """The blocks that can be switched off: all but the skips."""
    return [block for block in graph.blocks if block.kind != "skip"]
