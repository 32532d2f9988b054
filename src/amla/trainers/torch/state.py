"""The state of a training: made fresh, inherited from a parent, written to a checkpoint, and read from one.

A checkpoint is one file, ``state.safetensors``: all tensors, and as metadata a JSON document with the counters. One file
is there whole or not at all, so a crash at any moment leaves the last checkpoint or the one before.
"""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Protocol

import numpy as np
import torch
from torch import Tensor

from amla import artifacts
from amla.errors import TrialFailure
from amla.spec.architecture import parse_architecture
from amla.spec.graph import Graph
from amla.spec.lower import lower
from amla.spec.surgery import surgery_plan
from amla.spec.trial import Job, Point, Snapshot, Statistics
from amla.trainers.torch.data import Batches
from amla.trainers.torch.instruments import Instruments
from amla.trainers.torch.module import GraphModule
from amla.trainers.torch.optim import Average, load_slots, make_optimizer, slots
from amla.trainers.torch.surgery import calibrate, operate, operate_slots

STATE = "state.safetensors"
ARCHITECTURE = "architecture.json"
#: Images on which the norms of a grown layer are set.
CALIBRATION = 256


@dataclass
class Counters:
    """Everything of a training that is no tensor."""

    step: int = 0  # of this trial
    position: int = 0  # of the whole chain, this trial's steps among them
    seconds: float = 0.0
    evaluate_seconds: float = 0.0
    seconds_before: float = 0.0  # of training in the chain, before this trial
    curve: list[Point] = field(default_factory=list)
    snapshots: list[Snapshot] = field(default_factory=list)
    looks: list[dict[str, float]] = field(default_factory=list)  # the ranking at each look, for ``Settle``
    finished: bool = False

    def to_json(self) -> str:
        documents = {
            "curve": [point.to_data() for point in self.curve],
            "snapshots": [snapshot.to_data() for snapshot in self.snapshots],
        }
        return json.dumps(dataclasses.asdict(dataclasses.replace(self, curve=[], snapshots=[])) | documents)

    @classmethod
    def from_json(cls, text: str) -> Counters:
        data: dict[str, Any] = json.loads(text)
        data["curve"] = [Point.parse(point) for point in data["curve"]]
        data["snapshots"] = [Snapshot.parse(snapshot) for snapshot in data["snapshots"]]
        return cls(**data)


class Learner(Protocol):
    """What a procedure learns besides the weights: strengths of operations, a controller."""

    def tensors(self) -> dict[str, Tensor]:
        """All of it, for a checkpoint."""
        ...

    def load(self, tensors: Mapping[str, Tensor]) -> None:
        """Go on from what ``tensors`` gave."""
        ...

    def statistics(self) -> Statistics:
        """What it has learnt so far, by block."""
        ...


@dataclass
class State:
    """A training as it stands between two steps."""

    module: GraphModule
    optimizer: torch.optim.Optimizer
    average: Average | None
    instruments: Instruments
    counters: Counters
    losses: list[Tensor] = field(default_factory=list)  # since the last point of the learning curve
    learner: Learner | None = None

    def statistics(self) -> Statistics:
        """Those of the instruments, and what was learnt besides the weights."""
        found = self.instruments.read(self.module)
        for block, values in (self.learner.statistics() if self.learner else {}).items():
            found[block] = {**found.get(block, {}), **values}
        return found


def begin(job: Job, graph: Graph, batches: Batches, device: torch.device, learner: Learner | None = None) -> State:
    """The state in which a job's training begins or goes on.

    Where the job's folder has a checkpoint, that; else a fresh network, or the parent's with the surgery applied.
    """
    module = GraphModule(graph)
    module.reset(job.seed)
    module.to(device=device, memory_format=torch.channels_last)  # type: ignore[call-overload]  # torch's own stub lacks it
    training = job.spec.training
    optimizer = make_optimizer(training.optimizer, module)
    instruments = Instruments(graph, job.spec.instruments, device)
    average = Average(module, training.ema) if training.ema else None
    state = State(module, optimizer, average, instruments, Counters(), learner=learner)
    torch.manual_seed(job.seed)
    artifacts.write(job.folder, ARCHITECTURE, job.spec.architecture.model_dump_json().encode())
    checkpoint = read_checkpoint(job.folder)
    if checkpoint is not None:
        _restore(state, *checkpoint)
    elif job.spec.inherit != "none":
        _inherit(state, job, batches)
    return state


