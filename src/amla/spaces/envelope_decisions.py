"""The envelope space as decisions: how deep each stage is, which branches each layer has, which earlier outputs it reads.

With ``blocks`` (so many branches a stage, over a given number of layers) the decisions are instead: the operation of every
branch, and for those beyond one a layer also the layer where it stands.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from itertools import product
from typing import Protocol

from amla.errors import SpecError
from amla.spaces.base import AnyArchitecture, checked
from amla.spaces.edits import dense_sources, with_skips
from amla.spec.architecture import MacroArchitecture, Stage, Step, Style

SWITCH = ("off", "on")
Decisions = dict[str, tuple[str, ...]]


class Envelope(Protocol):
    """What is read here of ``EnvelopeSpace``, which builds on this module: numbers are per stage where they are tuples."""

    layers: tuple[int, ...]
    max_layers: tuple[int, ...]
    blocks: tuple[int, ...] | None
    operations: tuple[str, ...]
    skips: bool
    stem: tuple[Step, ...]
    head: tuple[Step, ...]
    style: Style

    def contains(self, architecture: AnyArchitecture) -> bool: ...
    def decisions(self) -> Decisions: ...
    def bare(self, choices: Sequence[Sequence[Sequence[str]]]) -> MacroArchitecture: ...
    def envelope(self, depth: Sequence[int]) -> MacroArchitecture: ...
    def set_widths(self, network: MacroArchitecture) -> MacroArchitecture: ...


def decisions(space: Envelope) -> Decisions:
    """Every decision with its options, stage by stage."""
    found: Decisions = {}
    for index, (least, most) in enumerate(zip(space.layers, deepest(space), strict=True)):
        stage = f"stage{index + 1}"
        if space.blocks:
            for block in range(1, space.blocks[index] + 1):
                if block > least:
                    found[f"{stage}/block{block}/layer"] = tuple(str(layer) for layer in range(1, least + 1))
                found[f"{stage}/block{block}/operation"] = space.operations
        else:
            found[f"{stage}/depth"] = tuple(str(depth) for depth in range(least, most + 1))
            for layer in range(1, most + 1):
                for operation in space.operations:
                    found[f"{stage}/layer{layer}/{operation}"] = SWITCH
        for layer in range(1, most + 1):
            for source in _sources(space, index, layer):
                found[f"{stage}/layer{layer}/skip/{source}"] = SWITCH
    return found


def encode(space: Envelope, network: MacroArchitecture) -> dict[str, str]:
    """The option of every decision. Layers that are not there have everything off."""
    if not space.contains(network):
        raise SpecError("space: this architecture is not in the space, so it has no decisions here")
    taken = {name: options[0] for name, options in space.decisions().items()}
    for index, stage in enumerate(network.stages):
        if space.blocks:
            taken |= _encoded_blocks(stage)
        elif len(stage.layers) > deepest(space)[index]:
            raise SpecError(
                f"space: {stage.name} has {len(stage.layers)} layers, beyond max_layers: it grew as NAC's last"
            )
        else:
            taken[f"{stage.name}/depth"] = str(len(stage.layers))
        for number, layer in enumerate(stage.layers, 1):
            place = f"{stage.name}/layer{number}"
            if not space.blocks:
                taken |= {f"{place}/{branch.operation}": "on" for branch in layer.branches}
            taken |= {f"{place}/skip/{source}": "on" for source in layer.skips or ()}
    return taken


def decode(space: Envelope, taken: Mapping[str, str]) -> MacroArchitecture:
    """The network that these options make. A layer with every branch off gets the envelope's first operation."""
    checked(space.decisions(), taken)
    network = space.bare([_operations(space, index, taken) for index in range(len(space.layers))])
    if space.skips:
        for stage in network.stages:
            for layer in stage.layers:
                place = f"{stage.name}/{layer.name}"
                sources = dense_sources(network, stage.name, layer.name)
                on = [source for source in sources if taken[f"{place}/skip/{source}"] == "on"]
                network = with_skips(network, stage.name, layer.name, on)
    return space.set_widths(network)


def size(space: Envelope) -> int:
    """How many networks: over all depths, the ways to fill their layers and to switch their skips."""
    if space.blocks:
        total = 1 << _skip_count(space, space.layers)
        for blocks, layers in zip(space.blocks, space.layers, strict=True):
            total *= math.comb(blocks - 1, layers - 1) * pow(len(space.operations), blocks)
        return total
    cells = (1 << len(space.operations)) - 1
    depths = [range(least, most + 1) for least, most in zip(space.layers, deepest(space), strict=True)]
    return sum(pow(cells, sum(depth)) << _skip_count(space, depth) for depth in product(*depths))


def deepest(space: Envelope) -> tuple[int, ...]:
    """The most layers that a stage is sampled with."""
    if space.blocks:
        return space.layers
    return tuple(max(least, most) for least, most in zip(space.layers, space.max_layers, strict=True))


def _sources(space: Envelope, index: int, layer: int) -> Iterator[str]:
    """What a layer may read besides its input, in the deepest network."""
    if not space.skips:
        return
    for before in range(index):
        yield from (f"stage{before + 1}/layer{number}" for number in range(1, deepest(space)[before] + 1))
        if before < index - 1 or layer > 1:
            yield f"stage{before + 1}/widener"
    yield from (f"stage{index + 1}/layer{number}" for number in range(1, layer - 1))


def _skip_count(space: Envelope, depth: Sequence[int]) -> int:
    """How many skips a network of this depth may have."""
    if not space.skips:
        return 0
    outputs = 0  # layers and wideners so far
    count = 0
    for index, layers in enumerate(depth):
        outputs += index > 0
        for _ in range(layers):
            count += max(0, outputs - 1)
            outputs += 1
    return count


def _encoded_blocks(stage: Stage) -> dict[str, str]:
    """The first branch of every layer is the block of its number; the others follow, layer by layer."""
    taken = {}
    following = len(stage.layers)
    for number, layer in enumerate(stage.layers, 1):
        for place, branch in enumerate(layer.branches):
            if place == 0:
                taken[f"{stage.name}/block{number}/operation"] = branch.operation
                continue
            following += 1
            taken[f"{stage.name}/block{following}/layer"] = str(number)
            taken[f"{stage.name}/block{following}/operation"] = branch.operation
    return taken


def _operations(space: Envelope, index: int, taken: Mapping[str, str]) -> list[tuple[str, ...]]:
    """The operations of every layer of a stage."""
    stage = f"stage{index + 1}"
    if space.blocks:
        layers = space.layers[index]
        places = [*range(1, layers + 1)]
        places += [int(taken[f"{stage}/block{n}/layer"]) for n in range(layers + 1, space.blocks[index] + 1)]
        chosen = [taken[f"{stage}/block{n}/operation"] for n in range(1, space.blocks[index] + 1)]
        return [
            tuple(operation for operation, place in zip(chosen, places, strict=True) if place == layer)
            for layer in range(1, layers + 1)
        ]
    filled = []
    for layer in range(1, int(taken[f"{stage}/depth"]) + 1):
        on = tuple(operation for operation in space.operations if taken[f"{stage}/layer{layer}/{operation}"] == "on")
        filled.append(on or space.operations[:1])
    return filled
