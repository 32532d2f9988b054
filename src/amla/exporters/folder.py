"""A run's folder as a model: what was exported, read back."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import numpy.typing as npt

from amla import artifacts
from amla.errors import ExportError
from amla.exporters.base import Model, Weights
from amla.spec.graph import weights

MODEL, WEIGHTS = "model.json", "model.safetensors"


def load_model(folder: Path) -> tuple[Model, dict[str, npt.NDArray[np.float32]]]:
    """The model of a run's folder and its weights. Errors: ``ExportError`` where one is missing or they do not fit."""
    if not folder.is_dir():
        raise ExportError(f"{folder} is no folder; give the folder of a run")
    document = artifacts.read(str(folder), MODEL)
    if document is None:
        raise ExportError(f"{folder} holds no {MODEL}; give the folder of a finished run")
    model = Model.from_json(document)
    arrays = read_weights(folder)
    check(model, arrays)
    return model, arrays


def read_weights(folder: Path) -> dict[str, npt.NDArray[np.float32]]:
    """The weights of a run's or a trial's folder, by name. Errors: ``ExportError``."""
    content = artifacts.read(str(folder), WEIGHTS)
    if content is None:
        raise ExportError(f"{folder} holds no {WEIGHTS}; give the folder of a finished run")
    return {name: np.asarray(value, np.float32) for name, value in artifacts.unpack(content).items()}


def check(model: Model, arrays: Weights) -> None:
    """Errors: ``ExportError`` naming the first weight that is missing or has another shape than the network's."""
    for weight in weights(model.graph().inference()):
        found = arrays.get(weight.name)
        if found is None:
            raise ExportError(f"the weight {weight.name!r} is missing: these are not this network's weights")
        if found.shape != weight.shape:
            raise ExportError(f"the weight {weight.name!r} has shape {found.shape}, the network wants {weight.shape}")
