"""The losses of a network with branches switched off, see ``amla.trainers.switched``: one program for all of them, in which
every branch has a gate."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from amla.datasets.base import Dataset
from amla.spec.training import Augmentation
from amla.spec.trial import Job
from amla.trainers.batches import Batches
from amla.trainers.keras.program import pixels_of
from amla.trainers.keras.state import State
from amla.trainers.switched import IMAGES, WHOLE


def losses_without(job: Job, data: Dataset, state: State, outputs: Sequence[str]) -> dict[str, float]:
    """Of the network that is evaluated, on images of the training split."""
    batch = next(Batches(data, IMAGES, Augmentation(), job.seed)(0))
    run = state.programs.gated(pixels_of(data.info), tuple(outputs))

    def loss(off: str) -> float:
        gates = np.array([name != off for name in outputs], np.float32)
        return float(run(*state.evaluated, batch.images, batch.labels, gates))

    return {off: loss(off) for off in (WHOLE, *outputs)}
