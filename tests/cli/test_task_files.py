"""Task files of AMLA 0.x run unmodified: each lowers, builds, trains for a few steps, and leaves what any search leaves."""

import json

import numpy as np
import pytest

NAMES = (
    "darts",
    "nac.construction",
    *(
        pytest.param(name, marks=pytest.mark.slow, id=name)
        for name in ("enas", "nac.construction.test", "nac.final", "run.test")
    ),
)
#: Parameters of the networks that the files themselves name; counted by hand or by their authors.
PARAMETERS = {"nac.final": 11_042_241}


@pytest.mark.parametrize("name", NAMES)
def test_it_runs(amla, tmp_path, task_files, name):
    rng = np.random.default_rng(0)
    images = rng.integers(0, 256, (80, 32, 32, 3), np.uint8)
    np.savez(tmp_path / "data.npz", images=images, labels=np.arange(80) % 10)
    words = ("--set", "dataset=npz:data.npz", "--set", "training.batch_size=4", "--steps", 2, "--search-steps", 1)
    done = amla("run", task_files / f"config.{name}.json", *words, "--out", "run", "--json")
    found = json.loads(done.stdout)
    assert found["state"] == "done"
    assert found["name"]
    assert (tmp_path / "run" / "model.onnx").exists()
    if name in PARAMETERS:
        assert found["best"]["parameters"] == PARAMETERS[name]
    assert all(line.startswith(f"amla: config.{name}.json: ") for line in done.stderr.splitlines())


def test_a_system_file_sets_nothing(complaint, task_files):
    assert "system.json" in complaint("run", task_files / "system.json")


def test_a_file_may_be_run_again(amla, complaint, tmp_path):
    """What the file calls itself is no reason to refuse it; a name that is typed is meant."""
    keys = "name: mine, dataset: digits, steps: 2, search_steps: 1, iterations: 1, width: 6, limit: 60"
    (tmp_path / "e.yaml").write_text(f"{{{keys}, threads: 1, precision: float32}}")
    names = [json.loads(amla("run", "e.yaml", "--json").stdout)["name"] for _ in range(2)]
    assert names == ["mine", "mine-2"]
    assert "--name" in complaint("run", "e.yaml", "--name", "mine", "--quiet")
