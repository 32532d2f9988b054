"""``KerasTrainer``: networks of a Graph, built, trained and measured in Keras 3, on JAX or TensorFlow."""

from __future__ import annotations

import contextlib
import math
import os
import time
from collections.abc import Iterator, Mapping
from typing import Any, ClassVar, NamedTuple

import keras
import numpy as np
from keras import ops
from pydantic import JsonValue

from amla.datasets.base import Dataset, Images
from amla.errors import DataError, TrialFailure
from amla.spec.data import DatasetInfo, Split
from amla.spec.graph import Graph
from amla.spec.lower import lower
from amla.spec.training import Training
from amla.spec.trial import Job, Result
from amla.trainers.base import Floats, Reporter, Trainer, silent
from amla.trainers.batches import Batch, Batches, filled
from amla.trainers.chance import draw
from amla.trainers.checkpoint import CALIBRATION
from amla.trainers.evaluation import dtype_of, evaluation
from amla.trainers.keras import backend
from amla.trainers.keras.instruments import PROVIDED
from amla.trainers.keras.loop import Loop, measured_on
from amla.trainers.keras.network import fresh
from amla.trainers.keras.optim import decayed, fresh_slots
from amla.trainers.keras.program import EVALUATION_BATCH, Pixels, Programs, Recipe, pixels_of, programs, update
from amla.trainers.keras.state import begin, theirs
from amla.trainers.surgery import Arrays

PROCEDURES = frozenset({"train", "evaluate"})
#: bfloat16 is taken where a step is at least so many times as fast: with less to gain, noise would decide.
WORTH = 1.25
#: Steps of a measurement; the least of them counts, and the first, which compiles, is left out.
TURNS = 5
#: Made-up images of a batch that is only looked at.
MADE_UP = 64


class KerasTrainer(Trainer):
    """One device: the one that a job is bound to, else Keras's own choice. On a CPU, XLA takes all cores it is allowed."""

    provides = PROVIDED | PROCEDURES
    exports: ClassVar[tuple[str, ...]] = ("keras", "keras_source")

    def train(self, job: Job, data: Dataset, report: Reporter = silent) -> Result:
        self.require(job, "keras", ": --trainer torch may have it")
        with _one_training(job):
            info, training = data.info, job.spec.training
            graph = lower(job.spec.architecture, info.input_shape, info.num_classes)
            batches = Batches(data, training.batch_size, training.augmentation, job.seed)
            images = batches.first_images(CALIBRATION)
            state = begin(job, graph, programs(graph, dtype_of(job)), info, images)
            loop = Loop(job, data, state, batches, report)
            loop.run()
            return loop.end(graph, backend.device())

    def evaluate(self, job: Job, data: Dataset, split: Split) -> Result:
        def measured(graph: Graph, weights: Arrays) -> tuple[float, float]:
            made = programs(graph, "float32")
            return measured_on(made.evaluate(pixels_of(data.info)), theirs(made, weights), data, split)

        with _one_training(job):
            return evaluation(job, data.info, split, measured, backend.device())

    def predict(self, graph: Graph, weights: Mapping[str, Floats], info: DatasetInfo, images: Images) -> Floats:
        if not len(images):
            return np.zeros((0, graph.num_classes), np.float32)
        made = programs(graph, "float32")
        values = theirs(made, weights)
        run = made.evaluate(pixels_of(info, str(images.dtype)))
        # sizes that are powers of two: every new one is compiled anew
        size = min(EVALUATION_BATCH, 2 ** math.ceil(math.log2(len(images))))
        parts = [images[start : start + size] for start in range(0, len(images), size)]
        answers = [backend.numpy(ops.softmax(run(*values, filled(part, size))[0]))[: len(part)] for part in parts]
        probabilities: Floats = np.concatenate(answers)
        return probabilities

    def measure(self, graph: Graph, training: Training, measured: Mapping[str, JsonValue]) -> dict[str, Any]:
        backend.name()
        precision = training.precision if training.precision != "auto" else measured.get("dtype")
        # on a CPU, XLA computes bfloat16 in float32, and converts
        dtypes = [str(precision)] if precision else ["float32"] if backend.on_cpu() else ["float32", "bfloat16"]
        paces = {dtype: pace(graph, dtype, training) for dtype in dtypes}
        best = min(dtypes, key=lambda dtype: paces[dtype].step * (1.0 if dtype == dtypes[0] else WORTH))
        return {
            "dtype": best,
            "threads": int(str(measured.get("threads") or len(os.sched_getaffinity(0)))),
            "step_seconds": paces[best].step,
            "evaluate_seconds": paces[best].image,
            "start_seconds": paces[best].start,
            "device": backend.device(),
        }


