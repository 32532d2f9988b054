"""``model.safetensors`` and ``model.json``: the weights by the Graph's names, and what they belong to."""

from __future__ import annotations

import json
from pathlib import Path
from typing import ClassVar

from amla import artifacts
from amla.exporters.base import Exporter, Model, Weights
from amla.exporters.folder import MODEL, WEIGHTS, check


class SafetensorsExporter(Exporter):
    """The metadata of the file name the classes, so that it explains itself without ``model.json``."""

    files: ClassVar[tuple[str, ...]] = (WEIGHTS, MODEL)

    def export(self, model: Model, weights: Weights, folder: Path) -> list[Path]:
        check(model, weights)
        metadata = {"format": "amla/weights", "classes": json.dumps(list(model.data.classes))}
        artifacts.write(str(folder), WEIGHTS, artifacts.pack(weights, metadata))
        artifacts.write(str(folder), MODEL, model.to_json(indent=2).encode())
        return [folder / name for name in self.files]
