"""The compiled programs of a network: gradients on a batch, the optimizer's step, and predictions.

All of them are pure functions of two vectors: the weights that are trained, and the running statistics (``still``). They are
kept for the networks that were trained last: compiling one takes longer than running it a hundred times, and a chain of
trials comes back to the same networks.
"""

from __future__ import annotations

import functools
from typing import Any, NamedTuple

import keras
import numpy as np
from keras import ops

from amla.spec.data import DatasetInfo
from amla.spec.graph import Graph
from amla.spec.training import Augmentation, Clip
from amla.trainers.batches import Batch
from amla.trainers.chance import Draws, crop_padding
from amla.trainers.keras import backend
from amla.trainers.keras.instruments import Watched
from amla.trainers.keras.layers import blank_squares, by_batch
from amla.trainers.keras.network import Network, last, listed
from amla.trainers.keras.optim import AnyOptimizer, Slots, averaged, clipped, updated
from amla.trainers.keras.vectors import Both, Layout, Values

#: Networks whose programs are kept.
KEPT = 8
#: Images of a batch when nothing is trained.
EVALUATION_BATCH = 512


class Pixels(NamedTuple):
    """How raw images become what a network sees: divided by ``most``, then (x - mean) / std per channel."""

    most: float
    mean: tuple[float, ...]
    std: tuple[float, ...]


class Recipe(NamedTuple):
    """What is fixed in a program that computes gradients."""

    pixels: Pixels
    augmentation: Augmentation
    label_smoothing: float
    auxiliary_weight: float


class Programs:
    """A network and its compiled programs."""

    def __init__(self, graph: Graph, dtype: str) -> None:
        self.network = Network(graph, dtype)
        self.bound = self.network.bound
        self.trained, self.still = (
            Layout(
                {name: tuple(b.variable.shape) for name, b in self.bound.items() if b.variable.trainable is trainable}
            )
            for trainable in (True, False)
        )
        self.gradients = functools.lru_cache(4)(self._gradients)
        self.sums = functools.lru_cache(4)(self._sums)
        self.evaluate = functools.lru_cache(2)(self._evaluate)
        self.gated = functools.lru_cache(1)(self._gated)

    def call(self, model: Any, values: Values, inputs: list[Any], seed: Any | None = None) -> tuple[list[Any], Values]:
        """The model's outputs with these weights, and the running statistics after it. With a seed it is in training."""
        mapping = [(self.bound[name].variable, value) for name, value in values.items()]
        if seed is not None:
            seeds = [layer.seed for layer in self.network.layers.values() if hasattr(layer, "seed")]
            mapping += [(variable, seed + np.uint32(number)) for number, variable in enumerate(seeds)]
        with keras.StatelessScope(state_mapping=mapping) as scope:
            outputs = listed(model(inputs, training=seed is not None))
        still = self.still if seed is not None else ()
        after = {name: scope.get_current_value(self.bound[name].variable) for name in still}
        return outputs, after

    def _gradients(self, recipe: Recipe) -> Any:
        """(weights, still, batch) -> (loss, gradients, still after it)."""
        loss_of = self._loss(recipe)

        def run(trained: Any, still: Any, batch: Batch) -> tuple[Any, Any, Any]:
            def of_weights(weights: Values, *rest: Any) -> Any:
                return loss_of(weights, (), *rest)

            given = self.trained.split(trained), self.still.split(still), prepared(batch, recipe), batch
            (loss, (after, _)), slopes = backend.gradients(of_weights)(*given)
            return loss, self.trained.join(slopes), self.still.join(after)

        return backend.compiled(run)

    def _sums(self, recipe: Recipe, instruments: tuple[str, ...]) -> Any:
        """(weights, still, batch) -> the sums of the instruments at this step.

        A program of its own: as a part of the step's it would change how XLA rounds there, and with it the training.
        """
        watched = Watched(self.network.graph, instruments)
        loss_of = self._loss(recipe, watched)

        def run(trained: Any, still: Any, batch: Batch) -> Values:
            given = self.trained.split(trained), self.still.split(still), prepared(batch, recipe), batch

            def of_probes(probes: list[Any], weights: Values, *rest: Any) -> Any:
                return loss_of(weights, probes, *rest)

            count = batch.images.shape[0]
            probes = [ops.zeros((count, *last(self.network.nodes[name].shape))) for name in watched.probes]
            if not probes:
                _, (_, outputs) = of_probes(probes, *given)
                return watched.sums(outputs, {})
            (_, (_, outputs)), arrived = backend.gradients(of_probes)(probes, *given)
            return watched.sums(outputs, dict(zip(watched.probes, arrived, strict=True)))

        return backend.compiled(run)

    def _loss(self, recipe: Recipe, watched: Watched | None = None) -> Any:
        """(weights, probes, still, images, batch) -> (loss, (still after it, outputs of what is watched))."""
        graph = self.network.graph
        ends = [graph.output, *graph.auxiliaries]
        nodes, probed = (watched.nodes, watched.probes) if watched else ([], [])
        model = self.network.model([*ends, *nodes], probed)

        def loss_of(weights: Values, probes: Any, still: Values, images: Any, batch: Batch) -> Any:
            outputs, after = self.call(model, weights | still, [images, *probes], batch.seed)
            loss = cross_entropy(outputs[0], batch.labels, recipe.label_smoothing)
            for auxiliary in outputs[1 : len(ends)]:
                loss = loss + recipe.auxiliary_weight * cross_entropy(auxiliary, batch.labels, recipe.label_smoothing)
            return loss, (after, dict(zip(nodes, outputs[len(ends) :], strict=True)))

        return loss_of

    def _evaluate(self, pixels: Pixels, also: tuple[str, ...] = ()) -> Any:
        """(weights, still, raw images) -> logits, and the outputs of the nodes ``also``, in evaluation."""
        model = self.network.model([self.network.graph.output, *also])

        def run(trained: Any, still: Any, images: Any) -> tuple[Any, list[Any]]:
            values = self.trained.split(trained) | self.still.split(still)
            logits, *others = self.call(model, values, [normalise(images, pixels)])[0]
            return ops.cast(logits, "float32"), others

        return backend.compiled(run)

    def _gated(self, pixels: Pixels, names: tuple[str, ...]) -> Any:
        """(weights, still, raw images, labels, gates) -> the loss with the outputs of the nodes ``names`` each times its gate.

        In evaluation, but with norms that go by the statistics of the batch.
        """
        model = self.network.model([self.network.graph.output], gated=names)

        def run(trained: Any, still: Any, images: Any, labels: Any, gates: Any) -> Any:
            values = self.trained.split(trained) | self.still.split(still)
            given = [normalise(images, pixels), ops.tile(gates[None], (images.shape[0], 1))]
            with by_batch(self.network.layers.values()):
                logits = self.call(model, values, given)[0][0]
            return cross_entropy(logits, labels, 0.0)

        return backend.compiled(run)


