"""Optimizers: what is decayed, what is remembered, and that going on is as good as never having stopped."""

import subprocess
import sys
from typing import Any

import pytest
import torch

from amla.spec.lower import lower
from amla.spec.training import SGD, AdamW, Clip, RMSprop
from amla.testing.trainers import network
from amla.trainers.torch.module import GraphModule, build
from amla.trainers.torch.optim import AnyOptimizer, Average, Optimizer, clip, load_slots, make_optimizer, slots

KINDS = (
    SGD(),
    SGD(momentum=0.9, nesterov=True, weight_decay=1e-3),
    AdamW(),
    RMSprop(weight_decay=1e-3),
    RMSprop(momentum=0.9),
)
GRAPH = lower(network(layers=3, dropout=0.0), (1, 8, 8), 10)


def module() -> GraphModule:
    return build(GRAPH, seed=1).to(memory_format=torch.channels_last).train()


def steps(module: GraphModule, optimizer: Optimizer, first: int, last: int) -> None:
    for step in range(first, last):
        x = torch.randn(4, 1, 8, 8, generator=torch.Generator().manual_seed(step))
        logits, auxiliaries = module(x.contiguous(memory_format=torch.channels_last))
        (logits.square().mean() + auxiliaries[0].square().mean()).backward()
        optimizer.rate = 0.01
        optimizer.step()
        optimizer.zero_grad()


@pytest.mark.parametrize("how", KINDS, ids=lambda how: how.kind)
def test_going_on_from_what_was_remembered_is_going_on(how: AnyOptimizer) -> None:
    whole = module()
    optimizer = make_optimizer(how, whole)
    steps(whole, optimizer, 0, 2)
    halved = module()
    halved.load_state_dict(whole.state_dict())
    other = make_optimizer(how, halved)
    load_slots(other, halved, {key: value.clone().contiguous() for key, value in slots(optimizer, whole).items()})
    steps(whole, optimizer, 2, 4)
    steps(halved, other, 2, 4)
    assert all(torch.equal(value, halved.state_dict()[name]) for name, value in whole.state_dict().items())


@pytest.mark.parametrize("one", KINDS, ids=lambda how: how.kind)
@pytest.mark.parametrize("two", KINDS, ids=lambda how: how.kind)
def test_what_another_kind_remembers_is_left_out(one: AnyOptimizer, two: AnyOptimizer) -> None:
    first = module()
    optimizer = make_optimizer(one, first)
    steps(first, optimizer, 0, 1)
    second = module()
    other = make_optimizer(two, second)
    load_slots(other, second, slots(optimizer, first))
    steps(second, other, 0, 1)
    assert all(torch.isfinite(value).all() for value in second.state_dict().values())


def test_a_weight_of_which_nothing_is_remembered_begins_anew() -> None:
    how = SGD(momentum=0.9)
    first = module()
    optimizer = make_optimizer(how, first)
    steps(first, optimizer, 0, 1)
    remembered = slots(optimizer, first)
    del remembered["head/dense2.weight:momentum_buffer"]
    load_slots(optimizer, first, remembered)
    before = first.get_parameter("head/dense2.weight").detach().clone()
    first(torch.ones(4, 1, 8, 8))[0].square().mean().backward()
    gradient = first.get_parameter("head/dense2.weight").grad
    assert gradient is not None
    gradient = gradient.clone()
    optimizer.step()
    assert torch.allclose(first.get_parameter("head/dense2.weight"), before - 0.01 * gradient, atol=1e-7)


def test_only_weights_of_convolutions_and_dense_layers_decay() -> None:
    network_ = module()
    optimizer = make_optimizer(SGD(weight_decay=0.5), network_)
    optimizer.rate = 1.0
    before = {name: p.detach().clone() for name, p in network_.named_parameters()}
    for parameter in network_.parameters():
        parameter.grad = torch.zeros_like(parameter)
    optimizer.step()
    for name, parameter in network_.named_parameters():
        decayed = "norm" not in name and "scale" not in name and name.endswith(".weight")
        assert torch.allclose(parameter, before[name] * (0.5 if decayed else 1.0)), name