# ------------------------------------------------------------------------------------------------------------ small parts
class Pace(NamedTuple):
    """Seconds of one step, of one image in evaluation, and of what comes before both: building and compiling."""

    step: float
    image: float
    start: float


def pace(graph: Graph, dtype: str, training: Training) -> Pace:
    """How fast a network is trained, on made-up images. Its programs are made anew: those of before are compiled already."""
    began = time.perf_counter()
    made = Programs(graph, dtype)
    steps = step_seconds(made, training)
    images = image_seconds(made)
    whole = time.perf_counter() - began
    return Pace(min(steps), min(images), max(0.0, whole - TURNS * (min(steps) + min(images) * MADE_UP)))


def step_seconds(made: Programs, training: Training) -> list[float]:
    """Seconds of a few training steps on made-up images, once they are compiled."""
    graph = made.network.graph
    channels, height, width = graph.input_shape
    how = training.augmentation
    pixels = Pixels(1.0, (0.0,) * channels, (1.0,) * channels)
    recipe = Recipe(pixels, how, training.label_smoothing, training.auxiliary_weight)
    gradients = made.gradients(recipe)
    step = update(training.optimizer, training.clip, 0.0)
    trained, still = theirs(made, fresh(graph, 0))
    slots, decay = fresh_slots(training.optimizer, made.trained), decayed(made.trained)
    images = np.random.default_rng(0).standard_normal((training.batch_size, height, width, channels), np.float32)
    labels = np.arange(training.batch_size) % graph.num_classes
    batch = Batch(images, labels, draw(how, training.batch_size, (height, width), 0, 0, 0), np.uint32(0))
    times: list[float] = []
    for _ in range(TURNS):
        began = time.perf_counter()
        loss, slopes, still = gradients(trained, still, batch)
        trained, slots, _ = step((trained, still), slopes, slots, (), decay, np.float32(0.0), np.float32(0.0))
        float(loss)
        times.append(time.perf_counter() - began)
    return times[1:]


def image_seconds(made: Programs) -> list[float]:
    """Seconds that one image takes in a batch, a few times, once it is compiled."""
    channels, height, width = made.network.graph.input_shape
    run = made.evaluate(Pixels(1.0, (0.0,) * channels, (1.0,) * channels))
    values = theirs(made, fresh(made.network.graph, 0))
    images = np.zeros((MADE_UP, height, width, channels), np.float32)
    times: list[float] = []
    for _ in range(TURNS):
        began = time.perf_counter()
        backend.numpy(run(*values, images)[0])
        times.append((time.perf_counter() - began) / MADE_UP)
    return times[1:]


@contextlib.contextmanager
def _one_training(job: Job) -> Iterator[None]:
    """On the job's device. What ends a trial, not a search, becomes a failure of the trial: no memory, bad data."""
    backend.name()
    gpu = job.resources.gpu
    try:
        with keras.device(gpu.replace("cuda", "gpu")) if gpu else contextlib.nullcontext():
            yield
    except MemoryError as error:
        raise TrialFailure("out_of_memory", str(error) or "out of memory") from error
    except DataError as error:
        raise TrialFailure("data", str(error)) from error
    except backend.failures() as error:
        if not backend.lacks_memory(error):
            raise
        raise TrialFailure("out_of_memory", str(error).splitlines()[0]) from error
