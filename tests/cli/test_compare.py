"""``amla compare``: files that run, are killed and go on; what is not comparable; the table."""

import json
import signal
import subprocess
import time
from pathlib import Path

import pytest
import yaml
from typed import command, environment

COMMON = {
    "dataset": "digits",
    "limit": 200,
    "steps": 6,
    "search_steps": 3,
    "trials": 2,
    "threads": 1,
    "precision": "float32",
    "space_settings": {"width": 6, "layers": [1]},
    "seeds": [0, 1],
    "baseline": "random",
    "arms": {"random": {"searcher": "random"}, "envelope": {"searcher": "envelope"}},
}


def write(place: Path, file_name: str = "tiny.yaml", **more: object) -> Path:
    file = place / file_name
    file.write_text(yaml.safe_dump(COMMON | more, sort_keys=False))
    return file


@pytest.fixture(scope="session")
def ran(tmp_path_factory):
    """A comparison that has been run, and what it printed. No test changes it."""
    place = tmp_path_factory.mktemp("compared")
    file = write(place)
    done = subprocess.run(
        command("compare", file.name, "--json"),
        cwd=place,
        env=environment(),
        capture_output=True,
        text=True,
        check=True,
    )
    return place, json.loads(done.stdout)


def test_the_document(ran):
    _, found = ran
    random, envelope = found["rows"]
    assert (found["name"], found["baseline"], found["differences"]) == ("tiny", "random", [])
    assert (random["arm"], random["seeds"], random["against_baseline"]) == ("random", [0, 1], None)
    assert envelope["against_baseline"]["kind"] == "paired"
    assert envelope["against_baseline"]["n"] == 2
    assert random["figures"]["trials"]["values"] == [2.0, 2.0]
    assert envelope["figures"]["search_seconds"]["mean"] == 0.0
    for row in found["rows"]:
        figures = row["figures"]
        parts = [figures[f"{part}_seconds"]["mean"] for part in ("search", "selection", "final")]
        assert figures["total_seconds"]["mean"] == pytest.approx(sum(parts), abs=1e-6)
        assert figures["latency_ms"]["mean"] > 0
        difference = row["against_baseline"]
        if difference:
            ours, theirs = (r["figures"]["test_accuracy"]["values"] for r in (row, random))
            assert difference["difference"] == pytest.approx(sum(a - b for a, b in zip(ours, theirs, strict=True)) / 2)


def test_what_it_leaves(ran):
    place, _ = ran
    folder = place / "amla-runs" / "tiny"
    names = {path.name for path in folder.iterdir() if path.is_file()}
    plots = {f"tiny-{plot}.svg" for plot in ("anytime", "cost", "pareto")}
    assert names == {"tiny.md", "tiny.csv", "tiny.json", "tiny.html", *plots}
    page = (folder / "tiny.html").read_text()
    assert page.count("<svg") == 3 + 2
    assert "<script" not in page
    assert "amla compare tiny.yaml" in (folder / "tiny.md").read_text()


def test_nothing_is_run_twice(ran, amla):
    place, found = ran
    again = json.loads(amla("compare", "tiny.yaml", "--json", at=place).stdout)
    for one, two in zip(found["rows"], again["rows"], strict=True):
        assert one["figures"]["total_seconds"] == two["figures"]["total_seconds"]
        assert one["figures"]["test_accuracy"] == two["figures"]["test_accuracy"]


def test_stored_experiments_are_put_into_arms(ran, amla):
    place, _ = ran
    names = [f"tiny-{arm}-s{seed}" for arm in ("random", "envelope") for seed in (0, 1)]
    table = json.loads(amla("compare", *names, "--json", at=place).stdout)
    assert [(row["arm"], row["seeds"]) for row in table["rows"]] == [("random", [0, 1]), ("envelope", [0, 1])]
    folder = json.loads(amla("compare", "amla-runs/tiny/random-s0", "--json", at=place).stdout)
    assert (
        folder["rows"][0]["figures"]["test_accuracy"]["mean"]
        == table["rows"][0]["figures"]["test_accuracy"]["values"][0]
    )
    assert "test accuracy" in amla("compare", *names, "--baseline", "random", at=place, COLUMNS="200").stdout


def test_what_differs_is_refused_unless_told_otherwise(ran, amla, complaint):
    place, _ = ran
    write(place, "other.yaml", limit=150, seeds=[0], arms={"other": {"searcher": "random"}}, baseline=None)
    amla("compare", "other.yaml", "--quiet", at=place)
    said = complaint("compare", "tiny-random-s0", "other-other-s0", at=place)
    assert "dataset.limit of tiny-random-s0 and other-other-s0 differ" in said
    assert "--anyway" in said
    shown = amla("compare", "tiny-random-s0", "other-other-s0", "--anyway", at=place).stdout
    assert "Not on the same footing: dataset.limit of tiny-random-s0 and other-other-s0 differ" in shown


def test_bad_input(ran, complaint, tmp_path):
    place, _ = ran
    assert "nobody" in complaint("compare", "nobody", at=place)
    assert "'nobody'" in complaint("compare", "tiny.yaml", "--baseline", "nobody", at=place)
    assert "empty" in complaint("compare", write(place, "empty.yaml", seeds=[]), at=place)
    assert "--seeds" in complaint("compare", "tiny.yaml", "--seeds", "x", at=place)
    changed = write(place, "changed.yaml", name="tiny", steps=7)
    assert "final_budget" in complaint("compare", changed, at=place)
    elsewhere = complaint("compare", "tiny-random-s0", str(tmp_path), at=place)
    assert "different stores" in elsewhere
    assert "mapping" in complaint("compare", write_text(place, "- 1"), at=place)


def write_text(place: Path, text: str) -> Path:
    file = place / "text.yaml"
    file.write_text(text)
    return file


def test_an_arm_that_fails_does_not_stop_the_others(amla, tmp_path):
    arms = {"no": {"searcher": "random", "max_params": 1}, "envelope": {"searcher": "envelope"}}
    file = write(tmp_path, arms=arms, seeds=[0], baseline=None)
    done = amla("compare", file.name, code=1)
    assert "Failed: no, seed 0:" in done.stdout
    assert "max_params" in done.stdout
    assert "envelope" in done.stdout


def test_killed_it_goes_on(amla, complaint, tmp_path):
    """Killed in its first run; that one goes on from its checkpoint, and nothing else is there twice."""
    file = write(tmp_path, steps=120, seeds=[0])
    process = subprocess.Popen(
        command("compare", file.name, "--quiet"), cwd=tmp_path, env=environment(), stdout=subprocess.DEVNULL
    )
    waited = time.monotonic() + 120
    trial = tmp_path / "amla-runs" / "tiny" / "random-s0" / "trials" / "0002"
    while not trial.is_dir() and time.monotonic() < waited:
        time.sleep(0.05)
    process.send_signal(signal.SIGKILL)
    process.wait()
    assert "it is running" in complaint("compare", "tiny-random-s0")
    amla("experiments", "list")
    found = json.loads(amla("compare", file.name, "--json").stdout)
    assert [(row["arm"], row["seeds"], row["failed"]) for row in found["rows"]] == [
        ("random", [0], []),
        ("envelope", [0], []),
    ]
    assert len(json.loads(amla("experiments", "list", "--json").stdout)) == 2
