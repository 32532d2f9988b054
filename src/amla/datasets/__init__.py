"""Datasets: one file a source; numpy out, so that every trainer can use it.

A new source is one file with a subclass of ``amla.datasets.memory.InMemoryDataset`` (arrays that fit in memory),
``amla.datasets.encoded.EncodedDataset`` (image files, streamed where they do not fit) or the bare
``amla.datasets.base.Dataset``, plus an entry point in the group ``amla.datasets``. Its tests are
``amla.testing.datasets.DatasetSuite``, subclassed.
"""

from __future__ import annotations

from typing import cast

from amla import registry
from amla.datasets.base import Dataset
from amla.spec.data import DatasetSpec

__all__ = ["Dataset", "load"]


def load(spec: DatasetSpec) -> Dataset:
    """The dataset that a spec names, opened and split; pixels are decoded when they are asked for.

    Errors: ``PluginError`` (no such dataset, a library is missing), ``DataError`` (missing, corrupt, one class, ...).
    """
    return cast(Dataset, registry.load("datasets", spec.plugin)(spec))
