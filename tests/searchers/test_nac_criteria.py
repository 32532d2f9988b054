"""What ranks the branches: each criterion on numbers worked out by hand."""

from __future__ import annotations

from typing import Any

import pytest
from nac_helpers import (
    ENVELOPE,
    PROBLEM,
    ascending,
    layer,
    network,
    result_of,
    space,
)

from amla.errors import SearchError
from amla.searchers import nac_phases as phases
from amla.searchers.nac import NAC, NACSettings
from amla.searchers.nac_criteria import agreement_at_half, branch_sizes, measure_of, relative, scores_of
from amla.spaces.edits import branches_of
from amla.spec.costs import costs
from amla.spec.lower import lower
from amla.spec.trial import Result, Snapshot


def stated(name: str, values: dict[str, float]) -> Result:
    statistics = {block: {name: value} for block, value in values.items()}
    return result_of(ENVELOPE, statistics=statistics, snapshots=(Snapshot(step=5, statistics=statistics),))


@pytest.mark.parametrize(
    ("criterion", "point", "instrument", "statistic"),
    [
        ("mean_square", "after_activation", "feature_map", "mean_square"),
        ("mean_square", "before_norm", "feature_map_before_norm", "mean_square_before_norm"),
        ("variance", "before_norm", "feature_map_before_norm", "variance_before_norm"),
        ("worst", "after_activation", "feature_map", "mean_square"),
        ("taylor", "before_norm", "taylor", "taylor"),
        ("switched_off", "before_norm", "switched_off", "switched_off"),
        ("covariance_entropy", "before_norm", "covariance_entropy_before_norm", "covariance_entropy_before_norm"),
    ],
)
def test_what_a_criterion_reads(criterion: str, point: str, instrument: str, statistic: str) -> None:
    settings = NACSettings.parse({"criterion": criterion, "point": point})
    assert measure_of(settings) == (instrument, statistic)
    assert NAC(settings, PROBLEM).needs == {instrument, "skip"}
    values = ascending(ENVELOPE)
    sign = -1.0 if criterion == "worst" else 1.0
    found = scores_of(settings, ENVELOPE, stated(statistic, values), PROBLEM, 1)
    assert found == {name: sign * value for name, value in values.items()}


@pytest.mark.parametrize("criterion", ["random", "size", "none"])
def test_a_control_reads_nothing(criterion: str) -> None:
    settings = NACSettings.parse({"criterion": criterion, "prune_skips": False})
    assert NAC(settings, PROBLEM).needs == frozenset()
    trial = NAC(settings, PROBLEM).suggest([], 0)
    assert trial is not None
    assert (trial.instruments, trial.snapshots) == ((), ())
    assert agreement_at_half(settings, ENVELOPE, result_of(ENVELOPE)) is None


def test_random_scores_follow_the_seed_and_the_number() -> None:
    settings = NACSettings(criterion="random")
    first, again, next_one = (scores_of(settings, ENVELOPE, None, PROBLEM, number) for number in (3, 3, 4))
    assert first == again != next_one
    assert first.keys() == {name for name, _ in branches_of(ENVELOPE)}


def test_sizes_are_the_trained_numbers_of_a_branch() -> None:
    of = space(width=6, layers=[1], max_layers=[1])
    sizes = branch_sizes(phases.initialise(of), PROBLEM)
    # 6 channels in (the stem's width), 1 out, and the norm's scale and bias
    assert sizes == {
        f"stage1/layer1/branch{n}": size
        for n, size in enumerate((6 + 2, 54 + 2, 54 + 6 + 2, 150 + 2, 150 + 6 + 2, 294 + 6 + 2), 1)
    }
    graph = lower(phases.initialise(of), PROBLEM.input_shape, PROBLEM.num_classes)
    others = 9 * 6 + 12 + 6 * 6 + 12 + 6 * 3 + 3  # stem, the bottleneck of no skips, classifier
    assert costs(graph).parameters == sum(sizes.values()) + others


def test_scores_relative_to_kind_and_to_layer() -> None:
    small = network([layer(1, 2), layer(2, 2)])
    other = small.stages[0].layers[1].branches[1].model_copy(update={"operation": "5x5"})
    second = small.stages[0].layers[1].model_copy(update={"branches": (small.stages[0].layers[1].branches[0], other)})
    small = network([small.stages[0].layers[0], second])
    names = [name for name, _ in branches_of(small)]
    scores = dict(zip(names, (1.0, 2.0, 3.0, 5.0), strict=True))  # three of 3x3, mean 2; one of 5x5
    assert relative(scores, NACSettings(), small) == scores
    assert relative(scores, NACSettings(normalise="kind"), small) == dict(zip(names, (0.5, 1, 1.5, 1), strict=True))
    by_layer = relative(scores, NACSettings(normalise="layer"), small)
    assert list(by_layer.values()) == pytest.approx([2 / 3, 4 / 3, 0.75, 1.25])
    assert set(relative(dict.fromkeys(names, 0.0), NACSettings(normalise="kind"), small).values()) == {0.0}


def test_a_missing_statistic_is_an_error() -> None:
    lacking = stated("variance", ascending(ENVELOPE))
    with pytest.raises(SearchError, match="gave no mean_square of stage1/layer1/branch1"):
        scores_of(NACSettings(criterion="mean_square"), ENVELOPE, lacking, PROBLEM, 1)


def test_agreement_is_kendalls_tau_of_the_branches_alone() -> None:
    names = [name for name, _ in branches_of(ENVELOPE)]
    end = {name: {"mean_square": float(place)} for place, name in enumerate(names)}
    half = {name: {"mean_square": -float(place)} for place, name in enumerate(names)}
    skip = {"stage2/layer1/skip/stage1/layer1": {"mean_square": 3.0}}  # no branch: it is not ranked

    def tau(before: dict[str, dict[str, float]], **settings: Any) -> float | None:
        result = result_of(ENVELOPE, statistics=end | skip, snapshots=(Snapshot(step=5, statistics=before | skip),))
        return agreement_at_half(NACSettings.parse({"criterion": "mean_square"} | settings), ENVELOPE, result)

    assert tau(half) == pytest.approx(-1.0)
    assert tau(end) == pytest.approx(1.0)
    assert tau(end, criterion="worst") == pytest.approx(1.0)
    pairs = len(names) * (len(names) - 1) / 2
    swapped = end | {names[0]: end[names[1]], names[1]: end[names[0]]}
    assert tau(swapped) == pytest.approx(1 - 2 / pairs)
    assert agreement_at_half(NACSettings(), ENVELOPE, None) is None
