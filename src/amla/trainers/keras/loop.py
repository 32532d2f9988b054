"""The training loop in Keras: what happens at a step. What happens between steps belongs to no library."""

from __future__ import annotations

from functools import partial
from typing import Any

import numpy as np

from amla.datasets.base import Dataset
from amla.spec.data import Split
from amla.spec.trial import Job, Statistics
from amla.trainers import loop
from amla.trainers.base import Reporter
from amla.trainers.batches import Batch, Batches, padded_batches
from amla.trainers.keras import backend
from amla.trainers.keras.optim import decayed
from amla.trainers.keras.program import EVALUATION_BATCH, Recipe, pixels_of, update
from amla.trainers.keras.state import State, ours, save
from amla.trainers.keras.switched import losses_without
from amla.trainers.keras.vectors import Both
from amla.trainers.surgery import Arrays
from amla.trainers.switched import rises


class Loop(loop.Loop):
    """One trial's training, from the step where its state stands to the end of its budget."""

    def __init__(self, job: Job, data: Dataset, state: State, batches: Batches, report: Reporter) -> None:
        super().__init__(job, data, state.counters, state.losses, batches, report)
        self.state = state
        how = self.training
        self.pixels = pixels_of(data.info)
        recipe = Recipe(self.pixels, how.augmentation, how.label_smoothing, how.auxiliary_weight)
        self.gradients = state.programs.gradients(recipe)
        self.sums = state.programs.sums(recipe, state.instruments.names) if state.instruments.names else None
        self.evaluate = state.programs.evaluate(self.pixels, state.grown)
        self.update = update(how.optimizer, how.clip, how.ema)
        self.decayed = decayed(state.programs.trained)

    def _step(self, *batch: Any) -> Any:
        state = self.state
        given = state.trained, state.still, Batch(*batch)
        if self.sums and state.instruments.listens(state.counters.step):
            state.instruments.add(self.sums(*given))
        loss, slopes, state.still = self.gradients(*given)
        rate, steps = np.float32(self._rate()), np.float32(state.average_steps)
        state.trained, state.slots, state.average = self.update(
            (state.trained, state.still), slopes, state.slots, state.average, self.decayed, rate, steps
        )
        state.average_steps += 1 if state.average else 0
        return loss

    def _mean_loss(self) -> float:
        return float(np.mean([float(loss) for loss in self.losses]))

    def _measured(self) -> tuple[float, float]:
        return measured_on(self.evaluate, self.state.evaluated, self.data, "valid")

    def _weights(self) -> Arrays:
        return ours(self.state.programs, self.state.evaluated)

    def _statistics(self) -> Statistics:
        weights, places = backend.numpy(self.state.trained), self.state.programs.trained.places
        return self.state.instruments.read(lambda node: float(weights[places[f"{node}.weight"]].item()))

    def _switched_off(self) -> Statistics:
        graph = self.state.programs.network.graph
        return rises(graph, partial(losses_without, self.job, self.data, self.state))

    def _save(self) -> None:
        save(self.state, self.job.folder)


def measured_on(evaluate: Any, values: Both, data: Dataset, split: Split) -> tuple[float, float]:
    """(accuracy in [0, 1], mean cross-entropy) on a split, by the compiled program of a network in evaluation."""
    right = loss = count = 0.0
    for images, labels in padded_batches(data, split, EVALUATION_BATCH):
        logits = backend.numpy(evaluate(*values, images)[0])[: len(labels)].astype(np.float64)
        highest = logits.max(1, keepdims=True)
        logs = logits - highest - np.log(np.exp(logits - highest).sum(1, keepdims=True))
        right += float((logits.argmax(1) == labels).sum())
        loss -= float(logs[np.arange(len(labels)), labels].sum())
        count += len(labels)
    return right / max(count, 1.0), loss / max(count, 1.0)
