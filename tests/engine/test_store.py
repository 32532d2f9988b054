"""The shipped suite on SQLite and on a real PostgreSQL, and what is special about either."""

import subprocess
import sys
import time
from pathlib import Path

import pytest
import sqlalchemy as sa

from amla.engine.store import Store, default_url
from amla.errors import StoreError
from amla.testing import tiny
from amla.testing.stores import StoreSuite, trial


class TestSQLite(StoreSuite):
    @pytest.fixture
    def url(self, sqlite_url: str) -> str:
        return sqlite_url


class TestPostgreSQL(StoreSuite):
    @pytest.fixture
    def url(self, postgresql_url: str) -> str:
        return postgresql_url


RACER = """
import sys, time
from amla.engine.store import Store
from amla.spec.trial import Result
with Store(sys.argv[1]) as store:
    time.sleep(max(0.0, float(sys.argv[2]) - time.time()))
    print(sum(store.transition("tiny", n, "queued", "done", result=Result()) for n in range(20)))
"""


def test_processes_race_as_threads_do(any_url: str) -> None:
    with Store(any_url) as store:
        store.create(tiny.experiment("/nowhere"))
        for number in range(20):
            store.add_trial("tiny", trial(number))
        start = str(time.time() + 1.0)
        racers = [
            subprocess.Popen([sys.executable, "-c", RACER, any_url, start], stdout=subprocess.PIPE, text=True)
            for _ in range(4)
        ]
        won = [int(racer.communicate(timeout=60)[0]) for racer in racers]
        assert sum(won) == 20
        assert sorted(found.finished_seq or 0 for found in store.trials("tiny")) == list(range(20))


# --------------------------------------------------------------------------------------------------------------- opening
def test_a_name_that_is_taken_gets_the_next_free_number(tmp_path: Path) -> None:
    with Store(str(tmp_path / "s.db")) as store:
        assert store.free_name("mine") == "mine"
        for number, name in enumerate(("mine", "mine-2", "mine-4", "x" * 200)):
            store.create(tiny.experiment(str(tmp_path), f"id{number}", name=name))
        assert store.free_name("mine") == "mine-3"
        assert store.free_name("min") == "min"
        assert store.free_name("id0") == "id0-2"
        assert len(store.free_name("x" * 200)) <= 200


def test_the_default_is_a_file_below_the_current_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("AMLA_STORE", raising=False)
    with Store() as store:
        assert store.experiments() == []
    assert (tmp_path / "amla-runs" / "amla.db").exists()
    monkeypatch.setenv("AMLA_STORE", "sqlite:///elsewhere.db")
    assert default_url() == "sqlite:///elsewhere.db"


def test_a_path_is_a_sqlite_file(tmp_path: Path) -> None:
    with Store(str(tmp_path / "new" / "a.db")) as store:
        store.create(tiny.experiment("/nowhere"))
    with Store(f"sqlite:///{tmp_path}/new/a.db") as store:
        assert len(store.experiments()) == 1


def test_a_store_in_memory() -> None:
    with Store("sqlite://") as store:
        store.create(tiny.experiment("/nowhere"))
        assert store.add_trial("tiny", trial(0))


def test_sqlite_is_in_wal_mode_and_waits_for_others(sqlite_url: str) -> None:
    with Store(sqlite_url) as store, store.engine.connect() as connection:
        assert connection.exec_driver_sql("PRAGMA journal_mode").scalar() == "wal"
        assert connection.exec_driver_sql("PRAGMA foreign_keys").scalar() == 1
        assert connection.exec_driver_sql("PRAGMA busy_timeout").scalar() == 30_000


def test_opening_again_is_quick_and_needs_no_alembic(sqlite_url: str) -> None:
    with Store(sqlite_url):
        pass
    code = "import sys; from amla.engine.store import Store; Store(sys.argv[1]).close(); sys.exit('alembic' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code, sqlite_url], check=False).returncode == 0


CUT = """
import os, sys
import sqlalchemy as sa
from amla.engine.store import Store

@sa.event.listens_for(sa.Engine, "before_cursor_execute")
def cut(connection, cursor, statement, *rest):
    if "CREATE TABLE trial" in statement:
        os._exit(9)

Store(sys.argv[1])
"""


