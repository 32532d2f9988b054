"""NAS-Bench-201: one cell of 4 nodes, one of 5 operations on each of its 6 edges (arXiv 2001.00326 section 2).

It is stacked as published: 3 stages of cells, a residual block of stride 2 between two stages.

A table of results knows these cells by a line of text each, ``|nor_conv_3x3~0|+|none~0|skip_connect~1|+|...|``:
``arch_str`` and ``from_arch_str``. An architecture is built once a process and shared by every space that has it, so that a
benchmark's evaluations cost next to nothing.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from functools import cache, lru_cache
from itertools import product
from typing import Annotated

import numpy as np
from pydantic import AfterValidator, Field, JsonValue

from amla.errors import SpecError
from amla.spaces.base import AnyArchitecture, SearchSpace, SpaceSettings, Supernet, checked, strongest
from amla.spaces.stems import conv_stem, halvings, one_more_halving, rungs
from amla.spec.architecture import (
    ActivationStep,
    Cell,
    CellNode,
    DenseStep,
    GlobalPoolStep,
    MicroArchitecture,
    NormStep,
    Placement,
    Step,
    Style,
)
from amla.spec.experiment import Problem

#: Our names of the operations, and the benchmark's.
PUBLISHED = {
    "zero": "none",
    "identity": "skip_connect",
    "1x1": "nor_conv_1x1",
    "3x3": "nor_conv_3x3",
    "3x3avgpool": "avg_pool_3x3",
}
OPERATIONS = tuple(PUBLISHED)
#: (from, to) of every edge, in the benchmark's order.
EDGES = tuple((source, target) for target in range(1, 4) for source in range(target))
NAMES = tuple(f"edge_{source}_{target}" for source, target in EDGES)
STAGES = 3
HEAD: tuple[Step, ...] = (NormStep(), ActivationStep(), GlobalPoolStep(), DenseStep())
STYLE = Style(order="act_conv_norm", fit_bias=False)
#: (width, cells a stage) from the published skeleton down.
SCALES = ((16, 5), (16, 3), (16, 2), (16, 1), (12, 1), (8, 1))
CELL, REDUCTION = "cell", "reduction"
#: The operation on every edge, in the order of ``EDGES``.
Operations = tuple[str, ...]


def _distinct(names: tuple[str, ...]) -> tuple[str, ...]:
    for name in names:
        if name not in PUBLISHED:
            raise ValueError(f"{name!r} is no operation of NAS-Bench-201; they are {', '.join(OPERATIONS)}")
        if names.count(name) > 1:
            raise ValueError(f"{name!r} is there twice")
    return names


class NASBench201Settings(SpaceSettings):
    """The defaults are the published skeleton."""

    width: int = Field(16, ge=1, le=4096, description="channels of the first stage; each stage doubles them")
    cells: int = Field(5, ge=1, le=100, description="cells a stage")
    operations: Annotated[tuple[str, ...], AfterValidator(_distinct)] = Field(OPERATIONS, min_length=1)
    stem: tuple[Step, ...] | None = None
    halvings: int | None = Field(
        None, ge=0, le=6, description="convolutions of stride 2 in the stem; None: as many as bring images to 64 pixels"
    )
    head: tuple[Step, ...] = HEAD
    style: Style = STYLE


class NASBench201Space(SearchSpace):
    """All 15,625 cells on one skeleton."""

    Settings = NASBench201Settings

    def __init__(self, settings: NASBench201Settings, problem: Problem) -> None:
        super().__init__(settings, problem)
        if settings.stem is not None and settings.halvings is not None:
            raise SpecError("space_settings.halvings: the stem is given, and decides that; leave one of them out")
        self.operations = settings.operations
        self.options = dict.fromkeys(NAMES, settings.operations)
        stem = settings.stem
        if stem is None:
            count = halvings(problem) if settings.halvings is None else settings.halvings
            stem = conv_stem(settings.width, count, ends_in_activation=False)
        self.skeleton = skeleton(settings.width, settings.cells, stem, settings.head, settings.style)
        self._built = _shared(self.skeleton.to_json())

    @classmethod
    def scales(cls, said: Mapping[str, JsonValue], problem: Problem) -> Iterator[dict[str, JsonValue]]:
        """The published skeleton, then fewer cells a stage, then fewer channels; then the same behind a stem that halves
        the image once more, where that leaves enough of it."""
        ladder: list[dict[str, JsonValue]] = [{"width": width, "cells": cells} for width, cells in SCALES]
        more = one_more_halving(problem)
        if more is not None:
            ladder += [{"width": width, "cells": cells, "halvings": more} for width, cells in SCALES if cells == 1]
        yield from rungs(ladder, set(said) | ({"halvings"} if "stem" in said else set()))

    def build(self, operations: Operations) -> MicroArchitecture:
        """The architecture with these operations on its edges, in the order of ``EDGES``."""
        found = self._built.get(operations)
        if found is None:
            cells = {**self.skeleton.cells, CELL: _cell(operations)}
            found = self._built[operations] = self.skeleton.model_copy(update={"cells": cells})
        return found

    def sample(self, rng: np.random.Generator) -> MicroArchitecture:
        """Every operation uniform, and with it the cell."""
        drawn = rng.integers(len(self.operations), size=len(EDGES))
        return self.build(tuple([self.operations[index] for index in drawn]))

    def mutate(self, architecture: AnyArchitecture, rng: np.random.Generator) -> MicroArchitecture:
        """One of the three nodes that have inputs, then one of its incoming edges, then another operation, all uniform:
        the mutation of NATS-Bench's regularized evolution (arXiv 2009.00437). Errors: ``SpecError`` where the space has
        one operation only."""
        operations = self._operations(architecture)
        if len(self.operations) < 2:
            raise SpecError("space_settings.operations: this space has one network only; allow another operation")
        target = int(rng.integers(1, 4))
        place = EDGES.index((int(rng.integers(target)), target))
        others = [operation for operation in self.operations if operation != operations[place]]
        return self.build(_replaced(operations, place, others[int(rng.integers(len(others)))]))

    def neighbors(self, architecture: AnyArchitecture) -> Iterator[MicroArchitecture]:
        """Another operation on one edge."""
        operations = self._operations(architecture)
        for place, present in enumerate(operations):
            for operation in self.operations:
                if operation != present:
                    yield self.build(_replaced(operations, place, operation))

    def contains(self, architecture: AnyArchitecture) -> bool:
        """Whether it is one of these cells on this space's own skeleton."""
        operations = cell_operations(architecture)
        if operations is None or not set(operations) <= set(self.operations):
            return False
        built = self.build(operations)
        return built is architecture or built == architecture

    def decisions(self) -> dict[str, tuple[str, ...]]:
        return dict(self.options)

    def encode(self, architecture: AnyArchitecture) -> dict[str, str]:
        return dict(zip(NAMES, self._operations(architecture), strict=True))

    def decode(self, taken: Mapping[str, str]) -> MicroArchitecture:
        return self.build(tuple(checked(self.options, taken).values()))

    def size(self) -> int:
        return math.prod(len(options) for options in self.options.values())

    def supernet(self) -> Supernet:
        """Every operation on every edge; an edge's options are the same in all cells of the network."""
        joined = {
            target: tuple(
                f"{name}_{operation}"
                for name, edge in zip(NAMES, EDGES, strict=True)
                if edge[1] == target
                for operation in self.operations
            )
            for target in range(1, 4)
        }
        nodes: list[CellNode] = []
        for target, inputs in joined.items():
            for name, (source, end) in zip(NAMES, EDGES, strict=True):
                if end == target:
                    nodes += [
                        CellNode(name=f"{name}_{operation}", operation=operation, inputs=(f"node{source}",))
                        for operation in self.operations
                    ]
            nodes.append(CellNode(name=f"node{target}", operation="add", inputs=inputs))
        cells = {**self.skeleton.cells, CELL: Cell(inputs={"node0": 0}, nodes=tuple(nodes))}
        places = [placement.name for placement in self.skeleton.network if placement.cell == CELL]
        mixtures = {
            name: {operation: tuple(f"{place}/{name}_{operation}" for place in places) for operation in self.operations}
            for name in NAMES
        }
        return Supernet(self.skeleton.model_copy(update={"cells": cells}), mixtures)

    def derive(self, strengths: Mapping[str, Mapping[str, float]]) -> MicroArchitecture:
        """The strongest operation of every edge, ``zero`` among them, as the benchmark's own baselines do."""
        return self.decode({name: strongest(strengths, name, options) for name, options in self.options.items()})

    def kept(self, architecture: AnyArchitecture) -> dict[str, tuple[str, ...]]:
        return {name: (operation,) for name, operation in self.encode(architecture).items()}

    def _operations(self, architecture: AnyArchitecture) -> Operations:
        operations = cell_operations(architecture)
        if operations is None or not self.contains(architecture):
            raise SpecError("space: this architecture is not in the space 'nasbench201' with these settings")
        return operations


