"""``SpaceSuite``: what every search space must do. Subclass it, give it your space, run pytest.

::

    class TestMySpace(SpaceSuite):
        name = "my_space:MySpace"
        settings = {"width": 8}
        small = {"width": 8, "layers": 1}
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from itertools import product
from typing import Any, ClassVar

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from amla import registry
from amla.errors import SpecError
from amla.spaces.base import AnyArchitecture, SearchSpace
from amla.spec.architecture import parse_architecture
from amla.spec.experiment import Problem
from amla.spec.lower import lower
from amla.testing.tiny import network as foreign_network

_NAME = re.compile(r"[A-Za-z0-9_.\-/]{1,64}", re.ASCII)
_SEEDS = st.integers(0, 2**32 - 1)
_properties = settings(deadline=None, max_examples=20)


class SpaceSuite:
    """Override ``name`` (as registered, or ``module:Class``), ``settings`` of a space of small networks, and ``small`` of one
    that has a few thousand architectures at most, so that they can be counted."""

    name: ClassVar[str]
    settings: ClassVar[dict[str, Any]] = {}
    small: ClassVar[dict[str, Any]]
    problem: ClassVar[Problem] = Problem(input_shape=(1, 8, 8), num_classes=3, train_size=100)

    def make(self, settings: Mapping[str, Any] | None = None) -> SearchSpace:
        cls = registry.load("spaces", self.name)
        space: SearchSpace = cls(cls.Settings.parse(self.settings if settings is None else settings), self.problem)
        return space

    def check(self, space: SearchSpace, architecture: AnyArchitecture) -> None:
        """It is the space's, survives JSON, and is a network."""
        assert space.contains(architecture)
        assert parse_architecture(architecture.to_json()) == architecture
        graph = lower(architecture, self.problem.input_shape, self.problem.num_classes)
        assert graph.num_classes == self.problem.num_classes

    # ------------------------------------------------------------------------------------------------------- moving in it
    def test_what_is_drawn_is_a_network_of_the_space(self) -> None:
        space = self.make()

        @_properties
        @given(seed=_SEEDS)
        def holds(seed: int) -> None:
            drawn = _drawn(space, seed)
            self.check(space, drawn)
            assert _drawn(self.make(), seed) == drawn, "another generator of the same seed draws another network"

        holds()

    def test_a_mutation_is_one_of_the_neighbours(self) -> None:
        space = self.make()

        @_properties
        @given(seed=_SEEDS)
        def holds(seed: int) -> None:
            drawn = _drawn(space, seed)
            mutated = space.mutate(drawn, np.random.default_rng(seed))
            self.check(space, mutated)
            assert mutated != drawn
            assert mutated == space.mutate(drawn, np.random.default_rng(seed))
            assert mutated in list(space.neighbors(drawn)), "a mutation is more than one edit away"

        holds()

    def test_neighbours_are_distinct_networks_in_a_fixed_order(self) -> None:
        space = self.make()

        @settings(_properties, max_examples=5)
        @given(seed=_SEEDS)
        def holds(seed: int) -> None:
            drawn = _drawn(space, seed)
            found = list(space.neighbors(drawn))
            assert found == list(self.make().neighbors(drawn))
            assert drawn not in found
            assert len({network.to_json() for network in found}) == len(found)
            assert all(space.contains(network) for network in found)
            assert len({space.decode(space.encode(network)).to_json() for network in found}) == len(found)

        holds()

    def test_a_network_of_another_kind_is_refused(self) -> None:
        space, foreign = self.make(), foreign_network(3)
        assert not space.contains(foreign)
        with pytest.raises(SpecError):
            space.encode(foreign)

    # --------------------------------------------------------------------------------------------------------- as decisions
    def test_decisions_have_names_that_any_tool_can_carry(self) -> None:
        space = self.make()
        decisions = space.decisions()
        assert list(decisions.items()) == list(self.make().decisions().items())
        for name, options in decisions.items():
            assert options
            assert len(set(options)) == len(options)
            assert all(_NAME.fullmatch(text) for text in (name, *options)), f"{name}: {options}"

    def test_a_network_is_its_decisions(self) -> None:
        space = self.make()

        @_properties
        @given(seed=_SEEDS)
        def holds(seed: int) -> None:
            drawn = _drawn(space, seed)
            taken = space.encode(drawn)
            assert list(taken) == list(space.decisions())
            assert space.decode(taken) == drawn
            assert space.encode(parse_architecture(drawn.to_json())) == taken

        holds()

    def test_any_options_make_a_network(self) -> None:
        space = self.make()
        choices = {name: st.sampled_from(options) for name, options in space.decisions().items()}

        @_properties
        @given(taken=st.fixed_dictionaries(choices))
        def holds(taken: dict[str, str]) -> None:
            made = space.decode(taken)
            self.check(space, made)
            assert space.decode(space.encode(made)) == made

        holds()

    def test_a_decision_that_is_missing_or_unknown_is_named(self) -> None:
        space = self.make()
        taken = space.encode(_drawn(space, 0))
        for name in taken:
            with pytest.raises(SpecError, match=re.escape(name)):
                space.decode({other: option for other, option in taken.items() if other != name})
            with pytest.raises(SpecError, match=re.escape(name)):
                space.decode({**taken, name: "no such option"})

    def test_its_size_is_what_counting_gives(self) -> None:
        space = self.make(self.small)
        decisions = space.decisions()
        made = {
            space.decode(dict(zip(decisions, options, strict=True))).to_json()
            for options in product(*decisions.values())
        }
        assert len(made) == space.size()
        assert {network.to_json() for network in _reached(space)} == made, "neighbours do not lead everywhere"

    # ------------------------------------------------------------------------------------------------------ as one network
    def test_its_supernet_is_a_network_of_all_options(self) -> None:
        space = self.make()
        found = space.supernet()
        if found is None:
            for refused in (lambda: space.derive({}), lambda: space.kept(_drawn(space, 0))):
                with pytest.raises(SpecError):
                    refused()
            return
        graph = lower(found.architecture, self.problem.input_shape, self.problem.num_classes)
        assert parse_architecture(found.architecture.to_json()) == found.architecture
        blocks = [block for options in found.mixtures.values() for option in options.values() for block in option]
        assert set(blocks) <= {block.name for block in graph.blocks}
        assert len(set(blocks)) == len(blocks), "two options share a block"
        assert all(len(options) > 1 for options in found.mixtures.values())

    def test_what_is_derived_keeps_what_it_was_derived_from(self) -> None:
        space = self.make()
        found = space.supernet()
        if found is None:
            pytest.skip("this space has no supernet")
        mixtures = found.mixtures

        @_properties
        @given(seed=_SEEDS)
        def holds(seed: int) -> None:
            rng = np.random.default_rng(seed)
            strengths = {
                name: {option: float(rng.random()) for option in options} for name, options in mixtures.items()
            }
            derived = space.derive(strengths)
            self.check(space, derived)
            kept = space.kept(derived)
            assert kept.keys() == mixtures.keys()
            assert all(options and set(options) <= set(mixtures[name]) for name, options in kept.items())
            only = {
                name: {option: float(option in kept[name]) for option in options} for name, options in mixtures.items()
            }
            assert space.derive(only) == derived

        holds()

    def test_a_strength_that_is_missing_is_named(self) -> None:
        space = self.make()
        if space.supernet() is None:
            pytest.skip("this space has no supernet")
        with pytest.raises(SpecError, match="has no strength"):
            space.derive({})

    # ------------------------------------------------------------------------------------------------ within a time budget
    def test_a_time_budget_can_choose_among_its_scales(self) -> None:
        cls = registry.load("spaces", self.name)
        rungs = list(cls.scales({}, self.problem))
        assert rungs
        for rung in rungs:
            space = self.make(rung)
            assert space.contains(_drawn(space, 0))
        for key, value in rungs[0].items():
            assert all(key not in rung for rung in cls.scales({key: value}, self.problem)), f"it changes a given {key}"


def _drawn(space: SearchSpace, seed: int) -> AnyArchitecture:
    return space.sample(np.random.default_rng(seed))


def _reached(space: SearchSpace) -> Iterator[AnyArchitecture]:
    """Every architecture to which a way of neighbours leads from one at random."""
    first = _drawn(space, 0)
    seen, waiting = {first.to_json()}, [first]
    while waiting:
        here = waiting.pop()
        yield here
        for network in space.neighbors(here):
            if network.to_json() not in seen:
                seen.add(network.to_json())
                waiting.append(network)
