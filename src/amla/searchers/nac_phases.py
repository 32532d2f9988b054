"""The phases of NAC (arXiv 1803.06744 section 3, algorithm 1): pure functions on an architecture.

Their names are those of the design and, behind them, of the brain: ``initialise`` (neurogenesis), ``prune_branches``
(apoptosis), ``grow`` (hippocampal neurogenesis), ``prune_skips`` (synaptic pruning), ``set_widths``. ``feed_later`` and
``lapse`` are parts of the algorithm that its settings can leave out or bring in.
"""

from __future__ import annotations

import math
from collections.abc import Collection, Mapping, Sequence

from amla.errors import SearchError
from amla.spaces.edits import branches_of, each_layer, with_skips
from amla.spaces.envelope import EnvelopeSpace
from amla.spec.architecture import Layer, MacroArchitecture, Stage


def initialise(space: EnvelopeSpace) -> MacroArchitecture:
    """The EnvelopeNet: stages of layers, each with every branch of the envelope cell, and dense skips if there are any."""
    return space.initial()


def open_stages(network: MacroArchitecture, construction: Sequence[bool], max_layers: Sequence[int]) -> list[str]:
    """The stages that change: those under construction with at most ``max_layers`` layers. The last growth may thus reach
    ``max_layers`` + 1, as published."""
    return [
        stage.name
        for stage, constructed, most in zip(network.stages, construction, max_layers, strict=True)
        if constructed and len(stage.layers) <= most
    ]


def prune_count(branches: int, max_prune: int, fraction: float) -> int:
    """How many of a stage's branches go: at least one, at most min(``max_prune``, floor(``fraction`` * branches)). None
    where ``max_prune`` is 0."""
    share = math.floor(fraction * branches + 1e-9)  # 0.29 * 100 is 28.999999999999996, and yet 29 is meant
    return min(max_prune, max(1, share))


def weakest_branches(stage: Stage, scores: Mapping[str, float], count: int) -> list[str]:
    """The ``count`` branches of a stage with the lowest scores, in that order; a layer's last branch is passed over, so there
    may be fewer. A branch whose score is no number goes first; of equal ones, the first in the network."""
    left = {layer.name: len(layer.branches) for layer in stage.layers}
    places = [
        (f"{stage.name}/{layer.name}/{branch.name}", layer.name) for layer in stage.layers for branch in layer.branches
    ]
    weak: list[str] = []
    for name, layer in sorted(places, key=lambda place: _rank(scores[place[0]])):
        if left[layer] > 1 and len(weak) < count:
            left[layer] -= 1
            weak.append(name)
    return weak


def prune_branches(network: MacroArchitecture, names: Collection[str]) -> MacroArchitecture:
    """The network without these branches (``stage/layer/branch``)."""

    def pruned(place: str, layer: Layer) -> Layer:
        kept = tuple(branch for branch in layer.branches if f"{place}/{branch.name}" not in names)
        return layer.model_copy(update={"branches": kept})

    return each_layer(network, pruned)


def grow(
    network: MacroArchitecture, stages: Collection[str], space: EnvelopeSpace
) -> tuple[MacroArchitecture, list[str]]:
    """A full envelope layer at the end of each of these stages, with dense skip inputs; and the names of the new layers."""
    grown: list[str] = []
    for stage in network.stages:
        if stage.name in stages:
            network = space.grow(network, stage.name)
            grown.append(f"{stage.name}/{network.stage(stage.name).layers[-1].name}")
    return network, grown


def prune_skips(
    network: MacroArchitecture, scalars: Mapping[str, float], spared: Collection[str], *, signed: bool = False
) -> MacroArchitecture:
    """Each layer but the ``spared`` (just grown) keeps the ceil(n/2) of its n skip inputs whose learned scalar is largest:
    in absolute value, or ``signed``, as the original ranked them. Of equal ones the first in the network stay."""
    for stage in network.stages:
        for layer in stage.layers:
            place = f"{stage.name}/{layer.name}"
            if place in spared or not layer.skips:
                continue
            lacking = [skip for skip in layer.skips if f"{place}/skip/{skip}" not in scalars]
            if lacking:
                raise SearchError(f"nac: the training gave no scalar of the skip {place}/skip/{lacking[0]}")
            values = {skip: scalars[f"{place}/skip/{skip}"] for skip in layer.skips}
            strength = values if signed else {skip: abs(value) for skip, value in values.items()}
            ranked = sorted(layer.skips, key=strength.__getitem__, reverse=True)
            network = with_skips(network, stage.name, layer.name, ranked[: math.ceil(len(ranked) / 2)])
    return network


def feed_later(network: MacroArchitecture, grown: Collection[str]) -> MacroArchitecture:
    """Every older layer behind a grown one reads it too, unless it is its very input. So published: in the paper's final
    CIFAR-10 network the old layers of stage 2 read the last layer of stage 1."""
    seen: list[str] = []
    predecessor = ""
    for stage in network.stages:
        for layer in stage.layers:
            place = f"{stage.name}/{layer.name}"
            new = [name for name in seen if name != predecessor]
            if place in grown:
                seen.append(place)
            elif new:
                network = with_skips(network, stage.name, layer.name, (*(layer.skips or ()), *new))
            predecessor = place
        predecessor = f"{stage.name}/widener"
    return network


def set_widths(network: MacroArchitecture, space: EnvelopeSpace) -> MacroArchitecture:
    """The width of each layer, by its stage and, with parameter limiting, its place there, shared out over its branches."""
    return space.set_widths(network)


def lapse(before: MacroArchitecture, after: MacroArchitecture) -> MacroArchitecture:
    """In a layer that lost branches, the survivors have the channels that they had: it becomes narrower, instead of
    passing the channels of the lost ones to them."""
    had = {name: branch.channels for name, branch in branches_of(before)}

    def narrowed(place: str, layer: Layer) -> Layer:
        if sum(name.startswith(f"{place}/") for name in had) <= len(layer.branches):
            return layer
        branches = tuple(
            branch.model_copy(update={"channels": had.get(f"{place}/{branch.name}", branch.channels)})
            for branch in layer.branches
        )
        return layer.model_copy(update={"branches": branches})

    return each_layer(after, narrowed)


def _rank(score: float) -> tuple[bool, float]:
    return (False, 0.0) if math.isnan(score) else (True, score)
