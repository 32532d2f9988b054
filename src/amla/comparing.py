"""``amla.compare``: run what a comparison file asks for, or take experiments that there are; then table and plots."""

from __future__ import annotations

import contextlib
import shlex
from collections.abc import Callable, Collection, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from amla import api
from amla.engine.arms import ComparisonSpec, Run, chosen, comparison_of, runs_of
from amla.engine.store import Store, default_url
from amla.errors import AmlaError, ConfigError, StoreError
from amla.reports.comparison import Arm, Comparison, Member, arms_of, compared, ended
from amla.reports.comparison_page import write_comparison
from amla.reports.plots import check_library
from amla.spec.experiment import Experiment, ExperimentSpec


@dataclass(frozen=True)
class Overseer:
    """Who is told what while a comparison runs: ``on_run`` hears of each that is not there yet, the how-manieth it is and of
    how many; ``watch`` opens a ``Watch`` for it; ``on_failure`` hears why one came to nothing."""

    on_run: Callable[[Run, int, int], None] = lambda run, number, count: None  # noqa: ARG005
    on_failure: Callable[[Run, str], None] = lambda run, reason: None  # noqa: ARG005
    watch: Callable[[], AbstractContextManager[api.Watch]] = lambda: contextlib.nullcontext(api.Watch())


class Stopped(Exception):
    """Somebody wants to stop; running the comparison again goes on."""


def compare(
    *experiments: str | Path,
    baseline: str | None = None,
    anyway: bool = False,
    arms: Collection[str] = (),
    seeds: Collection[int] = (),
    out: str | Path | None = None,
    store: str | None = None,
    overseer: Overseer = Overseer(),  # frozen
) -> Comparison:
    """Compare stored experiments (ids, names or folders), or run the comparison that one file (YAML) describes, first.

    What a file asks for and is there already is not run again; what was interrupted goes on. With ``out`` (for a file
    always: by default ``amla-runs/NAME``) the table and plots are written there. ``arms`` and ``seeds`` take a part of a
    file. Errors: ``AmlaError`` in one line; see ``reports.comparison.compared`` for what is not comparable.
    """
    file = comparison_file(experiments)
    spec = chosen(read_comparison(file), arms, seeds) if file else None
    folder = Path(out) if out else api.RUNS / spec.name if spec else None
    if folder:
        check_library()
    if spec and baseline is not None and baseline not in spec.arms:  # said now, not after an hour
        raise ConfigError(f"--baseline: no arm is called {baseline!r}; there are {', '.join(spec.arms)}")
    with Store(store or default_url()) as opened:
        if spec is None:
            found, name = stored_arms(opened, [str(e) for e in experiments]), "comparison"
        else:
            name, baseline = spec.name, baseline or spec.baseline
            found = run_arms(spec, opened, (folder or api.RUNS).absolute(), overseer)
    comparison = compared(name, found, baseline, anyway=anyway)
    if folder:
        said = {"--arms": ",".join(arms), "--seeds": ",".join(map(str, seeds)), "--anyway": anyway}
        words = [
            word for key, value in said.items() if value for word in ([key] if value is True else [key, str(value)])
        ]
        command = shlex.join(["amla", "compare", *map(str, experiments), *words])
        write_comparison(comparison, found, folder, command)
    return comparison


def comparison_file(experiments: Sequence[str | Path]) -> Path | None:
    """The file, where what is to be compared is a comparison file."""
    first = Path(experiments[0]) if len(experiments) == 1 else None
    return first if first and first.suffix in (".yaml", ".yml") else None


def read_comparison(file: Path) -> ComparisonSpec:
    """Errors: ``ConfigError``; ``OSError`` as usual."""
    try:
        document: Any = yaml.safe_load(file.read_text(encoding="utf-8"))
    except UnicodeDecodeError:
        raise ConfigError(f"{file}: not a text file") from None
    except yaml.YAMLError as error:
        raise ConfigError(f"{file.name}: not YAML: {str(error).splitlines()[0]}") from None
    if not isinstance(document, dict):
        raise ConfigError(f"{file.name}: a comparison file is a mapping with `arms`")
    return comparison_of(document, str(document.get("name", file.stem)))


