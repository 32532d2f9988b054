"""``model.keras``: the network as Keras 3 saves it, of Keras's own layers only, whatever library trained it."""

from __future__ import annotations

import io
import json
import tempfile
import zipfile
from pathlib import Path
from typing import ClassVar

import numpy as np

from amla import artifacts
from amla.exporters.base import Exporter, Model, Weights
from amla.exporters.folder import check
from amla.trainers.keras.network import Network, listed, load

FILE = "model.keras"


class KerasExporter(Exporter):
    """One file that ``keras.saving.load_model`` reads on any backend, without amla.

    Input: float32 (batch, height, width, channels), 8-bit pixels divided by 255 (or the dataset's own floats). Output:
    logits (batch, classes). It can be trained further.
    """

    files: ClassVar[tuple[str, ...]] = (FILE,)

    def export(self, model: Model, weights: Weights, folder: Path) -> list[Path]:
        import keras  # after the trainer's package, which chooses the backend

        check(model, weights)
        # Keras numbers its operations as long as the process lives: begin anew, for the same bytes each time
        keras.utils.clear_session(free_memory=False)
        network = load(Network(model.graph().inference(), portable=True), weights)
        images = keras.Input(model.data.shape, name="images")
        mean, std = (np.array(value, np.float32) for value in (model.data.mean, model.data.std))
        pixels = keras.layers.Normalization(mean=mean, variance=std**2, name="pixels")(images)
        whole = keras.Model(images, listed(network.whole([pixels]))[0], name="network")
        with tempfile.TemporaryDirectory() as beside:
            whole.save(Path(beside) / FILE)
            artifacts.write(str(folder), FILE, _steady(Path(beside) / FILE))
        return [folder / FILE]


def _steady(path: Path) -> bytes:
    """The same archive without the time at which it was made: the same bytes for the same network."""
    steady = io.BytesIO()
    with zipfile.ZipFile(path) as old, zipfile.ZipFile(steady, "w") as new:
        for name in sorted(old.namelist()):
            content = old.read(name)
            if name == "metadata.json":
                content = json.dumps(json.loads(content) | {"date_saved": "1980-01-01@00:00:00"}).encode()
            new.writestr(zipfile.ZipInfo(name), content)
    return steady.getvalue()
