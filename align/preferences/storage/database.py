"""Opening a label database: SQLite in a file or PostgreSQL, at the newest schema.

SQLite runs in WAL mode with ``synchronous=FULL``: whoever was told "stored" finds the row after a power cut. A writing
transaction begins with BEGIN IMMEDIATE, so that writers wait for each other instead of failing half-way.
"""

from __future__ import annotations

import sqlite3
import threading
import time
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from pathlib import Path
from weakref import WeakKeyDictionary

from alembic import command
from alembic.config import Config
from alembic.migration import MigrationContext
from alembic.script import ScriptDirectory
from sqlalchemy import Connection, Engine, create_engine, event, make_url, text
from sqlalchemy.engine.url import URL
from sqlalchemy.exc import ArgumentError, DBAPIError

from align.errors import DataError, MissingExtra

VERSION_TABLE = "gptsim_schema_version"
MIGRATIONS = Path(__file__).parent / "migrations"
LOCK_WAIT_S = 60.0
"""How long a writer waits for other writers before it gives up with an error."""
POSTGRES_LOCK = 0x67707473
_alembic_lock = threading.Lock()  # Alembic keeps its context in a module global.
_turns: WeakKeyDictionary[Engine, threading.Lock] = WeakKeyDictionary()


def open_engine(url: str) -> Engine:
    """Connect to a database and bring its schema to head.

    Args:
        url: SQLAlchemy URL, ``sqlite:///labels.db`` or ``postgresql+psycopg://user:password@host/name``.

    Raises:
        DataError: The URL is no good, the database can't be reached, isn't one, or is newer than this code.
        MissingExtra: PostgreSQL is asked for and psycopg isn't installed.
    """
    parsed = _parse_url(url)
    shown = parsed.render_as_string(hide_password=True)
    engine = _make_engine(parsed)
    try:
        if engine.dialect.name == "sqlite":
            _use_wal(engine)
        else:
            _check_durable(engine, shown)
        _migrate(engine, shown)
    except BaseException as error:
        engine.dispose()
        if isinstance(error, DBAPIError | sqlite3.Error):
            cause = error.orig if isinstance(error, DBAPIError) else error
            raise DataError(f"the label database {shown} can't be opened: {str(cause).strip()}") from error
        raise
    return engine


@contextmanager
def writing(engine: Engine, bulk: bool = False) -> Iterator[Connection]:
    """A transaction that writes: committed, and durable, when the block ends; rolled back when it raises.

    Args:
        engine: What ``open_engine`` returned.
        bulk: Many rows are written. Under PostgreSQL, bulk writers take turns: two that insert the same rows in another order
            would otherwise wait for each other in a circle. SQLite's writers always take turns.
    """
    with _turn(engine), engine.connect() as connection:
        connection = connection.execution_options(gptsim_writes=True)
        with connection.begin():
            if bulk and engine.dialect.name == "postgresql":
                connection.execute(text(f"SELECT pg_advisory_xact_lock({POSTGRES_LOCK})"))
            yield connection


def _turn(engine: Engine) -> AbstractContextManager[object]:
    """Lets the threads of one process write to SQLite one after the other.

    SQLite itself lets waiting writers sleep and try again, up to a tenth of a second at a time, and whoever comes new goes
    first. Between processes it still does that.
    """
    return _turns.setdefault(engine, threading.Lock()) if engine.dialect.name == "sqlite" else nullcontext()


def _parse_url(url: str) -> URL:
    try:
        parsed = make_url(url)
    except ArgumentError:
        raise DataError(f"{url!r} is not a database URL; write for example sqlite:///labels.db") from None
    backend = parsed.get_backend_name()
    if backend not in ("sqlite", "postgresql"):
        raise DataError(f"labels can't be kept in {backend!r}; use sqlite:///labels.db or postgresql+psycopg://user@host/name")
    if backend == "sqlite" and parsed.database in (None, "", ":memory:"):
        raise DataError("an in-memory database would lose the labels; name a file, for example sqlite:///labels.db")
    if backend == "sqlite" and not Path(str(parsed.database)).absolute().parent.is_dir():
        raise DataError(f"the folder of the label database {parsed.database} does not exist; create it first")
    return parsed


def _make_engine(url: URL) -> Engine:
    if url.get_backend_name() == "postgresql":
        if url.drivername == "postgresql":
            url = url.set(drivername="postgresql+psycopg")
        try:
            return create_engine(url, pool_pre_ping=True)
        except ModuleNotFoundError as error:
            raise MissingExtra(str(error.name), "postgres") from error
    engine = create_engine(url, connect_args={"timeout": LOCK_WAIT_S})
    event.listen(engine, "connect", _prepare_sqlite)
    event.listen(engine, "begin", _begin_sqlite)
    return engine


def _prepare_sqlite(dbapi_connection: sqlite3.Connection, _record: object) -> None:
    dbapi_connection.isolation_level = None  # sqlite3's own implicit BEGIN comes too late and is never IMMEDIATE
    dbapi_connection.execute("PRAGMA synchronous=FULL")
    dbapi_connection.execute("PRAGMA foreign_keys=ON")


def _begin_sqlite(connection: Connection) -> None:
    writes = connection.get_execution_options().get("gptsim_writes", False)
    connection.exec_driver_sql("BEGIN IMMEDIATE" if writes else "BEGIN")


def _use_wal(engine: Engine) -> None:
    # Switching to WAL doesn't honour the busy timeout, so two processes that create a database together must retry.
    deadline = time.monotonic() + LOCK_WAIT_S
    raw = engine.raw_connection()
    try:
        while True:
            try:
                mode = raw.cursor().execute("PRAGMA journal_mode=WAL").fetchone()[0]
                break
            except sqlite3.OperationalError as error:
                if "locked" not in str(error) or time.monotonic() > deadline:
                    raise
                time.sleep(0.02)
    finally:
        raw.close()
    if mode != "wal":
        raise DataError(f"the file system under {engine.url.database} does not support SQLite's WAL mode; use a local disk")


def _check_durable(engine: Engine, shown: str) -> None:
    with engine.connect() as connection:
        off = [name for name in ("fsync", "synchronous_commit") if connection.execute(text(f"SHOW {name}")).scalar() == "off"]
    if off:
        raise DataError(f"the label database {shown} may lose what it has acknowledged; set {' and '.join(off)} to on there")


def _migrate(engine: Engine, shown: str) -> None:
    config = Config()
    config.set_main_option("script_location", str(MIGRATIONS).replace("%", "%%"))
    script = ScriptDirectory.from_config(config)
    with engine.connect() as connection:
        current = _revision(connection)
    if current == script.get_current_head():
        return
    known = {revision.revision for revision in script.walk_revisions()}
    with _alembic_lock, writing(engine, bulk=True) as connection:
        current = _revision(connection)  # another process may have migrated meanwhile
        if current is not None and current not in known:
            raise DataError(
                f"the label database {shown} is at schema {current}, newer than this gptsim-align knows; "
                "run: pip install -U gptsim-align"
            )
        config.attributes.update(connection=connection, version_table=VERSION_TABLE)
        command.upgrade(config, "head")


def _revision(connection: Connection) -> str | None:
    return MigrationContext.configure(connection, opts={"version_table": VERSION_TABLE}).get_current_revision()
