"""The store: experiments and their trials in a database, by SQLAlchemy. SQLite by default, any other by its URL.

It is the only memory of the engine. Every change of a trial is a compare-and-set in one transaction, so that two
schedulers, or one that was killed and came back, can never both act on the same trial.
"""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Self

import sqlalchemy as sa
from sqlalchemy.engine import Connection, make_url

from amla.engine.tables import experiments, trials
from amla.errors import StoreError
from amla.spec.experiment import Experiment
from amla.spec.trial import Result, Trial, TrialSpec, TrialState

#: The newest migration. A store of another revision is upgraded, or refused where it is newer than this program.
REVISION = "0001"
DEFAULT_FILE = Path("amla-runs") / "amla.db"
FINISHED = ("done", "failed", "cancelled")


def default_url() -> str:
    """``AMLA_STORE``, else a SQLite file below the current folder."""
    return os.environ.get("AMLA_STORE") or f"sqlite:///{DEFAULT_FILE}"


class Store:
    """Open one with ``with Store(url) as store``. Errors: ``StoreError`` in one line, whatever the database says."""

    def __init__(self, url: str | None = None) -> None:
        self.url = url or default_url()
        with _explained(self.url):
            parsed = make_url(self.url)
            if parsed.get_backend_name() == "sqlite" and parsed.database not in (None, "", ":memory:"):
                Path(str(parsed.database)).parent.mkdir(parents=True, exist_ok=True)
            if parsed.drivername == "postgresql":
                parsed = parsed.set(drivername="postgresql+psycopg")
            memory = parsed.get_backend_name() == "sqlite" and parsed.database in (None, "", ":memory:")
            pool: dict[str, Any] = {"poolclass": sa.pool.StaticPool} if memory else {}
            if parsed.get_backend_name() == "sqlite":
                pool["connect_args"] = {"timeout": 30, "check_same_thread": False}
            self.engine = sa.create_engine(parsed, **pool)
            if parsed.get_backend_name() == "sqlite":
                sa.event.listen(self.engine, "connect", _sqlite_settings)
            self._migrate()

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
        with self._begin() as connection:
            taken = sa.select(experiments.c.id).where(
                sa.or_(experiments.c.id.in_([experiment.id, experiment.name]), experiments.c.name == experiment.name)
            )
            if connection.execute(taken).first():
                raise StoreError(f"an experiment called {experiment.name!r} is there already; give another --name")
            connection.execute(sa.insert(experiments).values(row))

    def experiment(self, name: str) -> Experiment:
        """By id, by name, or by the beginning of an id. Errors: ``StoreError`` where there is none, or several."""
        with self._begin() as connection:
            exact = sa.select(experiments).where(sa.or_(experiments.c.id == name, experiments.c.name == name))
            rows = connection.execute(exact).all()
            if not rows:
                begins = sa.select(experiments).where(experiments.c.id.startswith(name, autoescape=True))
                rows = connection.execute(begins).all()
        if not rows:
            raise StoreError(f"no experiment is called {name!r} in {_shown(self.url)}; see `amla experiments list`")
        if len(rows) > 1:
            ids = ", ".join(sorted(row.id for row in rows))
            raise StoreError(f"{name!r} could be any of {ids}")
        return _experiment(rows[0])

    def experiments(self) -> list[Experiment]:
        """All, the oldest first."""
        with self._begin() as connection:
            rows = connection.execute(sa.select(experiments).order_by(experiments.c.created, experiments.c.id)).all()
        return [_experiment(row) for row in rows]

    def update(self, experiment_id: str, **fields: Any) -> Experiment:
        """Set fields of an experiment (``state``, ``reason``, ``measured``). Returns it as it is now."""
        with self._begin() as connection:
            row = connection.execute(
                sa.select(experiments).where(experiments.c.id == experiment_id).with_for_update()
            ).one()
            new = Experiment.parse(_experiment(row).to_data() | fields)
            connection.execute(
                sa.update(experiments)
                .where(experiments.c.id == experiment_id)
                .values(state=new.state, document=new.to_json())
            )
        return new

    def delete(self, experiment_id: str) -> None:
        """Forget an experiment and its trials. Its files stay."""
        with self._begin() as connection:
            connection.execute(sa.delete(trials).where(trials.c.experiment == experiment_id))
            connection.execute(sa.delete(experiments).where(experiments.c.id == experiment_id))

    # ---------------------------------------------------------------------------------------------------------------- trials
    def add_trial(self, experiment_id: str, trial: Trial) -> bool:
        """Store a new trial; False where its number is taken."""
        row = {
            "experiment": experiment_id,
            "number": trial.number,
            "seed": trial.seed,
            "state": trial.state,
            "attempt": trial.attempt,
            "spec": trial.spec.to_json(),
        }
        try:
            with self._begin() as connection:
                connection.execute(sa.insert(trials).values(row))
        except sa.exc.IntegrityError:
            return False
        return True

    def trials(self, experiment_id: str) -> list[Trial]:
        """All trials of an experiment, by number."""
        with self._begin() as connection:
            found = sa.select(trials).where(trials.c.experiment == experiment_id).order_by(trials.c.number)
            rows = connection.execute(found).all()
        return [_trial(row) for row in rows]

    def transition(self, experiment_id: str, number: int, before: TrialState, after: TrialState, **fields: Any) -> bool:
        """Compare-and-set: from ``before`` to ``after``, with other ``fields`` (``handle``, ``attempt``, ``result``); False
        where the trial is not (any more) in ``before``. A trial that ends gets the next ``finished_seq`` with it."""
        values: dict[str, Any] = dict(fields)
        if isinstance(values.get("result"), Result):
            values["result"] = values["result"].to_json()
        this = (trials.c.experiment == experiment_id, trials.c.number == number)
        with self._begin() as connection:
            changed = connection.execute(
                sa.update(trials).where(*this, trials.c.state == before).values(state=after, **values)
            )
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
    def _begin(self) -> Iterator[Connection]:
        with _explained(self.url), self.engine.connect() as connection, connection.begin():
            yield connection

    def _migrate(self) -> None:
        with self.engine.connect() as connection:
            found = self._revision(connection)
        if found == REVISION:
            return
        if found is not None and found > REVISION:
            raise StoreError(
                f"the store {_shown(self.url)} was made by a newer AMLA (revision {found}, this one knows {REVISION}); "
                "upgrade amla, or use another --store"
            )
        # Alembic takes a third of a second to import, and a store that is up to date does not need it.
        from alembic import command
        from alembic.config import Config

        config = Config()
        config.set_main_option("script_location", "amla.engine:migrations")
        with self.engine.begin() as connection:
            config.attributes["connection"] = connection
            command.upgrade(config, "head")

    def _revision(self, connection: Connection) -> str | None:
        names = sa.inspect(connection).get_table_names()
        if "alembic_version" not in names:
            if "experiment" in names or "trial" in names:
                raise StoreError(f"{_shown(self.url)} has tables that are not AMLA's; use another --store")
            return None
        version = sa.table("alembic_version", sa.column("version_num"))
        row = connection.execute(sa.select(version.c.version_num)).first()
        return str(row[0]) if row else None


