"""Rows of accounts, invitations and sessions, within a transaction that ``align.preferences.accounts.accounts`` opened."""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any, Literal

from sqlalchemy import Connection, delete, select, update
from sqlalchemy.exc import IntegrityError

from align.errors import Conflict, DataError, Forbidden, NotFound
from align.preferences.accounts.passwords import hash_token, make_token
from align.preferences.storage.campaign_tables import ACCOUNTS, INVITATIONS, SESSIONS, moment_text, row_of
from align.preferences.storage.inserting import insert_new
from align.preferences.storage.store import ANNOTATORS

Role = Literal["labeler", "admin"]
ROLES: tuple[Role, ...] = ("labeler", "admin")
SESSION_S = 30 * 86400
NAME = re.compile(r"\w(?:[\w .@'-]{0,62}[\w.])?")


@dataclass(frozen=True)
class Account:
    """An annotator who may sign in."""

    annotator_id: str
    role: Role
    disabled: bool
    has_password: bool
    created_at: str


@dataclass(frozen=True)
class Invitation:
    """A link that lets one person in, once.

    Attributes:
        token_hash: What is stored of its token; nobody gets in with it.
        annotator_id: Whom it is for; None where its owner chooses a name.
    """

    token_hash: str
    role: Role
    annotator_id: str | None
    created_by: str
    created_at: str
    expires_at: str


def clean_name(name: str) -> str:
    """A name as an annotator_id.

    Raises:
        DataError: It is empty, too long, or has characters that names don't have (formulas in spreadsheets begin with some).
    """
    name = unicodedata.normalize("NFC", name).strip()
    if not NAME.fullmatch(name):
        raise DataError(
            "a name needs 1 to 64 letters, digits, spaces or any of . @ ' - _, and begins and ends with a letter or digit"
        )
    return name


def check_role(role: str) -> None:
    """Raise ValueError for what is no role."""
    if role not in ROLES:
        raise ValueError(f"role must be one of {', '.join(ROLES)}, got {role!r}")


def usable_invitations() -> tuple[Any, ...]:
    """The conditions on an invitation that can still be used."""
    return INVITATIONS.c.used_at.is_(None), INVITATIONS.c.expires_at > moment_text(None)


def open_invitation(connection: Connection, key: str) -> dict[str, Any] | None:
    """The invitation with this token hash, if it can still be used."""
    return row_of(connection, select(INVITATIONS).where(INVITATIONS.c.token_hash == key, *usable_invitations()))


def spent_link() -> Forbidden:
    """The error for a token that can't be used; it doesn't say why, which would help a guesser."""
    return Forbidden("this link is unknown, used or expired; ask for a new one")


def invited_name(invitation: Mapping[str, Any], name: str) -> str:
    """Who uses an invitation: its own name, or else the one that was typed."""
    own = invitation["annotator_id"]
    if own is None or not name.strip():
        return clean_name(own or name)
    if clean_name(name) != own:
        raise Forbidden("this link is for somebody else")
    return str(own)


def create_account(connection: Connection, name: str, invitation: Mapping[str, Any], hashed: str | None) -> None:
    """Make the account that an invitation is for; Conflict where the name is somebody else's."""
    known = connection.execute(select(ANNOTATORS.c.simulated).where(ANNOTATORS.c.annotator_id == name)).scalar()
    # Votes under this name came in without an account. Only an admin who names the person can say that they are theirs.
    if known is not None and (known or invitation["annotator_id"] is None):
        raise Conflict(f"the name {name!r} is taken; choose another one")
    insert_new(connection, ANNOTATORS, "annotator_id", [{"annotator_id": name, "simulated": False}])
    row = {"annotator_id": name, "role": invitation["role"], "password_hash": hashed, "disabled": False}
    try:
        connection.execute(ACCOUNTS.insert(), {**row, "created_at": moment_text(None)})
    except IntegrityError:  # under PostgreSQL another invitation may have made it in this moment
        raise Conflict(f"the name {name!r} is taken; choose another one") from None


def find_account(connection: Connection, name: str) -> Account | None:
    """The account of this name, or None."""
    row = row_of(connection, select(ACCOUNTS).where(ACCOUNTS.c.annotator_id == name))
    return None if row is None else account_of(row)


def require_account(connection: Connection, name: str) -> Account:
    """The account of this name; NotFound where there is none."""
    account = find_account(connection, name)
    if account is None:
        raise NotFound(f"there is no account {name!r}")
    return account


def account_of(row: Mapping[str, Any]) -> Account:
    """From a row of the table."""
    return Account(row["annotator_id"], row["role"], row["disabled"], row["password_hash"] is not None, row["created_at"])


def start_session(connection: Connection, name: str) -> str:
    """Start a session and drop expired ones; returns its token. Forbidden where the account is disabled."""
    if require_account(connection, name).disabled:
        raise Forbidden("this account is disabled; ask an admin")
    now, token = datetime.now(UTC), make_token()
    connection.execute(delete(SESSIONS).where(SESSIONS.c.expires_at <= moment_text(now)))
    row = {"token_hash": hash_token(token), "annotator_id": name, "created_at": moment_text(now)}
    connection.execute(SESSIONS.insert(), {**row, "expires_at": moment_text(now + timedelta(seconds=SESSION_S))})
    return token


def change_password(connection: Connection, name: str, hashed: str | None) -> None:
    """Store a password's hash (or None) and end every session of the account."""
    connection.execute(update(ACCOUNTS).where(ACCOUNTS.c.annotator_id == name).values(password_hash=hashed))
    connection.execute(delete(SESSIONS).where(SESSIONS.c.annotator_id == name))
