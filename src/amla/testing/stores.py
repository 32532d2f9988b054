"""``StoreSuite``: what the store must do on every kind of database. Subclass it, give it an empty one, run pytest.

::

    class TestOnMyDatabase(StoreSuite):
        @pytest.fixture
        def url(self):
            return "postgresql://..."       # of a database that is empty, for each test anew
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
import sqlalchemy as sa
from alembic.autogenerate import compare_metadata
from alembic.migration import MigrationContext
from alembic.script import ScriptDirectory

from amla.engine import migrations
from amla.engine.database import REVISION, VERSION_TABLE
from amla.engine.store import Store
from amla.engine.tables import metadata
from amla.errors import StoreError
from amla.spec.training import Budget
from amla.spec.trial import Failure, Point, Result, Trial, TrialSpec
from amla.testing import tiny

WORKERS = 8


def trial(number: int) -> Trial:
    spec = TrialSpec(architecture=tiny.network(4), budget=Budget(steps=1), memo={"note": "größer"})
    return Trial(number=number, seed=2**32 - 1 - number, spec=spec)


def race(*tasks: Callable[[], bool]) -> list[bool]:
    """Run tasks in threads that begin at the same moment."""
    gate = threading.Barrier(len(tasks))

    def run(task: Callable[[], bool]) -> bool:
        gate.wait()
        return task()

    with ThreadPoolExecutor(len(tasks)) as pool:
        return list(pool.map(run, tasks))


class StoreSuite:
    """Override the fixture ``url``."""

    @pytest.fixture
    def url(self) -> str:
        raise NotImplementedError("give the suite a database")

    @pytest.fixture
    def store(self, url: str) -> Iterator[Store]:
        with Store(url) as store:
            store.create(tiny.experiment("/nowhere"))
            yield store

    # ----------------------------------------------------------------------------------------------------------- experiments
    def test_an_experiment_comes_back_as_it_was(self, store: Store) -> None:
        made = tiny.experiment("/elsewhere", "other", name="Straße", seed=7, jobs=3)
        store.create(made)
        assert store.experiment("other") == made
        assert [found.id for found in store.experiments()] == ["other", "tiny"]

    def test_experiments_are_found_by_id_name_and_beginning(self, store: Store) -> None:
        store.create(tiny.experiment("/a", "tiny-2", name="two"))
        store.create(tiny.experiment("/b", "tiny-3%", name="three"))
        assert store.experiment("tiny").id == "tiny"
        assert store.experiment("two").id == "tiny-2"
        assert store.experiment("tiny-3").id == "tiny-3%"
        with pytest.raises(StoreError, match="could be any of tiny-2, tiny-3%"):
            store.experiment("tiny-")
        with pytest.raises(StoreError, match="no experiment is called '%'"):
            store.experiment("%")

    @pytest.mark.parametrize(("id", "name"), [("tiny", None), ("other", "tiny"), ("other", "named"), ("named", None)])
    def test_no_two_experiments_share_a_name(self, store: Store, id: str, name: str | None) -> None:
        store.create(tiny.experiment("/named", "first", name="named"))
        with pytest.raises(StoreError, match="is there already"):
            store.create(tiny.experiment("/x", id, name=name))
        assert len(store.experiments()) == 2

    def test_update(self, store: Store) -> None:
        new = store.update("tiny", state="failed", reason="it rained", measured={"threads": 2})
        assert store.experiment("tiny") == new
        assert (new.state, new.reason, new.measured) == ("failed", "it rained", {"threads": 2})
        with pytest.raises(StoreError, match="not in"):
            store.update("nobody", state="done")

    def test_delete_takes_the_trials_with_it(self, store: Store) -> None:
        store.add_trial("tiny", trial(0))
        store.delete("tiny")
        assert store.experiments() == []
        assert store.trials("tiny") == []

    # ---------------------------------------------------------------------------------------------------------------- trials
    def test_a_trial_comes_back_as_it_was(self, store: Store) -> None:
        assert store.add_trial("tiny", trial(1))
        assert store.add_trial("tiny", trial(0))
        assert not store.add_trial("tiny", trial(1))
        assert store.trials("tiny") == [trial(0), trial(1)]
        with pytest.raises(StoreError, match="no experiment"):
            store.add_trial("nobody", trial(0))

    def test_a_result_comes_back_with_numbers_that_are_none(self, store: Store) -> None:
        store.add_trial("tiny", trial(0))
        point = Point(step=1, seconds=0.1, loss=float("nan"))
        failed = Result(failure=Failure(kind="nan", reason="loss is nan"), curve=(point,), flops=2**40)
        assert store.transition("tiny", 0, "queued", "failed", result=failed)
        found = store.trials("tiny")[0]
        assert found.result is not None
        assert found.result.to_json() == failed.to_json()
        assert (found.state, found.finished_seq) == ("failed", 0)

    def test_a_transition_compares_before_it_sets(self, store: Store) -> None:
        store.add_trial("tiny", trial(0))
        assert not store.transition("tiny", 0, "running", "done", result=Result())
        assert store.trials("tiny") == [trial(0)]
        assert store.transition("tiny", 0, "queued", "running", handle="h")
        assert not store.transition("tiny", 0, "queued", "running", handle="other")
        assert store.transition("tiny", 0, "running", "queued", at_attempt=0, attempt=1, handle=None)
        assert not store.transition("tiny", 0, "queued", "running", at_attempt=0)
        assert not store.transition("tiny", 5, "queued", "running")
        found = store.trials("tiny")[0]
        assert (found.state, found.attempt, found.handle, found.finished_seq) == ("queued", 1, None, None)

    def test_what_was_read_need_not_be_read_again(self, store: Store) -> None:
        for number in range(4):
            store.add_trial("tiny", trial(number))
        for number in (2, 0):
            store.transition("tiny", number, "queued", "done", result=Result())
        assert [found.number for found in store.trials("tiny", after=-1)] == [0, 1, 2, 3]
        assert [found.number for found in store.trials("tiny", after=0)] == [0, 1, 3]
        assert [found.number for found in store.trials("tiny", after=1)] == [1, 3]

    # ------------------------------------------------------------------------------------------------------- several at once
    def test_of_many_exactly_one_wins(self, store: Store) -> None:
        for number in range(5):
            store.add_trial("tiny", trial(number))
            won = race(
                *[
                    lambda n=number, w=worker: store.transition("tiny", n, "queued", "running", handle=str(w))
                    for worker in range(WORKERS)
                ]
            )
            assert sum(won) == 1
            assert store.trials("tiny")[number].handle == str(won.index(True))

    def test_the_order_of_ending_has_no_gaps(self, store: Store) -> None:
        numbers = range(3 * WORKERS)
        for number in numbers:
            store.add_trial("tiny", trial(number))

        def end(mine: range) -> bool:
            return all(store.transition("tiny", number, "queued", "done", result=Result()) for number in mine)

        assert all(race(*[lambda w=worker: end(numbers[w::WORKERS]) for worker in range(WORKERS)]))
        assert sorted(found.finished_seq or 0 for found in store.trials("tiny")) == list(numbers)

    def test_of_many_one_gets_the_number(self, store: Store) -> None:
        assert sum(race(*[lambda: store.add_trial("tiny", trial(0))] * WORKERS)) == 1

    def test_updates_are_not_lost(self, store: Store) -> None:
        def append(worker: int) -> bool:
            store.update("tiny", measured={str(worker): 1}) if worker else store.update("tiny", state="stopped")
            return True

        race(*[lambda w=worker: append(w) for worker in range(WORKERS)])
        assert store.experiment("tiny").state == "stopped"

    def test_a_fresh_store_can_be_opened_by_many(self, url: str) -> None:
        def opened() -> bool:
            with Store(url) as store:
                return store.experiments() == []

        assert all(race(*[opened] * WORKERS))

    # ------------------------------------------------------------------------------------------------------------ migrations
    def test_the_migrations_make_the_tables(self, store: Store) -> None:
        with store.engine.connect() as connection:
            context = MigrationContext.configure(connection, opts={"version_table": VERSION_TABLE})
            assert compare_metadata(context, metadata) == []
            assert context.get_current_revision() == REVISION

    def test_the_newest_migration_is_known(self) -> None:
        assert ScriptDirectory(str(Path(str(migrations.__file__)).parent)).get_current_head() == REVISION

    def test_a_newer_store_is_refused(self, url: str, store: Store) -> None:
        version = sa.table(VERSION_TABLE, sa.column("version_num"))
        with store.engine.begin() as connection:
            connection.execute(sa.update(version).values(version_num="9999"))
        with pytest.raises(StoreError, match=r"made by a newer AMLA \(revision 9999") as refused:
            Store(url)
        assert "\n" not in str(refused.value)

    def test_tables_of_another_program_are_left_alone(self, url: str, store: Store) -> None:
        with store.engine.begin() as connection:
            sa.Table(VERSION_TABLE, sa.MetaData()).drop(connection)
        with pytest.raises(StoreError, match="has tables that are not AMLA's"):
            Store(url)
