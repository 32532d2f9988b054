"""Reading untrusted JSON by key, with the whole path of a key in every error."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any, TypeVar

from pydantic import ValidationError

from amla.errors import SpecError
from amla.spec.base import Document, first_problem

T = TypeVar("T")
D = TypeVar("D", bound=Document)
#: Digits that a number in a name may have.
MAX_DIGITS = 6
#: JSON has no comments, so people put them into keys.
REMARKS = ("comment", "comments", "description", "note")

_NAMES = {
    int: "a whole number",
    float: "a number",
    str: "a text",
    bool: "true or false",
    list: "a list",
    dict: "a group of keys",
}


class Keys:
    """A JSON object, the path where it stands, and which of its keys have been read. ``warnings`` is shared by all parts."""

    def __init__(self, data: Any, path: str, warnings: list[str]) -> None:
        if not isinstance(data, Mapping):
            raise SpecError(f"{path or 'the file'}: wanted a group of keys, got {data!r}")
        self.data, self.path, self.warnings = data, path, warnings
        self.read: set[str] = set()

    def at(self, key: str) -> str:
        """The path of a key."""
        return f"{self.path}.{key}" if self.path else key

    def take(self, key: str, kind: type[T], default: T | None = None) -> T:
        """The value of a key, of this kind. Errors: ``SpecError`` where it is another, or missing without a default."""
        self.read.add(key)
        if key not in self.data:
            if default is None:
                raise SpecError(f"{self.at(key)}: missing; wanted {_NAMES[kind]}")
            return default
        return typed(self.data[key], kind, self.at(key))

    def has(self, key: str) -> bool:
        return key in self.data

    def group(self, key: str) -> Keys:
        """A group of keys below this one. Errors: ``SpecError`` where it is missing."""
        return Keys(self.take(key, dict), self.at(key), self.warnings)

    def choose(self, key: str, known: tuple[str, ...], default: str | None = None) -> str:
        """A text that must be one of ``known``."""
        value = self.take(key, str, default)
        if value not in known:
            raise SpecError(f"{self.at(key)}: {value!r} cannot be had; there are {', '.join(known)}")
        return value

    def without_effect(self, key: str, why: str) -> None:
        """A key that is accepted and changes nothing."""
        self.read.add(key)
        if key in self.data:
            self.warn(key, f"has no effect: {why}")

    def warn(self, key: str, words: str) -> None:
        self.warnings.append(f"{self.at(key)} {words}")

    def leftover(self, elsewhere: tuple[str, ...] = ()) -> None:
        """What to make of the keys that nobody has read: remarks, and what has a meaning ``elsewhere``, are warned of.

        Errors: ``SpecError`` that names any other: what it asks for cannot be had.
        """
        for key in self.data:
            if key in self.read:
                continue
            if key not in (*elsewhere, *REMARKS):
                raise SpecError(f"{self.at(str(key))}: no such key is known; mend its name, or leave it out")
            self.without_effect(str(key), "it means nothing here")


def typed(value: Any, kind: type[T], path: str) -> T:
    """The value as this kind. A whole number passes as a number, and text that holds a number as one (files have both)."""
    if kind in (int, float) and isinstance(value, str):
        try:
            value = float(value)
        except ValueError:
            raise SpecError(f"{path}: wanted {_NAMES[kind]}, got {value!r}") from None
    if kind is int and isinstance(value, float) and value.is_integer():
        value = int(value)
    if kind is float and isinstance(value, int) and not isinstance(value, bool):
        try:
            value = float(value)
        except OverflowError:
            raise SpecError(f"{path}: the number is too large") from None
    if isinstance(value, float) and not math.isfinite(value):
        raise SpecError(f"{path}: wanted a finite number, got {value}")
    if kind is int and isinstance(value, bool):
        raise SpecError(f"{path}: wanted {_NAMES[kind]}, got {value!r}")
    if not isinstance(value, kind):
        raise SpecError(f"{path}: wanted {_NAMES[kind]}, got {value!r}")
    return value


def built(path: str, document: type[D], **values: Any) -> D:
    """A document of these values. Errors: ``SpecError`` that names the path in the file and the value that is out of bounds."""
    try:
        return document(**values)
    except ValidationError as error:
        raise SpecError(first_problem(error, path)) from None


def list_of(values: list[Any], kind: type[T], path: str) -> tuple[T, ...]:
    """A list whose members are all of this kind."""
    return tuple(typed(value, kind, f"{path}[{index}]") for index, value in enumerate(values))


def number_in(name: str, prefix: str, path: str) -> int:
    """The number of ``Layer3``, ``node12``. Errors: ``SpecError``."""
    digits = name.removeprefix(prefix)
    if not name.startswith(prefix) or not (digits.isascii() and digits.isdecimal() and len(digits) <= MAX_DIGITS):
        raise SpecError(f"{path}.{name}: wanted a name such as {prefix}1")
    return int(digits)
