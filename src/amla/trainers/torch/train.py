"""The procedure ``train``: a network trained for its budget."""

from __future__ import annotations

import torch

from amla.datasets.base import Dataset
from amla.spec.lower import lower
from amla.spec.trial import Job, Result
from amla.trainers.base import Reporter
from amla.trainers.evaluation import dtype_of
from amla.trainers.torch.data import Batches
from amla.trainers.torch.device import device_name
from amla.trainers.torch.loop import Loop
from amla.trainers.torch.state import begin


def train(job: Job, data: Dataset, device: torch.device, report: Reporter, loop_type: type[Loop] = Loop) -> Result:
    """By a loop of this kind. Errors: ``TrialFailure``."""
    graph = lower(job.spec.architecture, data.info.input_shape, data.info.num_classes)
    batches = Batches(data, job.spec.training.batch_size, job.spec.training.augmentation, job.seed, device)
    state = begin(job, graph, batches, device)
    loop = loop_type(job, data, state, batches, dtype_of(job), report)
    loop.run()
    return loop.end(graph, device_name(device))
