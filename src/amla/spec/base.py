"""What all documents share: frozen, strict about their keys, JSON in and out."""

from __future__ import annotations

import json
from typing import Any, Self

from pydantic import BaseModel, ConfigDict, ValidationError

from amla.errors import SpecError


class Document(BaseModel):
    """A frozen JSON document. Unknown keys are errors, so that a typing mistake never passes as a default."""

    # A loss may be NaN or infinite; JSON has no such numbers, so they are written as strings, which are read as numbers.
    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=True, ser_json_inf_nan="strings")

    @classmethod
    def parse(cls, data: Any) -> Self:
        """Read a document from plain data. Errors: ``SpecError`` that names the first wrong key."""
        try:
            return cls.model_validate(data)
        except ValidationError as error:
            raise SpecError(first_problem(error, cls.__name__)) from None

    @classmethod
    def from_json(cls, text: str | bytes) -> Self:
        """Read a document from JSON text. Errors: ``SpecError``."""
        try:
            data = json.loads(text)
        except ValueError as error:
            raise SpecError(f"not a JSON document: {error}") from None
        return cls.parse(data)

    def to_json(self, indent: int | None = None) -> str:
        """JSON text, the same bytes for the same document."""
        return self.model_dump_json(indent=indent)

    def to_data(self) -> dict[str, Any]:
        """Plain JSON data (dicts, lists, strings, numbers)."""
        return self.model_dump(mode="json")

    def changed(self) -> dict[str, Any]:
        """Plain JSON data of the keys whose values are not the defaults: read again, it makes the same document."""
        data = self.to_data()
        fields = type(self).model_fields
        said = {
            key for key, field in fields.items() if field.is_required() or getattr(self, key) != field.get_default()
        }
        return {key: value for key, value in data.items() if key in said}


def first_problem(error: ValidationError, what: str) -> str:
    """One line for a person out of a pydantic error: the key's path, what is wrong, and how many more there are."""
    problems = error.errors(include_url=False)
    first = problems[0]
    where = ".".join(str(part) for part in first["loc"]) or what
    more = f" (and {len(problems) - 1} more)" if len(problems) > 1 else ""
    message = first["msg"].removeprefix("Value error, ")
    if first["type"] == "extra_forbidden":
        message = "unknown key"
    elif isinstance(first.get("input"), str | int | float | bool):
        message += f", got {first['input']!r}"
    return f"{what}: {where}: {message}{more}"
