"""Networks of AMLA 0.x files: ``init_cell``, ``classification_cell``, and ``arch`` (macro and micro)."""

from __future__ import annotations

from typing import Any

from pydantic import ValidationError

from amla.errors import SpecError
from amla.spec import architecture as a
from amla.spec.amla0.keys import Keys, built, list_of, number_in, typed
from amla.spec.base import first_problem
from amla.spec.operations import parse_operation

#: How the original dressed its convolutions: a centred, unscaled batch norm (slim's default), ReLU, dropout keeping 0.8.
STYLE = a.Style(norm_scale=False, norm_epsilon=1e-3, dropout=0.2)
#: Endings of names of 0.x -> ours.
_RENAMED = {"dilated": "dil", "avg": "avgpool", "max": "maxpool"}

#: Keys of one block or another of a stem or head.
_BLOCK_KEYS = (
    "inputs", "outputs", "kernel_size", "stride", "size", "keep_prob", "bias", "padding", "activation"
)  # fmt: skip


# ------------------------------------------------------------------------------------------------------------ stem and head
def read_stem(keys: Keys) -> tuple[a.Step, ...]:
    """``init_cell``: layers in the order of their numbers, one branch each."""
    steps = [_stem_step(block) for block in _blocks(keys)]
    if not any(isinstance(step, a.ConvStep) for step in steps):
        raise SpecError(f"{keys.path}: holds no conv2d, so the network has no width to begin with")
    return tuple(steps)


def read_head(keys: Keys) -> tuple[tuple[a.Step, ...], int | None]:
    """``classification_cell``, and how many classes its last layer names."""
    steps: list[a.Step] = []
    classes: int | None = None
    for block in _blocks(keys):
        kind = block.choose("block", ("reduce_mean", "flatten", "dropout", "fc", "fc-final"))
        if kind == "reduce_mean":
            block.read.add("size")
            steps.append(a.GlobalPoolStep())
        elif kind == "flatten":
            block.read.add("size")
            steps.append(a.FlattenStep())
        elif kind == "dropout":
            steps.append(a.DropoutStep(rate=_dropped(block)))
        elif kind == "fc":
            block.without_effect("inputs", "it follows from what comes in")
            steps += [built(block.path, a.DenseStep, units=_whole(block, "outputs")), a.ActivationStep()]
        else:
            block.without_effect("inputs", "it follows from what comes in")
            classes = _whole(block, "outputs")
            steps.append(a.DenseStep())
        block.leftover(_BLOCK_KEYS)
    if classes is None:
        raise SpecError(f"{keys.path}: holds no fc-final, so there is nothing to classify with")
    return tuple(steps), classes


def stem_width(stem: tuple[a.Step, ...]) -> int:
    """Channels that the stem gives: those of its last convolution."""
    return [step.channels for step in stem if isinstance(step, a.ConvStep)][-1]


def _blocks(keys: Keys) -> list[Keys]:
    layers = sorted(keys.data, key=lambda name: number_in(name, "Layer", keys.path))
    blocks = []
    for name in layers:
        layer = keys.group(name)
        if len(layer.data) != 1:
            raise SpecError(f"{layer.path}: wanted one branch, got {len(layer.data)}")
        blocks.append(layer.group(next(iter(layer.data))))
    return blocks


def _stem_step(block: Keys) -> a.Step:
    kind = block.choose("block", ("conv2d", "lrn", "cutout", "dropout", "maxpool", "avgpool"))
    step: a.Step
    if kind == "conv2d":
        step = built(
            block.path,
            a.ConvStep,
            channels=_whole(block, "outputs"),
            kernel=_kernel(block),
            stride=_whole(block, "stride", 1),
            bias=block.take("bias", bool, False),
        )
    elif kind == "lrn":
        step = a.LRNStep()
    elif kind == "cutout":
        step = a.CutoutStep(size=_whole(block, "size"))
    elif kind == "dropout":
        step = a.DropoutStep(rate=_dropped(block))
    else:
        step = built(
            block.path,
            a.PoolStep,
            kind="max" if kind == "maxpool" else "avg",
            kernel=_kernel(block),
            stride=_whole(block, "stride", 2),
        )
    block.leftover(_BLOCK_KEYS)
    return step


def _kernel(block: Keys) -> int:
    sides = list_of(block.take("kernel_size", list), int, block.at("kernel_size"))
    if len(set(sides)) != 1 or not 1 <= sides[0] <= 31:
        raise SpecError(f"{block.at('kernel_size')}: wanted a square kernel of 1 to 31 pixels, got {list(sides)}")
    return sides[0]


def _whole(block: Keys, key: str, default: int | None = None) -> int:
    value = block.take(key, int, default)
    if value < 1:
        raise SpecError(f"{block.at(key)}: wanted a whole number from 1 on, got {value}")
    return value


def _dropped(block: Keys) -> float:
    keep = block.take("keep_prob", float)
    if not 0.0 < keep <= 1.0:
        raise SpecError(f"{block.at('keep_prob')}: wanted a number in (0, 1], got {keep:g}")
    return round(1.0 - keep, 10)


