"""Comparison files: several search algorithms (arms) over several seeds, all else being equal.

```yaml
dataset: digits
time_budget: 20s
seeds: [0, 1]
baseline: random
arms:
  nac: {searcher: nac}
  random: {searcher: random, trials: 4}
```

Every other key is one of an experiment file, and common to all arms; an arm's own keys are put over them.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from typing import Any, NamedTuple

from pydantic import Field, JsonValue

from amla import registry
from amla.engine.options import spec_of
from amla.errors import ConfigError, SpecError
from amla.spec.base import Document
from amla.spec.experiment import ExperimentSpec

#: Keys that each experiment of a comparison gets by itself.
OWN = ("name", "seed")


class ComparisonSpec(Document):
    """What a comparison file says. ``common`` holds the keys of an experiment that all arms share."""

    name: str = Field(pattern=r"^[A-Za-z0-9._-]+$", max_length=100)
    common: dict[str, JsonValue]
    arms: dict[str, dict[str, JsonValue]] = Field(min_length=1)
    seeds: tuple[int, ...] = Field(min_length=1)
    baseline: str | None = None


class Run(NamedTuple):
    """One arm with one seed: an ordinary experiment, whose name tells both."""

    arm: str
    seed: int
    spec: ExperimentSpec


def comparison_of(document: Mapping[str, Any], name: str) -> ComparisonSpec:
    """Read a comparison from plain data; ``name`` is that of its file. Errors: ``ConfigError`` naming the key."""
    if not isinstance(document.get("arms"), Mapping):
        raise ConfigError(f"{name}: arms: none; a comparison has arms, such as `arms: {{nac: {{searcher: nac}}}}`")
    parts = {"name": name, "seeds": (0,), **{key: document[key] for key in _KEYS if key in document}}
    if not parts["seeds"]:
        raise ConfigError(f"{name}: seeds: the list is empty; give at least one, such as `seeds: [0, 1, 2]`")
    parts["arms"] = {str(arm): keys or {} for arm, keys in document["arms"].items()}
    common = {key: value for key, value in document.items() if key not in _KEYS}
    try:
        found = ComparisonSpec.parse({**parts, "common": common})
    except SpecError as error:
        raise ConfigError(str(error).replace("ComparisonSpec: ", f"{name}: ", 1)) from None
    _check(found)
    return found


_KEYS = ("name", "arms", "seeds", "baseline")


def _check(spec: ComparisonSpec) -> None:
    if len(set(spec.seeds)) < len(spec.seeds):
        raise ConfigError(f"{spec.name}: seeds: one is there twice")
    if spec.baseline is not None and spec.baseline not in spec.arms:
        raise ConfigError(
            f"{spec.name}: baseline: no arm is called {spec.baseline!r}; there are {', '.join(spec.arms)}"
        )
    for arm, keys in spec.arms.items():
        if not arm.replace("-", "").replace("_", "").isalnum():
            raise ConfigError(f"{spec.name}: arms: {arm!r} is no name; letters, digits, - and _ make one")
        own = next((key for key in OWN if key in keys or key in spec.common), None)
        if own is not None:
            raise ConfigError(f"{spec.name}: {own}: each experiment of a comparison gets its own; leave it out")


def chosen(spec: ComparisonSpec, arms: Collection[str] = (), seeds: Collection[int] = ()) -> ComparisonSpec:
    """A part of a comparison: some of the arms (empty: all), other seeds. Errors: ``ConfigError`` (no such arm)."""
    unknown = next((arm for arm in arms if arm not in spec.arms), None)
    if unknown is not None:
        raise ConfigError(f"--arms: no arm is called {unknown!r}; there are {', '.join(spec.arms)}")
    kept = {arm: keys for arm, keys in spec.arms.items() if not arms or arm in arms}
    baseline = spec.baseline if spec.baseline in kept else None
    return spec.model_copy(update={"arms": kept, "seeds": tuple(seeds) or spec.seeds, "baseline": baseline})


def runs_of(spec: ComparisonSpec) -> list[Run]:
    """All experiments in the order in which they are to run: seed by seed with the arms taking turns, so that whatever
    becomes of the machine meets all arms alike. Errors: ``ConfigError`` naming the arm and what is wrong with it."""
    runs = [Run(arm, seed, _spec(spec, arm, keys, seed)) for seed in spec.seeds for arm, keys in spec.arms.items()]
    for run in runs[: len(spec.arms)]:
        searcher = registry.load("searchers", run.spec.searcher)
        try:
            searcher.Settings.parse(run.spec.settings)
        except SpecError as error:
            raise ConfigError(f"{spec.name}: {run.arm}: settings: {error}") from None
    return runs


def _spec(spec: ComparisonSpec, arm: str, keys: Mapping[str, JsonValue], seed: int) -> ExperimentSpec:
    said = _over(spec.common, keys) | {"name": f"{spec.name}-{arm}-s{seed}", "seed": seed}
    try:
        return spec_of(said)
    except ConfigError as error:
        raise ConfigError(f"{spec.name}: {arm}: {error}") from None


def _over(common: Mapping[str, JsonValue], own: Mapping[str, JsonValue]) -> dict[str, JsonValue]:
    """An arm's own keys over the common ones, group by group; in another space, the space's settings are all its own."""
    merged = dict(common)
    if own.get("space", common.get("space")) != common.get("space"):
        merged.pop("space_settings", None)
    for key, value in own.items():
        old = merged.get(key)
        merged[key] = _over(old, value) if isinstance(old, dict) and isinstance(value, dict) else value
    return merged
