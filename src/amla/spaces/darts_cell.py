"""DARTS: a normal and a reduction cell of 4 nodes, each node two of 7 operations (arXiv 1806.09055 section 3.1).

A node is the sum of its two operations, on two different earlier outputs; a cell gives the concatenation of its nodes. Cells
are stacked, with a reduction at one and at two thirds of the depth.

Where the published networks shuffle pixels to halve the resolution of an identity, here stands a 1x1 convolution of stride
2: as many parameters, and it reads every other pixel.
"""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import cache, lru_cache
from itertools import combinations, groupby
from typing import Annotated, NamedTuple

import numpy as np
from pydantic import AfterValidator, Field, JsonValue

from amla.errors import SpecError
from amla.spaces.base import AnyArchitecture, SearchSpace, SpaceSettings, Supernet, checked, strength, strongest
from amla.spaces.stems import conv_stem, halvings, one_more_halving, rungs
from amla.spec.architecture import (
    Cell,
    CellNode,
    DenseStep,
    GlobalPoolStep,
    MicroArchitecture,
    Placement,
    Step,
    Style,
)
from amla.spec.experiment import Problem
from amla.spec.operations import Operation

OPERATIONS: tuple[str, ...] = ("3x3sep", "5x5sep", "3x3dil", "5x5dil", "3x3maxpool", "3x3avgpool", "identity")
#: In the supernet only: no operation at all.
ZERO = "zero"
KINDS = ("normal", "reduction")
#: Of a cell behind a reduction: what stands before that one has twice the resolution.
AFTER = "_after_reduction"
#: The stem is so many times as wide as a node.
STEM_WIDTH = 3
HEAD: tuple[Step, ...] = (GlobalPoolStep(), DenseStep())
STYLE = Style(order="act_conv_norm", separable_repeats=2)
#: (width, cells) from the published network down.
SCALES = ((36, 20), (36, 14), (36, 8), (24, 8), (16, 8), (16, 5), (16, 3), (12, 3), (8, 3))


class Edge(NamedTuple):
    """An operation on the output of an earlier node: 0 is the cell before the previous one, 1 the previous one."""

    source: int
    operation: str


#: Two edges a node, by their sources; the first node is number 2.
Wiring = tuple[tuple[Edge, ...], ...]


class Genotype(NamedTuple):
    """The wiring of both cells."""

    normal: Wiring
    reduction: Wiring


def _searched(names: tuple[str, ...]) -> tuple[str, ...]:
    if ZERO in names:
        raise ValueError("zero is an operation of the supernet only; leave it out")
    if len(set(names)) < len(names):
        raise ValueError("an operation is there twice")
    return names


class DartsCellSettings(SpaceSettings):
    """The defaults are the published network and, for the supernet, the published search network."""

    width: int = Field(
        36, ge=1, le=4096, description="channels of a node in the first third; each reduction doubles them"
    )
    cells: int = Field(20, ge=3, le=100)
    nodes: int = Field(4, ge=1, le=8, description="nodes of a cell")
    operations: Annotated[tuple[Operation, ...], AfterValidator(_searched)] = Field(OPERATIONS, min_length=1)
    search_width: int = Field(16, ge=1, le=4096, description="of the supernet, which is never wider than the networks")
    search_cells: int = Field(8, ge=3, le=100, description="of the supernet, which is never deeper than the networks")
    stem: tuple[Step, ...] | None = None
    halvings: int | None = Field(
        None, ge=0, le=6, description="convolutions of stride 2 in the stem; None: as many as bring images to 64 pixels"
    )
    head: tuple[Step, ...] = HEAD
    style: Style = STYLE