# ------------------------------------------------------------------------------------------------------------------- bodies
def read_network(
    arch: Keys, stem: tuple[a.Step, ...], head: tuple[a.Step, ...]
) -> a.MacroArchitecture | a.MicroArchitecture:
    """``arch`` of either type."""
    kind = arch.choose("type", ("macro", "micro"), "macro")
    try:
        return _Macro(arch, stem, head).read() if kind == "macro" else _micro(arch, stem, head)
    except ValidationError as error:
        raise SpecError(first_problem(error, arch.path)) from None


class _Macro:
    """The list of layers, wideners and auxiliaries. ``names[i]`` is what the i-th item's output is called; 0 is the stem."""

    def __init__(self, arch: Keys, stem: tuple[a.Step, ...], head: tuple[a.Step, ...]) -> None:
        self.items = [
            Keys(item, f"{arch.path}.network[{i}]", arch.warnings) for i, item in enumerate(arch.take("network", list))
        ]
        arch.leftover()
        self.stem, self.head = stem, head
        self.width = stem_width(stem)
        self.names = [a.STEM]
        self.stages: list[a.Stage] = []
        self.layers: list[a.Layer] = []
        self.auxiliaries: list[a.Auxiliary] = []

    def read(self) -> a.MacroArchitecture:
        for item in self.items:
            if item.has("filters"):
                self._layer(item)
            elif item.has("widener") or item.has("widener2"):
                self._widener(item)
            elif item.has("auxiliary"):
                self._check_auxiliary(item)
                self.auxiliaries.append(a.Auxiliary(source=self.names[-1]))
                self.names.append(self.names[-1])  # what flows on is what flowed in
            else:
                raise SpecError(f"{item.path}: wanted filters, widener, widener2 or auxiliary, got {sorted(item.data)}")
            item.leftover()
        self.stages.append(a.Stage(name=self._stage, layers=tuple(self.layers)))
        auxiliaries = tuple(dict.fromkeys(self.auxiliaries))
        return a.MacroArchitecture(
            stem=self.stem, stages=tuple(self.stages), head=self.head, auxiliaries=auxiliaries, style=STYLE
        )

    @staticmethod
    def _check_auxiliary(item: Keys) -> None:
        """An auxiliary is a dense layer on the mean over positions; nothing else can be had there."""
        inner = item.group("auxiliary")
        for name in inner.data:
            kind = inner.take(name, str)
            if kind.lower() != "dense":
                raise SpecError(f"{inner.at(name)}: {kind!r} cannot be had; there is Dense")
        item.without_effect("outputs", "an auxiliary classifier has the classes of the data")

    @property
    def _stage(self) -> str:
        return f"stage{len(self.stages) + 1}"

    def _layer(self, item: Keys) -> None:
        branches = read_branches(item, "filters")
        outputs = _whole(item, "outputs")
        if outputs < len(branches):
            raise SpecError(f"{item.at('outputs')}: {outputs} cannot be shared out over {len(branches)} branches")
        if outputs % len(branches):
            item.warn(
                "outputs", f"{outputs} over {len(branches)} branches: none is lost here (the original rounded down)"
            )
        share, rest = divmod(outputs, len(branches))
        layer = a.Layer(
            name=f"layer{len(self.layers) + 1}",
            branches=tuple(
                a.Branch(name=name, operation=operation, channels=share + (place < rest))
                for place, (name, operation) in enumerate(branches)
            ),
            skips=self._inputs(item) if item.has("inputs") else None,
        )
        self.layers.append(layer)
        self.names.append(f"{self._stage}/{layer.name}")

    def _widener(self, item: Keys) -> None:
        if item.has("widener"):
            item.read.add("widener")
            item.without_effect("inputs", "a widener reads the layer before it")
            widener = a.Widener(channels=self.width)
        else:
            item.read.add("widener2")
            widener = a.Widener(kind="pool", inputs=self._inputs(item) if item.has("inputs") else ())
        item.without_effect("outputs", "a widener's width follows from what comes in")
        self.names.append(f"{self._stage}/widener")
        self.stages.append(a.Stage(name=self._stage, layers=tuple(self.layers), widener=widener))
        self.layers = []
        self.width *= 2

    def _inputs(self, item: Keys) -> tuple[str, ...]:
        item.read.add("inputs")
        value = item.data["inputs"]
        if value == "all":  # every earlier output, the stem's among them, but the one just before
            return tuple(dict.fromkeys(self.names[:-1]))
        numbers = list_of(typed(value, list, item.at("inputs")), int, item.at("inputs"))
        for number in numbers:
            if not 0 <= number < len(self.names):
                raise SpecError(
                    f"{item.at('inputs')}: {number} is no earlier item; there are 0 (the stem) to {len(self.names) - 1}"
                )
        found = [self.names[number] for number in numbers]
        if len(set(found)) < len(found):
            item.warn("inputs", "names an output twice: it is read once")
        return tuple(dict.fromkeys(found))


