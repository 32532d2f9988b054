"""The loss of a network with branches switched off, see ``amla.trainers.switched``: one program for all of them, in which
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
from amla.trainers.switched import IMAGES, Loss, branches_of


def loss_without(job: Job, data: Dataset, state: State) -> Loss:
    """Of the network that is evaluated, on images of the training split."""
    batch = next(Batches(data, IMAGES, Augmentation(), job.seed)(0))
    gated = tuple(block.output for block in branches_of(state.programs.network.graph))
    run = state.programs.gated(pixels_of(data.info), gated)

    def loss(off: Sequence[str]) -> float:
        gates = np.array([name not in off for name in gated], np.float32)
        return float(run(*state.evaluated, batch.images, batch.labels, gates))

    return loss