class DartsCellSpace(SearchSpace):
    """All pairs of a normal and a reduction cell."""

    Settings = DartsCellSettings

    def __init__(self, settings: DartsCellSettings, problem: Problem) -> None:
        super().__init__(settings, problem)
        if settings.stem is not None and settings.halvings is not None:
            raise SpecError("space_settings.halvings: the stem is given, and decides that; leave one of them out")
        self.operations = settings.operations
        self.nodes = range(2, 2 + settings.nodes)
        self.edges = [(source, node) for node in self.nodes for source in range(node)]
        self.options = self._options()
        stem = settings.stem
        if stem is None:
            count = halvings(problem) if settings.halvings is None else settings.halvings
            stem = conv_stem(STEM_WIDTH * settings.width, count, ends_in_activation=False)
        self.skeleton = _stacked(settings, stem, settings.width, settings.cells)
        width, cells = min(settings.width, settings.search_width), min(settings.cells, settings.search_cells)
        self.search_skeleton = _stacked(settings, stem, width, cells)

    @classmethod
    def scales(cls, said: Mapping[str, JsonValue], problem: Problem) -> Iterator[dict[str, JsonValue]]:
        """The published network, then fewer cells, then fewer channels; then the least behind a stem that halves the image
        once more, where that leaves enough of it."""
        ladder: list[dict[str, JsonValue]] = [{"width": width, "cells": cells} for width, cells in SCALES]
        more = one_more_halving(problem)
        if more is not None:
            ladder += [{"width": width, "cells": cells, "halvings": more} for width, cells in SCALES if cells == 3]
        yield from rungs(ladder, set(said) | ({"halvings"} if "stem" in said else set()))

    def build(self, genotype: Genotype) -> MicroArchitecture:
        """The network of these cells."""
        return _filled(self.skeleton, lambda kind, stride: _cell(kind, getattr(genotype, kind), stride))

    def sample(self, rng: np.random.Generator) -> MicroArchitecture:
        """Every node's pair of inputs and both its operations, each uniform, and with them the cells."""
        return self.decode({name: options[int(rng.integers(len(options)))] for name, options in self.options.items()})

    def mutate(self, architecture: AnyArchitecture, rng: np.random.Generator) -> MicroArchitecture:
        """One of the neighbours, all equally likely. Errors: ``SpecError`` where it has none."""
        edited = list(self._edited(self.genotype(architecture)))
        if not edited:
            raise SpecError("space_settings: this space has one network only; allow more operations or nodes")
        return self.build(edited[int(rng.integers(len(edited)))])

    def neighbors(self, architecture: AnyArchitecture) -> Iterator[MicroArchitecture]:
        """Another operation on one edge, or another input for it, which its node does not read yet."""
        for edited in self._edited(self.genotype(architecture)):
            yield self.build(edited)

    def contains(self, architecture: AnyArchitecture) -> bool:
        """Whether both cells are this space's, in a network stacked as its settings say."""
        return self._found(architecture) is not None

    def decisions(self) -> dict[str, tuple[str, ...]]:
        return dict(self.options)

    def encode(self, architecture: AnyArchitecture) -> dict[str, str]:
        taken = {}
        for kind, wiring in self.genotype(architecture)._asdict().items():
            for node, (first, second) in zip(self.nodes, wiring, strict=True):
                taken[f"{kind}/node{node}/inputs"] = f"{first.source}-{second.source}"
                taken[f"{kind}/node{node}/first"] = first.operation
                taken[f"{kind}/node{node}/second"] = second.operation
        return taken

    def decode(self, taken: Mapping[str, str]) -> MicroArchitecture:
        known = checked(self.options, taken)

        def edges(place: str) -> tuple[Edge, Edge]:
            first, second = known[f"{place}/inputs"].split("-")
            return Edge(int(first), known[f"{place}/first"]), Edge(int(second), known[f"{place}/second"])

        return self.build(Genotype(*(tuple(edges(f"{kind}/node{node}") for node in self.nodes) for kind in KINDS)))

    def size(self) -> int:
        return math.prod(len(options) for options in self.options.values())

    def genotype(self, architecture: AnyArchitecture) -> Genotype:
        """The wiring of its cells. Errors: ``SpecError`` where the space has not this architecture."""
        found = self._found(architecture)
        if found is None:
            raise SpecError("space: this architecture is not in the space 'darts_cell' with these settings")
        return found

    # ------------------------------------------------------------------------------------------------------ as one network
    def supernet(self) -> Supernet:
        """Every operation, and none (``zero``), on every edge; an edge's options are the same in all cells of a kind.
        Poolings are normed and no norm has a scale, so that operations do not win by their magnitude."""
        mixed = (*self.operations, ZERO)
        network = _filled(self.search_skeleton, lambda kind, stride: _mixed(kind, self.edges, mixed, stride))
        style = network.style.model_copy(update={"pool_norm": True, "norm_scale": False})
        mixtures = {}
        for kind in KINDS:
            places = [placement.name for placement in network.network if _kind_of(placement.cell) == kind]
            for edge in self.edges:
                mixtures[_mixture(kind, *edge)] = {
                    operation: tuple(f"{place}/{_name(*edge)}_{operation}" for place in places) for operation in mixed
                }
        return Supernet(network.model_copy(update={"style": style}), mixtures)

    def derive(self, strengths: Mapping[str, Mapping[str, float]]) -> MicroArchitecture:
        """The strongest operation but ``zero`` of every edge, and of every node the two edges where that is strongest
        (section 2.4). So strengths are compared between the edges of a node: they are probabilities, say."""

        def edges(kind: str, node: int) -> tuple[Edge, Edge]:
            found = []
            for source in range(node):
                mixture = _mixture(kind, source, node)
                best = strongest(strengths, mixture, self.operations)
                found.append((-strength(strengths, mixture, best), Edge(source, best)))
            first, second = sorted(edge for _, edge in sorted(found)[:2])
            return first, second

        return self.build(Genotype(*(tuple(edges(kind, node) for node in self.nodes) for kind in KINDS)))

    def kept(self, architecture: AnyArchitecture) -> dict[str, tuple[str, ...]]:
        kept: dict[str, tuple[str, ...]] = {_mixture(kind, *edge): (ZERO,) for kind in KINDS for edge in self.edges}
        for kind, wiring in self.genotype(architecture)._asdict().items():
            for node, pair in zip(self.nodes, wiring, strict=True):
                kept |= {_mixture(kind, edge.source, node): (edge.operation,) for edge in pair}
        return kept

    # ------------------------------------------------------------------------------------------------------------- helpers
    def _options(self) -> dict[str, tuple[str, ...]]:
        """The decisions, cell by cell and node by node."""
        found: dict[str, tuple[str, ...]] = {}
        for kind in KINDS:
            for node in self.nodes:
                pairs = tuple(f"{first}-{second}" for first, second in combinations(range(node), 2))
                found[f"{kind}/node{node}/inputs"] = pairs
                found |= dict.fromkeys((f"{kind}/node{node}/first", f"{kind}/node{node}/second"), self.operations)
        return found

    def _found(self, architecture: AnyArchitecture) -> Genotype | None:
        """The wiring of its cells, if it is this space's in every other way too."""
        cells = architecture.cells if isinstance(architecture, MicroArchitecture) else {}
        if not set(KINDS) <= set(cells):
            return None
        genotype = Genotype(*(self._wiring(cells[kind]) for kind in KINDS))
        for wiring in genotype:
            for node, pair in zip(self.nodes, wiring, strict=True):
                sources = {edge.source for edge in pair if edge.source < node and edge.operation in self.operations}
                if len(pair) != 2 or len(sources) != 2:
                    return None
        return genotype if self.build(genotype) == architecture else None

    def _wiring(self, cell: Cell) -> Wiring:
        """The edges into every node, sorted; as many as there are."""
        found: dict[int, list[Edge]] = {node: [] for node in self.nodes}
        for item in cell.nodes:
            match = _EDGE.fullmatch(item.name)
            if match and int(match["node"]) in found:
                found[int(match["node"])].append(Edge(int(match["source"]), item.operation))
        return tuple(tuple(sorted(pair)) for pair in found.values())

    def _edited(self, genotype: Genotype) -> Iterator[Genotype]:
        """Every genotype that differs in one operation, or in one input."""
        for kind, wiring in genotype._asdict().items():
            for place, (node, pair) in enumerate(zip(self.nodes, wiring, strict=True)):
                for slot, edge in enumerate(pair):
                    other = pair[1 - slot]
                    changed = [Edge(edge.source, name) for name in self.operations if name != edge.operation]
                    changed += [
                        Edge(source, edge.operation)
                        for source in range(node)
                        if source not in (edge.source, other.source)
                    ]
                    for new in changed:
                        first, second = sorted((new, other))
                        edited = (*wiring[:place], (first, second), *wiring[place + 1 :])
                        yield genotype._replace(**{kind: edited})


