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
