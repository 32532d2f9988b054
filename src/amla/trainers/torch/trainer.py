"""``TorchTrainer``: networks of a Graph, built, trained and measured in torch."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Callable, Iterator, Mapping
from typing import Any, ClassVar

import numpy as np
import torch
import torch.nn.functional as F
from pydantic import JsonValue
from torch import Tensor, nn

from amla.datasets.base import Dataset, Images
from amla.errors import DataError, TrialFailure
from amla.spec.data import DatasetInfo, Split
from amla.spec.graph import Graph
from amla.spec.training import Training
from amla.spec.trial import Job, Result
from amla.trainers.base import Floats, Reporter, Trainer, silent
from amla.trainers.evaluation import evaluation
from amla.trainers.surgery import Arrays
from amla.trainers.torch.darts import darts
from amla.trainers.torch.data import EVALUATION_BATCH, Normalise, to_tensor
from amla.trainers.torch.device import default_device, device_name, memory_kept
from amla.trainers.torch.enas import enas
from amla.trainers.torch.evaluation import measured_on
from amla.trainers.torch.instruments import provided
from amla.trainers.torch.kernels import Rules, join, measured_rules, to_json, wait_for, worthwhile_dtypes
from amla.trainers.torch.module import GraphModule
from amla.trainers.torch.optim import clip, make_optimizer
from amla.trainers.torch.score import score
from amla.trainers.torch.train import train

#: bfloat16, or fewer threads, are taken where a step is at least so many times as fast: with less to gain, noise would
#: decide, and one seed would give other results on the same machine.
WORTH = 1.25
#: Seconds that the measurement of one way to train takes, about; and its turns, at least and at most.
MEASURED = 0.3
TURNS = (2, 12)
#: What a trial may ask for by its ``procedure``.
Procedure = Callable[[Job, Dataset, torch.device, Reporter], Result]
PROCEDURES: dict[str, Procedure] = {"train": train, "score": score, "darts": darts, "enas": enas}


class TorchTrainer(Trainer):
    """One device: the one that a job is bound to, else a GPU where there is one, else the CPU."""

    name: ClassVar[str] = "torch"
    procedures: ClassVar[dict[str, Procedure]] = PROCEDURES
    provides = provided() | {"evaluate", *PROCEDURES}

    def train(self, job: Job, data: Dataset, report: Reporter = silent) -> Result:
        self.require(job, self.name)
        with _one_training(job) as device, _failures():
            return self.procedures[job.spec.procedure](job, data, device, report)

    def evaluate(self, job: Job, data: Dataset, split: Split) -> Result:
        with _one_training(job) as device, _failures():

            def measured(graph: Graph, weights: Arrays) -> tuple[float, float]:
                return measured_on(_loaded(graph, weights, device), data, split, device)

            return evaluation(job, data.info, split, measured, device_name(device))

    def predict(self, graph: Graph, weights: Mapping[str, Floats], info: DatasetInfo, images: Images) -> Floats:
        device = default_device()
        module = _loaded(graph, weights, device)
        normalise = Normalise(info, device)
        answers = []
        with torch.no_grad():
            for start in range(0, len(images), EVALUATION_BATCH):
                x = normalise(to_tensor(images[start : start + EVALUATION_BATCH], device))
                answers.append(module(x)[0].float().softmax(1).cpu())
        if not answers:
            return np.zeros((0, graph.num_classes), np.float32)
        probabilities: Floats = torch.cat(answers).numpy()
        return probabilities

    @memory_kept()
    def measure(self, graph: Graph, training: Training, measured: Mapping[str, JsonValue]) -> dict[str, Any]:
        device = default_device()
        module = GraphModule(graph)
        module.reset(0)
        module.to(device=device, memory_format=torch.channels_last)  # type: ignore[call-overload]
        most = int(str(measured.get("threads") or torch.get_num_threads()))
        precision = training.precision if training.precision != "auto" else measured.get("dtype")
        dtypes = [str(precision)] if precision else worthwhile_dtypes(device)
        settled = device.type != "cpu" or bool(measured.get("threads"))
        fewer = [] if settled else sorted({1, most // 2} - {0, most}, reverse=True)
        ways = [(dtype, most) for dtype in dtypes] + [(dtypes[0], threads) for threads in fewer]
        with _threads(most):
            by_dtype = {dtype: measured_rules(graph, training.batch_size, device, dtype) for dtype in dtypes}
        seconds = step_seconds(module, training, device, {way: by_dtype[way[0]] for way in ways})
        # the first way is kept where it makes no odds: threads that a small network leaves idle serve a grown one
        best = min(ways, key=lambda way: seconds[way] * (1.0 if way == ways[0] else WORTH))
        with _threads(best[1]):
            rules, name = measured_rules(graph, training.batch_size, device, best[0]), device_name(device)
        return {
            "dtype": best[0],
            "threads": best[1],
            "kernels": to_json(rules),
            "step_seconds": seconds[best],
            "evaluate_seconds": image_seconds(module, device, best[1]),
            "device": name,
        }


# ------------------------------------------------------------------------------------------------------------ small parts
#: A way to train: the dtype of its arithmetic, and CPU threads.
Way = tuple[str, int]


def step_seconds(
    module: GraphModule,
    training: Training,
    device: torch.device,
    ways: Mapping[Way, Rules],
) -> dict[Way, float]:
    """Seconds of one training step on made-up images, each way: the least of a few, the first left out.

    ``ways``: with the rules for cells of each. The ways take turns, so that what else the machine does meets them all alike.
    """
    module.train()
    optimizer = make_optimizer(training.optimizer, module)
    optimizer.rate = 0.0
    parameters: list[nn.Parameter] = list(module.parameters())
    made_up = torch.Generator().manual_seed(0)
    x = torch.randn((training.batch_size, *module.graph.input_shape), generator=made_up).to(device)
    x = x.contiguous(memory_format=torch.channels_last)
    labels = torch.arange(training.batch_size, device=device) % module.graph.num_classes

    def step(dtype: str) -> float:
        began = time.perf_counter()
        with torch.autocast(device.type, torch.bfloat16, enabled=dtype == "bfloat16"):
            loss = F.cross_entropy(module(x)[0].float(), labels)
        loss.backward()
        if training.clip:
            clip(parameters, training.clip)
        optimizer.step()
        optimizer.zero_grad()
        wait_for(device)
        return time.perf_counter() - began

    times: dict[Way, list[float]] = {way: [] for way in ways}
    with torch.random.fork_rng(devices=[device] if device.type == "cuda" else []):
        for turn in range(TURNS[1]):
            if turn >= TURNS[0] and sum(map(sum, times.values())) > MEASURED * len(ways):
                break
            for (dtype, threads), rules in ways.items():
                join(module, rules)
                with _threads(threads):
                    times[dtype, threads].append(step(dtype))
    return {way: min(taken[1:]) for way, taken in times.items()}


@torch.no_grad()
def image_seconds(module: GraphModule, device: torch.device, threads: int) -> float:
    """Seconds that one image takes, in a batch: the least of a few."""
    images = torch.zeros((64, *module.graph.input_shape), device=device).contiguous(memory_format=torch.channels_last)
    module.eval()
    with _threads(threads):
        times = []
        for _ in range(4):
            began = time.perf_counter()
            module(images)
            wait_for(device)
            times.append(time.perf_counter() - began)
        return min(times[1:]) / len(images)


def _loaded(graph: Graph, arrays: Mapping[str, Any], device: torch.device) -> GraphModule:
    module = GraphModule(graph)
    tensors: dict[str, Tensor] = {name: torch.from_numpy(np.array(arrays[name])) for name in module.state_dict()}
    module.load_state_dict(tensors)
    return module.to(device=device, memory_format=torch.channels_last).eval()  # type: ignore[no-any-return, call-overload]


@contextlib.contextmanager
def _one_training(job: Job) -> Iterator[torch.device]:
    """The device and the number of threads of a job; the global generator and the threads are put back behind it."""
    device = torch.device(job.resources.gpu) if job.resources.gpu else default_device()
    wanted = job.resources.threads or int(str(job.measured.get("threads") or 0))
    with _threads(wanted), memory_kept(), torch.random.fork_rng(devices=[device] if device.type == "cuda" else []):
        yield device


@contextlib.contextmanager
def _threads(count: int) -> Iterator[None]:
    """So many threads (0: as they are), put back behind it."""
    before = torch.get_num_threads()
    if count:
        torch.set_num_threads(count)
    try:
        yield
    finally:
        torch.set_num_threads(before)


@contextlib.contextmanager
def _failures() -> Iterator[None]:
    """What ends a trial, not a search: no memory, bad data."""
    try:
        yield
    except (MemoryError, torch.OutOfMemoryError) as error:
        raise TrialFailure("out_of_memory", str(error).splitlines()[0] if str(error) else "out of memory") from error
    except DataError as error:
        raise TrialFailure("data", str(error)) from error
    except RuntimeError as error:
        if "allocate memory" not in str(error):
            raise
        raise TrialFailure("out_of_memory", str(error).splitlines()[0]) from error
