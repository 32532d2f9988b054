"""Which data a trial is trained on, and what is known of them. No pixels here."""

from __future__ import annotations

from typing import Literal

from pydantic import Field, field_validator

from amla.spec.base import Document

Split = Literal["train", "valid", "test"]
SPLITS: tuple[Split, ...] = ("train", "valid", "test")


class DatasetSpec(Document):
    """A dataset as a user names it. The same spec gives the same pixels in the same order, on every machine.

    ``name`` is a plug-in (``digits``, ``cifar10``) or ``plug-in:ARGUMENT`` (``folder:PATH``, ``parquet:PATH``,
    ``npz:PATH``, ``hf:NAME``). Fractions are cut off the training split, stratified by class, by ``seed``, where the
    source itself has no such split.
    """

    name: str = Field(min_length=1)
    data_dir: str | None = None
    valid_fraction: float = Field(0.1, gt=0.0, lt=1.0)
    test_fraction: float = Field(0.1, gt=0.0, lt=1.0)
    image_size: int | None = Field(None, ge=1, le=4096, description="side in pixels to which images are brought")
    limit: int | None = Field(None, ge=1, description="at most so many images of each split, stratified")
    seed: int = Field(0, ge=0)

    @property
    def plugin(self) -> str:
        """The plug-in's name: what stands before the first colon."""
        return self.name.split(":", 1)[0]

    @property
    def argument(self) -> str | None:
        """What stands behind the first colon; None where there is none."""
        return self.name.split(":", 1)[1] if ":" in self.name else None


class DatasetInfo(Document):
    """What a dataset is: everything that a search, a network and a prediction need to know of it.

    ``shape`` is (height, width, channels) of one image. ``mean`` and ``std`` are per channel over the training split,
    on the scale on which networks see pixels: 8-bit images divided by 255, floating-point images as they are.
    """

    name: str
    shape: tuple[int, int, int]
    classes: tuple[str, ...]
    sizes: dict[Split, int]
    mean: tuple[float, ...]
    std: tuple[float, ...]
    dtype: Literal["uint8", "float32"] = "uint8"
    flip: bool = Field(False, description="whether a mirrored image still shows the same thing (not so for digits)")

    @field_validator("std")
    @classmethod
    def _no_zero(cls, std: tuple[float, ...]) -> tuple[float, ...]:
        return tuple(value if value > 1e-6 else 1.0 for value in std)

    @property
    def num_classes(self) -> int:
        return len(self.classes)

    @property
    def input_shape(self) -> tuple[int, int, int]:
        """(channels, height, width): the order in which the Graph counts."""
        height, width, channels = self.shape
        return (channels, height, width)
