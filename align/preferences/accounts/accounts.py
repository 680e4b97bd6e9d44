"""Who may sign in, and as what.

Everything is in the database: sessions and the count of failed sign-ins survive a restart and hold for every web worker.
"""

from __future__ import annotations

import unicodedata
from dataclasses import fields
from datetime import UTC, datetime, timedelta
from typing import Any

from sqlalchemy import delete, func, select, true, update

from align.errors import Conflict, Forbidden, NotFound
from align.preferences.accounts import rows as account_rows
from align.preferences.accounts.passwords import check_password, hash_password, hash_token, make_token
from align.preferences.accounts.rows import NAME, Account, Invitation, Role, clean_name
from align.preferences.accounts.throttle import begin_attempt, end_attempt
from align.preferences.storage.campaign_tables import ACCOUNTS, INVITATIONS, SESSIONS, lock_queue, moment_text, row_of, rows_of
from align.preferences.storage.database import writing
from align.preferences.storage.store import LabelStore

INVITATION_S = 7 * 86400


class Accounts:
    """Accounts, invitations and sessions.

    Args:
        store: The label database they are in.
    """

    def __init__(self, store: LabelStore) -> None:
        self._engine = store.engine

    def invite(self, role: Role, by: str, valid_s: float = INVITATION_S, annotator_id: str | None = None) -> str:
        """Make a token that lets one person in, once; only its hash is stored.

        Args:
            role: What a new account becomes; an existing one keeps its role.
            by: Who invites.
            valid_s: Seconds until it expires.
            annotator_id: Whom it is for: a personal sign-in link. None lets its owner choose a name.
        """
        account_rows.check_role(role)
        now = datetime.now(UTC)
        row = {"role": role, "annotator_id": None if annotator_id is None else clean_name(annotator_id), "created_by": by}
        row |= {"created_at": moment_text(now), "expires_at": moment_text(now + timedelta(seconds=valid_s))}
        token = make_token()
        with writing(self._engine) as connection:
            connection.execute(INVITATIONS.insert(), {**row, "token_hash": hash_token(token)})
        return token

    def invitation(self, token: str) -> Invitation | None:
        """The invitation behind a token that can still be used; looking doesn't use it up."""
        with self._engine.connect() as connection:
            row = account_rows.open_invitation(connection, hash_token(token))
        return None if row is None else Invitation(**{field.name: row[field.name] for field in fields(Invitation)})

    def invitations(self) -> list[Invitation]:
        """All invitations that can still be used, oldest first."""
        query = select(*(INVITATIONS.c[field.name] for field in fields(Invitation)))
        query = query.where(*account_rows.usable_invitations()).order_by(INVITATIONS.c.created_at)
        with self._engine.connect() as connection:
            return [Invitation(**row) for row in rows_of(connection, query)]

    def revoke(self, token_hash: str) -> None:
        """Make an invitation useless; NotFound where it is used, expired or revoked already."""
        key = INVITATIONS.c.token_hash == token_hash
        with writing(self._engine) as connection:
            if connection.execute(delete(INVITATIONS).where(key, *account_rows.usable_invitations())).rowcount == 0:
                raise NotFound("this invitation can't be used any more anyway; refresh the page")

    def redeem(self, token: str, annotator_id: str = "", password: str | None = None) -> Account:
        """Use a token up: make its account, or let its owner in again; a password replaces an older one.

        Args:
            token: From ``invite``.
            annotator_id: The name for a new account; a personal link knows its own.
            password: At least 8 characters; None leaves sign-in to links.

        Raises:
            Forbidden: The token is unknown, used or expired, is somebody else's, or the account is disabled.
            Conflict: The name is taken.
            DataError: The name is no good.
            ValueError: The password is too short or too long.
        """
        key = hash_token(token)
        if self.invitation(token) is None:  # before the work of hashing a password
            raise account_rows.spent_link()
        hashed = None if password is None else hash_password(password)
        with writing(self._engine) as connection:
            row = account_rows.open_invitation(connection, key)
            used = update(INVITATIONS).where(INVITATIONS.c.token_hash == key, INVITATIONS.c.used_at.is_(None))
            if row is None or connection.execute(used.values(used_at=moment_text(None))).rowcount != 1:
                raise account_rows.spent_link()
            name = account_rows.invited_name(row, annotator_id)
            account = account_rows.find_account(connection, name)
            if account is None:
                account_rows.create_account(connection, name, row, hashed)
            elif row["annotator_id"] is None:
                raise Conflict(f"the name {name!r} is taken; choose another one")
            elif account.disabled:
                raise Forbidden("this account is disabled; ask an admin")
            elif hashed is not None:
                account_rows.change_password(connection, name, hashed)
            return account_rows.require_account(connection, name)

    def sign_in(self, name: str, password: str, address: str = "") -> str:
        """Start a session with a password; returns its token.

        Args:
            name: The annotator_id.
            password: As typed.
            address: Where the request comes from; empty where that isn't known.

        Raises:
            TooManyAttempts: There were too many failures under this name or from this address.
            Forbidden: Name and password don't fit; it doesn't say which.
        """
        name = unicodedata.normalize("NFC", name).strip()
        key = hash_token(name)  # people type passwords into the wrong field
        number = begin_attempt(self._engine, key, address[:100])
        known = None
        if NAME.fullmatch(name):
            query = select(ACCOUNTS.c.password_hash, ACCOUNTS.c.disabled).where(ACCOUNTS.c.annotator_id == name)
            with self._engine.connect() as connection:
                known = connection.execute(query).one_or_none()
        fits = check_password(password, None if known is None else known.password_hash)
        if known is None or not fits or known.disabled:
            raise Forbidden("name and password don't fit together")
        with writing(self._engine) as connection:
            end_attempt(connection, number, key)
            return account_rows.start_session(connection, name)

    def start_session(self, annotator_id: str) -> str:
        """Start a session without a password, for who came by a link; returns its token."""
        with writing(self._engine) as connection:
            return account_rows.start_session(connection, annotator_id)

    def session(self, token: str) -> Account | None:
        """Whose session this is; None where it has ended, or the account is disabled."""
        joined = ACCOUNTS.join(SESSIONS, SESSIONS.c.annotator_id == ACCOUNTS.c.annotator_id)
        mine = (SESSIONS.c.token_hash == hash_token(token), SESSIONS.c.expires_at > moment_text(None))
        with self._engine.connect() as connection:
            row = row_of(connection, select(ACCOUNTS).select_from(joined).where(*mine))
        return None if row is None or row["disabled"] else account_rows.account_of(row)

    def sign_out(self, token: str) -> None:
        """End a session."""
        with writing(self._engine) as connection:
            connection.execute(delete(SESSIONS).where(SESSIONS.c.token_hash == hash_token(token)))

    def set_role(self, annotator_id: str, role: Role) -> None:
        """Make somebody an admin or a labeler; the last admin stays one (Conflict).

        Invitations by who is no admin any more are revoked: one of them could lead back in.
        """
        account_rows.check_role(role)
        self._change(annotator_id, role=role)

    def disable(self, annotator_id: str, disabled: bool = True) -> None:
        """Lock somebody out at once, or let them in again; what they labelled stays. Not for the last admin (Conflict).

        Invitations by them and sign-in links for them are revoked.
        """
        self._change(annotator_id, disabled=disabled)

    def set_password(self, annotator_id: str, password: str | None) -> None:
        """Set a password, or with None take it away; every session of the account ends."""
        hashed = None if password is None else hash_password(password)
        with writing(self._engine) as connection:
            account_rows.require_account(connection, annotator_id)
            account_rows.change_password(connection, annotator_id, hashed)

    def accounts(self) -> list[Account]:
        """All accounts, oldest first."""
        query = select(ACCOUNTS).order_by(ACCOUNTS.c.created_at, ACCOUNTS.c.annotator_id)
        with self._engine.connect() as connection:
            return [account_rows.account_of(row) for row in rows_of(connection, query)]

    def _change(self, annotator_id: str, **values: Any) -> None:
        unused = INVITATIONS.c.used_at.is_(None)
        with writing(self._engine) as connection:
            lock_queue(connection)  # two admins who demote each other take turns
            account_rows.require_account(connection, annotator_id)
            connection.execute(update(ACCOUNTS).where(ACCOUNTS.c.annotator_id == annotator_id).values(**values))
            admins = select(func.count()).where(ACCOUNTS.c.role == "admin", ACCOUNTS.c.disabled != true())
            if connection.execute(admins).scalar_one() == 0 and values not in ({"role": "admin"}, {"disabled": False}):
                raise Conflict(f"{annotator_id!r} is the last admin; make somebody else admin first")
            if values.get("disabled"):
                connection.execute(delete(SESSIONS).where(SESSIONS.c.annotator_id == annotator_id))
                connection.execute(delete(INVITATIONS).where(INVITATIONS.c.annotator_id == annotator_id, unused))
            if values in ({"disabled": True}, {"role": "labeler"}):
                connection.execute(delete(INVITATIONS).where(INVITATIONS.c.created_by == annotator_id, unused))
