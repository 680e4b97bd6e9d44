"""A brake on guessing passwords: failures are counted by name and by address, in the database.

An attempt is counted before the password is looked at, and taken back if it was right. So of a hundred guesses that arrive
together no more are looked at than of a hundred in a row.
"""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

from sqlalchemy import Column, Connection, Engine, delete, func, select, text

from align.errors import TooManyAttempts
from align.preferences.storage.campaign_tables import FAILURES, moment_text
from align.preferences.storage.database import writing

WINDOW = timedelta(minutes=15)
MAX_BY_NAME = 5
MAX_BY_ADDRESS = 20
LOCK = 0x67707475


def begin_attempt(engine: Engine, name: str, address: str, now: datetime | None = None) -> int:
    """Count an attempt to sign in as a failure for now; returns its number, for ``end_attempt``.

    Raises:
        TooManyAttempts: There were too many failures under this name or (where it is known) from this address.
    """
    moment = datetime.now(UTC) if now is None else now
    with writing(engine) as connection:
        if connection.dialect.name == "postgresql":
            connection.execute(text(f"SELECT pg_advisory_xact_lock({LOCK})"))
        connection.execute(delete(FAILURES).where(FAILURES.c.at <= moment_text(moment - WINDOW)))
        _refuse_many(connection, FAILURES.c.name, name, MAX_BY_NAME, moment)
        if address:
            _refuse_many(connection, FAILURES.c.address, address, MAX_BY_ADDRESS, moment)
        row = {"name": name, "address": address, "at": moment_text(moment)}
        return int(connection.execute(FAILURES.insert().returning(FAILURES.c.row_id), row).scalar_one())


def end_attempt(connection: Connection, number: int, name: str) -> None:
    """The password was right: forget this attempt and the failures under this name (those from the address stay)."""
    connection.execute(delete(FAILURES).where((FAILURES.c.row_id == number) | (FAILURES.c.name == name)))


def _refuse_many(connection: Connection, column: Column[str], value: str, most: int, moment: datetime) -> None:
    query = select(func.count(), func.min(FAILURES.c.at)).where(column == value)
    count, oldest = connection.execute(query).one()
    if count >= most:
        wait = datetime.fromisoformat(oldest) + WINDOW - moment
        raise TooManyAttempts(max(1, int(wait.total_seconds()) + 1))
