"""The database behind the store: how it is opened, brought up to date, and what its errors mean to a person."""

from __future__ import annotations

import contextlib
import re
import sqlite3
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import sqlalchemy as sa
from sqlalchemy.engine import URL, Connection, Engine, make_url

from amla.engine.tables import metadata
from amla.errors import StoreError

#: The newest migration. A store of an older one is upgraded; one of a newer program is refused.
REVISION = "0001"
#: The table that holds the store's revision: not Alembic's usual one, which another program in the same database may have.
VERSION_TABLE = "amla_version"
#: Seconds to wait for another process that writes.
PATIENCE = 30.0
SUFFIXES = (".db", ".sqlite", ".sqlite3")
#: Execution option of a connection that is going to write.
WRITES = "amla_writes"
#: Two processes that open a fresh PostgreSQL store at once make its tables one after the other: the lock's number.
_MIGRATION_LOCK = 0x616D6C61

_HINTS = (
    ("full", "free some space, then go on with `amla resume`"),
    ("no space", "free some space, then go on with `amla resume`"),
    ("readonly", "make it writable, or use another --store"),
    ("read-only", "make it writable, or use another --store"),
    ("permission denied", "get write access, or use another --store"),
    ("locked", "another process holds it; try again"),
    ("not a database", "use another --store"),
    ("malformed", "restore it from a copy, or use another --store"),
)


def open_engine(url: str, *, create: bool = True) -> Engine:
    """An engine whose database is there and up to date. A path that ends as in ``SUFFIXES`` is a SQLite file, which is made
    only with ``create``.

    Errors: ``StoreError`` where it cannot be reached, is none of ours, or was made by a newer program.
    """
    with explained(url):
        parsed = parsed_url(url)
        if not create and is_missing(url):
            raise StoreError(f"there is no store {shown(url)} yet; `amla search` makes one, or give another --store")
        engine = _engine(parsed)
        with contextlib.ExitStack() as failed:
            failed.callback(engine.dispose)
            _migrate(engine, url)
            failed.pop_all()
        return engine


def parsed_url(url: str) -> URL:
    """Errors: ``StoreError`` where that is no URL."""
    try:
        parsed = make_url(f"sqlite:///{url}" if Path(url).suffix in SUFFIXES and "://" not in url else url)
    except (sa.exc.ArgumentError, ValueError):
        public = re.sub("//[^/@]*@", "//***@", url)
        raise StoreError(
            f"--store: {public!r} is no database URL; write sqlite:///FILE or postgresql://USER:PASSWORD@HOST/DATABASE"
        ) from None
    return parsed.set(drivername="postgresql+psycopg") if parsed.drivername == "postgresql" else parsed


def shown(url: str) -> str:
    """The URL without its password."""
    return parsed_url(url).render_as_string(hide_password=True).replace("postgresql+psycopg", "postgresql")


@contextlib.contextmanager
def explained(url: str) -> Iterator[None]:
    """What the database says, as a ``StoreError`` in one line; errors that mean a bug of ours stay as they are."""
    try:
        yield
    except sa.exc.DBAPIError as error:
        if not _of_the_machine(error):
            raise
        line = str(error.orig).strip().splitlines()[0]
        hint = next((hint for word, hint in _HINTS if word in line.lower()), "check the URL, or use another --store")
        raise StoreError(f"the store {shown(url)} cannot be used: {line}; {hint}") from error
    except sa.exc.NoSuchModuleError as error:
        raise StoreError(f"the store {shown(url)}: there is no such kind of database: {error}") from error
    except ModuleNotFoundError as error:
        extra = "'amla[postgresql]'" if "postgresql" in url else str(error.name)
        raise StoreError(f"the store {shown(url)} needs the driver {error.name!r}: pip install {extra}") from error
    except OSError as error:
        raise StoreError(f"the store {shown(url)} cannot be made: {error.strerror}; use another --store") from error


def _of_the_machine(error: sa.exc.DBAPIError) -> bool:
    """Whether an error speaks of the database or the machine, not of a statement of ours."""
    state = getattr(error.orig, "sqlstate", None)
    kinds = (sa.exc.OperationalError, sa.exc.InternalError)
    return isinstance(error, kinds) or type(error) is sa.exc.DatabaseError or state == "42501"  # no privilege


