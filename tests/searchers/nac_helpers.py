"""What the tests of NAC share: a small problem, networks written by hand, made-up results."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from amla.engine.rehearsal import drawn_result
from amla.searchers import nac_phases as phases
from amla.spaces.edits import branches_of
from amla.spaces.envelope import EnvelopeSettings, EnvelopeSpace
from amla.spec.architecture import Branch, ConvStep, Layer, MacroArchitecture, Stage, Widener
from amla.spec.experiment import Problem, trial_seed
from amla.spec.training import Budget
from amla.spec.trial import Failure, Result, Trial, TrialSpec

PROBLEM = Problem(
    input_shape=(1, 8, 8),
    num_classes=3,
    train_size=1000,
    budget=Budget(steps=10),
    final_budget=Budget(steps=40),
    space_settings={"width": 6, "layers": [2, 1], "max_layers": [3, 1]},
)


def space(**settings: Any) -> EnvelopeSpace:
    return EnvelopeSpace(EnvelopeSettings.parse(PROBLEM.space_settings | settings), PROBLEM)


def layer(number: int, branches: int | Sequence[int], skips: Sequence[str] | None = None) -> Layer:
    """So many branches, or those of these numbers, of 2 channels each."""
    numbers = range(1, branches + 1) if isinstance(branches, int) else branches
    return Layer(
        name=f"layer{number}",
        branches=tuple(Branch(name=f"branch{n}", operation="3x3", channels=2) for n in numbers),
        skips=None if skips is None else tuple(skips),
    )


def network(*stages: Sequence[Layer]) -> MacroArchitecture:
    last = len(stages)
    return MacroArchitecture(
        stem=(ConvStep(channels=4),),
        stages=tuple(
            Stage(name=f"stage{s}", layers=tuple(layers), widener=Widener(channels=4) if s < last else None)
            for s, layers in enumerate(stages, 1)
        ),
    )


def places(architecture: MacroArchitecture) -> dict[str, tuple[str, ...]]:
    """The branches of every layer."""
    return {
        f"{stage.name}/{x.name}": tuple(branch.name for branch in x.branches)
        for stage in architecture.stages
        for x in stage.layers
    }


def skips(architecture: MacroArchitecture) -> dict[str, tuple[str, ...] | None]:
    return {f"{stage.name}/{x.name}": x.skips for stage in architecture.stages for x in stage.layers}


def ascending(architecture: MacroArchitecture) -> dict[str, float]:
    """Scores that grow with the place in the network: the first branch is the weakest."""
    return {name: float(place) for place, (name, _) in enumerate(branches_of(architecture))}


ENVELOPE = phases.initialise(space())


def result_of(architecture: MacroArchitecture, seed: int = 1, **update: Any) -> Result:
    spec = TrialSpec(architecture=architecture, budget=PROBLEM.budget)
    return drawn_result(spec, seed, PROBLEM).model_copy(update=update)


def done(spec: TrialSpec, number: int, position: int = 0, problem: Problem = PROBLEM) -> Trial:
    """What a trainer would give: statistics of every block, drawn from the trial's seed."""
    seed = trial_seed(problem.seed, number)
    result = drawn_result(spec, seed, problem, position)
    return Trial(number=number, seed=seed, state="done", finished_seq=number, spec=spec, result=result)


def failed(spec: TrialSpec, number: int) -> Trial:
    result = Result(failure=Failure(kind="nan", reason="the loss is nan"))
    return Trial(number=number, seed=number, state="failed", finished_seq=number, spec=spec, result=result)


def position_of(spec: TrialSpec, trials: Sequence[Trial]) -> int:
    parent = trials[spec.parent].result if spec.parent is not None else None
    return parent.position if parent else 0
