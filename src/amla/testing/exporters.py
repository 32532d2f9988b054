"""``ExporterSuite``: what every exporter must do. Subclass it, give it your class, run pytest.

::

    class TestCoreML(ExporterSuite):
        exporter = CoreMLExporter
"""

from __future__ import annotations

import tempfile
from pathlib import Path
from typing import ClassVar

import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import given, settings

from amla.errors import ExportError
from amla.exporters.base import Exporter, Model
from amla.spec.architecture import MacroArchitecture, MicroArchitecture
from amla.spec.data import DatasetInfo
from amla.spec.graph import Graph, weights
from amla.testing.strategies import architectures, input_shapes

AnyArchitecture = MacroArchitecture | MicroArchitecture


def model_of(
    architecture: AnyArchitecture,
    input_shape: tuple[int, int, int] = (3, 8, 8),
    classes: tuple[str, ...] = ("cat", "dog"),
) -> Model:
    """A network for made-up data; ``input_shape`` is (channels, height, width)."""
    channels, height, width = input_shape
    data = DatasetInfo(
        name="made up",
        shape=(height, width, channels),
        classes=classes,
        sizes={"train": 80, "valid": 10, "test": 10},
        mean=tuple(0.4 + 0.05 * channel for channel in range(channels)),
        std=tuple(0.2 + 0.03 * channel for channel in range(channels)),
    )
    return Model(architecture=architecture, data=data)


def random_weights(graph: Graph, seed: int = 0) -> dict[str, npt.NDArray[np.float32]]:
    """Weights of a size that keeps activations near 1; running variances and scales are positive, none is a round number."""
    rng = np.random.default_rng(seed)
    found: dict[str, npt.NDArray[np.float32]] = {}
    for weight in weights(graph):
        if len(weight.shape) > 1:
            values = rng.normal(0.0, 1.0 / np.sqrt(np.prod(weight.shape[1:])), weight.shape)
        elif weight.name.endswith((".running_var", ".weight")):
            values = rng.uniform(0.5, 1.5, weight.shape)
        else:
            values = rng.normal(0.0, 0.3, weight.shape)
        found[weight.name] = values.astype(np.float32)
    return found


class ExporterSuite:
    """Override ``exporter``; ``uses_weights`` is False for a form that holds none (a picture), so that none can be missing."""

    exporter: ClassVar[type[Exporter]]
    uses_weights: ClassVar[bool] = True

    def exported(self, model: Model, folder: Path) -> list[Path]:
        return self.exporter().export(model, random_weights(model.graph()), folder)

    def test_any_network_leaves(self) -> None:
        @settings(max_examples=15)
        @given(architecture=architectures(), shape=input_shapes(9))
        def leaves(architecture: AnyArchitecture, shape: tuple[int, int, int]) -> None:
            with tempfile.TemporaryDirectory() as folder:
                paths = self.exported(model_of(architecture, shape), Path(folder))
                assert [path.name for path in paths] == list(self.exporter.files)
                assert all(path.parent == Path(folder) and path.stat().st_size > 0 for path in paths)
                assert {path.name for path in Path(folder).iterdir()} == set(self.exporter.files), (
                    "something is left over"
                )

        leaves()

    def test_the_same_network_gives_the_same_bytes(self, tmp_path: Path, example_model: Model) -> None:
        one, two = (self.exported(example_model, tmp_path / name) for name in ("one", "two"))
        assert [path.read_bytes() for path in one] == [path.read_bytes() for path in two]

    def test_it_replaces_what_was_there(self, tmp_path: Path, example_model: Model) -> None:
        for name in self.exporter.files:
            (tmp_path / name).write_text("an old file")
        for path in self.exported(example_model, tmp_path):
            assert path.read_bytes() != b"an old file"

    def test_a_missing_weight_is_named(self, tmp_path: Path, example_model: Model) -> None:
        self.refuse_missing()
        found = random_weights(example_model.graph())
        lost = next(iter(weights(example_model.graph().inference()))).name
        del found[lost]
        with pytest.raises(ExportError, match=lost):
            self.exporter().export(example_model, found, tmp_path)
        assert not list(tmp_path.iterdir()), "half an export was left behind"

    def test_a_weight_of_another_shape_is_named(self, tmp_path: Path, example_model: Model) -> None:
        self.refuse_missing()
        found = random_weights(example_model.graph())
        wrong = next(iter(weights(example_model.graph().inference()))).name
        found[wrong] = np.zeros((3, 2, 1), np.float32)
        with pytest.raises(ExportError, match=wrong):
            self.exporter().export(example_model, found, tmp_path)
        assert not list(tmp_path.iterdir()), "half an export was left behind"

    def refuse_missing(self) -> None:
        if not self.uses_weights:
            pytest.skip("this form holds no weights")

    @pytest.fixture
    def example_model(self) -> Model:
        """A small network with skips and an auxiliary classifier."""
        return example()


def example() -> Model:
    """Two stages, skips, a widener, an auxiliary classifier: one small network that has everything."""
    document = {
        "kind": "macro",
        "stem": [{"op": "conv", "channels": 8}],
        "stages": [
            {
                "name": "stage1",
                "layers": [
                    {
                        "name": "layer1",
                        "branches": [
                            {"name": "branch1", "operation": "3x3", "channels": 4},
                            {"name": "branch2", "operation": "5x5sep", "channels": 4},
                        ],
                    },
                    {
                        "name": "layer2",
                        "branches": [
                            {"name": "branch1", "operation": "1x1", "channels": 3},
                            {"name": "branch3", "operation": "3x3maxpool", "channels": 5},
                        ],
                        "skips": ["stem"],
                    },
                ],
                "widener": {"channels": 8},
            },
            {
                "name": "stage2",
                "layers": [
                    {
                        "name": "layer1",
                        "branches": [{"name": "branch2", "operation": "3x3sep", "channels": 16}],
                        "skips": ["stage1/layer1", "stage1/widener"],
                    }
                ],
            },
        ],
        "auxiliaries": [{"source": "stage1/layer2"}],
        "style": {"norm_scale": False},
    }
    return model_of(MacroArchitecture.parse(document), (3, 16, 16), ("ant", "bee", "cicada"))
