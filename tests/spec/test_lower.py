"""Lowering and costs: shapes, numbers worked out by hand, the cells of other people's spaces."""

import math

import pytest
from hypothesis import given

from amla.errors import SpecError
from amla.spec import architecture as a
from amla.spec.costs import costs, depth, parameters
from amla.spec.graph import padding, weights
from amla.spec.lower import lower
from amla.testing.strategies import architectures


@given(architectures())
def test_lowering_is_sound(architecture: a.MacroArchitecture | a.MicroArchitecture) -> None:
    graph = lower(architecture, (3, 9, 8), 5)
    assert lower(architecture, (3, 9, 8), 5) == graph, "the same document gives the same graph"
    nodes = graph.by_name()
    assert nodes[graph.output].shape == (5,)
    assert all(nodes[name].shape == (5,) for name in graph.auxiliaries)
    for node in graph.nodes:
        inputs = [nodes[name].shape for name in node.inputs]
        if node.op == "concat":
            assert node.shape[0] == sum(shape[0] for shape in inputs)
            assert {shape[1:] for shape in inputs} == {node.shape[1:]}
        if node.op == "add":
            assert set(inputs) == {node.shape}
        if node.op in ("conv", "pool"):
            assert node.shape[1:] == tuple(-(-side // node.stride) for side in inputs[0][1:])
        if node.op in ("norm", "activation", "scale", "dropout", "lrn", "cutout", "identity"):
            assert node.shape == inputs[0]
    names = [weight.name for weight in weights(graph)]
    assert len(names) == len(set(names))
    assert all(block.output in nodes and block.before_norm in nodes for block in graph.blocks)


@given(architectures())
def test_costs_are_those_of_inference(architecture: a.MacroArchitecture | a.MicroArchitecture) -> None:
    graph = lower(architecture, (3, 8, 8), 5)
    bare = graph.inference()
    assert costs(bare).parameters == costs(graph).parameters
    assert costs(bare).flops == costs(graph).flops
    assert {node.op for node in bare.nodes}.isdisjoint({"dropout", "cutout"})
    assert costs(graph).depth >= 1


def one_layer(*branches: tuple[str, int], skips: tuple[str, ...] | None = None, **style: object) -> a.MacroArchitecture:
    layer = a.Layer(
        name="layer1",
        branches=tuple(a.Branch(name=f"branch{i}", operation=op, channels=c) for i, (op, c) in enumerate(branches, 1)),
        skips=skips,
    )
    return a.MacroArchitecture(
        stem=(a.ConvStep(channels=4, kernel=3),),
        stages=(a.Stage(name="stage1", layers=(layer,)),),
        head=(a.GlobalPoolStep(), a.DenseStep()),
        style=a.Style.parse(style),
    )


def test_parameters_and_flops_worked_out_by_hand() -> None:
    stem = 3 * 3 * 3 * 4 + 8  # convolution, scale and bias of the norm
    conv = 3 * 3 * 4 * 2 + 4
    separable = 5 * 5 * 4 + 4 * 3 + 6  # depthwise, pointwise, norm
    dense = 5 * 10 + 10
    found = costs(lower(one_layer(("3x3", 2), ("5x5sep", 3)), (3, 8, 8), 10))
    assert found.parameters == stem + conv + separable + dense
    assert found.flops == 64 * (3 * 9 * 4 + 9 * 4 * 2 + 25 * 4 + 4 * 3) + 50
    assert found.depth == 4  # stem, depthwise, pointwise, dense


def test_without_a_scale_a_norm_has_half_the_parameters() -> None:
    scaled, centred = (
        costs(lower(one_layer(("1x1", 2), norm_scale=s), (3, 8, 8), 2)).parameters for s in (True, False)
    )
    assert scaled - centred == 4 + 2


def test_a_join_has_a_bottleneck_even_without_skips() -> None:
    names = {node.name for node in lower(one_layer(("1x1", 2), skips=()), (3, 8, 8), 2).nodes}
    assert "stage1/layer1/bottleneck/conv" in names
    assert "stage1/layer1/bottleneck/conv" not in {n.name for n in lower(one_layer(("1x1", 2)), (3, 8, 8), 2).nodes}


def test_skips_are_pooled_scaled_and_joined() -> None:
    layer = a.Layer(name="layer1", branches=(a.Branch(name="branch1", operation="1x1", channels=4),), skips=("stem",))
    first = a.Layer(name="layer1", branches=(a.Branch(name="branch1", operation="1x1", channels=4),))
    network = a.MacroArchitecture(
        stem=(a.ConvStep(channels=4),),
        stages=(
            a.Stage(name="stage1", layers=(first,), widener=a.Widener(channels=4)),
            a.Stage(name="stage2", layers=(layer,)),
        ),
    )
    nodes = lower(network, (3, 8, 8), 2).by_name()
    assert nodes["stage2/layer1/skip/stem/pool1"].shape == (4, 4, 4)
    assert nodes["stage2/layer1/join"].shape == (4 + 4 + 4, 4, 4)
    assert nodes["stage2/layer1/bottleneck/conv"].shape == (8, 4, 4)
    assert nodes["stage1/widener/out"].inputs == ("stage1/widener/pool", "stage1/widener/act")


def test_padding_keeps_the_size() -> None:
    for kernel in range(1, 8):
        for dilation in (1, 2):
            before, after = padding(kernel, dilation)
            assert before + after == (kernel - 1) * dilation
            assert after - before in (0, 1)


@pytest.mark.parametrize(("shape", "classes"), [((3, 8), 2), ((3, 0, 8), 2), ((3, 8, 8), 1)])
def test_impossible_sizes_are_refused(shape: tuple[int, ...], classes: int) -> None:
    with pytest.raises(SpecError):
        lower(one_layer(("1x1", 2)), shape, classes)


def test_a_head_must_end_in_one_number_a_class() -> None:
    network = one_layer(("1x1", 2)).model_copy(update={"head": (a.GlobalPoolStep(),)})
    with pytest.raises(SpecError, match="one number a class"):
        lower(network, (3, 8, 8), 5)


def test_a_cell_of_nas_bench_201_can_be_written() -> None:
    """Four nodes, six edges, ReLU-convolution-norm; every node the sum of its edges (arXiv 2001.00326 section 2.1)."""
    operations = {"01": "3x3", "02": "identity", "12": "1x1", "03": "zero", "13": "3x3avgpool", "23": "3x3"}
    nodes = [
        a.CellNode(name=f"e{e}", operation=op, inputs=(f"n{e[0]}",)) for e, op in operations.items() if e[1] == "1"
    ]
    nodes += [a.CellNode(name="n1", operation="add", inputs=("e01",))]
    nodes += [
        a.CellNode(name=f"e{e}", operation=op, inputs=(f"n{e[0]}",)) for e, op in operations.items() if e[1] == "2"
    ]
    nodes += [a.CellNode(name="n2", operation="add", inputs=("e02", "e12"))]
    nodes += [
        a.CellNode(name=f"e{e}", operation=op, inputs=(f"n{e[0]}",)) for e, op in operations.items() if e[1] == "3"
    ]
    nodes += [a.CellNode(name="n3", operation="add", inputs=("e03", "e13", "e23"))]
    cell = a.Cell(inputs={"n0": 0}, nodes=tuple(nodes))
    network = a.MicroArchitecture(
        stem=(a.ConvStep(channels=16, activation=False),),
        cells={"cell": cell},
        network=(a.Placement(name="cell1", cell="cell", width=16), a.Placement(name="cell2", cell="cell", width=16)),
        style=a.Style(order="act_conv_norm"),
    )
    found = lower(network, (3, 32, 32), 10)
    per_cell = 2 * (9 * 16 * 16 + 32) + 16 * 16 + 32
    assert costs(found).parameters == 27 * 16 + 32 + 2 * per_cell + 170
    assert found.node("cell1/n3").shape == (16, 32, 32)


def test_a_reduction_cell_of_darts_can_be_written() -> None:
    """Inputs brought to the cell's width, edges from them with stride 2 (arXiv 1806.09055 section 3.1)."""
    nodes = (
        a.CellNode(name="s0", operation="1x1", inputs=("before",), channels="width"),
        a.CellNode(name="s1", operation="1x1", inputs=("last",), channels="width"),
        a.CellNode(name="e0", operation="3x3sep", inputs=("s0",), stride=2),
        a.CellNode(name="e1", operation="3x3maxpool", inputs=("s1",), stride=2),
        a.CellNode(name="n0", operation="add", inputs=("e0", "e1")),
        a.CellNode(name="e2", operation="3x3dil2", inputs=("n0",)),
        a.CellNode(name="e3", operation="identity", inputs=("s1",), stride=2),
        a.CellNode(name="n1", operation="add", inputs=("e2", "e3")),
        a.CellNode(name="out", operation="concat", inputs=("n0", "n1")),
    )
    cell = a.Cell(inputs={"last": 0, "before": -1}, nodes=nodes)
    network = a.MicroArchitecture(
        stem=(a.ConvStep(channels=12, activation=False),),
        cells={"reduction": cell},
        network=(a.Placement(name="cell1", cell="reduction", width=8),),
        style=a.Style(order="act_conv_norm", separable_repeats=2, pool_norm=True),
    )
    graph = lower(network, (3, 16, 16), 10)
    assert graph.node("cell1/out").shape == (16, 8, 8)
    assert graph.node("cell1/fit/conv").shape == (8, 8, 8)
    assert "cell1/e0/again/depthwise" in graph.by_name()


def test_a_norm_may_stand_before_the_head() -> None:
    head = (a.NormStep(), a.ActivationStep(), a.GlobalPoolStep(), a.DenseStep())
    graph = lower(one_layer(("3x3", 4)).model_copy(update={"head": head}), (3, 8, 8), 2)
    assert [node.op for node in graph.nodes[-4:]] == ["norm", "activation", "global_pool", "dense"]
    after = one_layer(("3x3", 4)).model_copy(update={"head": (a.GlobalPoolStep(), a.NormStep(), a.DenseStep())})
    with pytest.raises(SpecError, match="needs an image"):
        lower(after, (3, 8, 8), 2)


def test_a_cell_may_be_as_wide_as_its_concatenation() -> None:
    nodes = (
        a.CellNode(name="one", operation="1x1", inputs=("last",), channels="width"),
        a.CellNode(name="out", operation="concat", inputs=("one", "last")),
    )

    def shapes(fit: bool, bias: bool) -> tuple[tuple[int, ...], int]:
        network = a.MicroArchitecture(
            stem=(a.ConvStep(channels=4),),
            cells={"cell": a.Cell(inputs={"last": 0}, nodes=nodes, fit=fit)},
            network=(a.Placement(name="c", cell="cell", width=8),),
            head=(a.GlobalPoolStep(), a.DenseStep()),
            style=a.Style(fit_bias=bias),
        )
        graph = lower(network, (3, 8, 8), 2)
        return graph.node(graph.nodes[-2].inputs[0]).shape, parameters(graph)

    wide, _ = shapes(fit=False, bias=True)
    assert wide == (12, 8, 8)
    (with_bias, many), (without, less) = shapes(fit=True, bias=True), shapes(fit=True, bias=False)
    assert with_bias == without == (8, 8, 8)
    assert many - less == 8


def test_a_dilated_convolution_is_not_repeated() -> None:
    style = a.Style(order="act_conv_norm", separable_repeats=2)
    graph = lower(one_layer(("3x3sep", 2), ("3x3dil2", 2)).model_copy(update={"style": style}), (3, 8, 8), 2)
    assert sum(node.name.endswith("depthwise") for node in graph.nodes) == 3


def test_depth_counts_the_longest_way() -> None:
    assert depth(lower(one_layer(("1x1", 2), ("3x3sep", 2)), (3, 8, 8), 2)) == 4
    assert math.isclose(costs(lower(one_layer(("1x1", 2)), (3, 8, 8), 2)).activation_bytes % 4, 0)