# --------------------------------------------------------------------------------------------------------------- opening
def _engine(url: URL) -> Engine:
    if url.get_backend_name() != "sqlite":
        return sa.create_engine(url, pool_pre_ping=True)
    options: dict[str, Any] = {"connect_args": {"timeout": PATIENCE, "check_same_thread": False}}
    if url.database in (None, "", ":memory:"):
        options["poolclass"] = sa.pool.StaticPool
    elif "uri" not in url.query:
        Path(str(url.database)).parent.mkdir(parents=True, exist_ok=True)
    engine = sa.create_engine(url, **options)
    sa.event.listen(engine, "connect", _sqlite_settings)
    sa.event.listen(engine, "begin", _sqlite_begin)
    return engine


def is_missing(url: str) -> bool:
    """Whether it is a SQLite file that is not there. Errors: ``StoreError`` where it is no URL."""
    parsed = parsed_url(url)
    in_memory = parsed.database in (None, "", ":memory:") or "uri" in parsed.query
    return parsed.get_backend_name() == "sqlite" and not in_memory and not Path(str(parsed.database)).exists()


def _sqlite_settings(connection: sqlite3.Connection, _: object) -> None:
    """WAL lets others read while one writes. With NORMAL a killed process loses nothing, and a power cut may lose the last
    transactions, never the file: what they said is then found again in the trials' folders."""
    connection.isolation_level = (
        None  # transactions are begun here, not by the driver, which would leave out the schema's
    )
    cursor = connection.cursor()
    until = time.monotonic() + PATIENCE
    while True:
        try:
            cursor.execute("PRAGMA journal_mode=WAL")
            break
        except sqlite3.OperationalError as error:  # SQLite does not wait here, where two open a fresh file at once
            if "locked" not in str(error) or time.monotonic() > until:
                raise
            time.sleep(0.02)
    cursor.execute("PRAGMA synchronous=NORMAL")
    cursor.execute("PRAGMA foreign_keys=ON")
    cursor.close()


def _sqlite_begin(connection: Connection) -> None:
    """A transaction that is going to write takes its lock at once: one that reads first could not get it later."""
    writes = connection.get_execution_options().get(WRITES, False)
    connection.exec_driver_sql("BEGIN IMMEDIATE" if writes else "BEGIN")


# ------------------------------------------------------------------------------------------------------------ migrations
def _migrate(engine: Engine, url: str) -> None:
    with engine.connect() as connection, connection.begin():
        if _revision(connection, url) == REVISION:
            return
    # Alembic takes a third of a second to import, and a store that is up to date does not need it.
    from alembic import command
    from alembic.config import Config

    config = Config()
    config.set_main_option("script_location", "amla.engine:migrations")
    # All in one transaction: a store is of one revision or another, never in between.
    with engine.execution_options(**{WRITES: True}).connect() as connection, connection.begin():
        if engine.dialect.name == "postgresql":
            connection.execute(sa.select(sa.func.pg_advisory_xact_lock(_MIGRATION_LOCK)))
        config.attributes["connection"] = connection
        config.attributes["version_table"] = VERSION_TABLE
        command.upgrade(config, "head")


def _revision(connection: Connection, url: str) -> str | None:
    """The store's revision; None where there is no store yet. Errors: ``StoreError``."""
    names = set(sa.inspect(connection).get_table_names())
    if VERSION_TABLE not in names:
        # A SQLite file belongs to one program; a PostgreSQL database may be shared.
        strangers = names if connection.dialect.name == "sqlite" else names & set(metadata.tables)
        if strangers:
            listed = ", ".join(sorted(strangers)[:3])
            raise StoreError(f"{shown(url)} has tables that are not AMLA's ({listed}); use another --store")
        return None
    version = sa.table(VERSION_TABLE, sa.column("version_num"))
    found = connection.execute(sa.select(version.c.version_num)).scalar()
    if found is not None and str(found) > REVISION:
        raise StoreError(
            f"the store {shown(url)} was made by a newer AMLA (revision {found}, this one knows {REVISION}); "
            "upgrade amla, or use another --store"
        )
    return None if found is None else str(found)
