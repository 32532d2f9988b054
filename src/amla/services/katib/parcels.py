"""What travels through Katib with a suggestion: an architecture and everything else of its trial, each as one text.

A text is base64url(zlib(JSON)): it may stand in the JSON of a template and in a shell's word. Katib keeps all of them in one
object, so a trial's must stay small.
"""

from __future__ import annotations

import base64
import binascii
import functools
import hashlib
import json
import zlib
from typing import Any

from pydantic import Field, JsonValue

from amla.errors import SpecError
from amla.spaces.base import AnyArchitecture
from amla.spec.architecture import parse_architecture
from amla.spec.base import Document
from amla.spec.trial import TrialSpec

#: Bytes of all assignments of one trial, at most; and of a text unpacked, so that nobody can fill the memory with one.
MOST = 8 * 1024
UNPACKED = 16 * 1024 * 1024


class Parcel(Document):
    """A trial but its architecture."""

    experiment: str = Field(description="fingerprint of the search that it belongs to")
    number: int = Field(ge=0)
    seed: int = Field(ge=0)
    chain: int = Field(0, ge=0)
    after: int | None = Field(None, description="the last trial of its chain that had been done when it was suggested")
    position: int = Field(0, ge=0, description="optimizer steps of the trial that it inherits from")
    folder: str = Field(description="of the trial, below the shared artifacts")
    parent_folder: str | None = None
    reads: tuple[str, ...] = Field((), description="statistics of blocks that it is to send")
    latency: bool = Field(False, description="whether the latency is to be measured")
    spec: dict[str, JsonValue] = Field(description="its TrialSpec, what is not the default, without the architecture")


def pack(text: str) -> str:
    return base64.urlsafe_b64encode(zlib.compress(text.encode(), 9)).decode()


def unpack(packed: str) -> str:
    """Errors: ``SpecError`` where it is not what ``pack`` makes."""
    try:
        reader = zlib.decompressobj()
        content = reader.decompress(base64.urlsafe_b64decode(packed.encode()), UNPACKED)
        if reader.unconsumed_tail:
            raise SpecError("an architecture or trial of more than 16 MiB")
        return content.decode()
    except (binascii.Error, zlib.error, ValueError):
        raise SpecError("this is no packed document: base64url(zlib(JSON))") from None


@functools.lru_cache(maxsize=4096)
def architecture_of(packed: str) -> AnyArchitecture:
    """Errors: ``SpecError``."""
    return parse_architecture(unpack(packed))


@functools.lru_cache(maxsize=4096)
def parcel_of(packed: str) -> Parcel:
    """Errors: ``SpecError``."""
    return Parcel.from_json(unpack(packed))


@functools.lru_cache(maxsize=4096)
def spec_of(architecture: str, trial: str) -> TrialSpec:
    """The specification of a trial from its two texts. Errors: ``SpecError``."""
    return TrialSpec.parse({**parcel_of(trial).spec, "architecture": architecture_of(architecture)})


def without_architecture(spec: TrialSpec) -> dict[str, JsonValue]:
    return {key: value for key, value in spec.changed().items() if key != "architecture"}


def folder_name(number: int, spec: TrialSpec) -> str:
    """Where a trial's artifacts stand: another trial never has the same, though Katib may use a number twice."""
    return f"{number:04d}-{digest(spec.to_data())}"


def digest(data: Any) -> str:
    return hashlib.sha256(json.dumps(data, sort_keys=True).encode()).hexdigest()[:8]
