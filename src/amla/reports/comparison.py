"""Experiments side by side: one row an arm, every figure over the arm's seeds, and a test against a baseline."""

from __future__ import annotations

import importlib.util
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any, NamedTuple

from pydantic import Field, JsonValue

from amla.engine.summary import TRAINED, final_trial, summary
from amla.errors import ConfigError, StoreError
from amla.exporters.base import Model
from amla.exporters.latency import latency_ms
from amla.reports.significance import Spread, Test, difference, spread
from amla.spec.base import Document
from amla.spec.data import DatasetInfo
from amla.spec.experiment import Experiment
from amla.spec.trial import Result, Trial

#: Figures of an experiment, in the order of the table's columns.
FIGURES = (
    "test_accuracy",
    "parameters",
    "flops",
    "latency_ms",
    "search_seconds",
    "selection_seconds",
    "final_seconds",
    "total_seconds",
    "trials",
)


@dataclass(frozen=True)
class Member:
    """One finished experiment with its trials."""

    experiment: Experiment
    trials: Sequence[Trial]

    @property
    def seed(self) -> int:
        return self.experiment.spec.seed

    @property
    def name(self) -> str:
        return self.experiment.name

    @cached_property
    def final(self) -> Trial:
        """The trial that was trained to the end."""
        found = final_trial(self.trials)
        assert found is not None  # only what is done is compared
        return found

    @cached_property
    def figures(self) -> dict[str, float]:
        """By the names in ``FIGURES``; those that could not be measured are missing. Accuracy is in [0, 1]."""
        known = summary(self.experiment, self.trials)
        seconds = {f"{purpose}_seconds": float(known["seconds"][purpose]) for purpose in TRAINED}
        result = self.final.result or Result()
        latency = _latency_ms(self.experiment, self.final)
        return {
            "test_accuracy": float(known["test"]["accuracy"]),
            "parameters": float(result.parameters),
            "flops": float(result.flops),
            **({} if latency is None else {"latency_ms": latency}),
            **seconds,
            "total_seconds": sum(seconds.values()),
            "trials": float(sum(t.spec.purpose == "search" and t.finished for t in self.trials)),
        }

    @property
    def device(self) -> str:
        return str(summary(self.experiment, self.trials)["device"])


@dataclass(frozen=True)
class Arm:
    """Experiments that differ in their seed only. ``failed`` says in one line each which have come to nothing, and why."""

    name: str
    members: Sequence[Member]
    failed: Sequence[str] = field(default=())


class Row(Document):
    """An arm in figures."""

    arm: str
    searcher: str
    seeds: tuple[int, ...]
    figures: dict[str, Spread]
    devices: tuple[str, ...]
    against_baseline: Test | None = Field(None, description="of the test accuracy")
    failed: tuple[str, ...] = ()


class Comparison(Document):
    """The whole table. ``differences`` are the things in which the experiments should not differ, and do."""

    name: str
    baseline: str | None
    rows: tuple[Row, ...]
    differences: tuple[str, ...] = ()


class Difference(NamedTuple):
    """A key that should be the same: the experiment that has it otherwise, and the one that it is compared with."""

    key: str
    one: str
    other: str

    def __str__(self) -> str:
        return f"{self.key} of {self.one} and {self.other}"


def compared(name: str, arms: Sequence[Arm], baseline: str | None, *, anyway: bool = False) -> Comparison:
    """The table. Errors: ``ConfigError`` where no arm is called ``baseline``, where there is no experiment at all, or
    (unless ``anyway``) where experiments differ in data, split, stem, head or final training."""
    if baseline is not None and baseline not in [arm.name for arm in arms]:
        raise ConfigError(f"--baseline: no arm is called {baseline!r}; there are {', '.join(arm.name for arm in arms)}")
    members = [member for arm in arms for member in arm.members]
    if not members:
        raise ConfigError(f"{name}: no experiment has come to its end; there is nothing to compare")
    found = differences(members)
    if found and not anyway:
        more = f" (and {len(found) - 1} more)" if len(found) > 1 else ""
        raise ConfigError(f"not comparable: {found[0]} differ{more}; --anyway compares them all the same")
    base = next((arm for arm in arms if arm.name == baseline), None)
    rows = tuple(_row(arm, base) for arm in arms)
    return Comparison(name=name, baseline=baseline, rows=rows, differences=tuple(f"{d} differ" for d in found))


def _row(arm: Arm, baseline: Arm | None) -> Row:
    figures = {name: spread([m.figures[name] for m in arm.members if name in m.figures]) for name in FIGURES}
    test = difference(_accuracies(arm), _accuracies(baseline)) if baseline and baseline is not arm else None
    return Row(
        arm=arm.name,
        searcher=arm.members[0].experiment.spec.searcher if arm.members else "",
        seeds=tuple(member.seed for member in arm.members),
        figures={name: found for name, found in figures.items() if found},
        devices=tuple(sorted({member.device for member in arm.members})),
        against_baseline=test,
        failed=tuple(arm.failed),
    )


def _accuracies(arm: Arm) -> dict[int, float]:
    return {member.seed: member.figures["test_accuracy"] for member in arm.members}


