"""The procedure ``enas``: all networks of a space share the weights of one, and a controller learns which to draw
(arXiv 1802.03268).

A step is one on the weights, of a network that the controller has drawn (everything else of the supernet is off, and not
computed); then, once the weights have had a while alone, one on the controller by REINFORCE, with the accuracy of another
draw on a batch of held-out training images as its reward and a moving average of rewards as the baseline. The paper takes
turns by whole passes over the data, for which a short budget has no room. Norms go by the batch while networks are judged:
what they have seen before were other networks.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import torch
from torch import Tensor

from amla.datasets.base import Dataset
from amla.spaces.base import AnyArchitecture, SearchSpace, decisions_of_supernet, space_of
from amla.spaces.limits import excess
from amla.spec.graph import Graph
from amla.spec.lower import lower
from amla.spec.procedures import STRENGTH, EnasSettings
from amla.spec.training import AdamW, Augmentation
from amla.spec.trial import Candidate, Job, Result, Statistics
from amla.trainers.base import Reporter
from amla.trainers.evaluation import dtype_of
from amla.trainers.torch.controller import Sample, make_policy
from amla.trainers.torch.data import Batches
from amla.trainers.torch.device import device_name
from amla.trainers.torch.loop import Loop
from amla.trainers.torch.module import GraphModule, by_batch
from amla.trainers.torch.optim import Optimizer, load_slots, slots
from amla.trainers.torch.parts import parted
from amla.trainers.torch.state import begin

#: Networks that are drawn to tell how often a block is on.
DRAWN = 20
#: Networks that are drawn at most for one candidate that keeps the limits.
TRIES = 20
#: Batches by which the norms of the best candidate are set.
CALIBRATION = 20


def enas(job: Job, data: Dataset, device: torch.device, report: Reporter) -> Result:
    """How often a block is on comes back as its ``strength``, and the best of the networks drawn last as ``candidates``.
    Errors: ``TrialFailure``."""
    settings, training = EnasSettings.parse(job.spec.settings), job.spec.training
    graph = lower(job.spec.architecture, data.info.input_shape, data.info.num_classes)
    controller = Controller(settings, graph, job.seed)
    for_weights, held_out = parted(data, settings.controller_share, job.seed, "enas")
    batches = Batches(for_weights, training.batch_size, training.augmentation, job.seed, device)
    rewards = Batches(held_out, training.batch_size, Augmentation(), job.seed + 1, device)
    state = begin(job, graph, batches, device, controller)
    parts = {"job": job, "data": for_weights, "state": state, "batches": batches, "report": report}
    loop = Shared(controller, rewards, dtype=dtype_of(job), **parts)
    loop.run()
    images, labels = next(rewards(state.counters.step))
    candidates = controller.candidates(state.module, images, labels)
    if candidates:
        state.module.close(controller.off(candidates[0].architecture))
        _calibrate(state.module, batches, state.counters.step)
    return loop.end(graph, device_name(device)).model_copy(update={"candidates": tuple(candidates)})


class Controller:
    """The policy, its optimizer and its baseline."""

    def __init__(self, settings: EnasSettings, graph: Graph, seed: int) -> None:
        self.settings, self.seed = settings, seed
        self.space: SearchSpace = space_of(settings.problem)
        supernet = self.space.supernet()
        assert supernet is not None  # the searcher has asked for it
        self.mixtures = supernet.mixtures
        self.output = {block.name: block.output for block in graph.blocks}
        self.policy = make_policy(decisions_of_supernet(self.space), settings, seed)
        self.optimizer = Optimizer(AdamW(weight_decay=0.0), list(self.policy.parameters()))
        self.optimizer.rate = settings.controller_rate
        self.baseline: float | None = None

    def draw(self, *places: int) -> Sample:
        """The sample of these numbers; always the same one, for the same policy."""
        mixed = np.random.SeedSequence([self.seed, *places]).generate_state(1, np.uint64)[0] >> 1
        sample: Sample = self.policy(torch.Generator().manual_seed(int(mixed)))
        return sample

    def network(self, sample: Sample) -> AnyArchitecture:
        return self.space.decode(sample.taken)

    def off(self, network: AnyArchitecture) -> set[str]:
        """The output nodes of all blocks that a network has not."""
        kept = self.space.kept(network)
        return {
            self.output[block]
            for mixture, options in self.mixtures.items()
            for option, blocks in options.items()
            if option not in kept[mixture]
            for block in blocks
        }

    def learn(self, sample: Sample, reward: float) -> None:
        """One step of REINFORCE (Williams 1992)."""
        decay = self.settings.baseline_decay
        self.baseline = reward if self.baseline is None else decay * self.baseline + (1.0 - decay) * reward
        advantage = reward - self.baseline
        loss = -advantage * sample.log_probability - self.settings.entropy_weight * sample.entropy
        loss.backward()
        self.optimizer.step()
        self.optimizer.zero_grad()

    @torch.no_grad()
    def candidates(self, module: GraphModule, images: Tensor, labels: Tensor) -> list[Candidate]:
        """Distinct networks within the limits, judged on one batch, the best first."""
        found: dict[str, Candidate] = {}
        for number in range(TRIES * self.settings.candidates):
            network = self.network(self.draw(0, number, 2))
            if len(found) < self.settings.candidates and excess(network, self.settings.problem) is None:
                key = network.to_json()
                if key not in found:
                    judged = self.accuracy(module, network, images, labels)
                    found[key] = Candidate(architecture=network, accuracy=judged)
        return sorted(found.values(), key=lambda candidate: -candidate.accuracy)

    @torch.no_grad()
    def accuracy(self, module: GraphModule, network: AnyArchitecture, images: Tensor, labels: Tensor) -> float:
        """With the shared weights, on one batch."""
        module.taps = {}
        module.close(self.off(network))
        by_batch(module)
        right = float((module(images)[0].argmax(1) == labels).float().mean())
        module.train()
        return right

    @torch.no_grad()
    def statistics(self) -> Statistics:
        off = [self.off(self.network(self.draw(0, number, 3))) for number in range(DRAWN)]
        blocks = {block for options in self.mixtures.values() for own in options.values() for block in own}
        return {
            block: {STRENGTH: sum(self.output[block] not in path for path in off) / DRAWN} for block in sorted(blocks)
        }

    def tensors(self) -> dict[str, Tensor]:
        found = {f"policy/{name}": value for name, value in self.policy.state_dict().items()}
        found |= {f"adam/{name}": value for name, value in slots(self.optimizer, self.policy).items()}
        baseline = [] if self.baseline is None else [self.baseline]
        return found | {"baseline": torch.tensor(baseline, dtype=torch.float64)}

    def load(self, tensors: Mapping[str, Tensor]) -> None:
        def part(prefix: str) -> dict[str, Tensor]:
            return {name.removeprefix(prefix): value for name, value in tensors.items() if name.startswith(prefix)}

        self.policy.load_state_dict(part("policy/"))
        load_slots(self.optimizer, self.policy, part("adam/"))
        self.baseline = float(tensors["baseline"][0]) if len(tensors["baseline"]) else None


class Shared(Loop):
    """A training whose every step is of another network, and is followed by one of the controller."""

    def __init__(self, controller: Controller, rewards: Batches, **of_training: Any) -> None:
        super().__init__(**of_training)
        self.controller = controller
        self.rewards = rewards(self.state.counters.step)

    def _step(self, *batch: Any) -> Tensor:
        controller, step = self.controller, self.state.counters.step
        with torch.no_grad():
            drawn = controller.draw(step, 0)
        self.state.module.close(controller.off(controller.network(drawn)))
        loss = super()._step(*batch)
        images, labels = next(self.rewards)
        if self._reached(controller.settings.warmup):
            self._learn(controller.draw(step, 1), images, labels)
        return loss

    def _learn(self, sample: Sample, images: Tensor, labels: Tensor) -> None:
        controller = self.controller
        network = controller.network(sample)
        fits = excess(network, controller.settings.problem) is None
        controller.learn(sample, controller.accuracy(self.state.module, network, images, labels) if fits else 0.0)


@torch.no_grad()
def _calibrate(module: GraphModule, batches: Batches, step: int) -> None:
    """The norms see some batches as the network now is."""
    by_batch(module)
    for (images, _), _ in zip(batches(step), range(CALIBRATION), strict=False):
        module(images)
    module.train()
