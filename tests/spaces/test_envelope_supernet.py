"""The envelope as one network: what is on, what is off, and what cannot be said so."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from amla.errors import SpecError
from amla.spaces.envelope import EnvelopeSettings, EnvelopeSpace
from amla.spec.experiment import Problem

PROBLEM = Problem(input_shape=(3, 12, 12), num_classes=4, train_size=100)
OPERATIONS = ("1x1", "3x3", "3x3sep")


def space_of(**settings: Any) -> EnvelopeSpace:
    known = {"width": 6, "layers": [2, 1], "max_layers": [2, 1], "operations": OPERATIONS}
    return EnvelopeSpace(EnvelopeSettings.parse(known | settings), PROBLEM)


def test_every_branch_and_every_skip_is_a_switch() -> None:
    found = space_of().supernet()
    assert found is not None
    assert found.architecture == space_of().initial()
    assert found.mixtures["stage1/layer2/3x3sep"] == {"off": (), "on": ("stage1/layer2/branch3",)}
    assert found.mixtures["stage2/layer1/skip/stage1/layer1"] == {
        "off": (),
        "on": ("stage2/layer1/skip/stage1/layer1",),
    }
    assert set(found.mixtures) == {name for name in space_of().decisions() if not name.endswith("/depth")}


@given(st.integers(0, 2**32 - 1))
def test_every_network_of_its_depth_is_in_it(seed: int) -> None:
    space = space_of()
    network = space.sample(np.random.default_rng(seed))
    kept = space.kept(network)
    strengths = {name: {option: 0.5 + (option in kept[name]) for option in ("off", "on")} for name in kept}
    assert space.derive(strengths) == network


def test_a_layer_keeps_the_branch_that_is_closest_to_staying() -> None:
    space = space_of(skips=False, layers=[1], max_layers=[1])
    strengths = {f"stage1/layer1/{name}": {"off": 0.9, "on": 0.1} for name in OPERATIONS}
    strengths["stage1/layer1/3x3"] = {"off": 0.6, "on": 0.4}
    (layer,) = space.derive(strengths).stages[0].layers
    assert [branch.operation for branch in layer.branches] == ["3x3"]


def test_depth_is_no_mixture() -> None:
    space = space_of(layers=[1, 1], max_layers=[3, 1])
    found = space.supernet()
    assert found is not None
    assert [len(stage.layers) for stage in found.architecture.stages] == [3, 1]  # type: ignore[union-attr]
    with pytest.raises(SpecError, match=r"stage1 has 1 layers.*set max_layers"):
        space.kept(space.initial())


def test_a_space_of_so_many_blocks_has_no_supernet() -> None:
    space = space_of(blocks=[3, 1])
    assert space.supernet() is None
    with pytest.raises(SpecError, match="blocks"):
        space.derive({})
    with pytest.raises(SpecError, match="blocks"):
        space.kept(space.sample(np.random.default_rng(0)))
