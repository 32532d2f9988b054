"""A trial's folder: safetensors and JSON, whole or not at all. The folder is a path or any URI that fsspec knows."""

from __future__ import annotations

import json
import uuid
from collections.abc import Mapping
from typing import Any

import fsspec
import numpy as np
import numpy.typing as npt
from safetensors.numpy import load as load_safetensors
from safetensors.numpy import save as save_safetensors

Arrays = Mapping[str, npt.NDArray[Any]]


def write(folder: str, name: str, content: bytes) -> None:
    """A file, there completely or not at all (written beside its place, then moved)."""
    system, root = fsspec.core.url_to_fs(folder)
    system.makedirs(root, exist_ok=True)
    beside = f"{root}/.{name}.{uuid.uuid4().hex[:8]}"
    try:
        with system.open(beside, "wb") as file:
            file.write(content)
        system.mv(beside, f"{root}/{name}")
    except OSError:
        if system.exists(beside):
            system.rm(beside)
        raise


def read(folder: str, name: str) -> bytes | None:
    """A file's content; None where there is none."""
    system, root = fsspec.core.url_to_fs(folder)
    try:
        with system.open(f"{root}/{name}", "rb") as file:
            content: bytes = file.read()
            return content
    except FileNotFoundError:
        return None


def remove(folder: str, name: str) -> None:
    """Delete a file, if it is there."""
    system, root = fsspec.core.url_to_fs(folder)
    if system.exists(f"{root}/{name}"):
        system.rm(f"{root}/{name}")


def pack(arrays: Arrays, metadata: Mapping[str, str] | None = None) -> bytes:
    """Arrays by name as safetensors, the same bytes for the same content."""
    whole = {name: np.ascontiguousarray(arrays[name]) for name in sorted(arrays)}
    content: bytes = save_safetensors(whole, metadata=dict(metadata) if metadata else None)
    return content


def unpack(content: bytes) -> dict[str, npt.NDArray[Any]]:
    """Arrays by name out of safetensors."""
    arrays: dict[str, npt.NDArray[Any]] = load_safetensors(content)
    return arrays


def write_json(folder: str, name: str, value: Any) -> None:
    write(folder, name, json.dumps(value, sort_keys=True).encode())


def read_json(folder: str, name: str) -> Any:
    """A JSON file's value; None where there is none."""
    content = read(folder, name)
    return None if content is None else json.loads(content)


def remove_folder(folder: str) -> None:
    """Delete a folder and all that is in it, if it is there."""
    system, root = fsspec.core.url_to_fs(folder)
    if system.exists(root):
        system.rm(root, recursive=True)