def test_gradients_are_clipped() -> None:
    parameters = [torch.nn.Parameter(torch.zeros(2)), torch.nn.Parameter(torch.zeros(1))]
    for kind, expected in (("norm", [[1.2, 0.0], [1.6]]), ("value", [[2.0, 0.0], [2.0]])):
        for parameter, gradient in zip(parameters, ([3.0, 0.0], [4.0]), strict=True):
            parameter.grad = torch.tensor(gradient)
        clip(parameters, Clip(kind=kind, value=2.0))  # type: ignore[arg-type]
        assert [p.grad.tolist() for p in parameters if p.grad is not None] == [pytest.approx(e) for e in expected]


def test_an_average_follows_the_weights() -> None:
    network_ = module()
    average = Average(network_, 0.9)
    name = "head/dense2.bias"
    start = average.values[name].clone()
    with torch.no_grad():
        network_.get_parameter(name).add_(1.0)
    average.update(network_)
    assert torch.allclose(average.values[name], start + (1 - 2 / 11))
    for _ in range(500):
        average.update(network_)
    assert torch.allclose(average.values[name], network_.get_parameter(name), atol=1e-5)


# torch's classes import torch._dynamo, so they are not used; the steps are theirs, bit for bit
THEIRS: dict[str, tuple[AnyOptimizer, Any, dict[str, Any]]] = {
    "sgd": (SGD(), torch.optim.SGD, {}),
    "momentum": (SGD(momentum=0.9), torch.optim.SGD, {"momentum": 0.9}),
    "nesterov": (SGD(momentum=0.9, nesterov=True), torch.optim.SGD, {"momentum": 0.9, "nesterov": True}),
    "adamw": (AdamW(beta1=0.8, weight_decay=0.1), torch.optim.AdamW, {"betas": (0.8, 0.999), "weight_decay": 0.1}),
    "rmsprop": (RMSprop(momentum=0.5), torch.optim.RMSprop, {"alpha": 0.9, "momentum": 0.5, "eps": 1e-8}),
}


@pytest.mark.parametrize("kind", THEIRS)
def test_a_step_is_that_of_torch(kind: str) -> None:
    how, cls, settings = THEIRS[kind]
    ours, theirs = (torch.nn.Parameter(torch.linspace(-1.0, 1.0, 12).reshape(3, 4)) for _ in range(2))
    optimizer, reference = Optimizer(how, [ours]), cls([theirs], lr=0.05, **settings)
    optimizer.rate = 0.05
    for number in range(4):
        for weight, one in ((ours, optimizer), (theirs, reference)):
            weight.grad = weight.detach().sin() + number
            one.step()
            one.zero_grad()
        assert torch.allclose(ours, theirs, rtol=0.0, atol=1e-7), number


def test_adam_adds_its_decay_to_the_gradient_where_it_is_not_decoupled() -> None:
    ours, theirs = (torch.nn.Parameter(torch.linspace(-1.0, 1.0, 5)) for _ in range(2))
    optimizer = Optimizer(AdamW(weight_decay=0.5), [ours], decoupled=False)
    optimizer.rate = 0.05
    reference = torch.optim.Adam([theirs], lr=0.05, weight_decay=0.5)
    for weight, one in ((ours, optimizer), (theirs, reference)):
        weight.grad = torch.ones(5)
        one.step()
    assert torch.allclose(ours, theirs, rtol=0.0, atol=1e-7)
    assert not torch.allclose(ours, torch.nn.Parameter(torch.linspace(-1.0, 1.0, 5)))


def test_a_step_imports_no_compiler() -> None:
    """torch._dynamo takes longer to import than torch does: seconds in every process that trains."""
    program = """
import sys
import torch
import amla.trainers.torch.trainer
from amla.spec.training import SGD, Clip
from amla.trainers.torch.optim import clip, make_optimizer

module = torch.nn.Linear(3, 2)
optimizer = make_optimizer(SGD(momentum=0.9), module)
module(torch.ones(4, 3)).sum().backward()
clip(list(module.parameters()), Clip())
optimizer.step()
assert optimizer.state
sys.exit("torch._dynamo" in sys.modules)
"""
    subprocess.run([sys.executable, "-c", program], check=True)
