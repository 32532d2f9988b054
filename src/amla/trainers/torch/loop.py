"""The training loop in torch: what happens at a step. What happens between steps belongs to no library."""

from __future__ import annotations

from functools import partial

import torch
import torch.nn.functional as F
from torch import Tensor

from amla.datasets.base import Dataset
from amla.spec.trial import Job, Statistics
from amla.trainers import loop
from amla.trainers.base import Reporter
from amla.trainers.surgery import Arrays
from amla.trainers.switched import rises
from amla.trainers.torch.data import Batches
from amla.trainers.torch.evaluation import evaluated, measured_on
from amla.trainers.torch.optim import clip
from amla.trainers.torch.state import State, save
from amla.trainers.torch.switched import losses_without


class Loop(loop.Loop):
    """One trial's training, from the step where its state stands to the end of its budget."""

    def __init__(self, job: Job, data: Dataset, state: State, batches: Batches, dtype: str, report: Reporter) -> None:
        super().__init__(job, data, state.counters, state.losses, batches, report)
        self.state = state
        self.bfloat16 = dtype == "bfloat16"
        self.device = batches.device
        self.parameters = list(state.module.parameters())

    def run(self) -> None:
        self.state.module.train()
        super().run()

    def _step(self, *batch: Tensor) -> Tensor:
        images, labels = batch
        state, training = self.state, self.training
        state.instruments.listen(state.module, state.counters.step)
        with torch.autocast(self.device.type, torch.bfloat16, enabled=self.bfloat16):
            logits, auxiliaries = self._forward(images)
        loss = F.cross_entropy(logits.float(), labels, label_smoothing=training.label_smoothing)
        for other in auxiliaries:
            auxiliary = F.cross_entropy(other.float(), labels, label_smoothing=training.label_smoothing)
            loss = loss + training.auxiliary_weight * auxiliary
        loss.backward()
        if training.clip:
            clip(self.parameters, training.clip)
        state.optimizer.rate = self._rate()
        state.optimizer.step()
        state.optimizer.zero_grad()
        if state.average:
            state.average.update(state.module)
        return loss.detach()

    def _forward(self, images: Tensor) -> tuple[Tensor, list[Tensor]]:
        """The answer of the network in training."""
        answer: tuple[Tensor, list[Tensor]] = self.state.module(images)
        return answer

    def _mean_loss(self) -> float:
        return float(torch.stack(self.losses).mean())

    def _measured(self) -> tuple[float, float]:
        return measured_on(evaluated(self.state), self.data, "valid", self.device)

    def _weights(self) -> Arrays:
        return {k: v.detach().cpu().float().numpy() for k, v in evaluated(self.state).state_dict().items()}

    def _statistics(self) -> Statistics:
        return self.state.statistics()

    def _switched_off(self) -> Statistics:
        return rises(self.state.module.graph, partial(losses_without, self.job, self.data, self.state))

    def _save(self) -> None:
        save(self.state, self.job.folder)
