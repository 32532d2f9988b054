"""The procedure ``darts``: weights and strengths of operations learnt by turns (arXiv 1806.09055).

The outputs of all blocks of a mixture are multiplied by the softmax of its strengths (equation 2; where the network sums
them, that is the mixed operation, and where it concatenates them, each is weighed in its place). A step is one of Adam on
the strengths, by a batch of the architecture's own part of the training images, with the weights as they are (first order:
xi = 0 in equation 6); then one on the weights, by a batch of the other part, as in any training.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from amla.datasets.base import Dataset
from amla.errors import SpecError
from amla.spec.graph import Graph
from amla.spec.lower import lower
from amla.spec.procedures import STRENGTH, DartsSettings
from amla.spec.training import AdamW
from amla.spec.trial import Job, Result, Statistics
from amla.trainers.base import Reporter
from amla.trainers.evaluation import dtype_of
from amla.trainers.torch.data import Batches
from amla.trainers.torch.device import device_name
from amla.trainers.torch.loop import Loop
from amla.trainers.torch.optim import Optimizer
from amla.trainers.torch.parts import parted
from amla.trainers.torch.state import begin

#: The deviation of the strengths at the start.
SPREAD = 1e-3
_SLOTS = ("step", "exp_avg", "exp_avg_sq")


def darts(job: Job, data: Dataset, device: torch.device, report: Reporter) -> Result:
    """The strengths come back as the statistic ``strength`` of every block. Errors: ``TrialFailure``."""
    settings, training = DartsSettings.parse(job.spec.settings), job.spec.training
    graph = lower(job.spec.architecture, data.info.input_shape, data.info.num_classes)
    strengths = Strengths(settings, graph, job.seed, device)
    for_weights, for_strengths = parted(data, settings.architecture_share, job.seed, "darts")
    batches = Batches(for_weights, training.batch_size, training.augmentation, job.seed, device)
    others = Batches(for_strengths, training.batch_size, training.augmentation, job.seed + 1, device)
    state = begin(job, graph, batches, device, strengths)
    state.module.gates = strengths.gates()
    loop = Bilevel(
        strengths, others, job=job, data=for_weights, state=state, batches=batches, dtype=dtype_of(job), report=report
    )
    loop.run()
    return loop.end(graph, device_name(device))


class Strengths:
    """One number an option; ``gates`` gives every block the share of its option in its mixture."""

    def __init__(self, settings: DartsSettings, graph: Graph, seed: int, device: torch.device) -> None:
        self.mixtures = settings.mixtures
        self.output = {block.name: block.output for block in graph.blocks}
        unknown = {b for options in self.mixtures.values() for blocks in options.values() for b in blocks} - set(
            self.output
        )
        if unknown:
            raise SpecError(f"settings.mixtures: the network has no block {min(unknown)!r}")
        self.sizes = [len(options) for options in self.mixtures.values()]
        generator = torch.Generator().manual_seed(seed)
        self.values = nn.Parameter((SPREAD * torch.randn(sum(self.sizes), generator=generator)).to(device))
        adam = AdamW(
            beta1=settings.architecture_beta1,
            beta2=settings.architecture_beta2,
            weight_decay=settings.architecture_weight_decay,
        )
        self.optimizer = Optimizer(adam, [self.values], decoupled=False)
        self.optimizer.rate = settings.architecture_rate

    def gates(self, *, learning: bool = False) -> dict[str, Tensor]:
        """By output node; with gradients where ``learning``."""
        shares = self._shares(self.values if learning else self.values.detach())
        return {self.output[block]: share for block, share in shares.items()}

    def statistics(self) -> Statistics:
        return {block: {STRENGTH: float(share)} for block, share in self._shares(self.values.detach()).items()}

    def tensors(self) -> dict[str, Tensor]:
        remembered = self.optimizer.state.get(self.values, {})
        return {"values": self.values.detach()} | {slot: remembered[slot] for slot in _SLOTS if slot in remembered}

    def load(self, tensors: Mapping[str, Tensor]) -> None:
        self.values.data.copy_(tensors["values"])
        if "step" in tensors:
            moments = {slot: tensors[slot].to(self.values.device) for slot in _SLOTS[1:]}
            self.optimizer.state[self.values] = {"step": tensors["step"].clone(), **moments}

    def _shares(self, values: Tensor) -> dict[str, Tensor]:
        found: dict[str, Tensor] = {}
        for options, own in zip(self.mixtures.values(), values.split(self.sizes), strict=True):
            for blocks, share in zip(options.values(), own.softmax(0), strict=True):
                found |= dict.fromkeys(blocks, share)
        return found


class Bilevel(Loop):
    """A training whose every step begins with one on the strengths."""

    def __init__(self, strengths: Strengths, batches_of_strengths: Batches, **of_training: Any) -> None:
        super().__init__(**of_training)
        self.strengths = strengths
        self.others = batches_of_strengths(self.state.counters.step)

    def _step(self, *batch: Any) -> Tensor:
        self._learn_strengths(*next(self.others))
        return super()._step(*batch)

    def _learn_strengths(self, images: Tensor, labels: Tensor) -> None:
        module = self.state.module
        module.taps = {}
        module.gates = self.strengths.gates(learning=True)
        with torch.autocast(self.device.type, torch.bfloat16, enabled=self.bfloat16):
            logits = module(images)[0]
        loss = F.cross_entropy(logits.float(), labels)
        loss.backward(inputs=[self.strengths.values])
        self.strengths.optimizer.step()
        self.strengths.optimizer.zero_grad()
        module.gates = self.strengths.gates()