# -------------------------------------------------------------------------------------------------------------------- running
def run_arms(spec: ComparisonSpec, store: Store, out: Path, overseer: Overseer) -> list[Arm]:
    """Run what is missing, resume what was interrupted. A run that fails does not stop the others.

    Errors: ``ConfigError`` where an experiment of such a name is there already, but is another one; ``Stopped``.
    """
    runs = runs_of(spec)
    known = {experiment.name: experiment for experiment in store.experiments()}
    for run in runs:
        if run.spec.name in known:
            _must_be_same(known[str(run.spec.name)], run)
    members: dict[str, list[Member]] = {arm: [] for arm in spec.arms}
    failed: dict[str, list[str]] = {arm: [] for arm in spec.arms}
    ended_before = {name for name, experiment in known.items() if experiment.state in ("done", "failed")}
    left = [run for run in runs if run.spec.name not in ended_before]
    for run in runs:
        if run in left:
            overseer.on_run(run, left.index(run), len(left))
        try:
            members[run.arm].append(_ended(run, known.get(str(run.spec.name)), store, out, overseer))
        except AmlaError as error:
            overseer.on_failure(run, str(error))
            failed[run.arm].append(f"seed {run.seed}: {error}")
    return [Arm(arm, members[arm], failed[arm]) for arm in spec.arms]


def _ended(run: Run, known: Experiment | None, store: Store, out: Path, overseer: Overseer) -> Member:
    """The experiment of a run, taken to its end. Errors: ``AmlaError`` where it failed, now or before; ``Stopped``."""
    if known is None or known.state not in ("done", "failed"):
        with overseer.watch() as watch:
            if known is None:
                folder = out / f"{run.arm}-s{run.seed}"
                known = api.run(run.spec, store=store.url, out=folder, watch=watch).experiment
            else:
                known = api.resume(known.id, store=store.url, watch=watch).experiment
        if known.state == "stopped":
            raise Stopped(known.name)
    return ended(known, store.trials(known.id))


def _must_be_same(known: Experiment, run: Run) -> None:
    """Errors: ``ConfigError`` where the stored experiment is not the one that the file asks for now."""
    asked, there = _comparable(run.spec), _comparable(known.spec)
    fitted = known.measured.get("fitted")
    own = fitted if isinstance(fitted, dict) else {}
    there["settings"] = {key: value for key, value in there["settings"].items() if key not in own}
    key = next((key for key in asked if asked[key] != there[key]), None)
    if key is not None:
        raise ConfigError(
            f"{run.spec.name} is in {known.folder} already, with another {key!r}; give the comparison another `name`, or "
            f"`amla experiments delete {run.spec.name} --files`"
        )


def _comparable(spec: ExperimentSpec) -> dict[str, Any]:
    data = spec.to_data()
    data["dataset"].pop("data_dir")  # where the same data is
    return data


# ------------------------------------------------------------------------------------------------------- what is there already
def stored_arms(store: Store, experiments: Sequence[str]) -> list[Arm]:
    """Arms of stored experiments. Errors: ``StoreError`` where one is not there or has not ended, ``ConfigError``."""
    if not experiments:
        raise ConfigError("compare what? Give experiments (`amla experiments list`) or a comparison file")
    found: dict[str, Member] = {}
    for name in experiments:
        experiment = _experiment(store, name)
        found.setdefault(experiment.id, ended(experiment, store.trials(experiment.id)))
    return arms_of(found.values())


def _experiment(store: Store, name: str) -> Experiment:
    """By id, name, or folder. Errors: ``StoreError`` where this store has none such."""
    folder = Path(name)
    if not folder.is_dir():
        return store.experiment(name)
    here = str(folder.absolute())
    found = next((experiment for experiment in store.experiments() if experiment.folder == here), None)
    if found is None:
        raise StoreError(
            f"{name}: the store {store.url} has no experiment with this folder; experiments of different stores cannot be "
            f"compared, give theirs with --store"
        )
    return found
