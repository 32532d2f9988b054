"""Comparison files: what they mean, and what is wrong with them."""

from pathlib import Path

import pytest

from amla import registry
from amla.comparing import read_comparison
from amla.engine.arms import chosen, comparison_of, runs_of
from amla.errors import AmlaError, ConfigError

CONFIGS = Path(__file__).parents[2] / "configs"
FILE = {
    "dataset": "digits",
    "time_budget": "20s",
    "space_settings": {"width": 6, "layers": [1]},
    "seeds": [3, 1],
    "baseline": "b",
    "arms": {"a": {"searcher": "random", "space_settings": {"width": 8}}, "b": {"searcher": "envelope"}},
}


def test_arms_take_turns_seed_by_seed():
    runs = runs_of(comparison_of(FILE, "test"))
    assert [run.spec.name for run in runs] == ["test-a-s3", "test-b-s3", "test-a-s1", "test-b-s1"]
    assert [run.spec.seed for run in runs] == [run.spec.dataset.seed for run in runs] == [3, 3, 1, 1]


def test_an_arm_puts_its_keys_over_the_common_ones():
    a, b, *_ = runs_of(comparison_of(FILE, "test"))
    assert a.spec.space_settings == {"width": 8, "layers": [1]}
    assert b.spec.space_settings == {"width": 6, "layers": [1]}
    assert a.spec.time_budget == 20.0


def test_another_space_has_settings_of_its_own():
    arms = {"a": {"searcher": "random", "space": "other", "space_settings": {"cells": 3}}}
    (run,) = runs_of(comparison_of(FILE | {"arms": arms, "seeds": [0], "baseline": "a"}, "test"))
    assert run.spec.space_settings == {"cells": 3}


def test_a_part():
    part = chosen(comparison_of(FILE, "test"), ["a"], [7])
    assert [run.spec.name for run in runs_of(part)] == ["test-a-s7"]
    assert part.baseline is None
    with pytest.raises(ConfigError, match=r"'c'.*a, b"):
        chosen(comparison_of(FILE, "test"), ["c"])


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"arms": None}, "arms: none"),
        ({"arms": {}}, "arms"),
        ({"arms": {"a/b": {}}, "baseline": None}, "'a/b' is no name"),
        ({"arms": {"a": {"searcher": "random", "seed": 1}}, "baseline": None}, "seed: each experiment"),
        ({"name": "no good"}, "name"),
        ({"seeds": []}, "seeds: the list is empty"),
        ({"seeds": [1, 1]}, "seeds: one is there twice"),
        ({"seeds": ["x"]}, "seeds"),
        ({"baseline": "c"}, "'c'"),
        ({"wrong": 1}, "wrong: no such option"),
        ({"arms": {"a": {"searcher": "nobody"}}, "baseline": None}, "nobody"),
        ({"arms": {"a": {"searcher": "random", "settings": {"x": 1}}}, "baseline": None}, "a: settings"),
    ],
)
def test_bad_files(change, said):
    with pytest.raises(AmlaError, match=said) as raised:
        runs_of(comparison_of(FILE | change, "test"))
    assert "\n" not in str(raised.value)


@pytest.mark.parametrize("file", sorted(CONFIGS.glob("compare-*.yaml")), ids=lambda path: path.stem)
def test_the_comparison_files_that_ship(file):
    spec = read_comparison(file)
    there = [arm for arm, keys in spec.arms.items() if keys["searcher"] in registry.names("searchers")]
    if len(there) < len(spec.arms):
        pytest.skip(f"searchers that are not installed: {sorted({*spec.arms} - {*there})}")
    runs = runs_of(spec)
    assert len(runs) == len(spec.arms) * len(spec.seeds)
    assert len({str(run.spec.training) for run in runs}) == 1
    assert {run.spec.exact_time for run in runs} == {True}
