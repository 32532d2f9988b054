"""Which trials come next? A pure function of the request.

A search is a *chain* of trials. Katib wants an exact number of suggestions, whatever a searcher would like, so where one
has to wait or is finished, the next chain answers: the same search with another seed. Chains are rebuilt from the trials
that the request holds and nothing else; so a restart, a repeated request and another replica all give the same reply.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from amla.errors import SearchError
from amla.services.katib import parcels
from amla.services.katib.history import Past
from amla.services.katib.parcels import Parcel
from amla.services.katib.setup import Setup
from amla.spec.experiment import trial_seed
from amla.spec.objectives import measures
from amla.spec.trial import Trial, TrialSpec

#: How often the training to the end of a chain is tried.
TRIES = 2


class Suggestion(Parcel):
    """A trial to be run."""

    whole: TrialSpec


def suggestions(setup: Setup, past: Sequence[Past], first: int, count: int) -> list[Suggestion]:
    """Exactly ``count`` trials, numbered from ``first``.

    Errors: ``AmlaError`` where a chain that has seen nothing has nothing to suggest.
    """
    chains = _Chains(setup, past)
    return [chains.next(number) for number in range(first, first + count)]


class _Chains:
    """All chains of a request, made when they are looked at."""

    def __init__(self, setup: Setup, past: Sequence[Past]) -> None:
        self.setup = setup
        self.members: dict[int, list[Past]] = {}
        for one in past:
            self.members.setdefault(one.parcel.chain, []).append(one)
        self.made: dict[int, Chain] = {}
        #: Those that had nothing to suggest: only a result could change that.
        self.waiting: set[int] = set()

    def next(self, number: int) -> Suggestion:
        for chain in self._in_turn():
            if chain.index in self.waiting:
                continue
            suggestion = chain.suggest(number)
            if suggestion is not None:
                return suggestion
            self.waiting.add(chain.index)
            if chain.fresh:
                raise SearchError(f"{self.setup.spec.searcher}: a search that has seen nothing has nothing to suggest")
        raise AssertionError("there is always another chain")

    def _in_turn(self) -> Iterator[Chain]:
        """Those that are advanced evenly, the one with the fewest trials first; then all behind them."""
        open_chains = self._open()
        together = [next(open_chains) for _ in range(self.setup.own.chains)]
        yield from sorted(together, key=lambda chain: (chain.length, chain.index))
        yield from open_chains

    def _open(self) -> Iterator[Chain]:
        index = 0
        while True:
            chain = self._chain(index)
            if not chain.over:
                yield chain
            index += 1

    def _chain(self, index: int) -> Chain:
        if index not in self.made:
            self.made[index] = Chain(self.setup, index, self.members.get(index, []))
        return self.made[index]


class Chain:
    """One search: a searcher that has observed its trials, and those that still run."""

    def __init__(self, setup: Setup, index: int, members: Sequence[Past]) -> None:
        self.setup, self.index = setup, index
        self.over = any(one.closes for one in members)
        if self.over:
            return
        members = [one for one in members if one.fits]
        self.problem = setup.problem_of(index)
        self.searcher = setup.searcher(index)
        self.line = line_of(members) if self.searcher.sequential else list(members)
        self.active = [one.trial for one in self.line if not one.trial.finished]
        self.seen = [one.trial for one in self.line if one.trial.finished]
        self.finals = [trial for trial in (*self.seen, *self.active) if trial.spec.purpose == "final"]
        self.searched = sum(trial.spec.purpose == "search" for trial in (*self.seen, *self.active))
        self.parcels = {one.parcel.number: one.parcel for one in self.line}
        self.last = max((trial.number for trial in self.seen if trial.state == "done"), default=None)
        self.searcher.observe([trial for trial in self.seen if not _closing(trial)])

    @property
    def length(self) -> int:
        return len(self.seen) + len(self.active)

    @property
    def fresh(self) -> bool:
        return not self.seen and not self.active

    def suggest(self, number: int) -> Suggestion | None:
        """The next trial, which then runs; None: it waits, or is ``over``."""
        try:
            spec = self._spec(number)
        except SearchError:
            if self.fresh:
                raise
            self.over = True  # it can never go on: another search may
            return None
        if spec is None:
            return None
        suggestion = self._suggestion(spec, number)
        trial = Trial(number=number, seed=suggestion.seed, state="running", spec=spec)
        self.active.append(trial)
        self.finals += [trial] if spec.purpose == "final" else []
        self.searched += spec.purpose == "search"
        self.parcels[number] = suggestion
        return suggestion

    def _spec(self, number: int) -> TrialSpec | None:
        if any(not trial.finished for trial in self.finals):
            return None
        if not self.searcher.finished and not any(_closing(trial) for trial in self.finals):
            spec = self.searcher.suggest(self.active, number)
            if spec is not None and not (self._spent and spec.purpose == "search"):
                return spec
            if not self._spent:
                return None
        if self.active:
            return None
        searched = [trial for trial in self.seen if not _closing(trial)]
        tried = sum(_closing(trial) for trial in self.finals)
        spec = self.searcher.final(searched) if self.setup.own.final and tried < TRIES else None
        if spec is None:
            self.over = True
            return None
        return spec.model_copy(update={"memo": {**spec.memo, CLOSING: True}})

    @property
    def _spent(self) -> bool:
        most = self.problem.trials
        return most is not None and self.searched >= most

    def _suggestion(self, spec: TrialSpec, number: int) -> Suggestion:
        parent = self.parcels.get(spec.parent) if spec.parent is not None else None
        begun = next((t.result.position for t in self.seen if t.number == spec.parent and t.result), 0)
        return Suggestion(
            experiment=self.setup.fingerprint,
            number=number,
            seed=trial_seed(self.problem.seed, number),
            chain=self.index,
            after=self.last,
            position=begun,
            folder=parcels.folder_name(number, spec),
            parent_folder=parent.folder if parent else None,
            reads=tuple(sorted(self.searcher.reads)),
            latency=bool(measures(self.problem, spec.procedure)),
            spec=parcels.without_architecture(spec),
            whole=spec,
        )


#: In the memo of a final trial that the searcher did not suggest itself: it is not shown it.
CLOSING = "closing"


def _closing(trial: Trial) -> bool:
    return CLOSING in trial.spec.memo


def line_of(members: Sequence[Past]) -> list[Past]:
    """The trials of a sequential search that follow on each other.

    A request that was sent again may have begun the same trial twice. Of several that were made after the same trial, the
    one that others were made after counts, else the first; the failures of that place count all.
    """
    followed = {one.parcel.after for one in members}
    line: list[Past] = []
    place: int | None = None
    while True:
        here = [one for one in members if one.parcel.after == place]
        done = [one for one in here if one.trial.state == "done"]
        line += [one for one in here if one.trial.finished and one.trial.state != "done"]
        if not done:
            return line + [one for one in here if not one.trial.finished]
        chosen = next((one for one in done if one.parcel.number in followed), done[0])
        line.append(chosen)
        place = chosen.parcel.number
