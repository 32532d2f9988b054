"""The state of a training in Keras: made fresh, inherited from a parent, written to a checkpoint, and read from one.

All of it are vectors (``vectors.Layout``), in Keras's layout; a checkpoint has arrays by names, in ours.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from amla import artifacts
from amla.datasets.base import Images
from amla.spec.data import DatasetInfo
from amla.spec.graph import Graph
from amla.spec.surgery import Plan
from amla.spec.trial import Job
from amla.trainers.batches import filled, padded_size
from amla.trainers.checkpoint import ARCHITECTURE, Counters, part, read_checkpoint, to_inherit, write_checkpoint
from amla.trainers.keras import backend
from amla.trainers.keras.instruments import Instruments
from amla.trainers.keras.network import fresh
from amla.trainers.keras.optim import Slots, fresh_slots, slot_names
from amla.trainers.keras.program import EVALUATION_BATCH, Programs, pixels_of
from amla.trainers.keras.vectors import Both
from amla.trainers.surgery import STEP, Array, Arrays, operate, operate_average, operate_slots


@dataclass
class State:
    """A training as it stands between two steps. ``still`` are the running statistics.

    ``grown``: what goes into the norms that surgery set, which the network's evaluation gives too.
    """

    programs: Programs
    trained: Any
    still: Any
    slots: Slots
    average: Both | tuple[()]
    average_steps: int
    instruments: Instruments
    counters: Counters
    losses: list[Any] = field(default_factory=list)  # since the last point of the learning curve
    grown: tuple[str, ...] = ()

    @property
    def evaluated(self) -> Both:
        """Those of the network that is evaluated: the average of weights where one is kept."""
        return self.average or (self.trained, self.still)


def begin(job: Job, graph: Graph, programs: Programs, info: DatasetInfo, images: Images) -> State:
    """The state in which a job's training begins or goes on.

    Where the job's folder has a checkpoint, that; else a fresh network, or the parent's with the surgery applied.
    ``images``: raw ones, on which the norms of grown layers are set.
    """
    training = job.spec.training
    begun = theirs(programs, fresh(graph, job.seed))
    slots = fresh_slots(training.optimizer, programs.trained)
    state = State(programs, *begun, slots, (), 0, Instruments(graph, job.spec.instruments), Counters())
    artifacts.write(job.folder, ARCHITECTURE, job.spec.architecture.model_dump_json().encode())
    checkpoint = read_checkpoint(job.folder)
    if checkpoint is not None:
        _restore(state, job, *checkpoint)
    elif job.spec.inherit != "none":
        _inherit(state, job, info, images)
    if training.ema and not state.average:
        state.average = (state.trained, state.still)
    return state


def save(state: State, folder: str) -> None:
    """Write a checkpoint."""
    made = state.programs
    arrays = {f"weights/{name}": value for name, value in ours(made, (state.trained, state.still)).items()}
    for slot, vector in state.slots.items():
        for name, value in made.trained.unpack(vector).items():
            array = value.reshape(-1)[0] if slot == STEP else made.bound[name].ours(value)
            arrays[f"optimizer/{name}:{slot}"] = np.asarray(array)
    arrays |= {f"instruments/{key}": value for key, value in state.instruments.sums.items()}
    if state.average:
        arrays |= {f"average/{name}": value for name, value in ours(made, state.average).items()}
        arrays["average_steps"] = np.array(state.average_steps)
    if state.losses:
        arrays["losses"] = np.array([float(loss) for loss in state.losses], np.float32)
    write_checkpoint(folder, arrays, state.counters)


def ours(programs: Programs, values: Both) -> dict[str, Array]:
    """A network's vectors as arrays in our layout."""
    arrays = programs.trained.unpack(values[0]) | programs.still.unpack(values[1])
    return {name: bound.ours(arrays[name]) for name, bound in programs.bound.items()}


def theirs(programs: Programs, arrays: Arrays) -> Both:
    """Arrays in our layout as a network's vectors; of those that it has."""
    laid = {name: bound.theirs(arrays[name]) for name, bound in programs.bound.items()}
    return programs.trained.pack(laid), programs.still.pack(laid)


