"""The space of EnvelopeNets (arXiv 1803.06744 section 3): stages of layers, a layer any non-empty set of the envelope's
branches, skip connections from earlier layers, a widener between two stages.

The edits are pure functions on a ``MacroArchitecture``; NAC's phases and every other searcher use the same ones.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from typing import Annotated

import numpy as np
from pydantic import Field

from amla.errors import SpecError
from amla.spaces.base import AnyArchitecture, SearchSpace, SpaceSettings
from amla.spec.architecture import (
    DEFAULT_HEAD,
    Branch,
    ConvStep,
    Layer,
    MacroArchitecture,
    Stage,
    Step,
    Style,
    Widener,
)
from amla.spec.experiment import Problem
from amla.spec.operations import Operation

#: The envelope cell of the paper (section 4), in its order.
ENVELOPE: tuple[str, ...] = ("1x1", "3x3", "3x3sep", "5x5", "5x5sep", "7x7sep")
Count = Annotated[int, Field(ge=1, le=1000)]


class EnvelopeSettings(SpaceSettings):
    """Numbers are per stage where they are lists. None: chosen to suit the image size (``suited``)."""

    width: int | None = Field(None, ge=1, le=4096, description="channels of the first stage; each stage doubles them")
    layers: tuple[Count, ...] | None = Field(None, description="layers of each stage at the start (or at least)")
    max_layers: tuple[Count, ...] | None = Field(None, description="a stage with at most so many layers may still grow")
    operations: tuple[Operation, ...] = Field(ENVELOPE, min_length=1)
    skips: bool = Field(True, description="whether layers may read earlier layers")
    parameter_limits: tuple[bool, ...] | None = Field(None, description="narrow the inner layers of these stages")
    blocks: tuple[Count, ...] | None = Field(None, description="branches of a sampled stage in all; None: any number")
    stem: tuple[Step, ...] | None = None
    head: tuple[Step, ...] = DEFAULT_HEAD
    style: Style = Style()


class EnvelopeSpace(SearchSpace):
    """All networks that branches, layers and skips of an envelope can make. Their widths follow from the settings."""

    Settings = EnvelopeSettings

    def __init__(self, settings: EnvelopeSettings, problem: Problem) -> None:
        super().__init__(settings, problem)
        self.layers, self.stem = suited(settings, problem)
        count = len(self.layers)
        self.operations = settings.operations
        self.skips = settings.skips
        self.style = settings.style
        self.head = settings.head
        self.blocks = settings.blocks
        self.max_layers = settings.max_layers or tuple(layers + 2 for layers in self.layers)
        self.limited = settings.parameter_limits or (False,) * count
        self.width = settings.width or 16
        for name, values in (
            ("max_layers", self.max_layers),
            ("parameter_limits", self.limited),
            ("blocks", self.blocks),
        ):
            if values is not None and len(values) != count:
                raise SpecError(f"space_settings.{name}: {len(values)} values for {count} stages; give one a stage")
        if self.blocks and any(blocks < layers for blocks, layers in zip(self.blocks, self.layers, strict=True)):
            raise SpecError("space_settings.blocks: a stage needs at least one branch a layer")
        if self.width < len(self.operations):
            raise SpecError(
                f"space_settings.width: {self.width} channels cannot be shared out over {len(self.operations)} branches; "
                f"take at least {len(self.operations)}"
            )

    def initial(self) -> MacroArchitecture:
        """The EnvelopeNet itself: every layer with every branch, and dense skip inputs if skips are on."""
        network = self._bare([[self.operations] * layers for layers in self.layers])
        if self.skips:
            for stage in network.stages:
                for layer in stage.layers:
                    network = with_skips(
                        network, stage.name, layer.name, dense_sources(network, stage.name, layer.name)
                    )
        return self.set_widths(network)

    def grow(self, network: MacroArchitecture, stage: str) -> MacroArchitecture:
        """A full envelope layer at the end of a stage, before its widener; it takes dense skip inputs."""
        number = 1 + max((int(layer.name.removeprefix("layer")) for layer in network.stage(stage).layers), default=0)
        layer = self._layer(number, self.operations)
        network = _with_stage(network, stage, (*network.stage(stage).layers, layer))
        if self.skips:
            network = with_skips(network, stage, layer.name, dense_sources(network, stage, layer.name))
        return network

    def set_widths(self, network: MacroArchitecture) -> MacroArchitecture:
        """Every layer's width shared out over its branches, and every widener's.

        The width of a stage is ``width * 2^s``. With parameter limiting, the inner layers of a stage of N layers get
        floor(W * (sqrt(N-1) - 1) / (N-2)) outputs, or floor(W/2) at N = 2 (the limit), and the last one keeps W.
        """
        stages = []
        for index, stage in enumerate(network.stages):
            width = self.width * 2**index
            inner = inner_width(width, len(stage.layers)) if self.limited[index] else width
            last = len(stage.layers) - 1
            layers = tuple(
                layer.model_copy(update={"branches": shared(layer.branches, width if place == last else inner)})
                for place, layer in enumerate(stage.layers)
            )
            widener = Widener(channels=width) if index < len(network.stages) - 1 else None
            stages.append(stage.model_copy(update={"layers": layers, "widener": widener}))
        return network.model_copy(update={"stages": tuple(stages)})

    # ------------------------------------------------------------------------------------------------ the space's contract
    def sample(self, rng: np.random.Generator) -> MacroArchitecture:
        """Depths uniform within their bounds, then each layer a non-empty set of branches (with ``blocks``: so many
        branches a stage, spread at random over its layers), then each skip with probability 1/2."""
        choices: list[list[tuple[str, ...]]] = []
        for index, (least, most) in enumerate(zip(self.layers, self.max_layers, strict=True)):
            if self.blocks:
                choices.append(self._spread(least, self.blocks[index], rng))
            else:
                depth = int(rng.integers(least, max(least, most) + 1))
                choices.append([self._subset(rng) for _ in range(depth)])
        network = self._bare(choices)
        if self.skips:
            for stage in network.stages:
                for layer in stage.layers:
                    sources = [s for s in dense_sources(network, stage.name, layer.name) if rng.random() < 0.5]
                    network = with_skips(network, stage.name, layer.name, sources)
        return self.set_widths(network)

    def mutate(self, architecture: AnyArchitecture, rng: np.random.Generator) -> MacroArchitecture:
        """One of the neighbours, all equally likely."""
        options = list(self.neighbors(architecture))
        return options[int(rng.integers(len(options)))]

    def neighbors(self, architecture: AnyArchitecture) -> Iterator[MacroArchitecture]:
        """Add, drop or exchange one branch; add or drop a stage's last layer; add or drop one skip."""
        network = _macro(architecture)
        for index, stage in enumerate(network.stages):
            for layer in stage.layers:
                for edited in self._edited_branches(layer):
                    yield self.set_widths(_with_layer(network, stage.name, edited))
                if self.skips:
                    yield from self._edited_skips(network, stage, layer)
            if len(stage.layers) < max(self.max_layers[index], self.layers[index]):
                yield self.set_widths(self.grow(network, stage.name))
            if len(stage.layers) > self.layers[index]:
                yield self.set_widths(without_layer(network, stage.name, stage.layers[-1].name))

    def contains(self, architecture: AnyArchitecture) -> bool:
        """NAC's last growth may reach ``max_layers`` + 1, as published, so a stage may have one layer more than that."""
        if not isinstance(architecture, MacroArchitecture) or len(architecture.stages) != len(self.layers):
            return False
        if (architecture.stem, architecture.head, architecture.style) != (self.stem, self.head, self.style):
            return False
        for stage, most in zip(architecture.stages, self.max_layers, strict=True):
            if not 1 <= len(stage.layers) <= most + 1:
                return False
            for layer in stage.layers:
                if any(branch.operation not in self.operations for branch in layer.branches):
                    return False
                if (layer.skips is not None) != self.skips:
                    return False
        return architecture == self.set_widths(architecture)

    # ------------------------------------------------------------------------------------------------------------- helpers
    def _bare(self, choices: Sequence[Sequence[Sequence[str]]]) -> MacroArchitecture:
        """A network of these operations, without skips and of no particular width yet."""
        stages = tuple(
            Stage(
                name=f"stage{s}",
                layers=tuple(self._layer(number, operations) for number, operations in enumerate(layers, 1)),
            )
            for s, layers in enumerate(choices, 1)
        )
        network = MacroArchitecture(stem=self.stem, stages=stages, head=self.head, style=self.style)
        return self.set_widths(network)

    def _layer(self, number: int, operations: Sequence[str]) -> Layer:
        """A layer of these operations. A branch is named by its operation's place in the envelope, or, where an
        operation comes twice, by its place in the layer."""
        names = [branch_name(self.operations, operation) for operation in operations]
        if len(set(names)) < len(names):
            names = [f"branch{place}" for place in range(1, len(names) + 1)]
        branches = tuple(
            Branch(name=name, operation=operation, channels=1)
            for name, operation in zip(names, operations, strict=True)
        )
        return Layer(name=f"layer{number}", branches=branches, skips=() if self.skips else None)

    def _subset(self, rng: np.random.Generator) -> tuple[str, ...]:
        while True:
            taken = tuple(operation for operation in self.operations if rng.random() < 0.5)
            if taken:
                return taken

    def _spread(self, layers: int, blocks: int, rng: np.random.Generator) -> list[tuple[str, ...]]:
        """``blocks`` branches over ``layers`` layers, at least one each; an operation may come twice (AMLA 0.x ``random``)."""
        places = [*range(layers), *(int(rng.integers(layers)) for _ in range(blocks - layers))]
        drawn = [str(rng.choice(self.operations)) for _ in places]
        return [tuple(op for op, place in zip(drawn, places, strict=True) if place == layer) for layer in range(layers)]

    def _edited_branches(self, layer: Layer) -> Iterator[Layer]:
        present = {branch.operation for branch in layer.branches}
        absent = [operation for operation in self.operations if operation not in present]
        for operation in absent:
            branch = Branch(name=branch_name(self.operations, operation), operation=operation, channels=1)
            yield _in_order(layer, (*layer.branches, branch), self.operations)
        for branch in layer.branches:
            others = tuple(other for other in layer.branches if other is not branch)
            if others:
                yield layer.model_copy(update={"branches": others})
            for operation in absent:
                new = Branch(name=branch_name(self.operations, operation), operation=operation, channels=1)
                yield _in_order(layer, (*others, new), self.operations)

    def _edited_skips(self, network: MacroArchitecture, stage: Stage, layer: Layer) -> Iterator[MacroArchitecture]:
        present = layer.skips or ()
        for source in dense_sources(network, stage.name, layer.name):
            if source in present:
                kept = tuple(skip for skip in present if skip != source)
                yield with_skips(network, stage.name, layer.name, kept)
            else:
                yield with_skips(network, stage.name, layer.name, (*present, source))


