"""A trial's files, the same for every library, so that one library can go on from what another has left.

``state.safetensors`` is the whole train state in one file: it is there whole or not at all, so a crash at any moment
leaves the last checkpoint or the one before. Its arrays are in the layout of ``spec.graph.weights``:

- ``weights/NAME``: all tensors of the network, running statistics among them;
- ``optimizer/NAME:SLOT``: what the optimizer remembers of a weight, under the names of torch (``momentum_buffer``,
  ``exp_avg``, ``exp_avg_sq``, ``square_avg``, ``step``) and with their meaning;
- ``average/NAME`` and ``average_steps``: the moving average of the weights, where one is kept;
- ``instruments/KEY``: the sums of the instruments (``trainers.instruments``);
- ``losses``: those since the last point of the learning curve;
- ``random/...``: the library's own generator, where it has one.

The counters are JSON in the file's metadata.
"""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from amla import artifacts
from amla.errors import TrialFailure
from amla.spec.architecture import parse_architecture
from amla.spec.graph import Graph
from amla.spec.lower import lower
from amla.spec.surgery import Plan, surgery_plan
from amla.spec.trial import Job, Point, Snapshot
from amla.trainers.surgery import Array

MODEL = "model.safetensors"
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
    cut: int = 0  # steps of the budget that there is no time for, as far as is known
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


def write_checkpoint(folder: str, arrays: Mapping[str, Array], counters: Counters) -> None:
    """``state.safetensors``, there whole or not at all."""
    artifacts.write(folder, STATE, artifacts.pack(arrays, {"counters": counters.to_json()}))


def read_checkpoint(folder: str) -> tuple[dict[str, Array], Counters] | None:
    """Arrays and counters of a folder's checkpoint; None where there is none."""
    content = artifacts.read(folder, STATE)
    if content is None:
        return None
    size = int.from_bytes(content[:8], "little")
    header = json.loads(content[8 : 8 + size])
    return artifacts.unpack(content), Counters.from_json(header["__metadata__"]["counters"])


def part(arrays: Mapping[str, Array], prefix: str) -> dict[str, Array]:
    """The arrays under a prefix (``weights/``), by what comes after it."""
    return {name.removeprefix(prefix): value for name, value in arrays.items() if name.startswith(prefix)}


def to_inherit(job: Job, graph: Graph) -> tuple[Plan, dict[str, Array], Counters]:
    """What the job's parent left, and the surgery that lies between its network and ``graph``.

    Of a folder without a train state (a network made elsewhere) there are the weights. Errors: ``TrialFailure`` where
    there are none either, or where the whole state is asked for.
    """
    checkpoint = read_checkpoint(job.parent_folder) if job.parent_folder else None
    if checkpoint is None and job.parent_folder and job.spec.inherit == "weights":
        model = artifacts.read(job.parent_folder, MODEL)
        weights = artifacts.unpack(model) if model is not None else {}
        checkpoint = ({f"weights/{name}": value for name, value in weights.items()}, Counters()) if weights else None
    architecture = artifacts.read(job.parent_folder, ARCHITECTURE) if job.parent_folder else None
    if checkpoint is None or architecture is None:
        raise TrialFailure("data", f"there is no state to inherit in {job.parent_folder}")
    channels, height, width = graph.input_shape
    parent = lower(parse_architecture(architecture), (channels, height, width), graph.num_classes)
    return surgery_plan(parent, graph), *checkpoint