@contextlib.contextmanager
def _explained(url: str) -> Iterator[None]:
    """Whatever the database says, as one line for a person."""
    try:
        yield
    except sa.exc.IntegrityError:
        raise
    except (sa.exc.DBAPIError, sa.exc.ArgumentError, sa.exc.NoSuchModuleError) as error:
        cause = error.orig if isinstance(error, sa.exc.DBAPIError) and error.orig else error
        line = str(cause).strip().splitlines()[0]
        raise StoreError(
            f"the store {_shown(url)} cannot be used: {line}; check the URL, or use another --store"
        ) from error
    except ModuleNotFoundError as error:
        raise StoreError(
            f"the store {_shown(url)} needs the driver {error.name!r}: pip install 'amla[postgresql]'"
        ) from error


def _shown(url: str) -> str:
    """The URL without its password."""
    try:
        return make_url(url).render_as_string(hide_password=True)
    except sa.exc.ArgumentError:
        return url


def _sqlite_settings(connection: Any, _: Any) -> None:
    cursor = connection.cursor()
    # WAL lets others read while one writes. With NORMAL a killed process loses nothing; a power cut may lose the last
    # transactions, never the file.
    for setting in ("PRAGMA journal_mode=WAL", "PRAGMA synchronous=NORMAL", "PRAGMA foreign_keys=ON"):
        cursor.execute(setting)
    cursor.close()


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
