"""Surgery plans: pure lists, checked for every pair of networks that an edit can make."""

from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from amla.spaces.envelope import EnvelopeSettings, EnvelopeSpace
from amla.spec import architecture as a
from amla.spec.experiment import Problem
from amla.spec.graph import Graph, weights
from amla.spec.lower import lower
from amla.spec.surgery import Plan, TensorPlan, surgery_plan
from amla.testing.strategies import architectures

PROBLEM = Problem(input_shape=(1, 8, 8), num_classes=5, train_size=100)
SPACE = EnvelopeSpace(EnvelopeSettings(width=12, layers=(2, 1)), PROBLEM)
SHAPE = PROBLEM.input_shape


def graph_of(network: Any) -> Graph:
    return lower(network, SHAPE, 5)


def by_name(plan: Plan) -> dict[str, TensorPlan]:
    return {step.name: step for step in plan.tensors}


def check(plan: Plan, parent: Graph, child: Graph) -> None:
    """Every tensor of the child once, every index within the parent."""
    shapes = {weight.name: weight.shape for weight in weights(parent)}
    wanted = {weight.name: weight.shape for weight in weights(child)}
    assert sorted(step.name for step in plan.tensors) == sorted(wanted)
    for step in plan.tensors:
        if step.how == "copy":
            for axis, indices in enumerate((step.outputs, step.inputs)):
                if indices is None:
                    if axis < len(wanted[step.name]):
                        assert shapes[step.name][axis] == wanted[step.name][axis]
                else:
                    assert len(indices) == wanted[step.name][axis]
                    assert all(-1 <= index < shapes[step.name][axis] for index in indices)
        if step.how == "identity":
            assert step.inputs is not None
            assert len(step.inputs) == wanted[step.name][0]


@given(architectures())
def test_between_equal_networks_everything_is_copied_whole(network: a.MacroArchitecture | a.MicroArchitecture) -> None:
    graph = graph_of(network)
    plan = surgery_plan(graph, graph)
    check(plan, graph, graph)
    assert all((step.how, step.outputs, step.inputs) == ("copy", None, None) for step in plan.tensors)
    assert plan.calibrate == ()


@given(architectures(), architectures())
def test_there_is_a_plan_between_any_two_networks(
    one: a.MacroArchitecture | a.MicroArchitecture, other: a.MacroArchitecture | a.MicroArchitecture
) -> None:
    parent, child = graph_of(one), graph_of(other)
    check(surgery_plan(parent, child), parent, child)


@given(st.integers(0, 10_000))
def test_there_is_a_plan_for_every_edit_of_the_space(seed: int) -> None:
    rng = PROBLEM.model_copy(update={"seed": seed}).rng(0)
    network = SPACE.sample(rng)
    for _ in range(3):
        edited = SPACE.mutate(network, rng)
        check(surgery_plan(graph_of(network), graph_of(edited)), graph_of(network), graph_of(edited))
        network = edited


def test_a_pruned_branch_takes_its_channels_from_its_consumers() -> None:
    whole = SPACE.initial()
    layer = whole.stages[0].layers[0]
    kept = layer.model_copy(
        update={"branches": layer.branches[1:]}
    )  # without the first two channels, the others as they were
    first = whole.stages[0].model_copy(update={"layers": (kept, *whole.stages[0].layers[1:])})
    pruned = whole.model_copy(update={"stages": (first, *whole.stages[1:])})
    plan = by_name(surgery_plan(graph_of(whole), graph_of(pruned)))
    gone = layer.branches[0].channels
    assert plan["stage1/layer2/bottleneck/conv.weight"].inputs == tuple(range(gone, 12))
    assert not any(name.startswith("stage1/layer1/branch1/") for name in plan)
    assert plan["stage1/layer1/branch2/conv.weight"] == TensorPlan(name="stage1/layer1/branch2/conv.weight", how="copy")


def test_freed_channels_are_new_in_the_survivors_and_in_their_consumers() -> None:
    whole = SPACE.initial()
    layer = whole.stages[0].layers[0]
    kept = layer.model_copy(update={"branches": layer.branches[1:]})
    first = whole.stages[0].model_copy(update={"layers": (kept, *whole.stages[0].layers[1:])})
    pruned = SPACE.set_widths(whole.model_copy(update={"stages": (first, *whole.stages[1:])}))
    plan = by_name(surgery_plan(graph_of(whole), graph_of(pruned)))
    assert plan["stage1/layer1/branch2/conv.weight"].outputs == (0, 1, -1)  # 2 channels before, 3 now
    inputs = plan["stage1/layer2/bottleneck/conv.weight"].inputs
    assert inputs is not None
    assert inputs.count(-1) == 2
    assert [index for index in inputs if index >= 0] == list(range(2, 12))


def test_a_grown_layer_is_an_identity_to_those_behind_it() -> None:
    whole = SPACE.initial()
    grown = SPACE.set_widths(SPACE.grow(whole, "stage1"))
    plan = surgery_plan(graph_of(whole), graph_of(grown))
    steps = by_name(plan)
    assert steps["stage1/layer3/branch2/conv.weight"].how == "identity"
    assert steps["stage1/layer3/branch2/conv.weight"].inputs == (2, 3)
    assert steps["stage1/layer3/branch3/pointwise.weight"].inputs == (4, 5)
    assert steps["stage1/layer3/bottleneck/conv.weight"].inputs == tuple(range(12))
    assert steps["stage1/widener/conv.weight"] == TensorPlan(name="stage1/widener/conv.weight", how="copy")
    assert plan.calibrate[0] == "stage1/layer3/bottleneck/norm"
    assert set(plan.calibrate) == {n.name for n in graph_of(grown).nodes if n.op == "norm" and "layer3" in n.name}


def test_a_cut_skip_takes_its_channels_with_it() -> None:
    space = EnvelopeSpace(EnvelopeSettings(width=12, layers=(3,)), PROBLEM)
    whole = space.initial()
    assert whole.stages[0].layers[2].skips == ("stage1/layer1",)
    bare = whole.stages[0].layers[2].model_copy(update={"skips": ()})
    stage = whole.stages[0].model_copy(update={"layers": (*whole.stages[0].layers[:2], bare)})
    cut = whole.model_copy(update={"stages": (stage,)})
    plan = by_name(surgery_plan(graph_of(whole), graph_of(cut)))
    assert plan["stage1/layer3/bottleneck/conv.weight"].inputs == tuple(range(12))
    back = by_name(surgery_plan(graph_of(cut), graph_of(whole)))
    assert back["stage1/layer3/bottleneck/conv.weight"].inputs == (*range(12), *[-1] * 12)
    assert back["stage1/layer3/skip/stage1/layer1/scale.weight"].how == "default"
