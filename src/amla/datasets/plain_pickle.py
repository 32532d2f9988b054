"""A stranger's pickle of numbers, text and collections, read with nothing of it run.

A pickle is a small program: it names things to import and calls them. Here a name is never imported, it is looked up in
``ADMITTED``, which holds ways to make a mapping, a set, bytes or a number. Any other name ends the reading.
"""

from __future__ import annotations

import bz2
import pickle
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import IO, Any, NoReturn

import numpy as np

from amla.errors import DataError

#: What ``torch.save`` wrote before its files were zip archives: this number, a version and the system come first.
TORCH_MAGIC = 0x1950A86A20F9469CFC6C
NUMBERS = frozenset({"b1", "i1", "i2", "i4", "i8", "u1", "u2", "u4", "u8", "f2", "f4", "f8"})
#: What a file that is cut off or garbled makes the reading raise (the manual of ``pickle`` warns of more than one).
BROKEN = (
    pickle.UnpicklingError,
    EOFError,
    OSError,
    AttributeError,
    IndexError,
    KeyError,
    TypeError,
    ValueError,
    OverflowError,
    MemoryError,
    zipfile.BadZipFile,
)


def read_pickle(path: Path) -> Any:
    """The content of a pickle, of one in bz2 (``.pbz2``), or of what ``torch.save`` wrote without tensors.

    Errors: ``DataError`` where the file is broken, or holds more than numbers, text and collections.
    """
    try:
        if path.suffix == ".pbz2":
            with bz2.open(path) as file:
                return _Plain(file, path).load()
        if zipfile.is_zipfile(path):
            with zipfile.ZipFile(path) as archive:
                name = next(name for name in archive.namelist() if name.endswith("/data.pkl"))
                with archive.open(name) as file:
                    return _Plain(file, path).load()
        with path.open("rb") as file:
            return _first(file, path)
    except StopIteration:
        raise DataError(f"{path}: a zip archive that torch.save did not write") from None
    except BROKEN as error:
        raise DataError(f"{path}: cut off, or no file of results: {str(error) or type(error).__name__}") from None


def _first(file: IO[bytes], path: Path) -> Any:
    content = _Plain(file, path).load()
    if content != TORCH_MAGIC:
        return content
    _version, _system = _Plain(file, path).load(), _Plain(file, path).load()
    return _Plain(file, path).load()


class _Plain(pickle.Unpickler):
    def __init__(self, file: IO[bytes], path: Path) -> None:
        super().__init__(file)
        self.path = path

    def find_class(self, module: str, name: str) -> Callable[..., Any]:
        found = ADMITTED.get((module, name))
        if found is None:
            self._refuse(f"{module}.{name}")
        return found

    def persistent_load(self, pid: Any) -> NoReturn:  # noqa: ARG002  # the library's name
        self._refuse("a tensor")

    def _refuse(self, what: str) -> NoReturn:
        raise DataError(
            f"{self.path}: it asks for {what}; a file of results holds numbers, text and collections only, "
            "and nothing of this one was run"
        )


class _Kind:
    """What a pickle says of a numpy number: its code, and its byte order."""

    def __init__(self, code: str, *_: object) -> None:
        if code not in NUMBERS:
            raise ValueError(f"{code!r} is no kind of number")
        self.code, self.order = code, "<"

    def __setstate__(self, state: tuple[Any, ...]) -> None:
        self.order = ">" if state[1] == ">" else "<"


def _number(kind: _Kind, raw: bytes) -> Any:
    return np.frombuffer(raw, kind.order + kind.code)[0].item()


def _bytes(text: str, encoding: str) -> bytes:  # noqa: ARG001  # always latin1: how protocol 2 writes bytes
    return text.encode("latin1")


ADMITTED: dict[tuple[str, str], Callable[..., Any]] = {
    ("collections", "OrderedDict"): dict,
    ("builtins", "set"): set,
    ("__builtin__", "set"): set,
    ("_codecs", "encode"): _bytes,
    ("numpy", "dtype"): _Kind,
    ("numpy.core.multiarray", "scalar"): _number,
    ("numpy._core.multiarray", "scalar"): _number,
}
