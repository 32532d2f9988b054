"""The names of candidate operations, as searchers and papers write them: ``3x3``, ``5x5sep``, ``3x3maxpool``, ``identity``."""

from __future__ import annotations

import functools
import re
from typing import Annotated, Literal, NamedTuple, cast

from pydantic import AfterValidator

Kind = Literal["conv", "sep", "dil", "maxpool", "avgpool", "identity", "zero"]

_PATTERN = re.compile(r"(?P<kernel>[1-9]\d?)x(?P=kernel)(?P<kind>sep|dil|maxpool|avgpool|)(?P<rate>\d{0,3})", re.ASCII)
MAX_KERNEL = 31
MAX_DILATION = 31


class OperationSpec(NamedTuple):
    """What a name says: the kind, the side of the square kernel in pixels, and the dilation."""

    kind: Kind
    kernel: int = 1
    dilation: int = 1


@functools.lru_cache(maxsize=1024)  # a search reads the same few names many thousand times
def parse_operation(name: str) -> OperationSpec:
    """Read an operation's name.

    ``KxK`` is a dense convolution, ``KxKsep`` a depthwise separable one, ``KxKdilR`` one dilated by R (2 where R is
    left out), ``KxKmaxpool`` and ``KxKavgpool`` are poolings; ``identity`` and ``zero`` have no kernel.
    Errors: ``ValueError`` with the accepted forms.
    """
    if name in ("identity", "zero"):
        return OperationSpec(cast(Kind, name))
    match = _PATTERN.fullmatch(name)
    if match and int(match["kernel"]) <= MAX_KERNEL:
        kind = cast(Kind, match["kind"] or "conv")  # the pattern admits only these
        rate = int(match["rate"] or 2)
        if kind == "dil" and 1 <= rate <= MAX_DILATION:
            return OperationSpec(kind, int(match["kernel"]), rate)
        if not match["rate"]:
            return OperationSpec(kind, int(match["kernel"]))
    raise ValueError(
        f"no operation is called {name!r}; the forms are 3x3, 3x3sep, 3x3dil2, 3x3maxpool, 3x3avgpool "
        f"(kernels up to {MAX_KERNEL}, dilations up to {MAX_DILATION}), identity, zero"
    )


def _checked(name: str) -> str:
    parse_operation(name)
    return name


Operation = Annotated[str, AfterValidator(_checked)]
