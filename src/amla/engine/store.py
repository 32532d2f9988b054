"""The store: experiments and their trials in a database, by SQLAlchemy. SQLite by default, any other by its URL.

It is the only memory of the engine. Every change of a trial is a compare-and-set in one transaction, so that two
schedulers, or one that was killed and came back, can never both act on the same trial.
"""

from __future__ import annotations

import contextlib
import itertools
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Self

import sqlalchemy as sa
from sqlalchemy.engine import Connection

from amla.engine.database import REVISION, WRITES, explained, open_engine, shown
from amla.engine.tables import experiments, trials
from amla.errors import StoreError
from amla.spec.experiment import Experiment
from amla.spec.trial import Result, Trial, TrialSpec, TrialState

__all__ = ["REVISION", "Store", "default_url"]

DEFAULT_FILE = Path("amla-runs") / "amla.db"
#: Letters of a name, behind which there is room for a number.
ROOM = 190
FINISHED = ("done", "failed", "cancelled")


def default_url() -> str:
    """``AMLA_STORE``, else a SQLite file below the current folder."""
    return os.environ.get("AMLA_STORE") or f"sqlite:///{DEFAULT_FILE}"


class Store:
    """Open one with ``with Store(url) as store``; it can be shared by threads. A fresh one gets its tables, an old one is
    upgraded; without ``create``, that there is none is an error. Errors, of every method: ``StoreError`` in one line,
    whatever the database says."""

    def __init__(self, url: str | None = None, *, create: bool = True) -> None:
        self.url = url or default_url()
        self.engine = open_engine(self.url, create=create)

    def close(self) -> None:
        """Let go of all connections."""
        self.engine.dispose()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    # ----------------------------------------------------------------------------------------------------------- experiments
    def create(self, experiment: Experiment) -> None:
        """Store a new experiment. Errors: ``StoreError`` where its id or name is taken."""
        row = {
            "id": experiment.id,
            "name": experiment.name,
            "state": experiment.state,
            "created": experiment.created,
            "finished": 0,
            "document": experiment.to_json(),
        }
        names = (experiment.id, experiment.name)
        taken = sa.or_(experiments.c.id.in_(names), experiments.c.name.in_(names))
        try:
            with self._write() as connection:
                free = connection.execute(sa.select(experiments.c.id).where(taken)).first() is None
                if free:
                    connection.execute(sa.insert(experiments).values(row))
        except sa.exc.IntegrityError:  # another process was quicker
            free = False
        if not free:
            raise StoreError(f"an experiment called {experiment.name!r} is there already; give another --name")

    def free_name(self, name: str) -> str:
        """``name``, or where an experiment is called that already, the first free one of ``name-2``, ``name-3``, ..."""
        stem = name[:ROOM]
        begins = experiments.c.name.startswith(stem, autoescape=True) | (experiments.c.id == name)
        with self._read() as connection:
            rows = connection.execute(sa.select(experiments.c.id, experiments.c.name).where(begins)).all()
        taken = {called for row in rows for called in row}
        names = itertools.chain([name], (f"{stem}-{number}" for number in itertools.count(2)))
        return next(free for free in names if free not in taken)

    def experiment(self, name: str) -> Experiment:
        """By id, by name, or by the beginning of an id. Errors: ``StoreError`` where there is none, or several."""
        with self._read() as connection:
            exact = sa.select(experiments).where(sa.or_(experiments.c.id == name, experiments.c.name == name))
            rows = connection.execute(exact).all()
            if not rows:
                begins = sa.select(experiments).where(experiments.c.id.startswith(name, autoescape=True))
                rows = connection.execute(begins).all()
        if not rows:
            raise StoreError(f"no experiment is called {name!r} in {shown(self.url)}; see `amla experiments list`")
        if len(rows) > 1:
            ids = ", ".join(sorted(row.id for row in rows))
            raise StoreError(f"{name!r} could be any of {ids}")
        return _experiment(rows[0])

    def experiments(self) -> list[Experiment]:
        """All, the oldest first."""
        with self._read() as connection:
            rows = connection.execute(sa.select(experiments).order_by(experiments.c.created, experiments.c.id)).all()
        return [_experiment(row) for row in rows]

    def update(self, experiment_id: str, **fields: Any) -> Experiment:
        """Set fields of an experiment (``state``, ``reason``, ``measured``). Returns it as it is now."""
        this = experiments.c.id == experiment_id
        with self._write() as connection:
            row = connection.execute(sa.select(experiments).where(this).with_for_update()).first()
            if row is None:
                raise StoreError(f"the experiment {experiment_id!r} is not in {shown(self.url)} any more")
            new = Experiment.parse(_experiment(row).to_data() | fields)
            values = {"state": new.state, "document": new.to_json()}
            connection.execute(sa.update(experiments).where(this).values(values))
        return new

    def delete(self, experiment_id: str) -> None:
        """Forget an experiment and its trials. Its files stay."""
        with self._write() as connection:
            connection.execute(sa.delete(trials).where(trials.c.experiment == experiment_id))
            connection.execute(sa.delete(experiments).where(experiments.c.id == experiment_id))

    # ---------------------------------------------------------------------------------------------------------------- trials
    def add_trial(self, experiment_id: str, trial: Trial) -> bool:
        """Store a new trial; False where its number is taken. Errors: ``StoreError`` where there is no such experiment."""
        row = {
            "experiment": experiment_id,
            "number": trial.number,
            "seed": trial.seed,
            "state": trial.state,
            "attempt": trial.attempt,
            "spec": trial.spec.to_json(),
        }
        try:
            with self._write() as connection:
                connection.execute(sa.insert(trials).values(row))
        except sa.exc.IntegrityError:
            self.experiment(experiment_id)
            return False
        return True

    def trials(self, experiment_id: str, *, after: int | None = None) -> list[Trial]:
        """The trials of an experiment, by number: all, or those that have not ended or ended behind place ``after`` of the
        order of ending (whoever saw all up to there need not read them again)."""
        found = sa.select(trials).where(trials.c.experiment == experiment_id).order_by(trials.c.number)
        if after is not None:
            found = found.where(sa.or_(trials.c.finished_seq.is_(None), trials.c.finished_seq > after))
        with self._read() as connection:
            rows = connection.execute(found).all()
        return [_trial(row) for row in rows]

    def transition(
        self,
        experiment_id: str,
        number: int,
        before: TrialState,
        after: TrialState,
        *,
        at_attempt: int | None = None,
        **fields: Any,
    ) -> bool:
        """Compare-and-set: from ``before`` to ``after``, with other ``fields`` (``handle``, ``attempt``, ``result``); False
        where the trial is not (any more) in ``before``, or not at this attempt.

        A trial that ends gets the next ``finished_seq`` in the same transaction: 0, 1, 2, ... without gaps.
        """
        values: dict[str, Any] = dict(fields)
        if isinstance(values.get("result"), Result):
            values["result"] = values["result"].to_json()
        this = (trials.c.experiment == experiment_id, trials.c.number == number)
        expected = [trials.c.state == before] + ([trials.c.attempt == at_attempt] if at_attempt is not None else [])
        with self._write() as connection:
            changed = connection.execute(sa.update(trials).where(*this, *expected).values(state=after, **values))
            if changed.rowcount != 1:
                return False
            if after in FINISHED:
                # Adding to the counter locks its row, so no two trials get the same place in the order.
                counter = experiments.c.id == experiment_id
                connection.execute(sa.update(experiments).where(counter).values(finished=experiments.c.finished + 1))
                place = connection.execute(sa.select(experiments.c.finished).where(counter)).scalar_one() - 1
                connection.execute(sa.update(trials).where(*this).values(finished_seq=place))
        return True

    # --------------------------------------------------------------------------------------------------------------- helpers
    @contextlib.contextmanager
    def _read(self) -> Iterator[Connection]:
        with explained(self.url), self.engine.connect() as connection, connection.begin():
            yield connection

    @contextlib.contextmanager
    def _write(self) -> Iterator[Connection]:
        """One transaction: committed at the end, or nothing of it."""
        engine = self.engine.execution_options(**{WRITES: True})
        with explained(self.url), engine.connect() as connection, connection.begin():
            yield connection


def _experiment(row: sa.Row[Any]) -> Experiment:
    return Experiment.from_json(row.document)


def _trial(row: sa.Row[Any]) -> Trial:
    return Trial(
        number=row.number,
        seed=row.seed,
        state=row.state,
        attempt=row.attempt,
        finished_seq=row.finished_seq,
        handle=row.handle,
        spec=TrialSpec.from_json(row.spec),
        result=Result.from_json(row.result) if row.result else None,
    )
