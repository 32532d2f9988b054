"""The ``.keras`` file: the suite, and that Keras alone reads it to the same answers, whatever library trained it."""

import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch

from amla.exporters.keras import KerasExporter
from amla.spec.costs import costs
from amla.testing.exporters import ExporterSuite, model_of, random_weights
from amla.testing.trainers import every_operation
from amla.trainers.torch.module import GraphModule

# Keras's own, where it saves a variable.
pytestmark = pytest.mark.filterwarnings("ignore:__array__ implementation:DeprecationWarning")

READ_BY_KERAS_ALONE = """
import sys, keras, numpy
model = keras.saving.load_model(sys.argv[1])
assert "amla" not in sys.modules
numpy.save(sys.argv[3], keras.ops.convert_to_numpy(model(numpy.load(sys.argv[2]))))
print(sum(weight.size for weight in map(numpy.asarray, model.trainable_weights)))
"""


class TestKeras(ExporterSuite):
    exporter = KerasExporter


def test_keras_reads_it_without_amla(tmp_path: Path) -> None:
    model = model_of(every_operation(), (3, 9, 7))
    weights = random_weights(model.graph())
    (path,) = KerasExporter().export(model, weights, tmp_path)
    images = np.random.default_rng(0).random((4, 9, 7, 3)).astype(np.float32)
    np.save(tmp_path / "images.npy", images)
    files = [str(tmp_path / name) for name in ("images.npy", "logits.npy")]
    command = [sys.executable, "-c", READ_BY_KERAS_ALONE, str(path), *files]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    graph = model.graph().inference()
    assert int(done.stdout.split()[-1]) == costs(graph).parameters
    module = GraphModule(graph)
    module.load_state_dict({name: torch.from_numpy(weights[name]) for name in module.state_dict()})
    mean, std = (torch.tensor(value).view(1, -1, 1, 1) for value in (model.data.mean, model.data.std))
    with torch.no_grad():
        expected = module.eval()((torch.from_numpy(images.transpose(0, 3, 1, 2)) - mean) / std)[0].numpy()
    assert np.abs(np.load(files[1]) - expected).max() <= 1e-4 * np.abs(expected).max()
