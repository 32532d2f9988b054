"""The state of a training in torch: made fresh, inherited from a parent, written to a checkpoint, and read from one."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Protocol

import numpy as np
import torch
from torch import Tensor

from amla import artifacts
from amla.spec.graph import Graph
from amla.spec.trial import Job, Statistics
from amla.trainers.checkpoint import (
    ARCHITECTURE,
    CALIBRATION,
    Counters,
    part,
    read_checkpoint,
    to_inherit,
    write_checkpoint,
)
from amla.trainers.surgery import Array, Arrays, operate, operate_average, operate_slots
from amla.trainers.torch.data import Batches
from amla.trainers.torch.instruments import Instruments
from amla.trainers.torch.kernels import from_json, join
from amla.trainers.torch.module import GraphModule
from amla.trainers.torch.optim import Average, Optimizer, load_slots, make_optimizer, slots
from amla.trainers.torch.surgery import calibrate


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
    optimizer: Optimizer
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
    join(module, from_json(job.measured.get("kernels")))
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
    write_checkpoint(folder, arrays, state.counters)


def _restore(state: State, arrays: Arrays, counters: Counters) -> None:
    state.counters = counters
    state.module.load_state_dict(_tensors(part(arrays, "weights/")))
    load_slots(state.optimizer, state.module, _tensors(part(arrays, "optimizer/")))
    state.instruments.load(_tensors(part(arrays, "instruments/")))
    if state.average:
        _load_average(state, part(arrays, "average/"), arrays)
    if state.learner:
        state.learner.load(_tensors(part(arrays, "learner/")))
    state.losses = list(torch.from_numpy(np.array(arrays["losses"]))) if "losses" in arrays else []
    random = _tensors(part(arrays, "random/"))
    if "cpu" in random:  # another library may have left the checkpoint
        torch.set_rng_state(random["cpu"])
    if torch.cuda.is_available() and "cuda" in random:
        torch.cuda.set_rng_state(random["cuda"])


def _inherit(state: State, job: Job, batches: Batches) -> None:
    """The parent's weights, or its whole state, with the surgery that lies between the two networks."""
    plan, arrays, counters = to_inherit(job, state.module.graph)
    fresh = _arrays(state.module)
    state.module.load_state_dict(_tensors(operate(plan, part(arrays, "weights/"), fresh)))
    if plan.calibrate:
        calibrate(plan, state.module, batches.first_images(CALIBRATION))
    if job.spec.inherit == "state":
        state.counters.position = counters.position
        state.counters.seconds_before = counters.seconds_before + counters.seconds
        remembered = operate_slots(plan, part(arrays, "optimizer/"), fresh)
        load_slots(state.optimizer, state.module, _tensors(remembered))
    if state.average:
        inherited = part(arrays, "average/") or part(arrays, "weights/")
        _load_average(state, operate_average(plan, inherited, _arrays(state.module)), arrays)


def _load_average(state: State, values: Arrays, arrays: Arrays) -> None:
    assert state.average is not None
    for name, old in state.average.values.items():
        old.copy_(torch.from_numpy(values[name]))
    state.average.steps = int(arrays["average_steps"].item()) if "average_steps" in arrays else 0


def _arrays(module: GraphModule) -> dict[str, Array]:
    return {name: value.cpu().numpy() for name, value in module.state_dict().items()}


def _tensors(arrays: Arrays) -> dict[str, Tensor]:
    return {name: torch.from_numpy(np.array(value)) for name, value in arrays.items()}