def _latency_ms(experiment: Experiment, final: Trial) -> float | None:
    """Of the final network: as it was measured with the trial, else measured here and now, where ONNX Runtime is there.

    It does not depend on what the data is, only on its shape and classes.
    """
    if final.result and final.result.latency_ms is not None:
        return final.result.latency_ms
    if importlib.util.find_spec("onnxruntime") is None:
        return None
    channels, height, width = experiment.problem.input_shape
    data = DatasetInfo(
        name=experiment.spec.dataset.name,
        shape=(height, width, channels),
        classes=tuple(str(number) for number in range(experiment.problem.num_classes)),
        sizes={},
        mean=(0.5,) * channels,
        std=(0.5,) * channels,
    )
    return latency_ms(Model(architecture=final.spec.architecture, data=data))


# ---------------------------------------------------------------------------------------------------------- what is compared
def ended(experiment: Experiment, trials: Sequence[Trial]) -> Member:
    """An experiment that can be compared. Errors: ``StoreError`` in one line where it has not ended well."""
    if experiment.state == "failed":
        raise StoreError(f"{experiment.name} has failed, {experiment.reason}; it cannot be compared")
    if experiment.state != "done":
        raise StoreError(
            f"{experiment.name} has not ended, it is {experiment.state}; `amla resume {experiment.name}` goes on"
        )
    return Member(experiment, trials)


def differences(members: Sequence[Member]) -> list[Difference]:
    """Where experiments differ in data, split, stem, head or final training: the keys, each with the first two that do."""
    first = footing(members[0])
    found: dict[str, Difference] = {}
    for member in members[1:]:
        other = footing(member)
        for key in sorted({*first, *other}):
            if first.get(key) != other.get(key):
                found.setdefault(key, Difference(key, members[0].name, member.name))
    return list(found.values())


def footing(member: Member) -> dict[str, Any]:
    """What must be equal for a fair comparison, by the key that a message names.

    A split drawn by the experiment's own seed counts as the same in all: so arms meet the same split with the same seed.
    The same time for everything is the same final training.
    """
    experiment, network = member.experiment, member.final.spec.architecture
    spec, problem = experiment.spec, experiment.problem
    dataset = spec.dataset.to_data()
    own_seed = spec.dataset.seed == spec.seed
    training = problem.training.to_data()
    if training["precision"] == "auto":
        training["precision"] = experiment.measured.get("dtype", "float32")
    found = {f"dataset.{key}": value for key, value in dataset.items() if key not in ("data_dir", "seed")}
    found |= {"dataset.seed": "the experiment's" if own_seed else spec.dataset.seed}
    found |= {f"training.{key}": value for key, value in training.items()}
    timed = spec.time_budget is not None and spec.final_budget is None
    found |= {"time_budget": spec.time_budget} if timed else {"final_budget": problem.final_budget.to_data()}
    found |= {"exact_time": spec.exact_time} if timed else {}
    found |= {"trainer": spec.trainer_of("search"), "final_trainer": spec.trainer_of("final")}
    if network.kind == "graph":  # it has neither: all of it was made elsewhere
        return found
    head, stem = ([step.to_data() for step in steps] for steps in (network.head, network.stem))
    return found | {"stem": stem, "head": head}


# --------------------------------------------------------------------------------------------------------------------- arms
def arms_of(members: Iterable[Member]) -> list[Arm]:
    """Experiments that differ in nothing but their seed, put together, in the order in which they came.

    An arm has the name of its searcher, with its settings where two have the same. Errors: ``ConfigError`` where an arm has
    one seed twice.
    """
    groups: dict[str, list[Member]] = {}
    for member in members:
        groups.setdefault(_kind(member.experiment), []).append(member)
    return [Arm(name, group) for name, group in zip(_names(list(groups.values())), groups.values(), strict=True)]


def _asked(experiment: Experiment) -> dict[str, JsonValue]:
    """The spec without what tells one seed from another, and without settings that were fitted to the time."""
    data = experiment.spec.to_data()
    fitted = experiment.measured.get("fitted")
    own = fitted if isinstance(fitted, Mapping) else {}
    data["settings"] = {key: value for key, value in data["settings"].items() if key not in own}
    if data["dataset"]["seed"] == data["seed"]:
        data["dataset"]["seed"] = None
    data["dataset"]["data_dir"] = data["name"] = data["seed"] = None
    return data


def _kind(experiment: Experiment) -> str:
    return str(_asked(experiment))


def _names(groups: Sequence[Sequence[Member]]) -> list[str]:
    asked = [_flat(_asked(group[0].experiment)) for group in groups]
    names = []
    for number, mine in enumerate(asked):
        rivals = [o for k, o in enumerate(asked) if k != number and o["searcher"] == mine["searcher"]]
        telling = sorted({key for other in rivals for key in {*mine, *other} if mine.get(key) != other.get(key)})
        words = ", ".join(f"{key.rsplit('.', 1)[-1]}={mine.get(key)}" for key in telling)
        names.append(f"{mine['searcher']} ({words})" if words else str(mine["searcher"]))
    return names


def _flat(data: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    """Nested mappings as one, with dotted keys."""
    found: dict[str, Any] = {}
    for key, value in data.items():
        found |= _flat(value, f"{prefix}{key}.") if isinstance(value, Mapping) else {f"{prefix}{key}": value}
    return found
