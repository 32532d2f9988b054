"""``Architecture``: the open document that a search algorithm edits. No ML library, no input size, no class count.

Two kinds. **macro**: a stem, stages of layers, each layer a set of parallel branches that may also read earlier layers
(NAC's EnvelopeNets, arXiv 1803.06744 section 3; ENAS' macro space). **micro**: cells as DAGs, stacked (DARTS, ENAS
micro, AmoebaNet, NAS-Bench-201).

Names are hierarchical and stable: a layer keeps its name for as long as it lives (``stage1/layer3``), whatever is pruned
or grown around it. Statistics, weights, diagrams and edits all speak in these names.
"""

from __future__ import annotations

from typing import Annotated, Literal, Self

from pydantic import Field, TypeAdapter, ValidationError, model_validator

from amla.errors import SpecError
from amla.spec.base import Document, first_problem
from amla.spec.operations import Operation

Name = Annotated[str, Field(pattern=r"^[A-Za-z0-9_]+$", max_length=64)]
Channels = Annotated[int, Field(ge=1, le=65536)]
Rate = Annotated[float, Field(ge=0.0, lt=1.0)]
ActivationKind = Literal["relu", "relu6", "leaky_relu", "gelu", "silu", "tanh", "sigmoid"]
STEM = "stem"
#: Names that lowering gives to parts of its own, and that nothing beside those parts may have.
RESERVED_PARTS = ("input", STEM, "head", "auxiliary")
RESERVED_IN_LAYER = ("skip", "join", "bottleneck", "out")


# ------------------------------------------------------------------------------------------ stem and head, step by step
class ConvStep(Document):
    op: Literal["conv"] = "conv"
    channels: Channels
    kernel: int = Field(3, ge=1, le=31)
    stride: int = Field(1, ge=1, le=8)
    bias: bool = False
    norm: bool = True
    activation: bool = True


class PoolStep(Document):
    op: Literal["pool"] = "pool"
    kind: Literal["max", "avg"] = "max"
    kernel: int = Field(2, ge=1, le=31)
    stride: int = Field(2, ge=1, le=8)


class LRNStep(Document):
    """Local response normalisation over channels; ``size`` is the number of channels in the window."""

    op: Literal["lrn"] = "lrn"
    size: int = Field(11, ge=1)
    alpha: float = 1.0
    beta: float = 0.5
    bias: float = 1.0


class CutoutStep(Document):
    """A square of ``size`` pixels a side is blanked at a random place, in training only (arXiv 1708.04552)."""

    op: Literal["cutout"] = "cutout"
    size: int = Field(16, ge=1)


class DropoutStep(Document):
    op: Literal["dropout"] = "dropout"
    rate: Rate = 0.2


class GlobalPoolStep(Document):
    op: Literal["global_pool"] = "global_pool"


class FlattenStep(Document):
    op: Literal["flatten"] = "flatten"


class DenseStep(Document):
    """A fully connected layer; ``units`` None means one unit a class."""

    op: Literal["dense"] = "dense"
    units: Channels | None = None


class NormStep(Document):
    """The style's norm: for networks whose body ends before it (``act_conv_norm``)."""

    op: Literal["norm"] = "norm"


class ActivationStep(Document):
    op: Literal["activation"] = "activation"


Step = Annotated[
    ConvStep
    | PoolStep
    | LRNStep
    | CutoutStep
    | DropoutStep
    | GlobalPoolStep
    | FlattenStep
    | DenseStep
    | NormStep
    | ActivationStep,
    Field(discriminator="op"),
]

DEFAULT_HEAD: tuple[Step, ...] = (GlobalPoolStep(), DropoutStep(rate=0.2), DenseStep())


class Style(Document):
    """How every convolution of the body is dressed. One style a network, so that searchers compare operations only."""

    order: Literal["conv_norm_act", "act_conv_norm"] = "conv_norm_act"
    norm: bool = True
    norm_scale: bool = Field(True, description="a learned scale after the norm; off in the original NAC")
    norm_momentum: float = Field(0.1, gt=0.0, le=1.0, description="weight of the new batch in the running mean")
    norm_epsilon: float = Field(1e-5, gt=0.0)
    activation: ActivationKind = "relu"
    dropout: Rate = Field(0.0, description="after each branch; 0.2 in the original NAC")
    separable_repeats: int = Field(1, ge=1, le=2, description="DARTS applies a separable convolution twice")
    pool_norm: bool = Field(False, description="DARTS norms the output of a pooling")
    fit_bias: bool = Field(
        True, description="of 1x1 convolutions that only bring widths together; NAS-Bench-201 has none"
    )


