from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from sqlalchemy import text

from align.errors import Conflict, DataError, Forbidden, NotFound, TooManyAttempts
from align.preferences.accounts import Accounts, clean_name, passwords, throttle
from align.preferences.accounts import accounts as accounts_module
from align.preferences.storage.store import LabelStore

PASSWORD = "correct horse"


@pytest.fixture(autouse=True)
def cheap_hashes(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(passwords, "LOG2_N", 4)
    monkeypatch.setattr(passwords, "P", 1)


@pytest.fixture
def accounts(store: LabelStore) -> Accounts:
    return Accounts(store)


@pytest.fixture
def join(accounts: Accounts) -> Callable[..., Any]:
    def make(name: str, role: str = "labeler", password: str | None = PASSWORD) -> Any:
        return accounts.redeem(accounts.invite(role, "root"), name, password)  # type: ignore[arg-type]

    return make


def everything(store: LabelStore) -> str:
    """All cells of all tables, as text."""
    with store.engine.connect() as connection:
        names = ("accounts", "invitations", "sessions", "sign_in_failures", "annotators")
        return "\n".join(str(connection.execute(text(f"SELECT * FROM {name}")).all()) for name in names)


def test_an_invitation_makes_one_account(accounts: Accounts, store: LabelStore) -> None:
    token = accounts.invite("admin", "root")
    waiting = accounts.invitation(token)
    assert waiting is not None
    assert (waiting.role, waiting.annotator_id, waiting.created_by) == ("admin", None, "root")
    assert accounts.invitations() == [waiting]
    account = accounts.redeem(token, " Zoë ", PASSWORD)
    assert (account.annotator_id, account.role, account.disabled, account.has_password) == ("Zoë", "admin", False, True)
    assert accounts.accounts() == [account]
    assert accounts.invitations() == []
    assert accounts.invitation(token) is None
    with pytest.raises(Forbidden, match="unknown, used or expired"):
        accounts.redeem(token, "Bob", PASSWORD)
    assert store.annotators() == {"Zoë": False}


def test_an_invitation_is_used_once_however_many_try(accounts: Accounts) -> None:
    token = accounts.invite("labeler", "root")

    def use(number: int) -> int:
        try:
            accounts.redeem(token, f"ann{number}")
        except Forbidden:
            return 0
        return 1

    with ThreadPoolExecutor(8) as pool:
        assert sum(pool.map(use, range(8))) == 1
    assert len(accounts.accounts()) == 1


def test_a_failed_attempt_leaves_the_invitation_good(accounts: Accounts, join, make_vote, store: LabelStore) -> None:
    join("ann")
    store.add_votes([make_vote("v1", annotator_id="imported"), make_vote("v2", annotator_id="robot", simulated=True)])
    token = accounts.invite("labeler", "root")
    for taken in ("ann", "imported", "robot"):  # nobody takes over somebody else's votes
        with pytest.raises(Conflict, match="is taken; choose another one"):
            accounts.redeem(token, taken, PASSWORD)
    with pytest.raises(ValueError, match="a password needs 8 to 1000 characters, got 5"):
        accounts.redeem(token, "bob", "short")
    for bad in ("", "=1+1", "-x", "@x", "a\nb", "a" * 65, "<b>", "a\x00"):
        with pytest.raises(DataError, match="a name needs"):
            accounts.redeem(token, bad, PASSWORD)
    assert accounts.redeem(token, "bob", PASSWORD).annotator_id == "bob"


def test_expired_and_unknown_links_are_refused(accounts: Accounts) -> None:
    token = accounts.invite("labeler", "root", valid_s=-1)
    for bad in (token, "x", "", "\ud800"):
        assert accounts.invitation(bad) is None
        with pytest.raises(Forbidden, match="unknown, used or expired"):
            accounts.redeem(bad, "ann", PASSWORD)
    with pytest.raises(ValueError, match="role must be one of labeler, admin, got 'root'"):
        accounts.invite("root", "root")  # type: ignore[arg-type]


def test_a_personal_link_lets_its_owner_in_and_nobody_else(accounts: Accounts, join, make_vote, store: LabelStore) -> None:
    join("ann", "admin")
    join("bob", "labeler")
    token = accounts.invite("admin", "root", annotator_id="bob")
    with pytest.raises(Forbidden, match="for somebody else"):
        accounts.redeem(token, "ann")
    again = accounts.redeem(token)
    assert (again.annotator_id, again.role, again.has_password) == ("bob", "labeler", True)
    assert accounts.sign_in("bob", PASSWORD)
    accounts.redeem(accounts.invite("labeler", "root", annotator_id="bob"), "bob", "another password")
    with pytest.raises(Forbidden):
        accounts.sign_in("bob", PASSWORD)
    accounts.disable("bob")
    with pytest.raises(Forbidden, match="disabled"):
        accounts.redeem(accounts.invite("labeler", "root", annotator_id="bob"))
    store.add_vote(make_vote(annotator_id="imported"))
    assert accounts.redeem(accounts.invite("labeler", "root", annotator_id="imported")).annotator_id == "imported"


def test_a_revoked_invitation_lets_nobody_in(accounts: Accounts, join) -> None:
    token, other = accounts.invite("labeler", "root"), accounts.invite("admin", "root")
    waiting = next(item for item in accounts.invitations() if item.role == "labeler")
    accounts.revoke(waiting.token_hash)
    assert accounts.invitation(token) is None
    with pytest.raises(Forbidden, match="unknown, used or expired"):
        accounts.redeem(token, "ann")
    accounts.redeem(other, "bob")
    for gone in (waiting.token_hash, passwords.hash_token(other), token, "x"):  # revoked, used, and no hash at all
        with pytest.raises(NotFound, match="can't be used any more"):
            accounts.revoke(gone)
    expired = accounts.invite("labeler", "root", valid_s=-1)
    with pytest.raises(NotFound):
        accounts.revoke(passwords.hash_token(expired))
    assert [account.annotator_id for account in accounts.accounts()] == ["bob"]


@pytest.mark.parametrize("disables", [True, False])
def test_who_loses_their_rights_has_no_way_back_in(accounts: Accounts, join, disables: bool) -> None:
    join("root", "admin")
    join("eve", "admin")
    back_doors = [accounts.invite("admin", "eve"), accounts.invite("admin", "eve", annotator_id="mallory")]
    to_eve, others = accounts.invite("admin", "root", annotator_id="eve"), accounts.invite("labeler", "root")
    accounts.redeem(accounts.invite("labeler", "eve"), "ann")
    if disables:
        accounts.disable("eve")
    else:
        accounts.set_role("eve", "labeler")
    assert [accounts.invitation(token) for token in back_doors] == [None, None]
    assert accounts.invitation(others) is not None
    assert (accounts.invitation(to_eve) is None) == disables  # a labeler may still sign in
    accounts.disable("eve", False)
    assert [account.annotator_id for account in accounts.accounts()] == ["root", "eve", "ann"]


def test_sessions_survive_a_restart_until_they_end(store_url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    with LabelStore(store_url) as store:
        first = Accounts(store)
        first.redeem(first.invite("labeler", "root"), "ann", PASSWORD)
        token, other = first.sign_in("ann", PASSWORD, "10.0.0.1"), first.start_session("ann")
    with LabelStore(store_url) as store:
        accounts = Accounts(store)
        for known in (token, other):
            account = accounts.session(known)
            assert account is not None
            assert account.annotator_id == "ann"
        accounts.sign_out(token)
        assert accounts.session(token) is None
        assert accounts.session(other) is not None
        assert [accounts.session(bad) for bad in ("", "x", "\ud800\x00")] == [None] * 3
        monkeypatch.setattr("align.preferences.accounts.rows.SESSION_S", -1)
        assert accounts.session(accounts.start_session("ann")) is None
        with pytest.raises(NotFound, match="no account 'bob'"):
            accounts.start_session("bob")


def test_disabling_and_a_new_password_end_sessions(accounts: Accounts, join) -> None:
    join("root", "admin")
    join("ann")
    token = accounts.sign_in("ann", PASSWORD)
    accounts.disable("ann")
    assert accounts.session(token) is None
    for refused in (lambda: accounts.sign_in("ann", PASSWORD), lambda: accounts.start_session("ann")):
        with pytest.raises(Forbidden):
            refused()
    accounts.disable("ann", False)
    assert accounts.session(token) is None
    token = accounts.sign_in("ann", PASSWORD)
    accounts.set_password("ann", "something else")
    assert accounts.session(token) is None
    assert accounts.sign_in("ann", "something else")
    accounts.set_password("ann", None)
    with pytest.raises(Forbidden):
        accounts.sign_in("ann", "something else")
    with pytest.raises(NotFound):
        accounts.set_password("bob", PASSWORD)


def test_the_last_admin_stays(accounts: Accounts, join) -> None:
    join("ann", "admin")
    join("bob", "admin")
    accounts.disable("bob")
    for refused in (lambda: accounts.disable("ann"), lambda: accounts.set_role("ann", "labeler")):
        with pytest.raises(Conflict, match="'ann' is the last admin"):
            refused()
    accounts.disable("bob", False)
    accounts.set_role("ann", "labeler")
    assert [account.role for account in accounts.accounts()] == ["labeler", "admin"]
    with pytest.raises(NotFound, match="no account 'cay'"):
        accounts.set_role("cay", "admin")
    with pytest.raises(ValueError, match="role must be one of"):
        accounts.set_role("ann", "owner")  # type: ignore[arg-type]


def test_nothing_secret_is_stored(accounts: Accounts, join, store: LabelStore) -> None:
    token = accounts.invite("labeler", "root")
    accounts.redeem(token, "ann", PASSWORD)
    session = accounts.sign_in("ann", PASSWORD)
    with pytest.raises(Forbidden):
        accounts.sign_in("my password by mistake", "x")
    cells = everything(store)
    assert "ann" in cells
    assert not any(secret in cells for secret in (token, session, PASSWORD, "my password by mistake"))


def test_guessing_is_slowed_down_by_name_and_address(accounts: Accounts, join, store_url: str) -> None:
    join("ann")
    join("bob")
    for _ in range(throttle.MAX_BY_NAME):
        with pytest.raises(Forbidden, match="don't fit together"):
            accounts.sign_in("ann", "wrong", "10.0.0.1")
    with pytest.raises(TooManyAttempts, match="try again in") as caught:
        accounts.sign_in("ann", PASSWORD, "10.0.0.2")  # the right password doesn't help either
    assert 1 <= caught.value.retry_after_s <= 15 * 60 + 1
    assert accounts.sign_in("bob", PASSWORD, "10.0.0.1")
    for number in range(throttle.MAX_BY_ADDRESS - throttle.MAX_BY_NAME):
        with pytest.raises(Forbidden, match="don't fit together"):
            accounts.sign_in(f"guess{number}", "wrong", "10.0.0.1")
    with LabelStore(store_url) as reopened, pytest.raises(TooManyAttempts):  # a restart doesn't help
        Accounts(reopened).sign_in("bob", PASSWORD, "10.0.0.1")
    assert accounts.sign_in("bob", PASSWORD, "10.0.0.3")


def test_failures_are_forgotten_with_time_and_success(accounts: Accounts, join, store: LabelStore) -> None:
    join("ann")
    start = datetime.now(UTC)
    for _ in range(throttle.MAX_BY_NAME):
        throttle.begin_attempt(store.engine, "somebody", "", start)
    with pytest.raises(TooManyAttempts) as caught:
        throttle.begin_attempt(store.engine, "somebody", "", start + timedelta(minutes=10))
    assert caught.value.retry_after_s == 301
    throttle.begin_attempt(store.engine, "somebody", "", start + timedelta(minutes=15))
    for _ in range(3):
        for _ in range(throttle.MAX_BY_NAME - 1):
            with pytest.raises(Forbidden):
                accounts.sign_in("ann", "wrong")
        assert accounts.sign_in("ann", PASSWORD)


def test_guesses_at_once_are_no_more_than_guesses_in_a_row(accounts: Accounts, join, monkeypatch: pytest.MonkeyPatch) -> None:
    join("ann")
    looked: list[str] = []
    monkeypatch.setattr(accounts_module, "check_password", lambda password, stored: bool(looked.append(password)))

    def guess(number: int) -> None:
        with pytest.raises(Forbidden):
            accounts.sign_in("ann", f"guess{number}")

    with ThreadPoolExecutor(8) as pool:
        list(pool.map(guess, range(20)))
    assert len(looked) == throttle.MAX_BY_NAME


def test_unknown_names_cost_as_much_work_as_known_ones(monkeypatch: pytest.MonkeyPatch) -> None:
    hashed: list[str] = []
    scrypt = passwords._scrypt

    def count(password: str, *rest: Any) -> bytes:
        hashed.append(password)
        return scrypt(password, *rest)

    stored = passwords.hash_password(PASSWORD)
    monkeypatch.setattr(passwords, "_scrypt", count)
    assert passwords.check_password(PASSWORD, stored)
    assert not passwords.check_password("wrong", stored)
    assert not passwords.check_password("wrong", None)
    assert hashed == [PASSWORD, "wrong", "wrong"]


def test_hashes_have_salt_and_say_their_cost() -> None:
    first, second = passwords.hash_password(PASSWORD), passwords.hash_password(PASSWORD)
    assert first != second
    assert first.startswith("scrypt$4$8$1$")
    assert not passwords.check_password("x" * 2000, first)
    assert len({passwords.make_token() for _ in range(50)}) == 50
    assert len(passwords.make_token()) == 43  # 32 bytes in base64


@pytest.mark.parametrize("name", ["ann", "Zoë O'Neil", "李雷", "a.b@c.org", "x" * 64, "7"])
def test_names_of_the_world_are_names(name: str) -> None:
    assert clean_name(f" {name} ") == name


@pytest.mark.parametrize("name", ["' OR 1=1 --", "x'; DROP TABLE accounts; --", "\x00", "\ud800"])
def test_odd_names_are_only_wrong(accounts: Accounts, join, name: str) -> None:
    join("ann")
    with pytest.raises(Forbidden, match="don't fit together"):
        accounts.sign_in(name, name, "10.0.0.1")
    assert len(accounts.accounts()) == 1
