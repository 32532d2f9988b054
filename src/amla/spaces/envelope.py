"""EnvelopeNets: stages of layers, each any of the envelope's branches, with skips between them (arXiv 1803.06744 section 3).

A layer has at least one branch; a widener stands between two stages.

The edits are pure functions on a ``MacroArchitecture``; NAC's phases and every other searcher use the same ones.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import cache, cached_property, partial
from typing import Annotated

import numpy as np
from pydantic import Field, JsonValue

from amla.errors import SpecError
from amla.spaces import envelope_decisions, envelope_members, envelope_supernet
from amla.spaces.base import AnyArchitecture, SearchSpace, SpaceSettings, Supernet
from amla.spaces.edits import (
    Choices,
    choices_of,
    dense,
    dense_sources,
    drawn_skips,
    each_layer,
    edited_operations,
    edited_skips,
    inner_width,
    moved_operations,
    shared,
    with_layers,
    with_skips,
    without_layer,
)
from amla.spaces.limits import excess, unlimited
from amla.spaces.stems import one_more_halving, rungs, suited_stem
from amla.spec.architecture import (
    DEFAULT_HEAD,
    Branch,
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
#: Channels of the first stage where nobody says.
WIDTH = 16
#: Those that a time budget chooses from, and from where on a stage has a layer more.
WIDTHS = (96, 64, 48, 32, 24, 16, 12, 8)
WIDE = 48
Count = Annotated[int, Field(ge=1, le=1000)]
#: Makes a neighbour.
Edit = Callable[[], MacroArchitecture]


class EnvelopeSettings(SpaceSettings):
    """Numbers are per stage where they are lists. None: chosen to suit the image size and the limits."""

    width: int | None = Field(None, ge=1, le=4096, description="channels of the first stage; each stage doubles them")
    layers: tuple[Count, ...] | None = Field(
        None, min_length=1, description="layers of each stage at the start (or at least)"
    )
    max_layers: tuple[Count, ...] | None = Field(None, description="a stage with at most so many layers may still grow")
    operations: tuple[Operation, ...] = Field(ENVELOPE, min_length=1)
    skips: bool = Field(True, description="whether layers may read earlier layers")
    parameter_limits: tuple[bool, ...] | None = Field(None, description="narrow the inner layers of these stages")
    blocks: tuple[Count, ...] | None = Field(
        None, description="branches of a stage in all, over exactly `layers` layers; None: any number"
    )
    stem: tuple[Step, ...] | None = None
    halvings: int | None = Field(
        None, ge=0, le=6, description="convolutions of stride 2 in the stem; None: as many as bring images to 64 pixels"
    )
    head: tuple[Step, ...] = DEFAULT_HEAD
    style: Style = Style()


class EnvelopeSpace(SearchSpace):
    """All networks that branches, layers and skips of an envelope can make. Their widths follow from the settings."""

    Settings = EnvelopeSettings

    def __init__(self, settings: EnvelopeSettings, problem: Problem) -> None:
        super().__init__(settings, problem)
        self.layers = settings.layers or suited_layers(problem)
        self.operations = settings.operations
        self.skips = settings.skips
        self.style = settings.style
        self.head = settings.head
        self.blocks = settings.blocks
        self.max_layers = settings.max_layers or tuple(layers + 2 for layers in self.layers)
        self.limited = settings.parameter_limits or (False,) * len(self.layers)
        self._check_lengths()
        if settings.stem is not None and settings.halvings is not None:
            raise SpecError("space_settings.halvings: the stem is given, and decides that; leave one of them out")
        self.width = settings.width or fitting_width(settings, problem)
        self.stem = suited_stem(problem, self.width, settings.halvings) if settings.stem is None else settings.stem
        self._check_widths()

    @classmethod
    def scales(cls, said: Mapping[str, JsonValue], problem: Problem) -> Iterator[dict[str, JsonValue]]:
        """Widths, the wide ones with a layer more a stage; then narrower ones behind a stem that halves the image once
        more, where that leaves enough of it; last, the narrowest with a single layer a stage."""
        operations = said.get("operations")
        least = len(operations) if isinstance(operations, list | tuple) else len(ENVELOPE)
        widths = sorted({max(width, least) for width in WIDTHS}, reverse=True)
        suited = suited_layers(problem)
        deep, shallow = [layers + 1 for layers in suited], [1 for _ in suited]
        more = one_more_halving(problem)
        halved: dict[str, JsonValue] = {} if more is None else {"halvings": more}
        ladder: list[dict[str, JsonValue]] = [
            {"width": width} | ({"layers": list(deep)} if width >= WIDE else {})
            for width in widths
            if width >= WIDTH or not halved
        ]
        if halved:
            ladder += [{"width": width, **halved} for width in widths if width < 2 * WIDTH]
        ladder.append({"width": widths[-1], "layers": list(shallow), **halved})
        # lists that a user gave one a stage would not fit another depth; nor does max_layers of their own
        fixed = set(said) | ({"layers"} if {"blocks", "max_layers"} & set(said) else set())
        fixed |= {"halvings"} if "stem" in said else set()
        yield from rungs(ladder, fixed)

    def initial(self) -> MacroArchitecture:
        """The EnvelopeNet itself: every layer with every branch, and dense skip inputs if skips are on."""
        return self._initial

    @cached_property
    def _initial(self) -> MacroArchitecture:
        return self.envelope(self.layers)

    def envelope(self, depth: Sequence[int]) -> MacroArchitecture:
        """An EnvelopeNet with so many layers in each stage."""
        network = self.bare([[self.operations] * layers for layers in depth])
        if self.skips:
            network = each_layer(network, partial(dense, network))
        return self.set_widths(network)

    def grow(self, network: MacroArchitecture, stage: str) -> MacroArchitecture:
        """A full envelope layer at the end of a stage, before its widener; it takes dense skip inputs."""
        number = 1 + max((int(layer.name.removeprefix("layer")) for layer in network.stage(stage).layers), default=0)
        layer = self._layer(f"layer{number}", self.operations)
        network = with_layers(network, stage, (*network.stage(stage).layers, layer))
        if self.skips:
            network = with_skips(network, stage, layer.name, dense_sources(network, stage, layer.name))
        return network

    def set_widths(self, network: MacroArchitecture) -> MacroArchitecture:
        """Every layer's width shared out over its branches, and every widener's.

        The width of a stage is ``width * 2^s``. With parameter limiting, the inner layers of a stage get
        ``inner_width`` outputs (but one a branch at least) and the last one keeps the stage's width.
        """
        stages = tuple(self._with_widths(index, stage, network) for index, stage in enumerate(network.stages))
        return network if _same(stages, network.stages) else network.model_copy(update={"stages": stages})

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
        network = self.bare(choices)
        if self.skips:
            network = each_layer(network, lambda place, layer: drawn_skips(network, place, layer, rng))
        return self.set_widths(network)

    def mutate(self, architecture: AnyArchitecture, rng: np.random.Generator) -> MacroArchitecture:
        """One of the neighbours, all equally likely. Errors: ``SpecError`` where it has none."""
        options = list(self._edits(_macro(architecture)))
        if not options:
            raise SpecError("space_settings: this space has one network only; allow more layers, operations or skips")
        return options[int(rng.integers(len(options)))]()

    def neighbors(self, architecture: AnyArchitecture) -> Iterator[MacroArchitecture]:
        """Add, drop or exchange one branch; add or drop a stage's last layer; add or drop one skip. With ``blocks``, where
        the number of branches and layers is given: exchange one branch, move one to another layer, add or drop a skip."""
        for edit in self._edits(_macro(architecture)):
            yield edit()

    def contains(self, architecture: AnyArchitecture) -> bool:
        """NAC's last growth may reach ``max_layers`` + 1, as published, so a stage may have one layer more than that. A
        network whose freed channels have lapsed is narrower than the space's."""
        return envelope_members.contains(self, architecture)

    def decisions(self) -> dict[str, tuple[str, ...]]:
        return dict(self._decisions)

    @cached_property
    def _decisions(self) -> dict[str, tuple[str, ...]]:
        return envelope_decisions.decisions(self)

    def encode(self, architecture: AnyArchitecture) -> dict[str, str]:
        return envelope_decisions.encode(self, _macro(architecture))

    def decode(self, taken: Mapping[str, str]) -> MacroArchitecture:
        return envelope_decisions.decode(self, taken)

    def size(self) -> int:
        return envelope_decisions.size(self)

    def supernet(self) -> Supernet | None:
        return envelope_supernet.supernet(self)

    def derive(self, strengths: Mapping[str, Mapping[str, float]]) -> MacroArchitecture:
        return envelope_supernet.derive(self, strengths)

    def kept(self, architecture: AnyArchitecture) -> dict[str, tuple[str, ...]]:
        return envelope_supernet.kept(self, _macro(architecture))

    # ------------------------------------------------------------------------------------------------------------- helpers
    def _check_lengths(self) -> None:
        for name, values in (
            ("max_layers", self.max_layers),
            ("parameter_limits", self.limited),
            ("blocks", self.blocks),
        ):
            if values is not None and len(values) != len(self.layers):
                raise SpecError(
                    f"space_settings.{name}: {len(values)} values for {len(self.layers)} stages; give one a stage"
                )

    def _check_widths(self) -> None:
        if self.width < len(self.operations):
            raise SpecError(
                f"space_settings.width: {self.width} channels cannot be shared out over {len(self.operations)} branches; "
                f"take at least {len(self.operations)}"
            )
        for index, blocks in enumerate(self.blocks or ()):
            least, width = self.layers[index], self.width * 2**index
            if blocks < least:
                raise SpecError("space_settings.blocks: a stage needs at least one branch a layer")
            if blocks - least + 1 > width:
                raise SpecError(
                    f"space_settings.blocks: {blocks} branches may be too many for the {width} channels of a layer"
                )

    def bare(self, choices: Sequence[Sequence[Sequence[str]]]) -> MacroArchitecture:
        """A network of these operations, without skips and of no particular width yet."""
        stages = tuple(
            Stage(
                name=f"stage{s}",
                layers=tuple(self._layer(f"layer{number}", operations) for number, operations in enumerate(layers, 1)),
            )
            for s, layers in enumerate(choices, 1)
        )
        network = MacroArchitecture(stem=self.stem, stages=stages, head=self.head, style=self.style)
        return self.set_widths(network)

    def _with_widths(self, index: int, stage: Stage, network: MacroArchitecture) -> Stage:
        """A stage as ``set_widths`` has it; what has its width already is kept, for most edits change one layer."""
        width = self.width * 2**index
        inner = inner_width(width, len(stage.layers)) if self.limited[index] else width
        layers: list[Layer] = []
        for layer in stage.layers:
            outputs = width if layer is stage.layers[-1] else max(inner, len(layer.branches))
            branches = shared(layer.branches, outputs)
            kept = branches is layer.branches
            layers.append(layer if kept else layer.model_copy(update={"branches": branches}))
        widener = Widener(channels=width) if index < len(network.stages) - 1 else None
        if _same(layers, stage.layers) and widener == stage.widener:
            return stage
        return stage.model_copy(update={"layers": tuple(layers), "widener": widener})

    def _layer(self, name: str, operations: Sequence[str], skips: tuple[str, ...] = ()) -> Layer:
        """A layer of these operations. A branch is named by its operation's place in the envelope, or, where an
        operation comes twice, by its place in the layer."""
        names = [branch_name(self.operations, operation) for operation in operations]
        if len(set(names)) < len(names):
            names = [f"branch{place}" for place in range(1, len(names) + 1)]
        branches = tuple(_branch(*pair) for pair in zip(names, operations, strict=True))
        return Layer(name=name, branches=branches, skips=skips if self.skips else None)

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

    def _edits(self, network: MacroArchitecture) -> Iterator[Edit]:
        """Every way to a neighbour, none of them taken yet."""
        for index, stage in enumerate(network.stages):
            for choices in self._edited_branches(stage):
                yield partial(self._with_branches, network, stage, choices)
            if self.skips:
                for layer in stage.layers:
                    for skips in edited_skips(network, stage, layer):
                        yield partial(with_skips, network, stage.name, layer.name, skips)
            if self.blocks:
                continue
            if len(stage.layers) < max(self.max_layers[index], self.layers[index]):
                yield partial(self._with_last_layer, network, stage)
            if len(stage.layers) > self.layers[index]:
                yield partial(self._without_last_layer, network, stage)

    def _edited_branches(self, stage: Stage) -> Iterator[Choices]:
        """The operations of a stage after each edit of one branch."""
        choices = choices_of(stage)
        edited = (
            moved_operations(choices, self.operations) if self.blocks else edited_operations(choices, self.operations)
        )
        yield from dict.fromkeys(edited)

    def _with_branches(self, network: MacroArchitecture, stage: Stage, choices: Choices) -> MacroArchitecture:
        """The network with these operations in a stage."""
        layers = tuple(
            layer if now == before else self._layer(layer.name, now, layer.skips or ())
            for layer, before, now in zip(stage.layers, choices_of(stage), choices, strict=True)
        )
        return self.set_widths(with_layers(network, stage.name, layers))

    def _with_last_layer(self, network: MacroArchitecture, stage: Stage) -> MacroArchitecture:
        return self.set_widths(self.grow(network, stage.name))

    def _without_last_layer(self, network: MacroArchitecture, stage: Stage) -> MacroArchitecture:
        return self.set_widths(without_layer(network, stage.name, stage.layers[-1].name))


