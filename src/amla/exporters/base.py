"""The contract of an exporter: how a network leaves."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping
from pathlib import Path
from typing import ClassVar

import numpy as np
import numpy.typing as npt

from amla.spec.architecture import Architecture
from amla.spec.base import Document
from amla.spec.data import DatasetInfo
from amla.spec.graph import Graph, Node
from amla.spec.lower import lower

Weights = Mapping[str, npt.NDArray[np.float32]]


class Model(Document):
    """A trained network as a document: what it is and what it eats. Its weights stand beside it, by name.

    ``data`` says how an image is brought to the network: 8-bit pixels divided by 255, then (x - mean) / std per channel.
    Exported forms hold that step themselves: they take images with values in [0, 1] (or the dataset's own floats).
    """

    format: str = "amla/model"
    version: int = 1
    architecture: Architecture
    data: DatasetInfo

    def graph(self) -> Graph:
        """The network as it was trained."""
        return lower(self.architecture, self.data.input_shape, self.data.num_classes)


class Exporter(ABC):
    """Writes one form of a network into a folder. Whole files or none. Errors: ``ExportError``."""

    #: The names of the files that it writes.
    files: ClassVar[tuple[str, ...]]

    @abstractmethod
    def export(self, model: Model, weights: Weights, folder: Path) -> list[Path]:
        """Write the files; returns where they are."""


def live_nodes(graph: Graph) -> list[Node]:
    """The nodes that an exported form computes: those that the output depends on. What only feeds a zero does not count."""
    needed = {graph.output}
    for node in reversed(graph.nodes):
        if node.name in needed and node.op != "zero":
            needed.update(node.inputs)
    return [node for node in graph.nodes if node.name in needed or node.op == "input"]