class Auxiliary(Document):
    """A second classifier, used in training only: global pool and dense on the output that ``source`` names."""

    source: str


class _Header(Document):
    format: Literal["amla/architecture"] = "amla/architecture"
    version: Literal[1] = 1


# ---------------------------------------------------------------------------------------------------------------- macro
class Branch(Document):
    """One operation of a layer and the channels that it gives."""

    name: Name
    operation: Operation
    channels: Channels


class Layer(Document):
    """Parallel branches over one input, concatenated.

    ``skips`` names earlier outputs (``stage1/layer2``, ``stage1/widener``, ``stem``). Each is max-pooled to this layer's
    resolution, multiplied by its own learned scalar, concatenated with the layer's input and brought back to the
    input's width by a 1x1 convolution. ``()`` keeps that convolution with no skip; ``None`` has neither.
    """

    name: Name
    branches: tuple[Branch, ...] = Field(min_length=1)
    skips: tuple[str, ...] | None = None

    @property
    def width(self) -> int:
        return sum(branch.channels for branch in self.branches)

    @model_validator(mode="after")
    def _distinct(self) -> Self:
        _refuse_duplicates([branch.name for branch in self.branches], f"{self.name}: branch")
        _refuse_reserved([branch.name for branch in self.branches], RESERVED_IN_LAYER, f"{self.name}: branch")
        _refuse_duplicates(list(self.skips or ()), f"{self.name}: skip")
        return self


class Widener(Document):
    """Halves the resolution. ``pool_conv``: concat(maxpool 2x2, 3x3 convolution of stride 2 with ``channels``), by which
    NAC doubles the width. ``pool``: the input and ``inputs``, concatenated and max-pooled (``widener2`` of AMLA 0.x).
    """

    kind: Literal["pool_conv", "pool"] = "pool_conv"
    channels: Channels | None = None
    inputs: tuple[str, ...] = ()

    @model_validator(mode="after")
    def _meaningful(self) -> Self:
        if self.kind == "pool_conv" and (self.channels is None or self.inputs):
            raise ValueError("a widener of kind pool_conv needs channels and takes no inputs")
        if self.kind == "pool" and self.channels is not None:
            raise ValueError("a widener of kind pool takes its width from its inputs, not from channels")
        _refuse_duplicates(list(self.inputs), "a widener: input")
        return self


class Stage(Document):
    """Layers at one resolution, and the widener that ends them (none in the last stage)."""

    name: Name
    layers: tuple[Layer, ...] = ()
    widener: Widener | None = None

    @model_validator(mode="after")
    def _distinct(self) -> Self:
        _refuse_duplicates([layer.name for layer in self.layers], f"{self.name}: layer")
        _refuse_reserved([layer.name for layer in self.layers], ("widener",), f"{self.name}: layer")
        return self


class MacroArchitecture(_Header):
    """Stem, stages of layers, head."""

    kind: Literal["macro"] = "macro"
    stem: tuple[Step, ...]
    stages: tuple[Stage, ...] = Field(min_length=1)
    head: tuple[Step, ...] = DEFAULT_HEAD
    auxiliaries: tuple[Auxiliary, ...] = ()
    style: Style = Style()

    @model_validator(mode="after")
    def _references(self) -> Self:
        _refuse_duplicates([stage.name for stage in self.stages], "stage")
        _refuse_reserved([stage.name for stage in self.stages], RESERVED_PARTS, "stage")
        _refuse_duplicates([aux.source for aux in self.auxiliaries], "auxiliary")
        seen = {STEM}
        for stage in self.stages:
            for layer in stage.layers:
                place = f"{stage.name}/{layer.name}"
                _refuse_unknown(layer.skips or (), seen, place)
                seen.add(place)
            if stage.widener:
                place = f"{stage.name}/widener"
                _refuse_unknown(stage.widener.inputs, seen, place)
                seen.add(place)
        _refuse_unknown([aux.source for aux in self.auxiliaries], seen, "auxiliary")
        return self

    def stage(self, name: str) -> Stage:
        """The stage of that name. Errors: ``SpecError``."""
        for stage in self.stages:
            if stage.name == name:
                return stage
        raise SpecError(f"no stage is called {name!r}")