# ---------------------------------------------------------------------------------------------------------- pure functions
def suited(settings: EnvelopeSettings, problem: Problem) -> tuple[tuple[int, ...], tuple[Step, ...]]:
    """(layers of each stage, stem) where the settings leave them open: a stage for every halving down to about 6 pixels
    (at most 3), and for large images a stem that first brings them to at most 64 pixels a side."""
    side = max(problem.input_shape[1:])
    stem = settings.stem
    if stem is None:
        steps: list[Step] = []
        channels = settings.width or 16
        steps.append(ConvStep(channels=channels, stride=2 if side > 64 else 1))
        side = -(-side // 2) if side > 64 else side
        while side > 64:
            steps.append(ConvStep(channels=channels, stride=2))
            side = -(-side // 2)
        stem = tuple(steps)
    if settings.layers is not None:
        return settings.layers, stem
    stages = min(3, max(1, int(math.log2(max(side, 6) / 6)) + 1))
    return (2,) * stages, stem


def shared(branches: Sequence[Branch], width: int) -> tuple[Branch, ...]:
    """``width`` channels over the branches, none lost: the first ones get one more where it does not come out even."""
    count = len(branches)
    if width < count:
        raise SpecError(f"{width} channels cannot be shared out over {count} branches")
    return tuple(
        branch.model_copy(update={"channels": width // count + (index < width % count)})
        for index, branch in enumerate(branches)
    )


def inner_width(width: int, layers: int) -> int:
    """Outputs of the inner layers of a limited stage, such that its parameters stay about those of one layer."""
    if layers <= 1:
        return width
    if layers == 2:
        return max(1, width // 2)
    return max(1, int(width * (math.sqrt(layers - 1) - 1) / (layers - 2)))


def branch_name(operations: Sequence[str], operation: str) -> str:
    """The name that a branch of this operation has in every layer: its place in the envelope, from 1."""
    return f"branch{operations.index(operation) + 1}"


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
    found = _find(network, stage, layer)
    skips = tuple(sorted(set(skips), key=order.index))
    return _with_layer(network, stage, found.model_copy(update={"skips": skips}))


def without_layer(network: MacroArchitecture, stage: str, layer: str) -> MacroArchitecture:
    """The network without a layer, and without the skips that read it."""
    gone = f"{stage}/{layer}"
    stages = []
    for part in network.stages:
        kept = [item for item in part.layers if (part.name, item.name) != (stage, layer)]
        layers = tuple(
            item if item.skips is None else item.model_copy(update={"skips": tuple(s for s in item.skips if s != gone)})
            for item in kept
        )
        stages.append(part.model_copy(update={"layers": layers}))
    network = network.model_copy(update={"stages": tuple(stages)})
    # With its predecessor gone a layer's input is another output, which it need not read twice.
    for part in network.stages:
        for item in part.layers:
            if item.skips:
                allowed = dense_sources(network, part.name, item.name)
                network = with_skips(network, part.name, item.name, [s for s in item.skips if s in allowed])
    return network


def _in_order(layer: Layer, branches: Sequence[Branch], operations: Sequence[str]) -> Layer:
    ordered = tuple(sorted(branches, key=lambda branch: operations.index(branch.operation)))
    return layer.model_copy(update={"branches": ordered})


def _find(network: MacroArchitecture, stage: str, layer: str) -> Layer:
    for item in network.stage(stage).layers:
        if item.name == layer:
            return item
    raise SpecError(f"there is no layer {stage}/{layer}")


def _with_stage(network: MacroArchitecture, stage: str, layers: tuple[Layer, ...]) -> MacroArchitecture:
    stages = tuple(
        part.model_copy(update={"layers": layers}) if part.name == stage else part for part in network.stages
    )
    return network.model_copy(update={"stages": stages})


def _with_layer(network: MacroArchitecture, stage: str, layer: Layer) -> MacroArchitecture:
    layers = tuple(layer if item.name == layer.name else item for item in network.stage(stage).layers)
    return _with_stage(network, stage, layers)


def _macro(architecture: AnyArchitecture) -> MacroArchitecture:
    if not isinstance(architecture, MacroArchitecture):
        raise SpecError("the space 'envelope' has macro architectures only")
    return architecture