def save(state: State, folder: str) -> None:
    """Write a checkpoint."""
    tensors = {f"weights/{name}": value for name, value in state.module.state_dict().items()}
    tensors |= {f"optimizer/{name}": value for name, value in slots(state.optimizer, state.module).items()}
    tensors |= {f"instruments/{name}": value for name, value in state.instruments.state().items()}
    if state.average:
        tensors |= {f"average/{name}": value for name, value in state.average.values.items()}
        tensors["average_steps"] = torch.tensor(state.average.steps)
    if state.learner:
        tensors |= {f"learner/{name}": value for name, value in state.learner.tensors().items()}
    if state.losses:
        tensors["losses"] = torch.stack(state.losses)
    tensors["random/cpu"] = torch.get_rng_state()
    if torch.cuda.is_available():
        tensors["random/cuda"] = torch.cuda.get_rng_state()
    arrays = {name: value.detach().cpu().contiguous().numpy() for name, value in tensors.items()}
    artifacts.write(folder, STATE, artifacts.pack(arrays, {"counters": state.counters.to_json()}))


def read_checkpoint(folder: str) -> tuple[dict[str, Tensor], Counters] | None:
    """Tensors and counters of a folder's checkpoint; None where there is none."""
    content = artifacts.read(folder, STATE)
    if content is None:
        return None
    size = int.from_bytes(content[:8], "little")
    header = json.loads(content[8 : 8 + size])
    tensors = {name: torch.from_numpy(np.array(value)) for name, value in artifacts.unpack(content).items()}
    return tensors, Counters.from_json(header["__metadata__"]["counters"])


def _part(tensors: Mapping[str, Tensor], prefix: str) -> dict[str, Tensor]:
    return {name.removeprefix(prefix): value for name, value in tensors.items() if name.startswith(prefix)}


def _restore(state: State, tensors: dict[str, Tensor], counters: Counters) -> None:
    state.counters = counters
    state.module.load_state_dict(_part(tensors, "weights/"))
    load_slots(state.optimizer, state.module, _part(tensors, "optimizer/"))
    state.instruments.load(_part(tensors, "instruments/"))
    if state.average:
        _load_average(state, _part(tensors, "average/"), tensors)
    if state.learner:
        state.learner.load(_part(tensors, "learner/"))
    state.losses = list(tensors["losses"]) if "losses" in tensors else []
    torch.set_rng_state(tensors["random/cpu"])
    if torch.cuda.is_available() and "random/cuda" in tensors:
        torch.cuda.set_rng_state(tensors["random/cuda"])


def _inherit(state: State, job: Job, batches: Batches) -> None:
    """The parent's weights, or its whole state, with the surgery that lies between the two networks."""
    checkpoint = read_checkpoint(job.parent_folder) if job.parent_folder else None
    architecture = artifacts.read(job.parent_folder, ARCHITECTURE) if job.parent_folder else None
    if checkpoint is None or architecture is None:
        raise TrialFailure("data", f"trial {job.spec.parent} left no state to inherit in {job.parent_folder}")
    tensors, counters = checkpoint
    graph = state.module.graph
    channels, height, width = graph.input_shape
    parent = lower(parse_architecture(architecture), (channels, height, width), graph.num_classes)
    plan = surgery_plan(parent, graph)
    fresh = {name: value.cpu() for name, value in state.module.state_dict().items()}
    state.module.load_state_dict(operate(plan, _part(tensors, "weights/"), fresh))
    if plan.calibrate:
        calibrate(plan, state.module, batches.first_images(CALIBRATION))
    if job.spec.inherit == "state":
        state.counters.position = counters.position
        state.counters.seconds_before = counters.seconds_before + counters.seconds
        load_slots(state.optimizer, state.module, operate_slots(plan, _part(tensors, "optimizer/"), fresh))
    if state.average:
        current = {name: value.cpu() for name, value in state.module.state_dict().items()}
        inherited = _part(tensors, "average/") or _part(tensors, "weights/")
        averaged = operate(plan, inherited, current)
        grown = {name: current[name] for name in averaged if not _copied(plan, name)}
        _load_average(state, averaged | grown, tensors)


def _copied(plan: Any, name: str) -> bool:
    return any(step.name == name and step.how == "copy" for step in plan.tensors)


def _load_average(state: State, values: Mapping[str, Tensor], tensors: Mapping[str, Tensor]) -> None:
    assert state.average is not None
    for name, old in state.average.values.items():
        old.copy_(values[name])
    state.average.steps = int(tensors.get("average_steps", torch.tensor(0)))