# -------------------------------------------------------------------------------------------------------------- its parts
_EDGE = re.compile(r"edge_(?P<source>\d)_(?P<node>\d)", re.ASCII)


def _name(source: int, node: int) -> str:
    return f"edge_{source}_{node}"


def _mixture(kind: str, source: int, node: int) -> str:
    return f"{kind}/{_name(source, node)}"


def _kind_of(cell: str) -> str:
    return cell.removesuffix(AFTER)


def _filled(skeleton: MicroArchitecture, cell_of: Callable[[str, int], Cell]) -> MicroArchitecture:
    """The network with ``cell_of(kind, stride of what stands before the previous cell)`` in the place of its cells."""
    cells = {name: cell_of(_kind_of(name), 2 if name.endswith(AFTER) else 1) for name in skeleton.cells}
    return skeleton.model_copy(update={"cells": cells})


def _stacked(settings: DartsCellSettings, stem: tuple[Step, ...], width: int, cells: int) -> MicroArchitecture:
    """So many cells, with a reduction at one and at two thirds of them. The cells themselves are the first ones that there
    are, for others to be filled in."""
    network: list[Placement] = []
    for index in range(cells):
        reductions = (cells // 3, 2 * cells // 3)
        kind = "reduction" if index in reductions else "normal"
        name = kind + AFTER if index - 1 in reductions else kind
        channels = width * 2 ** sum(index >= reduction for reduction in reductions)
        network.append(Placement(name=f"cell{index + 1}", cell=name, width=channels))
    wiring = tuple((Edge(0, "identity"), Edge(1, "identity")) for _ in range(settings.nodes))
    names = dict.fromkeys(placement.cell for placement in network)
    return MicroArchitecture(
        stem=stem,
        cells={name: _cell(_kind_of(name), wiring, 2 if name.endswith(AFTER) else 1) for name in names},
        network=tuple(network),
        head=settings.head,
        style=settings.style,
    )


@lru_cache(maxsize=4096)
def _cell(kind: str, wiring: Wiring, stride: int) -> Cell:
    """Both inputs brought to the cell's width, the nodes, and their concatenation."""
    nodes = [*_inputs(stride)]
    for node, pair in enumerate(wiring, 2):
        nodes += [_edge(kind, edge.source, node, edge.operation, mixed=False) for edge in pair]
        nodes.append(_joined(node, tuple(_name(edge.source, node) for edge in pair)))
    return _finished(nodes, len(wiring))


def _mixed(kind: str, edges: Sequence[tuple[int, int]], operations: Sequence[str], stride: int) -> Cell:
    """A cell with every operation on every edge."""
    nodes = [*_inputs(stride)]
    count = 0
    for node, incoming in groupby(edges, key=lambda edge: edge[1]):
        count += 1
        mixed = [_edge(kind, source, node, name, mixed=True) for source, _ in incoming for name in operations]
        nodes += [*mixed, _joined(node, tuple(item.name for item in mixed))]
    return _finished(nodes, count)


def _finished(nodes: Sequence[CellNode], count: int) -> Cell:
    whole = _joined_all(count)
    return Cell.model_construct(inputs={"before": -1, "last": 0}, nodes=(*nodes, whole), fit=False)


@cache
def _inputs(stride: int) -> tuple[CellNode, CellNode]:
    return (
        CellNode(name="node0", operation="1x1", inputs=("before",), stride=stride, channels="width"),
        CellNode(name="node1", operation="1x1", inputs=("last",), channels="width"),
    )


@cache
def _edge(kind: str, source: int, node: int, operation: str, *, mixed: bool) -> CellNode:
    """An operation; in a reduction cell those on its inputs have stride 2."""
    name = f"{_name(source, node)}_{operation}" if mixed else _name(source, node)
    stride = 2 if kind == "reduction" and source < 2 else 1
    return CellNode(name=name, operation=operation, inputs=(f"node{source}",), stride=stride)


@cache
def _joined(node: int, inputs: tuple[str, ...]) -> CellNode:
    return CellNode(name=f"node{node}", operation="add", inputs=inputs)


@cache
def _joined_all(count: int) -> CellNode:
    return CellNode(name="out", operation="concat", inputs=tuple(f"node{node}" for node in range(2, 2 + count)))
