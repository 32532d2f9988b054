"""The benchmark of construction while training: what its tables are made of."""

import importlib
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

FOLDER = Path(__file__).parents[1] / "benchmarks"


@pytest.fixture(scope="module")
def bench() -> Iterator[dict[str, ModuleType]]:
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(str(FOLDER))
        yield {name: importlib.import_module(name) for name in ("construct", "construct_arms", "construct_report")}


def row(bench: dict[str, ModuleType], **values: Any) -> Any:
    said = {"data": "d", "setting": "small", "arm": "taylor", "seed": 0} | values
    return bench["construct_arms"].Row.parse(said)


def reads(*points: tuple[float, float]) -> list[dict[str, float]]:
    return [{"steps": int(10 * seconds), "seconds": seconds, "accuracy": accuracy} for seconds, accuracy in points]


@pytest.mark.parametrize(
    ("accuracy", "seconds"),
    [(0.4, 10.0), (0.6, 15.0), (0.7, 20.0), (0.71, None)],
    ids=["at the first reading", "between two", "at the end", "never"],
)
def test_the_time_to_an_accuracy_is_that_of_the_last_network(
    bench: dict[str, ModuleType], accuracy: float, seconds: float | None
) -> None:
    # 0.9 was another network's, before the search had ended
    found = row(bench, search_seconds=6.0, curve=reads((5.0, 0.9), (10.0, 0.5), (20.0, 0.7)))
    assert bench["construct_report"].reached(found, accuracy) == seconds


def test_the_table_pairs_by_seed_and_divides_by_the_training_alone(bench: dict[str, ModuleType]) -> None:
    rows = []
    for seed, ours, theirs in ((0, 0.80, 0.79), (1, 0.82, 0.80), (2, 0.81, 0.83)):
        curve = reads((30.0, ours))
        rows.append(row(bench, seed=seed, valid=ours, test=ours, seconds=30.0, parameters=110, curve=curve))
        rows.append(
            row(bench, arm="scratch:taylor", seed=seed, valid=theirs, test=theirs, seconds=40.0, parameters=100)
        )
    text = bench["construct_report"].table(rows)
    assert "| taylor - scratch:taylor | 3 | +0.33 [-4.84, +5.50] | +0.33 [-4.84, +5.50] | 0.81 | +10.0% |" in text
    assert "| taylor | 0-2 | 2 of 3 | median 0.75 (0.75, 0.75, -) | 0.75 ± 0.00 |" in text


def test_what_a_crash_cut_off_is_run_again_and_nothing_else(bench: dict[str, ModuleType], tmp_path: Path) -> None:
    kept, construct = tmp_path / "kept.jsonl", bench["construct"]
    lines = [row(bench, seed=seed).to_json() + "\n" for seed in (0, 1)]
    kept.write_text(lines[0] + lines[1][:40])
    construct.mend(kept)
    left = list(construct.missing(construct.read(kept), "d", "small", ["taylor", "size"], construct.seeds_of("0-1")))
    assert left == [("size", 0), ("taylor", 1), ("size", 1)]


def test_a_control_has_the_steps_and_about_the_parameters_of_its_arm(bench: dict[str, ModuleType]) -> None:
    arms = bench["construct_arms"]
    setting = arms.SETTINGS["small"]
    problem = arms.Problem(input_shape=(1, 28, 28), num_classes=10, train_size=18_000, seed=3)
    network = arms.EnvelopeSpace(arms.EnvelopeSettings(width=16, layers=(3, 3), halvings=2), problem).initial()
    wanted = arms.parameters_of(network, problem)
    done = row(bench, parameters=wanted, architecture=network.to_data(), seconds=0.01, chain=[1, 2, 3])
    scratch = arms.options_of("scratch:taylor+short", setting, problem, [done])
    assert scratch["steps"] == setting.steps, "the whole schedule, whatever its arm took"
    for control, depth in (("envelope", [1, 1]), ("deep", [3, 3])):
        space = arms.options_of(f"{control}:taylor", setting, problem, [done])["space_settings"]
        assert space["layers"] == depth
        made = arms.EnvelopeSpace(arms.EnvelopeSettings.parse(space), problem).initial()
        assert arms.parameters_of(made, problem) == pytest.approx(wanted, rel=0.1)
    even = arms.options_of(
        "even:plain:taylor",
        setting,
        problem,
        [done.model_copy(update={"steps": 400}), done.model_copy(update={"seconds": 0.015})],
    )
    assert even["steps"] == 600, "as many as take 0.015 s, where 400 take 0.01"
    assert even["settings"]["architecture"] == network.to_data()
    search = arms.options_of("search:taylor", setting, problem, [done])
    assert search["trials"] * search["search_steps"] + search["steps"] == setting.steps
    assert search["max_params"] == wanted