# -------------------------------------------------------------------------------------------------- as the benchmark's text
def arch_str(architecture: AnyArchitecture) -> str:
    """The cell as the benchmark writes it, whatever skeleton it stands in. Errors: ``SpecError`` where it has none."""
    operations = cell_operations(architecture)
    if operations is None or not set(operations) <= set(PUBLISHED):
        raise SpecError("architecture: it has no cell of NAS-Bench-201, so no table of that benchmark knows it")
    return _text(operations)


def from_arch_str(text: str) -> MicroArchitecture:
    """The cell that the benchmark writes so, in the published skeleton (``NASBench201Space.build`` with ``operations_of``
    puts it into another). Errors: ``SpecError`` with the form that is expected."""
    published = skeleton(16, 5, conv_stem(16, 0, ends_in_activation=False), HEAD, STYLE)
    return published.model_copy(update={"cells": {**published.cells, CELL: _cell(operations_of(text))}})


def operations_of(text: str) -> Operations:
    """Operations, in the order of ``EDGES``, of a cell that the benchmark writes so. Errors: ``SpecError``."""
    operations = _by_text().get(text)
    if operations is None:
        raise SpecError(
            f"{text!r} is no cell of NAS-Bench-201; one reads |nor_conv_3x3~0|+|none~0|skip_connect~1|+|none~0|none~1|none~2|,"
            f" with the operations {', '.join(PUBLISHED.values())}"
        )
    return operations


