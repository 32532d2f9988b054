"""The state of a training in Keras: made fresh, inherited from a parent, written to a checkpoint, and read from one.

All of it are dictionaries of the backend's tensors by weight names, in Keras's layout; a checkpoint is in ours.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import numpy as np
from keras import ops

from amla import artifacts
from amla.spec.graph import Graph
from amla.spec.surgery import Plan
from amla.spec.trial import Job
from amla.trainers.checkpoint import ARCHITECTURE, Counters, part, read_checkpoint, to_inherit, write_checkpoint
from amla.trainers.keras import backend
from amla.trainers.keras.instruments import Instruments
from amla.trainers.keras.network import Bound, fresh
from amla.trainers.keras.optim import Values, fresh_slots, slot_names
from amla.trainers.keras.program import Programs
from amla.trainers.surgery import STEP, Array, Arrays, operate, operate_average, operate_slots


@dataclass
class State:
    """A training as it stands between two steps. ``still`` are the running statistics."""

    programs: Programs
    trained: Values
    still: Values
    slots: Values
    average: Values
    average_steps: int
    instruments: Instruments
    counters: Counters
    losses: list[Any] = field(default_factory=list)  # since the last point of the learning curve

    @property
    def values(self) -> Values:
        """All tensors of the network that is trained."""
        return self.trained | self.still

    @property
    def evaluated(self) -> Values:
        """Those of the network that is evaluated: the average of weights where one is kept."""
        return self.average or self.values

    def set(self, weights: Arrays) -> None:
        """Take all tensors of the network from arrays in our layout."""
        values = theirs(self.programs.bound, weights)
        self.trained = {name: values[name] for name in self.programs.trained}
        self.still = {name: value for name, value in values.items() if name not in self.trained}


def begin(job: Job, graph: Graph, programs: Programs, images: Any) -> State:
    """The state in which a job's training begins or goes on.

    Where the job's folder has a checkpoint, that; else a fresh network, or the parent's with the surgery applied.
    ``images``: normalised ones, on which the norms of grown layers are set.
    """
    training = job.spec.training
    state = State(programs, {}, {}, {}, {}, 0, Instruments(graph, job.spec.instruments), Counters())
    state.set(fresh(graph, job.seed))
    state.slots = fresh_slots(training.optimizer, state.trained)
    artifacts.write(job.folder, ARCHITECTURE, job.spec.architecture.model_dump_json().encode())
    checkpoint = read_checkpoint(job.folder)
    if checkpoint is not None:
        _restore(state, job, *checkpoint)
    elif job.spec.inherit != "none":
        _inherit(state, job, images)
    if training.ema and not state.average:
        state.average = dict(state.values)
    return state


def save(state: State, folder: str) -> None:
    """Write a checkpoint."""
    bound = state.programs.bound
    arrays = {f"weights/{name}": value for name, value in ours(bound, state.values).items()}
    for key, value in state.slots.items():
        name, slot = key.rsplit(":", 1)
        number = backend.numpy(value)
        arrays[f"optimizer/{key}"] = number if slot == STEP else bound[name].ours(number)
    arrays |= {f"instruments/{key}": value for key, value in state.instruments.sums.items()}
    if state.average:
        arrays |= {f"average/{name}": value for name, value in ours(bound, state.average).items()}
        arrays["average_steps"] = np.array(state.average_steps)
    if state.losses:
        arrays["losses"] = np.array([float(loss) for loss in state.losses], np.float32)
    write_checkpoint(folder, arrays, state.counters)


def ours(bound: dict[str, Bound], values: Values) -> dict[str, Array]:
    """Tensors of the backend as arrays in our layout."""
    return {name: bound[name].ours(backend.numpy(value)) for name, value in values.items()}


def theirs(bound: dict[str, Bound], arrays: Arrays) -> Values:
    """Arrays in our layout as tensors of the backend; of those that the network has."""
    return {
        name: ops.convert_to_tensor(np.ascontiguousarray(one.theirs(arrays[name]), np.float32))
        for name, one in bound.items()
    }


def _restore(state: State, job: Job, arrays: dict[str, Array], counters: Counters) -> None:
    state.counters = counters
    state.set(part(arrays, "weights/"))
    _load_slots(state, job, part(arrays, "optimizer/"))
    state.instruments.sums = part(arrays, "instruments/")
    if job.spec.training.ema:
        state.average = theirs(state.programs.bound, part(arrays, "average/"))
        state.average_steps = int(arrays["average_steps"].item())
    state.losses = list(arrays.get("losses", ()))


def _inherit(state: State, job: Job, images: Any) -> None:
    """The parent's weights, or its whole state, with the surgery that lies between the two networks."""
    plan, arrays, counters = to_inherit(job, state.programs.network.graph)
    bound = state.programs.bound
    begun = ours(bound, state.values)
    state.set(operate(plan, part(arrays, "weights/"), begun))
    _calibrate(plan, state, images)
    if job.spec.inherit == "state":
        state.counters.position = counters.position
        state.counters.seconds_before = counters.seconds_before + counters.seconds
        _load_slots(state, job, operate_slots(plan, part(arrays, "optimizer/"), begun))
    if job.spec.training.ema:
        inherited = part(arrays, "average/") or part(arrays, "weights/")
        state.average = theirs(bound, operate_average(plan, inherited, ours(bound, state.values)))
        state.average_steps = int(arrays["average_steps"].item()) if "average_steps" in arrays else 0


def _calibrate(plan: Plan, state: State, images: Any) -> None:
    """Set the norms of a new layer so that they give back what goes into them, on a batch of training images.

    One program computes what all of them see: a norm that is set so changes nothing for those behind it.
    """
    if not plan.calibrate:
        return
    graph = state.programs.network.graph
    arriving = state.programs.passed(tuple(plan.calibrate))(state.values, images)
    for name, seen in zip(plan.calibrate, arriving, strict=True):
        node = graph.node(name)
        assert node.op == "norm"
        x = backend.numpy(seen).astype(np.float64)
        mean, variance = x.mean((0, 1, 2)), x.var((0, 1, 2))
        set_to = {
            "running_mean": mean,
            "running_var": variance,
            "bias": mean,
            "weight": np.sqrt(variance + node.epsilon),
        }
        for what, value in set_to.items():
            own = state.still if what.startswith("running") else state.trained
            own[f"{name}.{what}"] = ops.convert_to_tensor(value.astype(np.float32))


def _load_slots(state: State, job: Job, remembered: Arrays) -> None:
    """Put back what is remembered. A weight of which nothing is remembered begins anew, and so does one of which another
    kind of optimizer remembers something."""
    wanted = set(slot_names(job.spec.training.optimizer))
    for name in state.trained:
        found = {slot for slot in (*wanted, "momentum_buffer", STEP) if f"{name}:{slot}" in remembered}
        for slot in wanted if found == wanted else ():
            value = remembered[f"{name}:{slot}"]
            laid = value.reshape(()) if slot == STEP else state.programs.bound[name].theirs(value)
            state.slots[f"{name}:{slot}"] = ops.convert_to_tensor(np.ascontiguousarray(laid, np.float32))
