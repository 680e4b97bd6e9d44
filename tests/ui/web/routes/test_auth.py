"""Signing in, joining and signing out."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

PASSWORD = "correct horse"


@pytest.fixture
def member(state: Any, request: pytest.FixtureRequest) -> str:
    """A labeler with a password, one for each test, because failures count against a name."""
    name = f"member-{abs(hash(request.node.nodeid)) % 10**9}"
    state.accounts.redeem(state.accounts.invite("labeler", by="test"), name, PASSWORD)
    return name


@pytest.fixture
def address(app: Any, request: pytest.FixtureRequest) -> Any:
    """``address(n)``: somebody at the n-th address of this test, because failures count against an address too."""
    from fastapi.testclient import TestClient

    def make(number: int = 0) -> Any:
        host = f"{request.node.nodeid}-{number}"
        return TestClient(app, follow_redirects=False, client=(host, 50000))

    return make


def sign_in(client: Any, name: str, password: str = PASSWORD, **fields: str) -> Any:
    return client.post("/sign-in", data={"name": name, "password": password, **fields})


def test_a_member_signs_in_and_out(address: Any, member: str, state: Any) -> None:
    client = address()
    assert client.get("/").headers["location"] == "/sign-in"
    assert "Sign in" in client.get("/sign-in").text
    answer = sign_in(client, f" {member} ")
    assert (answer.status_code, answer.headers["location"]) == (303, "/label/")
    cookie = answer.headers["set-cookie"]
    assert {"HttpOnly", "Path=/", "SameSite=lax"} <= set(cookie.split("; "))
    assert "Secure" not in cookie
    assert client.get("/").headers["location"] == "/label/"
    assert client.get("/sign-in").headers["location"] == "/label/"
    token = client.cookies["gptsim_session"]
    assert client.post("/sign-out", data={"from": "page"}).headers["location"] == "/sign-in"
    assert "gptsim_session" not in client.cookies
    assert state.accounts.session(token) is None  # a kept copy of the cookie is worth nothing


def test_cookies_stay_on_tls_where_the_app_is_reached_by_it(rollouts: Path, state: Any, member: str) -> None:
    from dataclasses import replace

    from fastapi.testclient import TestClient

    from ui.web.app import build_app

    app = build_app(replace(state, public_url="https://label.example.org"))
    client = TestClient(app, base_url="http://127.0.0.1:7860", follow_redirects=False)
    headers = {"Origin": "https://label.example.org"}  # a proxy in front that doesn't hand the name through
    answer = client.post("/sign-in", data={"name": member, "password": PASSWORD}, headers=headers)
    assert "Secure" in answer.headers["set-cookie"].split("; ")


def test_a_wrong_name_and_a_wrong_password_are_answered_alike(address: Any, member: str) -> None:
    wrong, unknown = sign_in(address(), member, "wrong horse"), sign_in(address(1), "nobody", "wrong horse")
    assert wrong.status_code == unknown.status_code == 401
    assert wrong.text.replace(member, "NAME") == unknown.text.replace("nobody", "NAME")
    assert "set-cookie" not in wrong.headers


@pytest.mark.parametrize(
    "name", ["", "' OR '1'='1", "x'; DROP TABLE accounts; --", "a" * 900, "%", "\u202e", "lena\n", "ada\x00"]
)
def test_strange_names_are_only_wrong(address: Any, state: Any, name: str) -> None:
    assert sign_in(address(), name, "' OR '1'='1").status_code in (401, 422)
    assert state.accounts.accounts()


def test_guessing_is_slowed_down_by_name(address: Any, member: str) -> None:
    statuses = [sign_in(address(number), member, f"guess {number}").status_code for number in range(7)]
    assert statuses == [401] * 5 + [429] * 2
    answer = sign_in(address(9), member)
    assert answer.status_code == 429  # the right password doesn't help now
    assert 1 <= int(answer.headers["retry-after"]) <= 900
    assert "try again in" in answer.text


def test_guessing_is_slowed_down_by_address(address: Any, member: str) -> None:
    statuses = [sign_in(address(), f"name-{number}", "guess").status_code for number in range(22)]
    assert statuses == [401] * 20 + [429] * 2
    assert sign_in(address(1), member).status_code == 303  # elsewhere people still come in


ELSEWHERE = [
    *("https://evil.example", "//evil.example", "/\\evil.example", "javascript:alert(1)", "/label/../../x", "/sign-out"),
    *("%2f%2fx", "/label/\r\nSet-Cookie: a=b", "http:evil.example", "/admin/@evil.example", "/label", " /label/"),
]


@pytest.mark.parametrize("target", ELSEWHERE)
def test_next_leads_to_own_pages_only(address: Any, member: str, labeler: Any, target: str) -> None:
    assert sign_in(address(), member, next=target).headers["location"] == "/label/"
    assert labeler.get("/sign-in", params={"next": target}).headers["location"] == "/label/"


def test_next_leads_back(address: Any, member: str) -> None:
    assert sign_in(address(), member, next="/admin/").headers["location"] == "/admin/"


def test_a_session_given_by_somebody_else_is_not_taken_over(address: Any, member: str, state: Any) -> None:
    client = address()
    client.cookies.set("gptsim_session", "planted")
    sign_in(client, member)
    first = client.cookies.get("gptsim_session", domain="testserver.local")
    assert first not in (None, "planted")
    assert state.accounts.session("planted") is None
    client.cookies.clear()
    client.cookies.set("gptsim_session", first)
    sign_in(client, member)
    assert state.accounts.session(first) is None  # every sign-in begins anew and ends what was there


def test_a_disabled_account_is_out_at_once(address: Any, member: str, state: Any) -> None:
    client = address()
    sign_in(client, member)
    assert client.get("/api/me").status_code == 200
    state.accounts.disable(member)
    assert client.get("/api/me").status_code == 401
    assert sign_in(client, member).status_code == 401


def test_a_demoted_admin_is_out_at_once(person: Any, admin: Any, state: Any) -> None:
    other = person("olga", "admin")
    assert other.get("/admin/config").status_code == 200
    state.accounts.set_role("olga", "labeler")
    assert other.get("/admin/config").status_code == 403


def test_an_invitation_makes_one_account(address: Any, state: Any) -> None:
    token, client = state.accounts.invite("labeler", by="ada"), address()
    for _ in range(2):  # opening the link, as mail programs do, doesn't use it up
        assert 'name="token"' in client.get("/join", params={"token": token}).text
    fields = {"token": token, "name": "ivan", "password": "eight chars", "repeated": "eight chars"}
    answer = client.post("/join", data=fields)
    assert (answer.status_code, answer.headers["location"]) == (303, "/label/")
    assert client.get("/api/me").json()["annotator_id"] == "ivan"
    assert client.get("/admin/config").status_code == 403
    again = address(1).post("/join", data=fields | {"name": "igor"})
    assert again.status_code == 403
    assert "does not work" in again.text
    assert "igor" not in {account.annotator_id for account in state.accounts.accounts()}


def test_a_personal_link_lets_its_owner_in_again(address: Any, member: str, state: Any) -> None:
    token, client = state.accounts.invite("labeler", by="ada", annotator_id=member), address()
    page = client.get("/join", params={"token": token})
    assert member in page.text
    assert 'name="name"' not in page.text
    assert client.post("/join", data={"token": token}).status_code == 303
    assert client.get("/api/me").json()["annotator_id"] == member


@pytest.mark.parametrize(
    ("fields", "sentence"),
    [
        ({"name": "nora", "password": "eight chars", "repeated": "other chars"}, "the two passwords differ"),
        ({"name": "nora", "password": "short", "repeated": "short"}, "8"),
        ({"name": "=cmd|x"}, "a name needs"),
        ({"name": ""}, "a name needs"),
        ({"name": "lena"}, "is taken"),
    ],
)
def test_what_is_wrong_is_said_and_the_link_stays_good(
    visitor: Any, labeler: Any, state: Any, fields: dict[str, str], sentence: str
) -> None:
    token = state.accounts.invite("labeler", by="ada")
    answer = visitor.post("/join", data={"token": token, **fields})
    assert answer.status_code in (409, 422)
    assert sentence in answer.text
    assert 'role="alert"' in answer.text
    assert state.accounts.invitation(token) is not None


@pytest.mark.parametrize("token", ["", "x", "' OR 1=1 --", "../../etc/passwd", "<script>", "a" * 900])
def test_an_invented_invitation_opens_nothing(visitor: Any, token: str) -> None:
    for answer in (visitor.get("/join", params={"token": token}), visitor.post("/join", data={"token": token, "name": "eve"})):
        assert answer.status_code == 403
        assert "<script>" not in answer.text


def test_what_people_type_comes_back_as_text(visitor: Any, state: Any) -> None:
    evil = '"><script>alert(1)</script>'
    token = state.accounts.invite("labeler", by="ada")
    pages = [
        visitor.get("/sign-in", params={"next": evil}),
        visitor.post("/sign-in", data={"name": evil, "password": "x", "next": evil}),
        visitor.post("/join", data={"token": token, "name": evil}),
        visitor.get(f"/{evil}", headers={"Accept": "text/html"}),
        visitor.get("/sign-in/<script>", headers={"Accept": "text/html"}),
    ]
    for page in pages:
        assert "<script" not in page.text
    assert "&lt;script&gt;" in pages[1].text


def test_the_forms_are_labelled(visitor: Any, state: Any) -> None:
    token = state.accounts.invite("labeler", by="ada")
    for page in (visitor.get("/sign-in").text, visitor.get("/join", params={"token": token}).text):
        assert '<html lang="en">' in page
        assert 'name="viewport"' in page
        for field in ("name", "password"):
            assert f'<label for="{field}">' in page and f'id="{field}"' in page
        assert "<script" not in page and " style=" not in page
