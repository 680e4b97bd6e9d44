"""A campaign's settings, guidelines and secret, kept in its database so that every web worker sees the same ones."""

from __future__ import annotations

import secrets

from sqlalchemy import Connection, Engine, select, update

from align.errors import DataError
from align.preferences.campaign.schema import Guideline, Settings
from align.preferences.campaign.tasks import requeue
from align.preferences.storage.campaign_tables import GUIDELINES, SETTINGS, lock_queue
from align.preferences.storage.database import writing
from align.preferences.storage.inserting import insert_new
from align.preferences.votes.fields import utc_now

MAX_GUIDELINE_CHARS = 200_000


_SAVED = select(SETTINGS.c.value).where(SETTINGS.c.key == "campaign")


def load_settings(connection: Connection) -> Settings:
    """The settings, or the defaults where none were saved."""
    value = connection.execute(_SAVED).scalar()
    return Settings() if value is None else Settings.model_validate_json(value)


def save_settings(engine: Engine, settings: Settings) -> None:
    """Save the settings and put every task into the queue where they want it."""
    with writing(engine) as connection:
        lock_queue(connection)
        row = {"key": "campaign", "value": settings.model_dump_json(), "updated_at": utc_now()}
        insert_new(connection, SETTINGS, "key", [row])
        connection.execute(update(SETTINGS).where(SETTINGS.c.key == "campaign").values(**row))
        requeue(connection, settings)


def load_secret(engine: Engine) -> bytes:
    """32 random bytes, drawn once in the life of the database."""
    query = select(SETTINGS.c.value).where(SETTINGS.c.key == "secret")
    with engine.connect() as connection:
        value = connection.execute(query).scalar()
    if value is None:
        with writing(engine) as connection:
            row = {"key": "secret", "value": secrets.token_hex(32), "updated_at": utc_now()}
            insert_new(connection, SETTINGS, "key", [row])
            value = connection.execute(query).scalar_one()  # another worker may have been faster
    return bytes.fromhex(value)


def load_guideline(engine: Engine, version: str | None = None) -> Guideline | None:
    """A version of the guideline, by default the newest; None where there is none."""
    query = select(GUIDELINES.c.version, GUIDELINES.c.body).order_by(GUIDELINES.c.row_id.desc()).limit(1)
    if version is not None:
        query = query.where(GUIDELINES.c.version == version)
    with engine.connect() as connection:
        row = connection.execute(query).one_or_none()
    return None if row is None else Guideline(version=row.version, body=row.body)


def publish_guideline(engine: Engine, body: str, by: str) -> str:
    """Publish a text as the next version, ``1``, ``2``, …; the newest text once more is no new version.

    Raises:
        DataError: The text is empty, far too long, or holds a character that databases refuse.
    """
    if not body.strip() or "\x00" in body or len(body) > MAX_GUIDELINE_CHARS:
        raise DataError(f"a guideline needs 1 to {MAX_GUIDELINE_CHARS} characters, none of them NUL")
    newest = select(GUIDELINES.c.version, GUIDELINES.c.body).order_by(GUIDELINES.c.row_id.desc()).limit(1)
    with writing(engine, bulk=True) as connection:
        row = connection.execute(newest).one_or_none()
        if row is not None and row.body == body:
            return str(row.version)
        version = str(int(row.version) + 1 if row is not None else 1)
        values = {"version": version, "body": body, "created_at": utc_now(), "created_by": by}
        connection.execute(GUIDELINES.insert(), values)
    return version