# ---------------------------------------------------------------------------------------------------------------- micro
class CellNode(Document):
    """A node of a cell: an operation on one input, or ``add``/``concat`` of several.

    ``channels``: a number, ``width`` (that of the cell where it is placed), or None: as many as its input has. Inputs of
    a join that differ are brought together as AMLA 0.x does: resolution down by 3x3 convolutions of stride 2, and for
    ``add`` width up by 1x1 convolutions.
    """

    name: Name
    operation: Operation | Literal["add", "concat"]
    inputs: tuple[str, ...] = Field(min_length=1)
    stride: int = Field(1, ge=1, le=8)
    channels: Channels | Literal["width"] | None = None

    @model_validator(mode="after")
    def _inputs(self) -> Self:
        if len(self.inputs) > 1 and self.operation not in ("add", "concat"):
            raise ValueError(
                f"node {self.name}: {self.operation} takes one input, not {len(self.inputs)}; use add or concat"
            )
        return self


class Cell(Document):
    """A DAG. ``inputs`` maps names to outputs before it: 0 is the previous cell's, -1 the one before, and so on; before
    the first cell stands the stem. The last node is the output; where its width is not the placement's, a 1x1
    convolution brings it there, unless ``fit`` is off: a cell of DARTS is as wide as its concatenation."""

    inputs: dict[Name, Annotated[int, Field(le=0)]] = Field(min_length=1)
    nodes: tuple[CellNode, ...] = Field(min_length=1)
    fit: bool = True

    @model_validator(mode="after")
    def _references(self) -> Self:
        seen = set(self.inputs)
        _refuse_reserved([node.name for node in self.nodes], ("fit",), "node")
        for node in self.nodes:
            if node.name in seen:
                raise ValueError(f"two nodes are called {node.name!r}")
            _refuse_unknown(node.inputs, seen, f"node {node.name}")
            seen.add(node.name)
        return self


class Placement(Document):
    """A cell where it stands in the network: its own name, which cell, and its width in channels (that of its output, and
    of its nodes that ask for it)."""

    name: Name
    cell: Name
    width: Channels


class MicroArchitecture(_Header):
    """Stem, a stack of cells, head."""

    kind: Literal["micro"] = "micro"
    stem: tuple[Step, ...]
    cells: dict[Name, Cell] = Field(min_length=1)
    network: tuple[Placement, ...] = Field(min_length=1)
    head: tuple[Step, ...] = DEFAULT_HEAD
    auxiliaries: tuple[Auxiliary, ...] = ()
    style: Style = Style()

    @model_validator(mode="after")
    def _references(self) -> Self:
        _refuse_duplicates([placement.name for placement in self.network], "cell")
        _refuse_reserved([placement.name for placement in self.network], RESERVED_PARTS, "cell")
        _refuse_duplicates([aux.source for aux in self.auxiliaries], "auxiliary")
        for placement in self.network:
            if placement.cell not in self.cells:
                raise ValueError(f"{placement.name}: no cell is called {placement.cell!r}")
        _refuse_unknown([a.source for a in self.auxiliaries], {STEM} | {p.name for p in self.network}, "auxiliary")
        return self


Architecture = Annotated[MacroArchitecture | MicroArchitecture, Field(discriminator="kind")]
_ADAPTER: TypeAdapter[MacroArchitecture | MicroArchitecture] = TypeAdapter(Architecture)


def parse_architecture(data: object) -> MacroArchitecture | MicroArchitecture:
    """Read an architecture of either kind from plain data or JSON text. Errors: ``SpecError`` naming the wrong key."""
    try:
        if isinstance(data, str | bytes):
            return _ADAPTER.validate_json(data)
        return _ADAPTER.validate_python(data)
    except ValidationError as error:
        raise SpecError(first_problem(error, "architecture")) from None


def architecture_schema() -> dict[str, object]:
    """The JSON Schema of the document, as ``amla schema`` prints it."""
    schema = _ADAPTER.json_schema()
    return {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "title": "AMLA architecture, version 1",
        **schema,
    }


def _refuse_duplicates(names: list[str], what: str) -> None:
    for name in names:
        if names.count(name) > 1:
            raise ValueError(f"{what} {name!r} is there twice")


def _refuse_reserved(names: list[str], reserved: tuple[str, ...], what: str) -> None:
    for name in names:
        if name in reserved:
            raise ValueError(f"{what} {name!r}: that name is taken by a part of the network itself; take another")


def _refuse_unknown(names: tuple[str, ...] | list[str], known: set[str], where: str) -> None:
    for name in names:
        if name not in known:
            raise ValueError(f"{where}: {name!r} is not an earlier output; there are: {', '.join(sorted(known))}")
