"""``CompiledTorchTrainer``: torch's trainer with the network's passes compiled, for long trainings on a GPU.

A layer of branches of a few channels is many small kernels: on a GPU, starting them takes longer than running them. torch's
compiler joins them, and has the GPU start all of a pass at once (CUDA graphs). Compiling a network takes a minute or two,
so that is for the network that was found, not for the search: ``--final-trainer torch-compiled``.

On a CPU there is nothing to be gained (docs/performance.md), so the passes are traced as for a GPU, with their gradients, and
what was traced is run as it is.

Everything else is that of ``TorchTrainer``: weights, checkpoints, measurements, results to within the order of sums. A step
that an instrument listens to is not a compiled one.
"""

from __future__ import annotations

from functools import partial
from typing import Any, ClassVar

import torch
from torch import Tensor

from amla.trainers.torch.instruments import provided
from amla.trainers.torch.loop import Loop
from amla.trainers.torch.train import train
from amla.trainers.torch.trainer import Procedure, TorchTrainer

#: How the passes are compiled on a kind of device.
COMPILERS: dict[str, dict[str, Any]] = {"cuda": {"mode": "reduce-overhead"}, "cpu": {"backend": "aot_eager"}}


class CompiledLoop(Loop):
    """The loop, with the forward pass and its gradient compiled at the first step."""

    def __init__(self, *given: Any) -> None:
        super().__init__(*given)
        torch.compiler.reset()  # what was compiled for another network is not to be asked about this one
        how = COMPILERS.get(self.device.type, {})
        self.compiled = torch.compile(self.state.module, fullgraph=True, dynamic=False, **how)

    def _forward(self, images: Tensor) -> tuple[Tensor, list[Tensor]]:
        module = self.state.module
        if module.taps or module.aside:
            return super()._forward(images)
        answer: tuple[Tensor, list[Tensor]] = self.compiled(images)
        return answer


class CompiledTorchTrainer(TorchTrainer):
    """Trains one network at a time; scores and supernets are for the trainer ``torch``."""

    name = "torch-compiled"
    procedures: ClassVar[dict[str, Procedure]] = {"train": partial(train, loop_type=CompiledLoop)}
    provides = provided() | {"evaluate", *procedures}