def cell_operations(architecture: AnyArchitecture) -> Operations | None:
    """Operations on the edges of its cell, in the order of ``EDGES``; None where it has no such cell."""
    cell = architecture.cells.get(CELL) if isinstance(architecture, MicroArchitecture) else None
    if cell is None:
        return None
    found = {node.name: node.operation for node in cell.nodes}
    operations = tuple([found.get(name, "") for name in NAMES])
    return operations if "" not in operations and (cell is _cell(operations) or cell == _cell(operations)) else None


@cache
def _text(operations: Operations) -> str:
    steps = {edge: f"{PUBLISHED[name]}~{edge[0]}" for edge, name in zip(EDGES, operations, strict=True)}
    return "+".join(f"|{'|'.join(steps[source, target] for source in range(target))}|" for target in range(1, 4))


@lru_cache(maxsize=1)
def _by_text() -> dict[str, Operations]:
    return {_text(operations): operations for operations in product(OPERATIONS, repeat=len(EDGES))}


# -------------------------------------------------------------------------------------------------------------- its parts
@lru_cache(maxsize=8)
def _shared(skeleton_json: str) -> dict[Operations, MicroArchitecture]:
    """All architectures built so far on a skeleton."""
    del skeleton_json
    return {}


@cache
def _cell(operations: Operations) -> Cell:
    """A node of the document is the sum of its incoming edges; where there is one only, the edge itself."""
    edges = dict(zip(EDGES, operations, strict=True))
    nodes = [_edge(source, target, edges[source, target]) for source, target in EDGES]
    nodes = [*nodes[:3], _sum(2), *nodes[3:], _sum(3)]
    return Cell.model_construct(inputs={"node0": 0}, nodes=tuple(nodes))


@cache
def _edge(source: int, target: int, operation: str) -> CellNode:
    before = NAMES[0] if source == 1 else f"node{source}"
    return CellNode(name=f"edge_{source}_{target}", operation=operation, inputs=(before,))


@cache
def _sum(target: int) -> CellNode:
    return CellNode(
        name=f"node{target}", operation="add", inputs=tuple(f"edge_{source}_{target}" for source in range(target))
    )


def skeleton(width: int, cells: int, stem: tuple[Step, ...], head: tuple[Step, ...], style: Style) -> MicroArchitecture:
    """Stages of cells around residual blocks (section 2.2): two 3x3 convolutions, the first of stride 2, beside a 2x2
    average pooling and a 1x1 convolution. Its cell is the first of the space."""
    residual = (
        CellNode(name="conv1", operation="3x3", inputs=("last",), stride=2, channels="width"),
        CellNode(name="conv2", operation="3x3", inputs=("conv1",)),
        CellNode(name="shortcut", operation="2x2avgpool", inputs=("last",), stride=2, channels="width"),
        CellNode(name="out", operation="add", inputs=("conv2", "shortcut")),
    )
    network: list[Placement] = []
    for stage in range(1, STAGES + 1):
        channels = width * 2 ** (stage - 1)
        if stage > 1:
            network.append(Placement(name=f"reduction{stage - 1}", cell=REDUCTION, width=channels))
        network += [
            Placement(name=f"stage{stage}_cell{number}", cell=CELL, width=channels) for number in range(1, cells + 1)
        ]
    return MicroArchitecture(
        stem=stem,
        cells={REDUCTION: Cell(inputs={"last": 0}, nodes=residual), CELL: _cell(("zero",) * len(EDGES))},
        network=tuple(network),
        head=head,
        style=style,
    )


def _replaced(operations: Operations, place: int, operation: str) -> Operations:
    return (*operations[:place], operation, *operations[place + 1 :])
