"""Two libraries, the same numbers: outputs, statistics and a step of training, and trials that pass from one to the other."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from hypothesis import given, settings

from amla import datasets
from amla.errors import SearchError
from amla.spaces.base import space_of
from amla.spec import architecture as a
from amla.spec.experiment import Problem
from amla.spec.graph import Graph
from amla.spec.graph import weights as weights_in
from amla.spec.lower import lower
from amla.spec.training import SGD, AdamW, Augmentation, Budget, Clip, RMSprop
from amla.testing.strategies import graphs
from amla.testing.trainers import DIGITS, PLAIN, TrainerSuite, every_operation, network, stacked_cells
from amla.trainers.base import Trainer
from amla.trainers.batches import Batch
from amla.trainers.chance import Draws, draw
from amla.trainers.keras import backend
from amla.trainers.keras.instruments import PROVIDED, Instruments
from amla.trainers.keras.network import Network, fresh, listed, load
from amla.trainers.keras.optim import decayed, fresh_slots
from amla.trainers.keras.program import Pixels, Recipe, augment, programs, update
from amla.trainers.keras.state import ours, theirs
from amla.trainers.keras.trainer import KerasTrainer
from amla.trainers.torch import data as torch_data
from amla.trainers.torch.instruments import Instruments as TorchInstruments
from amla.trainers.torch.module import GraphModule
from amla.trainers.torch.optim import clip, make_optimizer
from amla.trainers.torch.trainer import TorchTrainer

Arrays = dict[str, np.ndarray[Any, Any]]
CPU = torch.device("cpu")


def weights_of(graph: Graph, seed: int = 0) -> Arrays:
    """Fresh ones, but for norms that do something."""
    rng = np.random.default_rng(seed + 1)
    found = fresh(graph, seed)
    for name, value in found.items():
        if name.endswith((".running_mean", ".running_var", ".bias")):
            found[name] = (value + rng.uniform(0.0, 0.5, value.shape)).astype(np.float32)
    return found


def torch_module(graph: Graph, weights: Arrays) -> GraphModule:
    module = GraphModule(graph)
    module.load_state_dict({name: torch.from_numpy(value.copy()) for name, value in weights.items()})
    return module


def images_for(graph: Graph, count: int) -> np.ndarray[Any, Any]:
    """Images (n, h, w, c)."""
    channels, height, width = graph.input_shape
    return np.random.default_rng(0).standard_normal((count, height, width, channels)).astype(np.float32)


def check_outputs(graph: Graph, portable: bool = False) -> None:
    weights = weights_of(graph)
    images = images_for(graph, 3)
    with torch.no_grad():
        expected = torch_module(graph, weights).eval()(torch.from_numpy(images.transpose(0, 3, 1, 2)))[0].numpy()
    made = load(Network(graph, portable=portable), weights)
    found = backend.numpy(backend.compiled(lambda x: listed(made.whole([x]))[0])(images))  # a third of op by op's time
    assert np.abs(found - expected).max() <= 1e-4 * max(1.0, np.abs(expected).max())
    back = {name: bound.ours(backend.numpy(bound.variable)) for name, bound in made.bound.items()}
    assert back.keys() == weights.keys()
    assert all(np.array_equal(back[name], value) for name, value in weights.items())
    trained = {name for name, bound in made.bound.items() if bound.variable.trainable}
    assert trained == {weight.name for weight in weights_in(graph) if weight.trained}


@settings(max_examples=6)
@given(graphs(max_side=9))
def test_random_networks_give_the_same_outputs(graph: Graph) -> None:
    check_outputs(graph)


@pytest.mark.parametrize("architecture", [network(3), every_operation(), stacked_cells()], ids=["nac", "all", "cells"])
@pytest.mark.parametrize("portable", [False, True])
def test_every_operation_gives_the_same_outputs(architecture: Any, portable: bool) -> None:
    graph = lower(architecture, (3, 9, 7), 5)
    check_outputs(graph.inference() if portable else graph, portable)


@pytest.mark.parametrize(
    ("space", "said"),
    [
        ("envelope", {"width": 6, "layers": [1]}),
        ("nasbench201", {"width": 2, "cells": 1}),
        ("darts_cell", {"width": 2, "cells": 3, "nodes": 2}),
    ],
)
def test_networks_of_every_space_give_the_same_outputs(space: str, said: dict[str, Any]) -> None:
    problem = Problem(input_shape=(1, 8, 8), num_classes=10, train_size=100, space=space, space_settings=said)
    check_outputs(lower(space_of(problem).sample(np.random.default_rng(0)), problem.input_shape, problem.num_classes))


# ------------------------------------------------------------------------------------------------------------------ one step
def without_chance(architecture: a.MacroArchitecture) -> a.MacroArchitecture:
    kept = {
        key: tuple(s for s in getattr(architecture, key) if s.op not in ("cutout", "dropout"))
        for key in ("stem", "head")
    }
    style = architecture.style.model_copy(update={"dropout": 0.0})
    return architecture.model_copy(update={**kept, "style": style})


@pytest.fixture(scope="module")
def batch() -> Batch:
    images = np.random.default_rng(1).integers(0, 256, (16, 8, 8, 1)).astype(np.uint8)
    return Batch(images, np.arange(16) % 10, Draws(), np.uint32(0))


@pytest.mark.parametrize(
    ("architecture", "optimizer", "limit"),
    [
        (network(3, dropout=0.0), SGD(momentum=0.9, nesterov=True, weight_decay=1e-2), Clip(kind="norm", value=0.5)),
        (network(3, dropout=0.0), AdamW(), Clip(kind="value", value=0.01)),
        (network(3, dropout=0.0), RMSprop(momentum=0.5, weight_decay=1e-2, epsilon=1e-3), None),
        pytest.param(without_chance(every_operation()), SGD(momentum=0.9), None, marks=pytest.mark.slow),
    ],
    ids=["sgd", "adamw", "rmsprop", "all"],
)
def test_a_step_gives_the_same_weights_and_statistics(
    batch: Batch, architecture: a.MacroArchitecture, optimizer: Any, limit: Clip | None
) -> None:
    graph = lower(architecture, (1, 8, 8), 10)
    weights = weights_of(graph)
    names = tuple(sorted(PROVIDED))
    # torch
    module = torch_module(graph, weights).train()
    watching = TorchInstruments(graph, names, CPU)
    watching.listen(module, 0)
    made = make_optimizer(optimizer, module)
    x = (torch.from_numpy(batch.images).permute(0, 3, 1, 2).float() / 255.0 - 0.3) / 0.4
    labels = torch.from_numpy(batch.labels)
    logits, auxiliaries = module(x)
    losses = [F.cross_entropy(one, labels, label_smoothing=0.1) for one in (logits, *auxiliaries)]
    loss = losses[0] + 0.4 * losses[1]
    loss.backward()
    if limit:
        clip(list(module.parameters()), limit)
    made.rate = 0.01
    made.step()
    # keras
    program = programs(graph, "float32")
    trained, still = theirs(program, weights)
    recipe = Recipe(Pixels(255.0, (0.3,), (0.4,)), Augmentation(), 0.1, 0.4)
    sums = program.sums(recipe, names)(trained, still, batch)
    found, slopes, still = program.gradients(recipe)(trained, still, batch)
    step = update(optimizer, limit, 0.0)
    slots, decay = fresh_slots(optimizer, program.trained), decayed(program.trained)
    trained, _, _ = step((trained, still), slopes, slots, (), decay, np.float32(0.01), np.float32(0.0))
    after = ours(program, (trained, still))
    assert float(found) == pytest.approx(loss.item(), rel=1e-4)
    for name, value in module.state_dict().items():
        assert np.abs(after[name] - value.numpy()).max() <= 1e-4, name
    own = Instruments(graph, names)
    own.add(sums)
    statistics = own.read(lambda node: float(weights[f"{node}.weight"].item()))
    for block, expected in watching.read(torch_module(graph, weights)).items():
        assert statistics[block] == pytest.approx(expected, rel=1e-3, abs=1e-5), block


def test_augmentation_is_the_same() -> None:
    how = Augmentation(pad_crop=2, flip=True, cutout=3)
    images = np.random.default_rng(0).standard_normal((6, 7, 5, 3)).astype(np.float32)
    draws = draw(how, 6, (7, 5), 1, 2, 3)
    expected = torch_data.augment(torch.from_numpy(images.transpose(0, 3, 1, 2).copy()), how, draws)
    assert np.array_equal(backend.numpy(augment(images, how, draws)).transpose(0, 3, 1, 2), expected.numpy())


# --------------------------------------------------------------------------------------------------- from one to the other
@pytest.mark.parametrize(("first", "second"), [(TorchTrainer, KerasTrainer), (KerasTrainer, TorchTrainer)])
def test_what_one_library_trained_another_goes_on_with(
    tmp_path: Path, first: type[Trainer], second: type[Trainer]
) -> None:
    data = datasets.load(DIGITS)
    training = PLAIN.model_copy(update={"ema": 0.9})
    spec: dict[str, Any] = {"training": training, "horizon": Budget(steps=16)}
    begun = first().train(TrainerSuite().job(tmp_path / "0", **spec), data)
    asked = TrainerSuite().job(tmp_path / "1", 1, parent=0, procedure="evaluate")
    assert second().evaluate(asked, data, "valid").metrics["valid"] == pytest.approx(begun.metrics["valid"], rel=1e-3)
    grown = {"architecture": network(layers=3), "parent": 0, "inherit": "state"}
    ended = second().train(TrainerSuite().job(tmp_path / "1", 1, **spec, **grown), data)
    assert ended.position == 16
    assert ended.metrics["valid"]["loss"] < begun.metrics["valid"]["loss"]


def test_what_a_trainer_has_not_is_named_with_the_one_that_has_it(tmp_path: Path) -> None:
    with pytest.raises(SearchError, match=r"'keras' has no block_time: --trainer torch"):
        KerasTrainer().train(TrainerSuite().job(tmp_path / "0", instruments=("block_time",)), datasets.load(DIGITS))
