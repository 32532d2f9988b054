"""The contract of a search algorithm: which network next?"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import ClassVar, Generic, TypeVar

from pydantic import JsonValue

from amla import registry
from amla.errors import ConfigError, SearchError
from amla.spaces.base import AnyArchitecture, SearchSpace
from amla.spaces.base import space_of as space_of  # noqa: PLC0414  # searchers look for it here
from amla.spaces.envelope import EnvelopeSpace
from amla.spaces.limits import excess, repaired
from amla.spec.base import Document
from amla.spec.experiment import Problem
from amla.spec.objectives import fitness, usable
from amla.spec.trial import Trial, TrialSpec


class SearcherSettings(Document):
    """Base of a searcher's settings: validated, every key with a default; their JSON Schema feeds forms, CLI and Katib."""


def envelope_space(problem: Problem, searcher: str) -> EnvelopeSpace:
    """The envelope space, for a searcher that knows no other. Errors: ``ConfigError`` where the problem names another."""
    space = space_of(problem)
    if not isinstance(space, EnvelopeSpace):
        raise ConfigError(f"space: the searcher {searcher!r} needs 'envelope', not {problem.space!r}")
    return space


S = TypeVar("S", bound=SearcherSettings)


def drawn_within(
    problem: Problem, draw: Callable[[], AnyArchitecture], tries: int = 200, space: SearchSpace | None = None
) -> AnyArchitecture:
    """The first architecture of ``draw`` that keeps the limits. Where none of ``tries`` does and a ``space`` is given, the
    last one is repaired there (``limits.repaired``).

    Errors: ``SearchError`` where none keeps them; ``SpecError`` where a repair does not either: nothing is small enough.
    """
    broken: str | None = None
    for _ in range(tries):
        network = draw()
        broken = excess(network, problem)
        if broken is None:
            return network
    if space is not None:
        return repaired(network, space, problem)
    raise SearchError(f"{tries} networks in a row are too large; {broken}")


def given_up(what: str, failed: Sequence[Trial]) -> SearchError:
    """The end of a search that can only try the same again, and has: what failed, how often, and why at last."""
    result = failed[-1].result
    why = f"at last by: {result.failure.reason}" if result and result.failure else "for no reason given"
    return SearchError(f"{what} failed {len(failed)} times in a row, {why}")


class Searcher(ABC, Generic[S]):
    """A search algorithm. Pure: no I/O, no clock, no global random state; ``problem.rng(number)`` is its only chance.

    A searcher is rebuilt from its stored trials: constructed anew, given the finished ones by ``observe`` in the order of
    ``finished_seq``, it suggests exactly what the live one would have suggested. So a crash, a restart and a service in
    another language all take the same path. It sees search trials and, at most, its own last one; never a test.
    """

    Settings: ClassVar[type[SearcherSettings]] = SearcherSettings
    #: Instruments whose statistics it may read; ``needs`` of an object can be fewer, by its settings.
    needs: frozenset[str] = frozenset()
    #: Statistics of blocks that it reads from a result; ``reads`` of an object can be fewer, by its settings.
    reads: frozenset[str] = frozenset()
    #: Whether each of its trials is made of the one before, so that it suggests nothing while one runs.
    sequential: ClassVar[bool] = False
    #: Procedures of the trainer that it uses.
    procedures: frozenset[str] = frozenset({"train"})
    #: Whether it searches hyperparameters of training too (``Problem.hyperparameters``).
    tunes: ClassVar[bool] = False
    #: Whether it weighs several objectives against each other; else it takes one only.
    several_objectives: ClassVar[bool] = False
    #: Whether its first objective may be another than validation accuracy.
    any_objective: ClassVar[bool] = True
    #: Whether its own last trial is the final one (purpose ``final``); else the scheduler asks ``final`` for it.
    closes: bool = False

    def __init__(self, settings: S, problem: Problem) -> None:
        self.settings = settings
        self.problem = problem

    @classmethod
    def scales(
        cls, said: Mapping[str, JsonValue], problem: Problem
    ) -> Iterator[tuple[dict[str, JsonValue], dict[str, JsonValue]]]:
        """(settings, settings of the space) to put over those that a user ``said`` and ``problem`` has, from the richest
        search to the most frugal one: a time budget chooses among them. By default those of the space."""
        del said
        space = registry.load("spaces", problem.space)
        for scale in space.scales(problem.space_settings, problem):
            yield {}, scale

    @abstractmethod
    def observe(self, trials: Sequence[Trial]) -> None:
        """Take in finished trials (failed ones too), in the order in which they finished, each once."""

    @abstractmethod
    def suggest(self, active: Sequence[Trial], number: int) -> TrialSpec | None:
        """The ``number``-th trial, while ``active`` ones still run. Changes nothing: asked again, it answers the same.

        None: it waits for a result. Errors: ``SearchError`` where it can never suggest again though it is not finished.
        """

    @property
    @abstractmethod
    def finished(self) -> bool:
        """Whether it has nothing more to suggest, whatever comes."""

    def understudy(self) -> Searcher[S]:
        """A fresh searcher whose networks cost what this one's do, for a rehearsal, where results mean nothing: one that
        takes long over a suggestion gives another. By default itself."""
        return self

    def final(self, trials: Sequence[Trial]) -> TrialSpec | None:
        """The training of the network that the search found, to the end. None where there is none.

        By default the best one by the first objective, afresh, with its own hyperparameters. Asked once, when the search is
        finished or its budget spent.
        """
        kept = [trial for trial in trials if usable(trial) and excess(trial.spec.architecture, self.problem) is None]
        best = max(kept, key=lambda trial: (fitness(trial, self.problem), -trial.number), default=None)
        if best is None:
            return None
        return TrialSpec(
            architecture=best.spec.architecture,
            training=best.spec.training,
            budget=self.problem.final_budget,
            purpose="final",
            memo={"found_by": best.number},
        )
