"""The contract of a search space: what may be built."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterator, Mapping
from typing import ClassVar

import numpy as np
from pydantic import JsonValue

from amla.spec.architecture import MacroArchitecture, MicroArchitecture
from amla.spec.base import Document
from amla.spec.experiment import Problem

AnyArchitecture = MacroArchitecture | MicroArchitecture


class SpaceSettings(Document):
    """Base of a space's settings; each space adds its own."""


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