# ---------------------------------------------------------------------------------------------------------- pure functions
def suited_layers(problem: Problem) -> tuple[int, ...]:
    """Layers of each stage: two, and a stage for every halving of the image down to about 6 pixels (at most 3)."""
    side = max(problem.input_shape[1:])
    return (2,) * min(3, max(1, int(math.log2(max(side, 6) / 6)) + 1))


def fitting_width(settings: EnvelopeSettings, problem: Problem) -> int:
    """The widest first stage, up to ``WIDTH`` channels, whose envelope keeps the limits; where none does, the narrowest."""
    least = len(settings.operations)
    if unlimited(problem):
        return max(WIDTH, least)
    for width in range(max(WIDTH, least), least, -1):
        space = EnvelopeSpace(settings.model_copy(update={"width": width}), problem)
        if excess(space.initial(), problem) is None:
            return width
    return least


def branch_name(operations: Sequence[str], operation: str) -> str:
    """The name that a branch of this operation has in every layer: its place in the envelope, from 1."""
    return f"branch{operations.index(operation) + 1}"


@cache
def _branch(name: str, operation: str) -> Branch:
    """Of no particular width yet."""
    return Branch(name=name, operation=operation, channels=1)


def _same(parts: Sequence[object], others: Sequence[object]) -> bool:
    """Whether they are the very same objects."""
    return all(one is other for one, other in zip(parts, others, strict=True))


def _macro(architecture: AnyArchitecture) -> MacroArchitecture:
    if not isinstance(architecture, MacroArchitecture):
        raise SpecError("the space 'envelope' has macro architectures only")
    return architecture
