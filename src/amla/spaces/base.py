"""The contract of a search space: what may be built."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterator, Mapping, Sequence
from typing import ClassVar, NamedTuple

import numpy as np
from pydantic import JsonValue

from amla import registry
from amla.errors import ConfigError, SpecError
from amla.spec.architecture import MacroArchitecture, MicroArchitecture
from amla.spec.base import Document
from amla.spec.experiment import Problem

AnyArchitecture = MacroArchitecture | MicroArchitecture


class SpaceSettings(Document):
    """Base of a space's settings; each space adds its own."""


class Supernet(NamedTuple):
    """All networks of a space in one (weight sharing, arXiv 1802.03268; continuous relaxation, arXiv 1806.09055).

    ``mixtures``: mixture -> option -> the blocks of ``architecture`` (``Graph.blocks``) that compute it. The blocks of one
    option share a strength, wherever they stand: the edges of a cell that is placed several times, say.
    """

    architecture: AnyArchitecture
    mixtures: dict[str, dict[str, tuple[str, ...]]]


class SearchSpace(ABC):
    """A set of architectures and the ways to move in it. Pure: all chance comes from the generator that is passed in.

    ``Settings`` has a default for every key; where a default depends on the data (None), the space takes it from the
    problem (input size, number of classes).
    """

    Settings: ClassVar[type[SpaceSettings]]

    def __init__(self, settings: SpaceSettings, problem: Problem) -> None:
        self.settings = settings
        self.problem = problem

    @classmethod
    def scales(cls, said: Mapping[str, JsonValue], problem: Problem) -> Iterator[dict[str, JsonValue]]:
        """Settings to put over those that a user ``said``, from the richest space to the most frugal one: a time budget
        chooses among them. What the user said is never changed. By default there is nothing to choose."""
        del said, problem
        yield {}

    @abstractmethod
    def sample(self, rng: np.random.Generator) -> AnyArchitecture:
        """One architecture at random."""

    @abstractmethod
    def mutate(self, architecture: AnyArchitecture, rng: np.random.Generator) -> AnyArchitecture:
        """A neighbour at random; never the architecture itself."""

    @abstractmethod
    def neighbors(self, architecture: AnyArchitecture) -> Iterator[AnyArchitecture]:
        """All architectures one edit away, in a fixed order."""

    @abstractmethod
    def contains(self, architecture: AnyArchitecture) -> bool:
        """Whether the space has this architecture."""

    # --------------------------------------------------------------------------- as decisions, for searchers that know no more
    @abstractmethod
    def decisions(self) -> dict[str, tuple[str, ...]]:
        """Every decision that makes an architecture, with its options, both in a fixed order. Names and options are made of
        ``A-Z a-z 0-9 _ . - /`` and at most 64 characters long, so that any other tool can carry them."""

    @abstractmethod
    def encode(self, architecture: AnyArchitecture) -> dict[str, str]:
        """The option taken in every decision: ``decode(encode(a)) == a``. Errors: ``SpecError`` where the space has not
        this architecture."""

    @abstractmethod
    def decode(self, taken: Mapping[str, str]) -> AnyArchitecture:
        """The architecture that these options make; every combination makes one of the space. Where a decision does not
        matter any more (a layer that is not there), its option is ignored.

        Errors: ``SpecError`` that names a decision that is missing, or an option that it has not.
        """

    @abstractmethod
    def size(self) -> int:
        """How many architectures it has."""

    # ---------------------------------------------------------------------------------- as one network, where it can be relaxed
    def supernet(self) -> Supernet | None:
        """All its networks in one; None where it cannot be relaxed."""
        return None

    def derive(self, strengths: Mapping[str, Mapping[str, float]]) -> AnyArchitecture:
        """The architecture that the strongest options make: mixture -> option -> strength.

        Errors: ``SpecError`` where the space has no supernet.
        """
        del strengths
        raise SpecError("space: this space has no supernet, so nothing can be derived from one")

    def kept(self, architecture: AnyArchitecture) -> dict[str, tuple[str, ...]]:
        """The options of every mixture of the supernet that an architecture keeps, the others being off.

        Errors: ``SpecError`` where the space has no supernet.
        """
        del architecture
        raise SpecError("space: this space has no supernet, so it keeps nothing of one")


# --------------------------------------------------------------------------------------------------- what spaces share
def checked(decisions: Mapping[str, tuple[str, ...]], taken: Mapping[str, str]) -> dict[str, str]:
    """The options taken, in the order of the decisions. Errors: ``SpecError`` that names a decision without one of its own."""
    found = {}
    for name, options in decisions.items():
        option = taken.get(name)
        if option not in options:
            raise SpecError(f"decision {name}: {option!r} is none of {', '.join(options)}")
        found[name] = option
    return found


def strongest(strengths: Mapping[str, Mapping[str, float]], mixture: str, options: Sequence[str]) -> str:
    """The option of most strength, the first of several. Errors: ``SpecError`` where one has no strength."""
    return max(options, key=lambda option: strength(strengths, mixture, option))


def strength(strengths: Mapping[str, Mapping[str, float]], mixture: str, option: str) -> float:
    """How strong an option is. Errors: ``SpecError`` where nobody says."""
    found = strengths.get(mixture, {}).get(option)
    if found is None:
        raise SpecError(f"mixture {mixture}: the option {option!r} has no strength")
    return found


def space_of(problem: Problem) -> SearchSpace:
    """The space that a problem names. Errors: ``ConfigError`` that names a wrong key of its settings, ``SpecError`` where
    its settings make no network."""
    cls = registry.load("spaces", problem.space)
    try:
        settings = cls.Settings.parse(problem.space_settings)
    except SpecError as error:
        raise ConfigError(str(error).replace(f"{cls.Settings.__name__}: ", "space_settings.", 1)) from None
    space: SearchSpace = cls(settings, problem)
    return space


def decisions_of_supernet(space: SearchSpace) -> dict[str, tuple[str, ...]]:
    """The decisions with those options only whose networks the supernet has (it may be of one depth, say).

    Errors: ``SpecError`` where the space has no supernet.
    """
    found = space.supernet()
    evenly = {name: dict.fromkeys(options, 1.0) for name, options in (found.mixtures if found else {}).items()}
    known = space.encode(space.derive(evenly))

    def there(decision: str, option: str) -> bool:
        try:
            space.kept(space.decode({**known, decision: option}))
        except SpecError:
            return False
        return True

    return {
        decision: tuple(option for option in options if there(decision, option))
        for decision, options in space.decisions().items()
    }
