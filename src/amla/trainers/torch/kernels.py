"""Which way to compute a cell is fastest on this machine: measured in short, for every shape of cell, and remembered.

What is measured is one cell by itself, forward and backward, every way in its turn. The answer of a shape is kept in the
user's cache folder, by machine, library, dtype and threads; the first answer stands. So the same seed gives the same result
on the same machine, however noisy a second measurement would be. With an experiment the answers are stored, and its trials
go by these alone, wherever they run.

A search makes cells that were not there when it was measured: with fewer branches, or of another width. They go by the rule
of the shape that is nearest in channels and resolution.
"""

from __future__ import annotations

import functools
import hashlib
import json
import logging
import math
import os
import platform
import time
import uuid
from collections.abc import Iterable, Mapping
from pathlib import Path

import platformdirs
import torch
import torch.nn.functional as F
from pydantic import JsonValue

from amla.spec.costs import costs
from amla.spec.graph import Graph, InputNode
from amla.trainers.cells import Cell, cells_of
from amla.trainers.torch.cells import Fused, Rule, scaled_of
from amla.trainers.torch.device import device_name
from amla.trainers.torch.module import GraphModule

log = logging.getLogger(__name__)

#: The ways to compute a cell that are measured; the first is the norm alone.
RULES = (
    Rule(),
    Rule((3,), 3),
    Rule((5,), 5),
    Rule((3, 5), 3),
    Rule((3, 5), 5),
    Rule((3, 5, 7), 7),
    Rule((7,), 7),
    Rule((), 0, True),
    Rule((3,), 0, True),
    Rule((5,), 0, True),
    Rule((3, 5), 5, True),
)
#: Pixels a side up to which a depthwise convolution is tried as a matrix.
SMALL = 8
#: Turns of each way, the first left out; and seconds for a shape after which no more turns are begun.
TURNS, SECONDS = 5, 0.3
#: So many times as long as the fastest way so far, and a way is not tried again.
HOPELESS = 1.5
#: Multiply-adds of a forward pass that is measured, about, and its images, at least.
WORK, IMAGES = 6e7, 8
#: The first way is kept where another is not at least so many times as fast.
WORTH = 1.05

#: Input channels, output channels, height and width of a cell.
Shape = tuple[int, int, int, int]
Rules = Mapping[Shape, Rule]


def join(module: GraphModule, rules: Rules) -> None:
    """From now on the module computes every cell as one, by the rule of the nearest shape."""
    cells = [Fused(cell, nearest(rules, shape_of(cell))) for cell in cells_of(module.graph)]
    module.join([*cells, *scaled_of(module.graph)])


def shape_of(cell: Cell) -> Shape:
    return (cell.into[0], *cell.out.shape)  # type: ignore[return-value]  # an image has three numbers


def nearest(rules: Rules, shape: Shape) -> Rule:
    """The rule of the shape that is nearest by the ratios of its numbers; one norm and no more where there is none."""

    def distance(other: Shape) -> tuple[float, Shape]:
        return sum(abs(math.log(one / two)) for one, two in zip(shape, other, strict=True)), other

    return rules[min(rules, key=distance)] if rules else Rule()


def measured_rules(graph: Graph, batch: int, device: torch.device, dtype: str) -> dict[Shape, Rule]:
    """The fastest rule of every shape of cell in a network, as it was measured once on this machine."""
    largest: dict[Shape, Cell] = {}
    for cell in cells_of(graph):
        shape = shape_of(cell)
        if shape not in largest or len(cell.branches) > len(largest[shape].branches):
            largest[shape] = cell
    return {shape: _remembered(cell, batch, device, dtype) for shape, cell in largest.items()}


def to_json(rules: Rules) -> dict[str, JsonValue]:
    """For an experiment: ``"16x16x32x32": {"levels": [3, 5], "separable": 5, "matrices": false}``."""
    return {"x".join(map(str, shape)): _document(rule) for shape, rule in rules.items()}


def from_json(data: JsonValue) -> dict[Shape, Rule]:
    """What ``to_json`` gave; nothing where there was nothing."""
    found: dict[Shape, Rule] = {}
    for key, value in (data if isinstance(data, dict) else {}).items():
        into, out, height, width = map(int, key.split("x"))
        found[into, out, height, width] = _rule(value)
    return found


def _document(rule: Rule) -> dict[str, JsonValue]:
    return {"levels": list(rule.levels), "separable": rule.separable, "matrices": rule.matrices}


def _rule(data: JsonValue) -> Rule:
    assert isinstance(data, dict)
    assert isinstance(data["levels"], list)
    return Rule(tuple(int(str(level)) for level in data["levels"]), int(str(data["separable"])), bool(data["matrices"]))


# ------------------------------------------------------------------------------------------------------------- measuring
def alone(cell: Cell) -> Graph:
    """A network that is one cell and nothing else."""
    source = InputNode(name=cell.source, inputs=(), shape=cell.into)
    return Graph(nodes=(source, *cell.nodes), output=cell.out.name)