def _restore(state: State, job: Job, arrays: dict[str, Array], counters: Counters) -> None:
    state.counters = counters
    state.trained, state.still = theirs(state.programs, part(arrays, "weights/"))
    _load_slots(state, job, part(arrays, "optimizer/"))
    state.instruments.sums = part(arrays, "instruments/")
    if job.spec.training.ema:
        state.average = theirs(state.programs, part(arrays, "average/"))
        state.average_steps = int(arrays["average_steps"].item())
    state.losses = list(arrays.get("losses", ()))


def _inherit(state: State, job: Job, info: DatasetInfo, images: Images) -> None:
    """The parent's weights, or its whole state, with the surgery that lies between the two networks."""
    made = state.programs
    plan, arrays, counters = to_inherit(job, made.network.graph)
    begun = ours(made, (state.trained, state.still))
    child = operate(plan, part(arrays, "weights/"), begun)
    if plan.calibrate:
        nodes = made.network.nodes
        state.grown = tuple(nodes[name].inputs[0] for name in plan.calibrate)
        run = made.evaluate(pixels_of(info), state.grown)
        size = padded_size(info, "valid", EVALUATION_BATCH)
        _calibrate(plan, child, made, lambda values: _seen(run, values, images, size))
    state.trained, state.still = theirs(made, child)
    if job.spec.inherit == "state":
        state.counters.position = counters.position
        state.counters.seconds_before = counters.seconds_before + counters.seconds
        _load_slots(state, job, operate_slots(plan, part(arrays, "optimizer/"), begun))
    if job.spec.training.ema:
        inherited = part(arrays, "average/") or part(arrays, "weights/")
        state.average = theirs(made, operate_average(plan, inherited, child))
        state.average_steps = int(arrays["average_steps"].item()) if "average_steps" in arrays else 0


def _calibrate(plan: Plan, child: dict[str, Array], made: Programs, seen_by: Callable[[Both], list[Array]]) -> None:
    """Set the norms of a new layer in ``child`` so that they give back what goes into them (``seen_by``: that, for weights).

    One run of the network shows what all of them see, each of them doing nothing: one that is set so changes nothing for
    those behind it.
    """
    norms = [(name, made.network.nodes[name]) for name in plan.calibrate]
    for name, norm in norms:
        assert norm.op == "norm"
        child[f"{name}.running_var"] = np.full(norm.shape[:1], 1.0 - norm.epsilon, np.float32)
    for (name, norm), seen in zip(norms, seen_by(theirs(made, child)), strict=True):
        assert norm.op == "norm"
        mean, variance = seen.mean((0, 1, 2)), seen.var((0, 1, 2))
        child |= {f"{name}.running_mean": mean, f"{name}.running_var": variance, f"{name}.bias": mean}
        if norm.scale:
            child[f"{name}.weight"] = np.sqrt(variance + norm.epsilon)


def _seen(evaluate: Any, values: Both, images: Images, size: int) -> list[Array]:
    """What goes into the grown norms, of all images. They pass in batches as large as those of validation: for these the
    program is compiled anyway."""
    parts: list[list[Array]] = []
    for first in range(0, len(images), size):
        batch = images[first : first + size]
        outputs = evaluate(*values, filled(batch, size))[1]
        parts.append([backend.numpy(output)[: len(batch)].astype(np.float64) for output in outputs])
    return [np.concatenate(part) for part in zip(*parts, strict=True)]


def _load_slots(state: State, job: Job, remembered: Arrays) -> None:
    """Put back what is remembered. A weight of which nothing is remembered begins anew, and so does one of which another
    kind of optimizer remembers something."""
    layout, bound = state.programs.trained, state.programs.bound
    wanted = set(slot_names(job.spec.training.optimizer))
    known = (*wanted, "momentum_buffer", STEP)
    whole = [name for name in layout if {slot for slot in known if f"{name}:{slot}" in remembered} == wanted]
    for slot in wanted:
        arrays = {name: np.zeros(shape) for name, shape in layout.shapes.items()}
        for name in whole:
            value = remembered[f"{name}:{slot}"]
            arrays[name] = np.full(layout.shapes[name], value) if slot == STEP else bound[name].theirs(value)
        state.slots[slot] = layout.pack(arrays)
