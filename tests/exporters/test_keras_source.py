"""``network_keras.py``: the suite, and that it computes what the trainer's network does, from the same safetensors."""

from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pytest

from amla.exporters.keras_source import KerasSourceExporter, keras_source
from amla.exporters.weights import SafetensorsExporter
from amla.spec.costs import costs
from amla.testing.exporters import ExporterSuite, example, model_of, random_weights
from amla.testing.trainers import every_operation, stacked_cells
from amla.trainers.keras.trainer import KerasTrainer

# Keras's own, where it saves a variable.
pytestmark = pytest.mark.filterwarnings("ignore:__array__ implementation:DeprecationWarning")
GOLDEN = Path(__file__).parent / "golden"


class TestKerasSource(ExporterSuite):
    exporter = KerasSourceExporter


def imported(path: Path) -> ModuleType:
    """The generated file as a module of its own."""
    module = ModuleType("network_keras")
    module.__file__ = str(path)
    exec(compile(path.read_text(), str(path), "exec"), module.__dict__)
    return module


@pytest.mark.parametrize("architecture", [every_operation(), stacked_cells()], ids=["macro", "micro"])
def test_it_computes_the_same(tmp_path: Path, architecture: Any) -> None:
    model = model_of(architecture, (3, 9, 7))
    weights = random_weights(model.graph())
    for exporter in (SafetensorsExporter, KerasSourceExporter):
        exporter().export(model, weights, tmp_path)
    images = np.random.default_rng(0).random((4, 9, 7, 3)).astype(np.float32)
    module = imported(tmp_path / "network_keras.py")
    network = module.load()
    graph = model.graph().inference()
    assert sum(int(np.prod(weight.shape)) for weight in network.trainable_weights) == costs(graph).parameters
    floats = model.data.model_copy(update={"dtype": "float32"})  # the images are in [0, 1] already
    expected = KerasTrainer().predict(graph, weights, floats, images)
    found = module.classify(network, images)
    assert [name for name, _ in found] == [model.data.classes[row.argmax()] for row in expected]
    assert [share for _, share in found] == pytest.approx(expected.max(1), abs=1e-4)


def test_the_code_is_as_a_person_would_write_it(golden: Any) -> None:
    golden(GOLDEN / "network_keras.py.txt", keras_source(example()))