def seconds(
    cell: Cell, batch: int, device: torch.device, dtype: str, rules: Iterable[Rule] = RULES
) -> dict[Rule, float]:
    """Seconds of a pass forward and backward through one cell, by each rule: the least of a few."""
    graph = alone(cell)
    modules = {rule: GraphModule(graph) for rule in rules}
    for rule, module in modules.items():
        module.reset(0)
        module.to(device=device, memory_format=torch.channels_last)  # type: ignore[call-overload]
        module.join([Fused(cell, rule)])
    images = max(IMAGES, min(batch, round(WORK / max(1, costs(graph).flops))))
    generator = torch.Generator().manual_seed(0)
    x = torch.randn((images, *cell.into), generator=generator).to(device).contiguous(memory_format=torch.channels_last)
    x.requires_grad_()
    times: dict[Rule, list[float]] = {rule: [] for rule in modules}
    end = time.perf_counter() + SECONDS
    with torch.random.fork_rng(devices=[device] if device.type == "cuda" else []):
        for turn in range(1 + TURNS):
            if turn > 1 and time.perf_counter() > end:
                break
            best = min(min(taken[1:], default=math.inf) for taken in times.values())
            for rule, module in modules.items():
                if min(times[rule][1:], default=0.0) <= HOPELESS * best:
                    times[rule].append(_pass(module, x, device, dtype))
    return {rule: min(taken[1:]) for rule, taken in times.items()}


def _pass(module: GraphModule, x: torch.Tensor, device: torch.device, dtype: str) -> float:
    wait_for(device)
    began = time.perf_counter()
    with torch.autocast(device.type, torch.bfloat16, enabled=dtype == "bfloat16"):
        out = module(x)[0]
    torch.autograd.grad(out, [x, *module.parameters()], torch.ones_like(out))
    wait_for(device)
    return time.perf_counter() - began


def worthwhile_dtypes(device: torch.device) -> list[str]:
    """float32, and bfloat16 where a convolution in it is no slower: without hardware for it, it takes twenty times as long,
    and so would measuring a whole network in it."""
    x = torch.ones((2, 64, 8, 8), device=device).contiguous(memory_format=torch.channels_last)
    kernel = torch.ones((64, 64, 3, 3), device=device, requires_grad=True)
    times = {}
    for dtype in ("float32", "bfloat16"):
        taken = []
        for _ in range(TURNS):
            began = time.perf_counter()
            with torch.autocast(device.type, torch.bfloat16, enabled=dtype == "bfloat16"):
                out = F.conv2d(x, kernel, padding=1)
            torch.autograd.grad(out, kernel, torch.ones_like(out))
            wait_for(device)
            taken.append(time.perf_counter() - began)
        times[dtype] = min(taken)
    return ["float32", *(["bfloat16"] if times["bfloat16"] <= times["float32"] else [])]


def wait_for(device: torch.device) -> None:
    """Until the device has done what it was told."""
    if device.type == "cuda":
        torch.cuda.synchronize(device)


def _fastest(cell: Cell, batch: int, device: torch.device, dtype: str) -> Rule:
    ways = _distinct(cell)
    if len(ways) == 1:
        return ways[0]
    taken = seconds(cell, batch, device, dtype, ways)
    return min(ways, key=lambda rule: taken[rule] * (1.0 if rule == ways[0] else WORTH))


def _distinct(cell: Cell) -> list[Rule]:
    """The rules that differ for this cell."""
    ways: dict[tuple[object, ...], Rule] = {}
    for rule in RULES:
        if rule.matrices and max(cell.into[1:]) > SMALL:
            continue
        left = any(branch.separable and rule.level(branch) is None for branch in cell.branches)
        ways.setdefault((*(rule.level(branch) for branch in cell.branches), rule.matrices and left), rule)
    return list(ways.values())


# ----------------------------------------------------------------------------------------------------------- remembering
def _remembered(cell: Cell, batch: int, device: torch.device, dtype: str) -> Rule:
    operations = [
        [node.op if node.op != "conv" else (node.kernel, node.groups) for node in b.nodes] for b in cell.branches
    ]
    widths = [branch.norm.shape[0] for branch in cell.branches]
    key = [_machine(device), dtype, torch.get_num_threads(), cell.into, operations, widths, batch, RULES]
    name = hashlib.sha256(json.dumps(key).encode()).hexdigest()[:32]
    path = platformdirs.user_cache_path("amla") / "kernels" / f"{name}.json"
    if path.exists():
        return _rule(json.loads(path.read_text()))
    rule = _fastest(cell, batch, device, dtype)
    try:
        _keep(path, json.dumps(_document(rule)))
    except OSError as error:  # a container's read-only home, a full disk: a search needs no cache
        log.warning("%s cannot be written (%s): what was measured is not remembered", path.parent, error.strerror)
        return rule
    return _rule(json.loads(path.read_text()))


@functools.cache
def _machine(device: torch.device) -> list[str | int | None]:
    """What a measurement is good for: this machine and these libraries."""
    capability = torch.backends.cpu.get_cpu_capability()
    return [platform.node(), platform.machine(), os.cpu_count(), capability, torch.__version__, device_name(device)]


def _keep(path: Path, text: str) -> None:
    """Write a file whole, unless somebody else was first."""
    path.parent.mkdir(parents=True, exist_ok=True)
    draft = path.with_suffix(f".{uuid.uuid4().hex}")
    draft.write_text(text)
    try:
        os.link(draft, path)
    except FileExistsError:
        pass
    finally:
        draft.unlink()
