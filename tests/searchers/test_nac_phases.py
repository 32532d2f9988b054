"""NAC, phase by phase, on small networks whose numbers are worked out by hand."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from nac_helpers import (
    ascending,
    layer,
    network,
    places,
    skips,
    space,
)

from amla.errors import SearchError
from amla.searchers import nac_phases as phases
from amla.searchers.nac import NACSettings, construct, construct_within
from amla.spaces.edits import branches_of, links_of
from amla.spaces.envelope import EnvelopeSpace
from amla.spec.architecture import MacroArchitecture


# -------------------------------------------------------------------------------------------------------- initialise
def test_initialise_is_the_envelope() -> None:
    begun = phases.initialise(space())
    everything = tuple(f"branch{n}" for n in range(1, 7))
    assert places(begun) == dict.fromkeys(("stage1/layer1", "stage1/layer2", "stage2/layer1"), everything)
    assert skips(begun)["stage2/layer1"] == ("stage1/layer1", "stage1/layer2")
    assert skips(phases.initialise(space(skips=False))) == dict.fromkeys(places(begun))


# ---------------------------------------------------------------------------------------------------- prune_branches
@pytest.mark.parametrize(
    ("branches", "count"),
    [(1, 1), (2, 1), (3, 1), (5, 1), (6, 2), (9, 3), (12, 4), (17, 5), (18, 6), (24, 6), (600, 6)],
)
def test_the_paper_prunes_at_least_one_and_at_most_six_or_a_third(branches: int, count: int) -> None:
    paper = NACSettings()
    assert phases.prune_count(branches, paper.max_prune, paper.fraction) == count


@given(st.integers(1, 3000))
def test_a_third_is_the_whole_third(thirds: int) -> None:
    assert phases.prune_count(3 * thirds, 10_000, 1 / 3) == thirds


def test_other_numbers_can_be_set() -> None:
    assert phases.prune_count(12, 0, 1 / 3) == 0
    assert phases.prune_count(12, 2, 1 / 3) == 2
    assert phases.prune_count(12, 100, 1.0) == 12
    assert phases.prune_count(12, 100, 0.0) == 1
    assert phases.prune_count(100, 100, 0.29) == 29


def test_the_lowest_scores_go_first_over_the_whole_stage() -> None:
    stage = network([layer(1, 3), layer(2, 3)]).stages[0]
    scores = {
        "stage1/layer1/branch1": 0.5,
        "stage1/layer1/branch2": 0.9,
        "stage1/layer1/branch3": 0.1,
        "stage1/layer2/branch1": 0.3,
        "stage1/layer2/branch2": 0.2,
        "stage1/layer2/branch3": 0.8,
    }
    assert phases.weakest_branches(stage, scores, 3) == [
        "stage1/layer1/branch3",
        "stage1/layer2/branch2",
        "stage1/layer2/branch1",
    ]


def test_the_last_branch_of_a_layer_stays_and_the_next_weakest_goes() -> None:
    stage = network([layer(1, 2), layer(2, 2)]).stages[0]
    scores = dict(
        zip((f"stage1/layer{x}/branch{b}" for x in (1, 2) for b in (1, 2)), (0.1, 0.2, 0.3, 0.4), strict=True)
    )
    assert phases.weakest_branches(stage, scores, 2) == ["stage1/layer1/branch1", "stage1/layer2/branch1"]
    assert phases.weakest_branches(stage, scores, 4) == ["stage1/layer1/branch1", "stage1/layer2/branch1"]


def test_a_stage_of_single_branches_loses_none() -> None:
    single = network([layer(1, 1), layer(2, 1)])
    assert phases.weakest_branches(single.stages[0], ascending(single), 6) == []


def test_ties_and_scores_that_are_no_numbers() -> None:
    stage = network([layer(1, 4)]).stages[0]
    names = [f"stage1/layer1/branch{n}" for n in (1, 2, 3, 4)]
    assert phases.weakest_branches(stage, dict.fromkeys(names, 1.0), 2) == names[:2]
    lost = dict(zip(names, (0.1, float("nan"), -5.0, float("inf")), strict=True))
    assert phases.weakest_branches(stage, lost, 3) == [names[1], names[2], names[0]]


@given(st.lists(st.integers(1, 4), min_size=1, max_size=4), st.integers(0, 12), st.randoms(use_true_random=False))
def test_pruning_never_empties_a_layer(widths: list[int], count: int, random: Any) -> None:
    before = network([layer(number, width) for number, width in enumerate(widths, 1)])
    scores = {name: random.random() for name, _ in branches_of(before)}
    weak = phases.weakest_branches(before.stages[0], scores, count)
    after = phases.prune_branches(before, weak)
    assert all(places(after).values())
    assert len(weak) == min(count, sum(widths) - len(widths))
    assert [name for name, _ in branches_of(before) if name not in weak] == [name for name, _ in branches_of(after)]
    MacroArchitecture.parse(after.to_data())


def test_prune_branches_touches_nothing_else() -> None:
    before = network([layer(1, 3, ()), layer(2, 2, ())], [layer(1, 2, ["stage1/layer1"])])
    after = phases.prune_branches(before, ["stage1/layer1/branch2", "stage2/layer1/branch1"])
    assert places(after) == {
        "stage1/layer1": ("branch1", "branch3"),
        "stage1/layer2": ("branch1", "branch2"),
        "stage2/layer1": ("branch2",),
    }
    assert skips(after) == skips(before)
    assert after.stages[0].layers[0].branches[1] == before.stages[0].layers[0].branches[2], "names stay"


def test_a_stage_above_max_layers_is_closed() -> None:
    three = network([layer(1, 1)], [layer(n, 1) for n in (1, 2)], [layer(n, 1) for n in (1, 2, 3)])
    assert phases.open_stages(three, (True, True, True), (2, 2, 2)) == ["stage1", "stage2"]
    assert phases.open_stages(three, (True, False, True), (2, 2, 3)) == ["stage1", "stage3"]


# --------------------------------------------------------------------------------------------------------------- grow
def test_grow_appends_a_full_layer_with_dense_skips() -> None:
    before = phases.prune_branches(phases.initialise(space()), ["stage1/layer2/branch3"])
    after, grown = phases.grow(before, ["stage1", "stage2"], space())
    assert grown == ["stage1/layer3", "stage2/layer2"]
    full = tuple(f"branch{n}" for n in range(1, 7))
    assert list(places(after)) == ["stage1/layer1", "stage1/layer2", "stage1/layer3", "stage2/layer1", "stage2/layer2"]
    assert places(after)["stage1/layer3"] == places(after)["stage2/layer2"] == full
    assert skips(after)["stage1/layer3"] == ("stage1/layer1",)
    assert skips(after)["stage2/layer2"] == (
        "stage1/layer1",
        "stage1/layer2",
        "stage1/layer3",
        "stage1/widener",
    )
    assert skips(after)["stage2/layer1"] == skips(before)["stage2/layer1"], "older layers are left to feed_later"
    assert after.stages[0].widener is not None
    assert phases.grow(before, [], space()) == (before, [])


def test_grow_without_skips() -> None:
    bare = space(skips=False)
    after, grown = phases.grow(phases.initialise(bare), ["stage2"], bare)
    assert grown == ["stage2/layer2"]
    assert skips(after)["stage2/layer2"] is None


def test_older_layers_behind_a_grown_one_read_it() -> None:
    before, grown = phases.grow(phases.initialise(space(layers=[2, 2])), ["stage1"], space(layers=[2, 2]))
    after = skips(phases.feed_later(before, grown))
    assert grown == ["stage1/layer3"]
    assert after["stage1/layer2"] == (), "it stands before it"
    for place in ("stage2/layer1", "stage2/layer2"):
        assert "stage1/layer3" in (after[place] or ())


def test_a_grown_layer_is_not_fed_to_the_layer_that_it_precedes() -> None:
    before = network([layer(1, 1, ()), layer(2, 1, ()), layer(3, 1, ())])
    after = skips(phases.feed_later(before, ["stage1/layer1"]))
    assert after == {"stage1/layer1": (), "stage1/layer2": (), "stage1/layer3": ("stage1/layer1",)}


# -------------------------------------------------------------------------------------------------------- prune_skips
SOURCES = ("stage1/layer1", "stage1/layer2", "stage1/widener")


def with_three_skips() -> MacroArchitecture:
    return network([layer(1, 1, ()), layer(2, 1, ())], [layer(1, 1, ()), layer(2, 1, SOURCES)])


def scalars(*values: float) -> dict[str, float]:
    return {f"stage2/layer2/skip/{source}": value for source, value in zip(SOURCES, values, strict=True)}


@pytest.mark.parametrize(
    ("values", "signed", "kept"),
    [
        ((0.1, 0.9, 0.5), False, SOURCES[1:]),
        ((-0.9, 0.1, 0.5), False, (SOURCES[0], SOURCES[2])),
        ((-0.9, 0.1, 0.5), True, SOURCES[1:]),
        ((0.5, 0.5, 0.5), False, SOURCES[:2]),
    ],
)
def test_the_larger_half_of_three_skips_is_two(values: Any, signed: bool, kept: tuple[str, ...]) -> None:
    after = phases.prune_skips(with_three_skips(), scalars(*values), (), signed=signed)
    assert skips(after) == skips(with_three_skips()) | {"stage2/layer2": kept}


@pytest.mark.parametrize(("before", "after"), [(0, 0), (1, 1), (2, 1), (3, 2), (4, 2), (5, 3)])
def test_half_of_the_skips_is_rounded_up(before: int, after: int) -> None:
    sources = [f"stage1/layer{n}" for n in range(1, before + 1)]
    deep = network([*(layer(n, 1, ()) for n in range(1, before + 2)), layer(before + 2, 1, sources)])
    values = {f"stage1/layer{before + 2}/skip/{source}": float(place) for place, source in enumerate(sources)}
    left = phases.prune_skips(deep, values, ()).stages[0].layers[-1].skips
    assert left == tuple(sources[before - after :])


def test_a_layer_just_grown_keeps_all_its_skips() -> None:
    before = with_three_skips()
    assert phases.prune_skips(before, {}, ["stage2/layer2"]) == before


def test_a_skip_without_a_scalar_is_an_error() -> None:
    with pytest.raises(SearchError, match="no scalar of the skip stage2/layer2/skip/stage1/layer1"):
        phases.prune_skips(with_three_skips(), {}, ())


# --------------------------------------------------------------------------------------------------------- set_widths
def test_the_width_of_a_stage_is_shared_out() -> None:
    of = space(width=16, layers=[2, 1])
    pruned = phases.prune_branches(phases.initialise(of), ["stage1/layer1/branch1", "stage1/layer1/branch2"])
    after = phases.set_widths(pruned, of)
    channels = [[branch.channels for branch in x.branches] for stage in after.stages for x in stage.layers]
    assert channels == [[4, 4, 4, 4], [3, 3, 3, 3, 2, 2], [6, 6, 5, 5, 5, 5]]
    assert [stage.widener.channels if stage.widener else None for stage in after.stages] == [16, None]


@pytest.mark.parametrize(
    ("layers", "widths"),
    [(1, [64]), (2, [32, 64]), (3, [26, 26, 64]), (5, [21, 21, 21, 21, 64])],
)
def test_inner_layers_of_a_limited_stage_are_narrow(layers: int, widths: list[int]) -> None:
    of = space(width=64, layers=[layers], max_layers=[9], parameter_limits=[True])
    assert [x.width for x in phases.initialise(of).stages[0].layers] == widths
    grown, _ = phases.grow(phases.initialise(of), ["stage1"], of)
    assert phases.set_widths(grown, of).stages[0].layers[-1].width == 64, (
        "the new last layer is wide, the old one inner"
    )
    assert len({x.width for x in phases.set_widths(grown, of).stages[0].layers[:-1]}) == 1


def test_lapsed_channels_are_gone() -> None:
    of = space(width=12, layers=[1], max_layers=[1])
    before = phases.initialise(of)
    grown, _ = phases.grow(phases.prune_branches(before, ["stage1/layer1/branch6"]), ["stage1"], of)
    after = phases.lapse(before, phases.set_widths(grown, of))
    assert [[branch.channels for branch in x.branches] for x in after.stages[0].layers] == [[2] * 5, [2] * 6]


# ---------------------------------------------------------------------------------------------------- a construction
def constructed(of: EnvelopeSpace, **settings: Any) -> tuple[MacroArchitecture, MacroArchitecture, Any]:
    before = phases.initialise(of)
    values = {link: float(place) for place, link in enumerate(links_of(before), 1)}
    chosen = NACSettings.parse(settings)
    growing = phases.open_stages(before, chosen.construction or (True,) * len(of.layers), of.max_layers)
    return before, *construct(before, of, chosen, ascending(before), values, growing)


def test_one_construction_by_hand() -> None:
    before, after, change = constructed(space(width=12))
    # stage 1: 12 branches, a third of which is 4; stage 2: 6 branches, so 2
    assert change.pruned == (
        *(f"stage1/layer1/branch{n}" for n in (1, 2, 3, 4)),
        *(f"stage2/layer1/branch{n}" for n in (1, 2)),
    )
    assert change.grown == ("stage1/layer3", "stage2/layer2")
    assert change.unlinked == ("stage2/layer1/skip/stage1/layer1",)
    assert {place: len(names) for place, names in places(after).items()} == {
        "stage1/layer1": 2,
        "stage1/layer2": 6,
        "stage1/layer3": 6,
        "stage2/layer1": 4,
        "stage2/layer2": 6,
    }
    # kept: the larger scalar of two; fed: the layer grown in stage 1
    assert skips(after)["stage2/layer1"] == ("stage1/layer2", "stage1/layer3")
    assert [x.width for stage in after.stages for x in stage.layers] == [12, 12, 12, 24, 24]
    assert space(width=12).contains(after)
    assert before == phases.initialise(space(width=12)), "nothing was changed in place"


def test_a_closed_stage_keeps_its_branches_but_not_its_skips() -> None:
    _, after, change = constructed(space(width=12), construction=[True, False])
    assert {name.split("/")[0] for name in (*change.pruned, *change.grown)} == {"stage1"}
    assert skips(after)["stage2/layer1"] == ("stage1/layer2", "stage1/layer3"), "as in the published network"


def test_where_nothing_grows_deep_stages_are_pruned_too() -> None:
    of = space(width=12, layers=[2, 1], max_layers=[1, 1])
    before = phases.initialise(of)
    values = {link: float(place) for place, link in enumerate(links_of(before), 1)}
    settings = NACSettings(grow=False)
    after, change = construct_within(before, of, settings, ascending(before), values)
    assert (len(change.pruned), change.grown) == (6, ())
    assert [len(stage.layers) for stage in after.stages] == [2, 1]
    again, change = construct_within(after, of, settings, ascending(after), values)
    assert len(change.pruned) == 3  # of 8 and 4 branches left: 2 and 1
    assert of.contains(again)


def test_what_settings_leave_out() -> None:
    before, after, change = constructed(
        space(width=12), criterion="none", prune_skips=False, feed_later=False, max_prune=0
    )
    assert change.pruned == change.unlinked == ()
    assert {place: skips(after)[place] for place in skips(before)} == skips(before)
    assert {place: places(after)[place] for place in places(before)} == places(before)


def test_lapse_leaves_the_survivors_as_they_were() -> None:
    before, after, change = constructed(space(width=12), freed_channels="lapse")
    had = dict(branches_of(before))
    for name, branch in branches_of(after):
        if not name.startswith(change.grown):
            assert branch == had[name]