def test_a_process_killed_while_it_makes_a_store_leaves_nothing(any_url: str) -> None:
    assert subprocess.run([sys.executable, "-c", CUT, any_url], check=False).returncode == 9
    with Store(any_url) as store:
        store.create(tiny.experiment("/nowhere"))
        assert store.add_trial("tiny", trial(0))


# ---------------------------------------------------------------------------------------------------------------- errors
@pytest.mark.parametrize(
    ("url", "says"),
    [
        ("nonsense", "is no database URL"),
        ("postgresql://me:secret@localhost:x/y", "is no database URL"),
        ("nosuchbase://x/y", "no such kind of database"),
        ("postgresql://me:secret@127.0.0.1:1/x", "Connection refused"),
        ("sqlite:////dev/null/a.db", "cannot be made"),
        ("sqlite:////dev", "unable to open"),
    ],
)
def test_a_store_that_cannot_be_had_is_explained_in_one_line(url: str, says: str) -> None:
    with pytest.raises(StoreError, match=says) as error:
        Store(url)
    assert "\n" not in str(error.value)
    assert "secret" not in str(error.value)
    assert error.value.exit_code == 2


def test_a_file_of_something_else(tmp_path: Path) -> None:
    (tmp_path / "a.db").write_text("no database at all" * 100)
    with pytest.raises(StoreError, match="file is not a database; use another --store"):
        Store(str(tmp_path / "a.db"))


def test_a_sqlite_file_of_another_program(tmp_path: Path) -> None:
    engine = sa.create_engine(f"sqlite:///{tmp_path}/a.db")
    sa.MetaData().create_all(engine)
    with engine.begin() as connection:
        sa.Table("runs", sa.MetaData(), sa.Column("id", sa.Integer)).create(connection)
    engine.dispose()
    with pytest.raises(StoreError, match=r"not AMLA's \(runs\)"):
        Store(str(tmp_path / "a.db"))


def test_a_read_only_store(sqlite_url: str) -> None:
    with Store(sqlite_url) as store:
        store.create(tiny.experiment("/nowhere"))
    path = sqlite_url.removeprefix("sqlite:///")
    with Store(f"sqlite:///file:{path}?mode=ro&uri=true") as store:
        assert len(store.experiments()) == 1
        with pytest.raises(StoreError, match="make it writable, or use another --store"):
            store.update("tiny", state="done")


def test_a_read_only_postgresql(postgresql_url: str) -> None:
    with Store(postgresql_url) as store:
        store.create(tiny.experiment("/nowhere"))
    separator = "&" if "?" in postgresql_url else "?"
    with Store(f"{postgresql_url}{separator}options=-cdefault_transaction_read_only%3Don") as store:
        assert len(store.experiments()) == 1
        with pytest.raises(StoreError, match="read-only transaction; make it writable"):
            store.update("tiny", state="done")


def test_a_full_disk_leaves_nothing_half_written(sqlite_url: str) -> None:
    with Store(sqlite_url) as store:
        store.create(tiny.experiment("/nowhere"))

        @sa.event.listens_for(store.engine, "begin", insert=True)
        def full(connection: sa.Connection) -> None:
            pages = connection.exec_driver_sql("PRAGMA page_count").scalar()
            connection.exec_driver_sql(f"PRAGMA max_page_count={pages}")

        def fill() -> None:
            for number in range(1000):
                store.add_trial("tiny", trial(number))

        with pytest.raises(StoreError, match="full; free some space, then go on with `amla resume`"):
            fill()
        found = store.trials("tiny")
        assert found == [trial(number) for number in range(len(found))]


def test_what_other_programs_keep_in_a_postgresql_is_left_alone(postgresql_url: str) -> None:
    engine = sa.create_engine(postgresql_url.replace("postgresql:", "postgresql+psycopg:"))
    with engine.begin() as connection:
        sa.Table("alembic_version", sa.MetaData(), sa.Column("version_num", sa.String(32))).create(connection)
    engine.dispose()
    with Store(postgresql_url) as store:
        assert store.experiments() == []
