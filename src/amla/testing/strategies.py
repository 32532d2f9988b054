"""Hypothesis strategies: random architectures, the graphs that they lower to, and sizes of input that any of them takes.

For the tests of everything that works on any network: lowering, trainers, exporters, surgery. What is drawn is always
valid, and lowers for every input of at least one pixel a side. ``small`` (the default) keeps networks so small that
building and running one with an ML library takes milliseconds: at most 2 stages or 2 cells, 6 channels a branch.
"""

from __future__ import annotations

from typing import Any

from hypothesis import strategies as st
from hypothesis.strategies import DrawFn, SearchStrategy

from amla.spec.architecture import (
    STEM,
    Auxiliary,
    Branch,
    Cell,
    CellNode,
    ConvStep,
    CutoutStep,
    DenseStep,
    DropoutStep,
    FlattenStep,
    GlobalPoolStep,
    Layer,
    LRNStep,
    MacroArchitecture,
    MicroArchitecture,
    Placement,
    PoolStep,
    Stage,
    Step,
    Style,
    Widener,
)
from amla.spec.graph import Graph
from amla.spec.lower import lower

#: One of every kind of operation, and the envelope cell of NAC.
OPERATIONS: tuple[str, ...] = (
    "1x1",
    "3x3",
    "3x3sep",
    "5x5",
    "5x5sep",
    "7x7sep",
    "3x3dil2",
    "3x3maxpool",
    "3x3avgpool",
    "2x2maxpool",
    "identity",
    "zero",
)


def operations() -> SearchStrategy[str]:
    """Names of operations, simplest first."""
    return st.sampled_from(OPERATIONS)


def input_shapes(max_side: int = 12) -> SearchStrategy[tuple[int, int, int]]:
    """(channels, height, width), not always square."""
    sides = st.integers(1, max_side)
    return st.tuples(st.sampled_from([1, 3]), sides, sides)


def styles() -> SearchStrategy[Style]:
    """How convolutions are dressed."""
    return st.builds(
        Style,
        order=st.sampled_from(["conv_norm_act", "act_conv_norm"]),
        norm=st.booleans(),
        norm_scale=st.booleans(),
        activation=st.sampled_from(["relu", "gelu", "silu", "leaky_relu"]),
        dropout=st.sampled_from([0.0, 0.2]),
        separable_repeats=st.integers(1, 2),
        pool_norm=st.booleans(),
        fit_bias=st.booleans(),
    )


@st.composite
def stems(draw: DrawFn, *, small: bool = True) -> tuple[Step, ...]:
    """Up to four steps that end in an image."""
    channels = st.integers(1, 6 if small else 16)
    convs = st.builds(
        ConvStep,
        channels=channels,
        kernel=st.sampled_from([3, 1, 5]),
        stride=st.integers(1, 2),
        bias=st.booleans(),
        norm=st.booleans(),
        activation=st.booleans(),
    )
    pools = st.builds(
        PoolStep, kind=st.sampled_from(["max", "avg"]), kernel=st.integers(2, 3), stride=st.integers(1, 2)
    )
    others: SearchStrategy[Step] = st.sampled_from([CutoutStep(size=2), LRNStep(size=3), DropoutStep(rate=0.1)])
    before: list[Step] = draw(st.lists(st.one_of(others, pools), max_size=1))
    after: list[Step] = draw(st.lists(st.one_of(convs, others, pools), max_size=1 if small else 2))
    return (*before, draw(convs), *after)


def heads() -> SearchStrategy[tuple[Step, ...]]:
    """Steps from an image to one number a class."""
    return st.sampled_from(
        [
            (GlobalPoolStep(), DenseStep()),
            (GlobalPoolStep(), DropoutStep(rate=0.2), DenseStep()),
            (FlattenStep(), DenseStep()),
            (GlobalPoolStep(), FlattenStep(), DenseStep(units=5), DenseStep()),
        ]
    )


@st.composite
def _skips(draw: DrawFn, before: list[str]) -> tuple[str, ...] | None:
    if not draw(st.booleans()):
        return None
    return tuple(draw(st.lists(st.sampled_from(before), unique=True, max_size=3)))


@st.composite
def _layers(draw: DrawFn, name: str, before: list[str], *, small: bool) -> Layer:
    kinds = draw(st.lists(operations(), min_size=1, max_size=3))
    channels = st.integers(1, 6 if small else 16)
    branches = tuple(
        Branch(name=f"branch{place}", operation=kind, channels=draw(channels)) for place, kind in enumerate(kinds, 1)
    )
    return Layer(name=name, branches=branches, skips=draw(_skips(before)))


