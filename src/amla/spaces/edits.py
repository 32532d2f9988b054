"""Edits of a macro architecture: pure functions that give a new document. NAC's phases and every space of macro
architectures share them. A result need not be valid in between (``model_copy`` checks nothing): who ends an edit reads it
again, or knows that it is."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence

import numpy as np

from amla.errors import SpecError
from amla.spec.architecture import Branch, Layer, MacroArchitecture, Stage


def branches_of(network: MacroArchitecture) -> Iterator[tuple[str, Branch]]:
    """Every branch with its name, ``stage/layer/branch``, in order."""
    for stage in network.stages:
        for layer in stage.layers:
            for branch in layer.branches:
                yield f"{stage.name}/{layer.name}/{branch.name}", branch


def links_of(network: MacroArchitecture) -> list[str]:
    """The names of all skip connections, ``stage/layer/skip/source``."""
    return [
        f"{stage.name}/{layer.name}/skip/{skip}"
        for stage in network.stages
        for layer in stage.layers
        for skip in layer.skips or ()
    ]


def each_layer(network: MacroArchitecture, edit: Callable[[str, Layer], Layer]) -> MacroArchitecture:
    """The network with ``edit(place, layer)`` in the place (``stage/layer``) of every layer."""
    stages = tuple(
        stage.model_copy(update={"layers": tuple(edit(f"{stage.name}/{layer.name}", layer) for layer in stage.layers)})
        for stage in network.stages
    )
    return network.model_copy(update={"stages": stages})


def shared(branches: tuple[Branch, ...], width: int) -> tuple[Branch, ...]:
    """``width`` channels over the branches, none lost: the first ones get one more where it does not come out even. The
    same branches where they have them already."""
    count = len(branches)
    if width < count:
        raise SpecError(f"{width} channels cannot be shared out over {count} branches")
    channels = [width // count + (index < width % count) for index in range(count)]
    if all(branch.channels == own for branch, own in zip(branches, channels, strict=True)):
        return branches
    return tuple(
        branch if branch.channels == own else branch.model_copy(update={"channels": own})
        for branch, own in zip(branches, channels, strict=True)
    )


def inner_width(width: int, layers: int) -> int:
    """Outputs of the inner layers of a limited stage of so many layers: floor(W * (sqrt(N-1) - 1) / (N-2)), at N = 2 its
    limit, floor(W/2); its parameters then stay about those of one layer."""
    if layers <= 1:
        return width
    if layers == 2:
        return max(1, width // 2)
    return max(1, int(width * (math.sqrt(layers - 1) - 1) / (layers - 2)))


def sources_before(network: MacroArchitecture, stage: str, layer: str) -> list[str]:
    """Names of all outputs before a layer, in order, the stem's left out."""
    names: list[str] = []
    for part in network.stages:
        for other in part.layers:
            if (part.name, other.name) == (stage, layer):
                return names
            names.append(f"{part.name}/{other.name}")
        names.append(f"{part.name}/widener")
    raise SpecError(f"there is no layer {stage}/{layer}")


def dense_sources(network: MacroArchitecture, stage: str, layer: str) -> tuple[str, ...]:
    """What a densely connected layer reads besides its input: every earlier output but the one just before it."""
    return tuple(sources_before(network, stage, layer)[:-1])


def with_skips(network: MacroArchitecture, stage: str, layer: str, skips: Sequence[str]) -> MacroArchitecture:
    """The network with these skip inputs at a layer, in network order."""
    order = sources_before(network, stage, layer)
    found = find_layer(network, stage, layer)
    skips = tuple(sorted(set(skips), key=order.index))
    return with_layer(network, stage, found.model_copy(update={"skips": skips}))


def dense(network: MacroArchitecture, place: str, layer: Layer) -> Layer:
    """A layer with every skip that it could have."""
    return layer.model_copy(update={"skips": dense_sources(network, *place.split("/"))})