def read_branches(keys: Keys, key: str) -> list[tuple[str, str]]:
    """(name, operation) of ``{"Branch1": "3x3", ...}`` or of a list of operations."""
    keys.read.add(key)
    value = keys.data[key]
    pairs = {f"Branch{i}": name for i, name in enumerate(value, 1)} if isinstance(value, list) else value
    found = [
        (str(n).lower(), _operation(op, f"{keys.at(key)}.{n}", keys))
        for n, op in typed(pairs, dict, keys.at(key)).items()
    ]
    if not found:
        raise SpecError(f"{keys.at(key)}: holds no branch")
    return found


def _operation(name: Any, path: str, keys: Keys) -> str:
    text = typed(name, str, path)
    for old, new in _RENAMED.items():
        if text.endswith(old) and not text.endswith("pool"):
            if old == "avg":
                keys.warnings.append(
                    f"{path} {text!r} is read as average pooling (the original fell through to a convolution)"
                )
            text = text.removesuffix(old) + new
    try:
        parse_operation(text)
    except ValueError as error:
        raise SpecError(f"{path}: {error}") from None
    return text


# -------------------------------------------------------------------------------------------------------------------- micro
_AUXILIARY = "auxiliary_classifier"


def _micro(arch: Keys, stem: tuple[a.Step, ...], head: tuple[a.Step, ...]) -> a.MicroArchitecture:
    order = list_of(arch.take("network", list), str, arch.at("network"))
    for name in order:
        if name != _AUXILIARY and not arch.has(name):
            raise SpecError(f"{arch.at('network')}: no cell is called {name!r}")
    cells = {name: _cell(arch.group(name)) for name in dict.fromkeys(order) if name != _AUXILIARY}
    if arch.has(_AUXILIARY):
        _check_auxiliary_cell(arch.group(_AUXILIARY))
    arch.leftover()
    if not cells:
        raise SpecError(f"{arch.at('network')}: holds no cell")
    width, last = stem_width(stem), a.STEM
    network: list[a.Placement] = []
    auxiliaries: list[a.Auxiliary] = []
    for name in order:
        if name == _AUXILIARY:
            auxiliaries.append(a.Auxiliary(source=last))
            continue
        width *= 2 if name == "reduction_cell" else 1
        last = f"cell{len(network) + 1}"
        network.append(a.Placement(name=last, cell=name, width=width))
    return a.MicroArchitecture(
        stem=stem,
        cells=cells,
        network=tuple(network),
        head=head,
        auxiliaries=tuple(dict.fromkeys(auxiliaries)),
        style=STYLE,
    )


def _check_auxiliary_cell(keys: Keys) -> None:
    """The auxiliary classifier is the mean over positions and a dense layer on the output before it: say what is more."""
    for name in keys.data:
        value = keys.data[name]
        if isinstance(value, int) and not isinstance(value, bool):
            if value != 0:
                keys.warn(name, "has no effect: an auxiliary classifier reads the output just before it")
            continue
        inner = keys.group(name).group("node")
        if inner.take("type", str) == "dense":
            inner.without_effect("outputs", "an auxiliary classifier has the classes of the data")
        else:
            keys.warn(name, "has no effect: an auxiliary classifier is one dense layer on the mean over positions")


def _cell(keys: Keys) -> a.Cell:
    inputs: dict[str, int] = {}
    nodes: list[a.CellNode] = []
    for name in sorted(keys.data, key=lambda node: number_in(node, "node", keys.path)):
        value = keys.data[name]
        if isinstance(value, int) and not isinstance(value, bool):
            if value > 0:
                raise SpecError(
                    f"{keys.at(name)}: {value} is no earlier output; 0 is the previous cell's, -1 the one before"
                )
            inputs[name] = value
        else:
            nodes.append(_node(name, keys.group(name)))
    if not inputs or not nodes:
        raise SpecError(f"{keys.path}: a cell has inputs (whole numbers) and nodes")
    return a.Cell(inputs=inputs, nodes=tuple(nodes))


def _node(name: str, keys: Keys) -> a.CellNode:
    inner = keys.group("node")
    kind = inner.take("type", str)
    stride, rate = _whole(inner, "stride", 1), _whole(inner, "rate", 2)
    channels = _whole(inner, "filters") if inner.has("filters") else None
    for key in ("padding", "activation", "outputs"):
        inner.without_effect(key, "every operation is padded to keep its size, and dressed alike")
    operation = kind if kind in ("add", "concat") else _operation(kind, inner.at("type"), inner)
    if kind.endswith("dilated"):
        operation += str(rate)
    elif inner.has("rate"):
        inner.warn("rate", "has no effect: only dilated convolutions have one")
    if stride > 1 and kind.endswith("sep"):
        inner.warn("stride", "is kept (the original left it out for separable convolutions)")
    inputs = list_of(keys.take("input", list), str, keys.at("input"))
    inner.leftover()
    keys.leftover()
    return a.CellNode(name=name, operation=operation, inputs=inputs, stride=stride, channels=channels)
