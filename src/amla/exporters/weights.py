"""``model.safetensors`` and ``model.json``: the weights by the Graph's names, and what they belong to."""

from __future__ import annotations

import json
from pathlib import Path
from typing import ClassVar

from amla import artifacts
from amla.exporters.base import Exporter, Model, Weights
from amla.exporters.folder import MODEL, WEIGHTS, check
from amla.spec.graph import weights as tensors


class SafetensorsExporter(Exporter):
    """The network at inference: weights of auxiliary classifiers stay behind.

    The metadata of the file (each JSON text) explain it without ``model.json``: ``classes``, ``mean``, ``std``,
    ``input_shape`` (channels, height, width), ``architecture``.
    """

    files: ClassVar[tuple[str, ...]] = (WEIGHTS, MODEL)

    def export(self, model: Model, weights: Weights, folder: Path) -> list[Path]:
        check(model, weights)
        kept = {weight.name: weights[weight.name] for weight in tensors(model.graph().inference())}
        artifacts.write(str(folder), WEIGHTS, _steady(artifacts.pack(kept, _metadata(model))))
        artifacts.write(str(folder), MODEL, model.to_json(indent=2).encode() + b"\n")
        return [folder / name for name in self.files]


def _metadata(model: Model) -> dict[str, str]:
    data = model.data
    return {
        "format": "amla/weights",
        "classes": json.dumps(data.classes, ensure_ascii=False),
        "mean": json.dumps(data.mean),
        "std": json.dumps(data.std),
        "input_shape": json.dumps(data.input_shape),
        "architecture": model.architecture.to_json(),
    }


def _steady(content: bytes) -> bytes:
    """The same file with the keys of its header in order: safetensors writes metadata in a new order every time.

    A file is the header's length (8 bytes, little end first), the header (JSON, padded with spaces to a multiple of 8),
    and the tensors, whose offsets count from the header's end.
    """
    length = int.from_bytes(content[:8], "little")
    header = json.dumps(json.loads(content[8 : 8 + length]), sort_keys=True, separators=(",", ":")).encode()
    header += b" " * (-len(header) % 8)
    return len(header).to_bytes(8, "little") + header + content[8 + length :]