@functools.lru_cache(KEPT)
def programs(graph: Graph, dtype: str) -> Programs:
    """The programs of a network, those that were made before where they are still kept."""
    return Programs(graph, dtype)


@functools.lru_cache(KEPT)
def update(how: AnyOptimizer, clip: Clip | None, ema: float) -> Any:
    """(weights and still, gradients, slots, average of both, decayed, rate, steps in the average) -> (weights, slots, average)
    after the step."""

    def run(
        values: Both, gradients: Any, slots: Slots, average: Both | tuple[()], decayed: Any, rate: Any, steps: Any
    ) -> tuple[Any, Slots, Any]:
        trained, still = values
        limited = clipped(gradients, clip) if clip else gradients
        weights, remembered = updated(how, trained, limited, slots, rate, how.weight_decay * decayed)
        both = [averaged(ema, old, new, steps) for old, new in zip(average, (weights, still), strict=False)]
        return weights, remembered, tuple(both)

    return backend.compiled(run)


# ------------------------------------------------------------------------------------------------------------- operations
def pixels_of(info: DatasetInfo, dtype: str | None = None) -> Pixels:
    """How the dataset's images are normalised; ``dtype`` where these are of another type than the dataset's."""
    return Pixels(255.0 if (dtype or info.dtype) == "uint8" else 1.0, tuple(info.mean), tuple(info.std))


def cross_entropy(logits: Any, labels: Any, smoothing: float) -> Any:
    """The mean over a batch; ``smoothing`` of the probability is shared out over all classes (arXiv 1512.00567 section 7)."""
    logs = ops.log_softmax(ops.cast(logits, "float32"), axis=-1)
    right = ops.take_along_axis(logs, ops.cast(labels, "int32")[:, None], axis=-1)[:, 0]
    return -ops.mean((1.0 - smoothing) * right + smoothing * ops.mean(logs, axis=-1))


def normalise(images: Any, pixels: Pixels) -> Any:
    """Raw images as networks see them."""
    mean, std = (ops.convert_to_tensor(np.array(value, np.float32)) for value in (pixels.mean, pixels.std))
    return (ops.cast(images, "float32") / pixels.most - mean) / std


def prepared(batch: Batch, recipe: Recipe) -> Any:
    """A batch's images as the network sees them."""
    return augment(normalise(batch.images, recipe.pixels), recipe.augmentation, batch.draws)


def augment(x: Any, how: Augmentation, draws: Draws) -> Any:
    """Normalised images (n, h, w, c) with the augmentation applied, each image by its own draw."""
    if draws.shifts is not None:
        pixels = crop_padding(how, (x.shape[1], x.shape[2]))
        rows = draws.shifts[0][:, None] + ops.arange(x.shape[1], dtype="int32")
        columns = draws.shifts[1][:, None] + ops.arange(x.shape[2], dtype="int32")
        x = ops.pad(x, ((0, 0), (pixels, pixels), (pixels, pixels), (0, 0)), mode="reflect")
        x = ops.take_along_axis(x, rows[:, :, None, None], axis=1)
        x = ops.take_along_axis(x, columns[:, None, :, None], axis=2)
    if draws.mirrored is not None:
        x = ops.where(draws.mirrored[:, None, None, None], ops.flip(x, 2), x)
    return blank_squares(x, how.cutout, draws.centres) if draws.centres is not None else x
