"""Which networks are the envelope space's."""

from __future__ import annotations

import re

from amla.spaces.base import AnyArchitecture
from amla.spaces.edits import dense_sources
from amla.spaces.envelope_decisions import Envelope
from amla.spec.architecture import Layer, MacroArchitecture, Stage

_LAYER_NAME = re.compile(r"layer[1-9][0-9]*")


def contains(space: Envelope, architecture: AnyArchitecture) -> bool:
    """Whether stem, head, style, stages and widths are the space's."""
    if not isinstance(architecture, MacroArchitecture) or architecture.auxiliaries:
        return False
    if (architecture.stem, architecture.head, architecture.style) != (space.stem, space.head, space.style):
        return False
    if [stage.name for stage in architecture.stages] != [f"stage{s}" for s in range(1, len(space.layers) + 1)]:
        return False
    if not all(_has_stage(space, architecture, index) for index in range(len(space.layers))):
        return False
    return architecture == space.set_widths(architecture)


def _has_stage(space: Envelope, network: MacroArchitecture, index: int) -> bool:
    """Whether depth, layers, branches and skips of a stage are the space's."""
    stage = network.stages[index]
    least, most = space.layers[index], max(space.layers[index], space.max_layers[index] + 1)
    branches = sum(len(layer.branches) for layer in stage.layers)
    if space.blocks and (len(stage.layers), branches) != (least, space.blocks[index]):
        return False
    names = [layer.name for layer in stage.layers]
    numbers = [int(name.removeprefix("layer")) for name in names if _LAYER_NAME.fullmatch(name)]
    if not least <= len(names) <= most or len(numbers) < len(names) or numbers != sorted(numbers):
        return False
    return all(_has_layer(space, network, stage, layer) for layer in stage.layers)


def _has_layer(space: Envelope, network: MacroArchitecture, stage: Stage, layer: Layer) -> bool:
    if any(branch.operation not in space.operations for branch in layer.branches):
        return False
    if layer.skips is None or not space.skips:
        return layer.skips is None and not space.skips
    sources = dense_sources(network, stage.name, layer.name)
    return layer.skips == tuple(source for source in sources if source in layer.skips)
