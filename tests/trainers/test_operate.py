"""Surgery on random networks of the envelope space: what is kept, what is new, and that growing changes no prediction."""

from typing import Any

import numpy as np
import torch
from hypothesis import given
from hypothesis import strategies as st

from amla.spaces.envelope import EnvelopeSettings, EnvelopeSpace
from amla.spec.experiment import Problem
from amla.spec.graph import Graph
from amla.spec.lower import lower
from amla.spec.surgery import surgery_plan
from amla.spec.training import SGD, AdamW
from amla.trainers.surgery import operate, operate_slots
from amla.trainers.torch.module import build
from amla.trainers.torch.optim import Optimizer, load_slots, make_optimizer, slots
from amla.trainers.torch.surgery import calibrate

Arrays = dict[str, np.ndarray[Any, Any]]
PROBLEM = Problem(input_shape=(1, 8, 8), num_classes=5, train_size=100)
SPACE = EnvelopeSpace(EnvelopeSettings(width=12, layers=(2, 1)), PROBLEM)


def arrays(module: torch.nn.Module) -> Arrays:
    return {name: value.numpy().copy() for name, value in module.state_dict().items()}


def tensors(values: Arrays) -> dict[str, torch.Tensor]:
    return {name: torch.from_numpy(value) for name, value in values.items()}


@given(st.integers(0, 10_000))
def test_an_operation_fits_and_keeps_what_both_have(seed: int) -> None:
    rng = PROBLEM.model_copy(update={"seed": seed}).rng(0)
    before = SPACE.sample(rng)
    after = SPACE.mutate(before, rng)
    parent, child = (lower(n, PROBLEM.input_shape, 5) for n in (before, after))
    old, fresh = arrays(build(parent, seed=1)), build(child, seed=2)
    plan = surgery_plan(parent, child)
    new = operate(plan, old, arrays(fresh))
    fresh.load_state_dict(tensors(new))  # every tensor, in its shape
    for step in plan.tensors:
        if step.how == "copy" and step.outputs is None and step.inputs is None:
            assert np.array_equal(new[step.name], old[step.name])
        elif step.how == "copy" and step.inputs is not None and step.outputs is None:
            for place, source in enumerate(step.inputs):
                expected = old[step.name][:, source] if source >= 0 else np.zeros_like(new[step.name][:, place])
                assert np.array_equal(new[step.name][:, place], expected)


@given(st.integers(0, 10_000))
def test_growing_a_layer_preserves_the_function(seed: int) -> None:
    rng = PROBLEM.model_copy(update={"seed": seed}).rng(0)
    before = SPACE.sample(rng)
    after = SPACE.set_widths(SPACE.grow(before, "stage1"))
    parent, child = (lower(n, PROBLEM.input_shape, 5) for n in (before, after))
    images = torch.randn(64, 1, 8, 8)
    old = build(parent, seed=1).train()
    for _ in range(5):
        old(images)  # settle the running statistics
    new = build(child, seed=2)
    plan = surgery_plan(parent, child)
    new.load_state_dict(tensors(operate(plan, arrays(old), arrays(new))))
    calibrate(plan, new, images)
    with torch.no_grad():
        expected, found = old.eval()(images)[0], new.eval()(images)[0]
    assert (expected - found).norm() / expected.norm() < 1e-3


def trained(graph: Graph, how: SGD | AdamW) -> tuple[torch.nn.Module, Optimizer]:
    module = build(graph, seed=1).train()
    optimizer = make_optimizer(how, module)
    for _ in range(2):
        module(torch.randn(8, 1, 8, 8))[0].square().mean().backward()
        optimizer.step()
        optimizer.zero_grad()
    return module, optimizer


@given(st.integers(0, 10_000), st.sampled_from([SGD(momentum=0.9, nesterov=True), AdamW()]))
def test_what_the_optimizer_remembers_goes_where_its_weight_goes(seed: int, how: SGD | AdamW) -> None:
    rng = PROBLEM.model_copy(update={"seed": seed}).rng(0)
    before = SPACE.sample(rng)
    after = SPACE.mutate(SPACE.set_widths(SPACE.grow(before, "stage1")), rng)
    parent, child = (lower(n, PROBLEM.input_shape, 5) for n in (before, after))
    old, optimizer = trained(parent, how)
    plan = surgery_plan(parent, child)
    new = build(child, seed=2).train()
    fresh = arrays(new)
    remembered = {key: value.numpy() for key, value in slots(optimizer, old).items()}
    moved = operate_slots(plan, remembered, fresh)
    steps = {step.name: step for step in plan.tensors}
    for key, value in moved.items():
        name, slot = key.rsplit(":", 1)
        step = steps[name]
        assert step.how == "copy"
        if slot == "step":
            assert value == 2
            continue
        assert value.shape == fresh[name].shape
        for place, source in enumerate(step.outputs or ()):
            if source < 0:
                assert not value[place].any()
            elif step.inputs is None:
                assert np.array_equal(value[place], remembered[key][source])
    after_it = make_optimizer(how, new)
    load_slots(after_it, new, tensors(moved))
    new(torch.randn(8, 1, 8, 8))[0].square().mean().backward()
    after_it.step()
    assert all(torch.isfinite(value).all() for value in new.state_dict().values())


@given(st.integers(0, 10_000))
def test_pruning_what_nobody_listens_to_changes_no_prediction(seed: int) -> None:
    """A branch whose channels have zero weight wherever they are read goes without a trace."""
    rng = PROBLEM.model_copy(update={"seed": seed}).rng(0)
    whole = SPACE.sample(rng)
    stage = whole.stages[0]
    wide = [index for index, layer in enumerate(stage.layers) if len(layer.branches) > 1]
    if not wide:
        return
    index = wide[0]
    layer = stage.layers[index]
    shorter = layer.model_copy(update={"branches": layer.branches[1:]})
    layers = (*stage.layers[:index], shorter, *stage.layers[index + 1 :])
    after = whole.model_copy(update={"stages": (stage.model_copy(update={"layers": layers}), *whole.stages[1:])})
    parent, child = (lower(n, PROBLEM.input_shape, 5) for n in (whole, after))
    # the widths of later bottlenecks follow from their input: only where these stay the same is anything preserved
    if any(
        child.by_name()[n.name].shape != n.shape for n in parent.nodes if n.op == "conv" and n.name in child.by_name()
    ):
        return
    old = build(parent, seed=1)
    plan = surgery_plan(parent, child)
    weights = arrays(old)
    for step in plan.tensors:
        if step.inputs is not None and step.how == "copy":
            kept = {source for source in step.inputs if source >= 0}
            for source in set(range(weights[step.name].shape[1])) - kept:
                weights[step.name][:, source] = 0.0
    old.load_state_dict(tensors(weights))
    new = build(child, seed=2)
    new.load_state_dict(tensors(operate(plan, weights, arrays(new))))
    images = torch.randn(8, 1, 8, 8)
    with torch.no_grad():
        assert torch.allclose(old.eval()(images)[0], new.eval()(images)[0], atol=1e-5)
