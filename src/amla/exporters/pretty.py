"""Python expressions as text, broken into lines as ``ruff format`` breaks them, so that generated code needs no formatter."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from unicodedata import east_asian_width

LINE = 120
INDENT = "    "


@dataclass(frozen=True)
class Call:
    """``function(arguments)``; a keyword argument is text, such as ``"dim=1"``."""

    function: str
    arguments: Sequence[Expression]


@dataclass(frozen=True)
class Items:
    """A list or a tuple."""

    items: Sequence[Expression]
    brackets: str = "[]"


@dataclass(frozen=True)
class Sum:
    """``a + b + c``. Stands on the right of an assignment or a return only."""

    terms: Sequence[Expression]


Expression = str | Call | Items | Sum


def flat(expression: Expression) -> str:
    """The expression on one line."""
    match expression:
        case Call(function, arguments):
            return f"{function}({', '.join(map(flat, arguments))})"
        case Items(items, brackets):
            lone = "," if brackets == "()" and len(items) == 1 else ""
            return f"{brackets[0]}{', '.join(map(flat, items))}{lone}{brackets[1]}"
        case Sum(terms):
            return " + ".join(map(flat, terms))
        case _:
            return expression


def lines(prefix: str, expression: Expression, indent: str = "", suffix: str = "") -> list[str]:
    """``prefix`` + expression + ``suffix`` in as few lines as fit."""
    whole = f"{indent}{prefix}{flat(expression)}{suffix}"
    if width(whole) <= LINE or isinstance(expression, str):
        return [whole]
    deeper = indent + INDENT
    if isinstance(expression, Sum):
        whole = deeper + flat(expression)
        first, *rest = expression.terms
        broken = [*lines("", first, deeper), *(line for term in rest for line in lines("+ ", term, deeper))]
        return [f"{indent}{prefix}(", *([whole] if width(whole) <= LINE else broken), f"{indent}){suffix}"]
    if isinstance(expression, Call):
        head, parts, tail = f"{expression.function}(", expression.arguments, ")"
        together = deeper + ", ".join(map(flat, parts))
        if width(together) <= LINE:
            return [indent + prefix + head, together, f"{indent}{tail}{suffix}"]
    else:
        head, parts, tail = expression.brackets[0], expression.items, expression.brackets[1]
    inner = [line for part in parts for line in lines("", part, deeper, ",")]
    return [indent + prefix + head, *inner, f"{indent}{tail}{suffix}"]


def string(text: str) -> str:
    """A string literal in the quotes that ``ruff format`` prefers: double ones, unless single ones need fewer escapes."""
    quote = "'" if text.count('"') > text.count("'") else '"'
    return quote + "".join(_escaped(character, quote) for character in text) + quote


def _escaped(character: str, quote: str) -> str:
    if character in (quote, "\\"):
        return "\\" + character
    return character if character.isprintable() else repr(character)[1:-1]


def width(line: str) -> int:
    """Columns on a screen."""
    return len(line) if line.isascii() else sum(2 if east_asian_width(c) in "WF" else 1 for c in line)