@st.composite
def _wideners(draw: DrawFn, before: list[str], *, small: bool) -> Widener:
    if draw(st.booleans()):
        return Widener(channels=draw(st.integers(1, 6 if small else 16)))
    # The running output comes first anyway: it is not listed a second time.
    inputs = draw(st.lists(st.sampled_from(before[:-1]), unique=True, max_size=2)) if before[:-1] else []
    return Widener(kind="pool", inputs=tuple(inputs))


@st.composite
def macro_architectures(
    draw: DrawFn, *, small: bool = True, style: SearchStrategy[Style] | None = None, auxiliaries: bool = True
) -> MacroArchitecture:
    """Stages of layers with skips, both kinds of widener, auxiliary classifiers. Depth: up to 4 layers where ``small``."""
    before = [STEM]
    stages: list[Stage] = []
    count = draw(st.integers(1, 2 if small else 3))
    for s in range(1, count + 1):
        layers: list[Layer] = []
        for number in range(1, draw(st.integers(1 if s == 1 else 0, 2 if small else 3)) + 1):
            layers.append(draw(_layers(f"layer{number}", list(before), small=small)))
            before.append(f"stage{s}/layer{number}")
        widener = draw(_wideners(list(before), small=small)) if s < count or draw(st.integers(0, 9)) == 9 else None
        if widener:
            before.append(f"stage{s}/widener")
        stages.append(Stage(name=f"stage{s}", layers=tuple(layers), widener=widener))
    return MacroArchitecture(
        stem=draw(stems(small=small)),
        stages=tuple(stages),
        head=draw(heads()),
        auxiliaries=draw(_auxiliaries(before)) if auxiliaries else (),
        style=draw(style or styles()),
    )


@st.composite
def cells(draw: DrawFn, *, small: bool = True) -> Cell:
    """A DAG of operations and joins over one or two earlier outputs; strides of 1 and 2."""
    inputs = {"previous": 0}
    if draw(st.booleans()):
        inputs["before"] = draw(st.integers(-2, 0))
    seen = list(inputs)
    nodes: list[CellNode] = []
    for number in range(1, draw(st.integers(1, 4 if small else 8)) + 1):
        nodes.append(draw(_cell_nodes(f"node{number}", list(seen), small=small)))
        seen.append(nodes[-1].name)
    return Cell(inputs=inputs, nodes=tuple(nodes))


@st.composite
def _cell_nodes(draw: DrawFn, name: str, seen: list[str], *, small: bool) -> CellNode:
    if draw(st.integers(0, 2)) == 2:
        sources = draw(st.lists(st.sampled_from(seen), min_size=1, max_size=2))
        return CellNode(name=name, operation=draw(st.sampled_from(["add", "concat"])), inputs=tuple(sources))
    return CellNode(
        name=name,
        operation=draw(operations()),
        inputs=(draw(st.sampled_from(seen)),),
        stride=draw(st.sampled_from([1, 1, 1, 2])),
        channels=draw(st.one_of(st.none(), st.just("width"), st.integers(1, 6 if small else 16))),
    )


@st.composite
def micro_architectures(
    draw: DrawFn, *, small: bool = True, style: SearchStrategy[Style] | None = None, auxiliaries: bool = True
) -> MicroArchitecture:
    """One or two cells, stacked. At most 2 placements where ``small``, else 4."""
    library = {f"cell{n}": draw(cells(small=small)) for n in range(1, draw(st.integers(1, 2)) + 1)}
    width = st.integers(1, 6 if small else 16)
    network = tuple(
        Placement(name=f"place{number}", cell=draw(st.sampled_from(sorted(library))), width=draw(width))
        for number in range(1, draw(st.integers(1, 2 if small else 4)) + 1)
    )
    return MicroArchitecture(
        stem=draw(stems(small=small)),
        cells=library,
        network=network,
        head=draw(heads()),
        auxiliaries=draw(_auxiliaries([STEM, *(placement.name for placement in network)])) if auxiliaries else (),
        style=draw(style or styles()),
    )


@st.composite
def _auxiliaries(draw: DrawFn, sources: list[str]) -> tuple[Auxiliary, ...]:
    if draw(st.integers(0, 3)) < 3:
        return ()
    return (Auxiliary(source=draw(st.sampled_from(sources))),)


def architectures(**options: Any) -> SearchStrategy[MacroArchitecture | MicroArchitecture]:
    """Either kind; ``options`` are those of ``macro_architectures``."""
    return st.one_of(macro_architectures(**options), micro_architectures(**options))


def graphs(*, max_side: int = 12, num_classes: int | None = None, **options: Any) -> SearchStrategy[Graph]:
    """Architectures of either kind, lowered for an input of at most ``max_side`` pixels a side."""
    classes = st.just(num_classes) if num_classes else st.integers(2, 5)
    return st.builds(lower, architectures(**options), input_shapes(max_side), classes)