def drawn_skips(network: MacroArchitecture, place: str, layer: Layer, rng: np.random.Generator) -> Layer:
    """A layer with each skip that it could have, with probability 1/2."""
    drawn = tuple(source for source in dense_sources(network, *place.split("/")) if rng.random() < 0.5)
    return layer.model_copy(update={"skips": drawn})


def edited_skips(network: MacroArchitecture, stage: Stage, layer: Layer) -> Iterator[tuple[str, ...]]:
    """The skips of a layer with one more, or one less."""
    present = layer.skips or ()
    for source in dense_sources(network, stage.name, layer.name):
        if source in present:
            yield tuple(skip for skip in present if skip != source)
        else:
            yield (*present, source)


def without_layer(network: MacroArchitecture, stage: str, layer: str) -> MacroArchitecture:
    """The network without a layer, and without the skips that read it.

    The layer behind it now follows on another output, which it need not read twice: that skip goes too.
    """
    kept = tuple(item for item in network.stage(stage).layers if item.name != layer)
    network = with_layers(network, stage, kept)
    for part in network.stages:
        for item in part.layers:
            if item.skips:
                allowed = dense_sources(network, part.name, item.name)
                network = with_skips(network, part.name, item.name, [skip for skip in item.skips if skip in allowed])
    return network


def find_layer(network: MacroArchitecture, stage: str, layer: str) -> Layer:
    """Errors: ``SpecError`` where there is none of that name."""
    for item in network.stage(stage).layers:
        if item.name == layer:
            return item
    raise SpecError(f"there is no layer {stage}/{layer}")


def with_layers(network: MacroArchitecture, stage: str, layers: tuple[Layer, ...]) -> MacroArchitecture:
    """The network with these layers in that stage."""
    stages = tuple(
        part.model_copy(update={"layers": layers}) if part.name == stage else part for part in network.stages
    )
    return network.model_copy(update={"stages": stages})


def with_layer(network: MacroArchitecture, stage: str, layer: Layer) -> MacroArchitecture:
    """The network with this layer in the place of the one of its name."""
    layers = tuple(layer if item.name == layer.name else item for item in network.stage(stage).layers)
    return with_layers(network, stage, layers)


# ------------------------------------------------------------------------------------------ the operations of a stage
#: The operations of every layer of a stage.
Choices = tuple[tuple[str, ...], ...]


def choices_of(stage: Stage) -> Choices:
    """The operations of every layer of a stage."""
    return tuple(tuple(branch.operation for branch in layer.branches) for layer in stage.layers)


def edited_operations(choices: Sequence[tuple[str, ...]], operations: Sequence[str]) -> Iterator[Choices]:
    """One operation added to a layer that lacks it, dropped from one that has another, or exchanged for one it lacks."""
    for place, present in enumerate(choices):
        absent = [operation for operation in operations if operation not in present]
        edited = [(*present, operation) for operation in absent]
        for others in _one_less(present):
            edited += [others] if others else []
            edited += [(*others, operation) for operation in absent]
        for changed in edited:
            yield (*choices[:place], tuple(sorted(changed, key=operations.index)), *choices[place + 1 :])


def moved_operations(choices: Sequence[tuple[str, ...]], operations: Sequence[str]) -> Iterator[Choices]:
    """One operation exchanged for any other, or moved to another layer from one that has more: as many as before."""
    for place, present in enumerate(choices):
        for index, old in enumerate(present):
            for new in operations:
                if new != old:
                    changed = (*present[:index], new, *present[index + 1 :])
                    yield (*choices[:place], changed, *choices[place + 1 :])
            others = present[:index] + present[index + 1 :]
            for target in range(len(choices)) if others else ():
                if target != place:
                    moved = list(choices)
                    moved[place], moved[target] = others, (*choices[target], old)
                    yield tuple(moved)


def _one_less(present: tuple[str, ...]) -> list[tuple[str, ...]]:
    return [present[:index] + present[index + 1 :] for index in range(len(present))]
