"""NAC on digits through a whole Katib Experiment, the service killed between any two rounds."""

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from katib_controller import Katib, Service

from amla.services.katib import parcels

#: The same for both ways; with these, the seed alone decides.
OPTIONS = {
    "steps": 12, "search_steps": 4, "iterations": 2, "width": 6, "limit": 300, "threads": 1, "precision": "float32"
}  # fmt: skip


def amla(*words: object, at: Path) -> Any:
    command = [str(Path(sys.executable).with_name("amla")), *map(str, words)]
    done = subprocess.run(command, cwd=at, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


def manifest_of(at: Path, *words: object, **options: object) -> dict[str, Any]:
    told = {key: value for key, value in {**OPTIONS, **options}.items() if value is not None}
    sets = [word for key, value in told.items() for word in ("--set", f"{key}={json.dumps(value)}")]
    found: dict[str, Any] = amla("katib", "experiment", "digits", *words, *sets, "--json", at=at)
    return found


def taken_through(manifest: dict[str, Any], at: Path) -> Katib:
    """The whole Experiment; each round has a service of its own, which is then killed."""
    katib = Katib(manifest, at)
    while not katib.over:
        with Service() as port:
            katib.validate(port)
            katib.ask(port, min(katib.spec["parallelTrialCount"], katib.spec["maxTrialCount"] - len(katib.trials)))
        katib.run()
        assert "Failed" not in json.dumps(katib.trials[-1]["status"]["conditions"]), katib.trials[-1]["status"]["logs"]
    return katib


@pytest.mark.parametrize("inherits", [True, pytest.param(False, marks=pytest.mark.slow)])
def test_nac_ends_with_the_network_of_a_search(tmp_path, inherits):
    volume = ("--artifacts", tmp_path / "volume") if inherits else ()
    katib = taken_through(manifest_of(tmp_path, *volume, "--seed", 3), tmp_path)
    words = [word for key, value in OPTIONS.items() for word in (f"--{key.replace('_', '-')}", value)]
    mode = "while_training" if inherits else "afresh"
    searched = amla("search", "digits", *words, "--mode", mode, "--seed", 3, "--out", "run", "--json", at=tmp_path)
    last = {one["name"]: one["value"] for one in katib.trials[-1]["spec"]["parameterAssignments"]}
    network = parcels.architecture_of(last["architecture"])
    assert network.to_data() == json.loads((tmp_path / "run" / "architecture.json").read_text())
    metrics = {one["name"]: one["latest"] for one in katib.trials[-1]["status"]["observation"]["metrics"]}
    assert float(metrics["valid_accuracy"]) == searched["best"]["accuracy"]
    assert int(metrics["parameters"]) == searched["best"]["parameters"]
    if inherits:
        imported(katib, tmp_path)


def imported(katib: Katib, at: Path) -> None:
    """What ``kubectl`` would give is brought into the store, with the weights of the last trial."""
    (at / "one.json").write_text(json.dumps(katib.resources()))
    found = amla("katib", "import", "one.json", "--json", at=at)
    names = {Path(path).name for path in found["artifacts"]}
    assert {"report.html", "diagram.svg", "network.py", "architecture.json", "model.onnx"} <= names
    assert found["trials"] == len(katib.trials)


RATES = {"schedule.rate": {"kind": "real", "low": 1e-6, "high": 0.5, "log": True}}


@pytest.mark.slow
def test_bad_trials_are_stopped_early(tmp_path):
    """Really: by the collector, at a report of theirs, on the service's rule; and the search goes on with what they had."""
    stopping = ("--early-stopping", "amla-medianstop,min_trials_required=1,start_step=2")
    words = ("--searcher", "random", "--form", "parameters", *stopping)
    manifest = manifest_of(tmp_path, *words, iterations=None, search_steps=160, trials=4, hyperparameters=RATES)
    katib = taken_through(manifest, tmp_path)
    ends = [trial["status"]["conditions"][-1]["type"] for trial in katib.trials]
    assert ends.count("EarlyStopped") >= 1
    assert ends[0] == ends[-1] == "Succeeded"  # the last is the training to the end: it reports once
    lengths = {name: len(values) for name, values in katib.logs.items()}
    whole = [
        lengths[trial["metadata"]["name"]] for trial, end in zip(katib.trials, ends, strict=True) if end == ends[0]
    ]
    assert min(whole[:-1]) > 2
    assert whole[-1] == 1
