"""Nobody gets in where they don't belong, and every refusal is a clear status."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Any

import pytest
from starlette.routing import Mount

PUBLIC = {"/", "/sign-in", "/join", "/sign-out", "/healthz", "/favicon.ico", "/manifest.json"}
JSON = {"X-Gptsim": "1", "Content-Type": "application/json"}


def every_route(routes: Any, prefix: str = "") -> Iterator[tuple[str, str]]:
    """Method and path of every route, Gradio's included, with parameters filled in."""
    for route in routes:
        path = prefix + re.sub(r"\{[^}]*\}", "1", getattr(route, "path", ""))
        if hasattr(route, "original_router"):
            yield from every_route(route.original_router.routes, prefix)
        if isinstance(route, Mount):
            yield from every_route(route.routes, prefix + route.path)
        for method in getattr(route, "methods", None) or ():
            yield method, path


def ask(client: Any, method: str, path: str) -> Any:
    return client.request(method, path, headers=JSON, content=b"{}" if method == "POST" else None)


def test_every_route_but_the_public_ones_wants_a_signed_in_person(app: Any, visitor: Any) -> None:
    asked = {(method, path) for method, path in every_route(app.routes) if path not in PUBLIC and path != "/static"}
    assert len(asked) > 100  # Gradio brings most of them
    assert {ask(visitor, *pair).status_code for pair in asked} == {401}


def test_every_route_below_admin_is_closed_to_labelers(app: Any, labeler: Any) -> None:
    asked = {(method, path) for method, path in every_route(app.routes) if path.startswith("/admin")}
    assert len(asked) > 50
    assert {ask(labeler, *pair).status_code for pair in asked} == {403}


def test_people_get_a_page_and_programs_get_json(visitor: Any, labeler: Any) -> None:
    page = {"Accept": "text/html,*/*"}
    assert visitor.get("/label/", headers=page).headers["location"] == "/sign-in?next=/label/"
    assert visitor.get("/label/").json() == {"error": "sign in first"}
    refused = labeler.get("/admin/", headers=page)
    assert refused.status_code == 403
    assert "for admins" in refused.text
    assert "text/html" in refused.headers["content-type"]
    assert labeler.get("/api/nothing", headers=page).json() == {"error": "there is nothing at this address"}


@pytest.mark.parametrize(
    "path",
    ["gradio_api/upload", "gradio_api/queue/join", "gradio_api/run/x", "gradio_api/component_server", "gradio_api/vibe-edit",
     "gradio_api/process_recording", "gradio_api/call/x", "login", "gradio_api/cancel"],
)  # fmt: skip
def test_labelers_have_none_of_gradios_calls(labeler: Any, path: str) -> None:
    assert ask(labeler, "POST", f"/label/{path}").status_code == 404


@pytest.mark.parametrize("path", ["monitoring", "gradio_api/vibe-code", "gradio_api/dev/reload", "gradio_api/runs", "logout"])
def test_even_admins_have_only_those_of_gradios_routes_that_pages_need(admin: Any, path: str) -> None:
    assert admin.get(f"/admin/{path}").status_code == 404


def test_gradio_serves_no_file_of_this_machine(admin: Any, labeler: Any, rollouts: Any) -> None:
    table, video = rollouts / "metadata.parquet", next((rollouts / "videos").iterdir())
    wanted = ["/etc/passwd", "../../../../../../etc/passwd", "..%2f..%2f..%2fetc%2fpasswd", str(table), str(video)]
    wanted += [str(rollouts.parent / "labels.db"), "setup.py", "ui/web/app.py", "/proc/self/environ", "C:/x"]
    for name in wanted:
        for route in ("file=", "file/", "proxy=", "static/", "assets/"):
            prefix = "" if route in ("static/", "assets/") else "gradio_api/"
            assert admin.get(f"/admin/{prefix}{route}{name}").status_code in (403, 404), (route, name)
            assert labeler.get(f"/label/{prefix}{route}{name}").status_code in (403, 404), (route, name)
    assert admin.get("/admin/gradio_api/file=http://127.0.0.1:1/x").status_code == 404
    assert admin.get("/admin/gradio_api/file=file:///etc/passwd").status_code == 404


def test_admins_get_their_page_and_labelers_theirs(admin: Any, labeler: Any) -> None:
    for client, path in ((admin, "/admin/"), (admin, "/label/"), (labeler, "/label/")):
        page = client.get(path)
        assert page.status_code == 200
        assert "gradio" in page.text
        assert client.get(f"{path}config").status_code == 200
        assert client.get(path.rstrip("/")).headers["location"] == path


@pytest.mark.parametrize("path", ["/admin/config", "/admin/gradio_api/info", "/api/me", "/label/"])
def test_a_bent_host_header_opens_nothing(visitor: Any, labeler: Any, path: str) -> None:
    for host in ("x/static/", "x/sign-in?", "x/healthz#", "x@y/static/.."):
        assert visitor.get(path, headers={"Host": host}).status_code == 401
        if path.startswith("/admin"):
            assert labeler.get(path, headers={"Host": host}).status_code == 403


BENT = [
    *("http://testserver//admin/", "/admin//config", "/static/../admin/config", "/static/%2e%2e/admin/config"),
    *("/admin%2fconfig", "/Admin/config", "/static/..%2f..%2fapp.py", "/static/..;/admin/", "/label/../admin/config"),
    *("/admin/config%00", "/admin/%0a/config"),
]
NONSENSE = [
    *(b"", b"{", b"null", b"[]", b'"x"', b"[" * 60_000, b'{"a":' * 10_000, b"\xff\xfe", b'{"count": NaN}'),
    *(b'{"count": 1e999}', b'{"count": "\\ud800"}', b'{"count": 2, "x": 1}', b'{"count": 0}', b'{"count": true}'),
    *(b'{"count": 1.5}', b'{"count": -1}', b'{"count": "2"}', b'{"count": 9999999999999999999999}'),
]


@pytest.mark.parametrize("path", BENT)
def test_bent_paths_lead_nowhere(labeler: Any, path: str) -> None:
    assert labeler.get(path).status_code in (403, 404)


@pytest.mark.parametrize("method", ["PUT", "PATCH", "DELETE", "OPTIONS", "TRACE", "PROPFIND"])
def test_other_methods_are_refused(labeler: Any, method: str) -> None:
    for path in ("/api/submit", "/label/", "/sign-in", "/healthz"):
        answer = labeler.request(method, path, headers={"Origin": "http://testserver", "Access-Control-Request-Method": "POST"})
        assert answer.status_code == 405
        assert answer.headers["allow"] == "GET, HEAD, POST"


def test_a_method_in_a_header_or_a_query_is_no_method(labeler: Any, state: Any) -> None:
    before = len(state.store.votes())
    assert labeler.get("/api/submit", headers={"X-HTTP-Method-Override": "POST"}).status_code == 405
    assert labeler.get("/sign-out?_method=POST").status_code == 405
    assert labeler.post("/api/me", json={}).status_code == 405
    assert len(state.store.votes()) == before
    assert labeler.get("/api/me").status_code == 200


@pytest.mark.parametrize(
    "headers",
    [{"Origin": "https://evil.example"}, {"Origin": "null"}, {"Origin": "http://testserver.evil.example"}, {"Origin": "x"},
     {"Origin": "http://testserver@evil.example"}, {"Sec-Fetch-Site": "cross-site"}, {"Sec-Fetch-Site": "same-site"},
     {"Origin": "http://testserver:81"}, {"Origin": ""}],
)  # fmt: skip
def test_requests_from_other_sites_are_refused(labeler: Any, headers: dict[str, str]) -> None:
    assert labeler.post("/api/lease", json={"count": 1}, headers=headers).status_code == 403
    assert labeler.post("/sign-out", data={}, headers=headers).status_code == 403
    assert labeler.get("/api/me").status_code == 200  # still signed in


def test_own_pages_may_ask(labeler: Any) -> None:
    headers = {"Origin": "http://testserver", "Sec-Fetch-Site": "same-origin"}
    assert labeler.post("/api/lease", json={"count": 1}, headers=headers).status_code == 200


def test_a_form_can_not_reach_the_api(labeler: Any) -> None:
    body = '{"count": 1}'
    for kind in ("text/plain", "application/x-www-form-urlencoded", "multipart/form-data; boundary=x", "", "application/jsonx"):
        assert labeler.post("/api/lease", content=body, headers={"Content-Type": kind}).status_code == 415
    del labeler.headers["X-Gptsim"]
    for value in ("0", "true", None):
        headers = {"Content-Type": "application/json", **({"X-Gptsim": value} if value else {})}
        assert labeler.post("/api/lease", content=body, headers=headers).status_code == 403
    assert labeler.post("/sign-out", json={}).status_code == 415


@pytest.mark.parametrize(
    "token",
    ["", "x", "0" * 64, "' OR 1=1 --", "é", "../../etc/passwd", "a" * 8000, '"; DROP TABLE sessions; --', "%00", "null"],
)
def test_a_forged_cookie_is_no_identity(visitor: Any, token: str) -> None:
    cookie = f"gptsim_session={token}".encode("latin-1")
    assert visitor.get("/api/me", headers={b"cookie": cookie}).status_code == 401
    assert visitor.get("/admin/", headers={b"cookie": cookie}).status_code == 401


def test_what_the_database_holds_is_no_cookie(visitor: Any, labeler: Any, state: Any) -> None:
    from sqlalchemy import text

    with state.store.engine.connect() as connection:
        stored = connection.execute(text("SELECT token_hash FROM sessions")).scalars().all()
    assert stored
    assert labeler.cookies["gptsim_session"] not in stored
    assert {visitor.get("/api/me", headers={"Cookie": f"gptsim_session={key}"}).status_code for key in stored} == {401}


def test_identity_comes_from_the_cookie_only(labeler: Any) -> None:
    headers = {"X-Forwarded-User": "ada", "Authorization": "Basic YWRhOmFkYQ==", "X-Real-IP": "127.0.0.1", "Remote-User": "ada"}
    assert labeler.get("/api/me?annotator_id=ada&role=admin", headers=headers).json()["annotator_id"] == "lena"
    assert labeler.get("/admin/config", headers=headers).status_code == 403
    body = {"count": 1, "annotator_id": "ada"}
    assert labeler.post("/api/lease", json=body).status_code == 422


def test_large_bodies_are_refused_before_they_are_read(labeler: Any, visitor: Any) -> None:
    def endless() -> Iterator[bytes]:
        for _ in range(100):
            yield b" " * 1024

    for content in (b" " * 65_537, endless()):
        answer = labeler.post("/api/lease", content=content, headers={"Content-Type": "application/json"})
        assert answer.status_code == 413
        assert "64 KiB" in answer.json()["error"]
    for length in ("9" * 5000, "-1", "0x10", "1e3"):
        headers = {"Content-Type": "application/json", "Content-Length": length}
        assert labeler.post("/api/lease", content=b"{}", headers=headers).status_code == 413
    assert visitor.post("/sign-in", data={"name": "x" * 70_000}).status_code == 413
    assert labeler.post("/api/lease", content=b" " * 65_524 + b'{"count": 1}', headers=JSON).status_code == 200


@pytest.mark.parametrize("content", NONSENSE, ids=lambda content: repr(content[:20]))
def test_nonsense_is_refused_in_a_sentence(labeler: Any, content: bytes) -> None:
    answer = labeler.post("/api/lease", content=content, headers=JSON)
    assert answer.status_code in (400, 422)
    assert set(answer.json()) == {"error"}


@pytest.mark.parametrize(
    "path", ["/", "/sign-in", "/label/", "/api/me", "/static/pages.css", "/nothing", "/media/x.mp4", "/admin/", "/label/config"]
)
def test_security_headers_are_on_every_answer(labeler: Any, visitor: Any, path: str) -> None:
    for client in (labeler, visitor):
        headers = client.get(path, headers={"Accept": "text/html", "Origin": "http://testserver"}).headers
        assert headers["x-content-type-options"] == "nosniff"
        assert headers["x-frame-options"] == "DENY"
        assert headers["referrer-policy"] == "same-origin"
        assert "frame-ancestors 'none'" in headers["content-security-policy"]
        assert "unsafe-inline' 'unsafe-eval" not in headers["content-security-policy"]
        assert "cache-control" in headers
        assert not [name for name in headers if name.startswith("access-control-")]


def test_only_the_scripts_that_a_page_left_with_may_run(labeler: Any) -> None:
    first, second = labeler.get("/label/"), labeler.get("/label/", headers={"Accept-Encoding": "br"})
    nonces = [re.search(r"script-src 'self' 'unsafe-eval' 'nonce-([\w-]{20,})'", page.headers["content-security-policy"])
              for page in (first, second)]  # fmt: skip
    assert nonces[0] and nonces[1] and nonces[0][1] != nonces[1][1]
    assert set(re.findall(r"<script([^>]*?)(?: src| type| data|>)", first.text)) == {f' nonce="{nonces[0][1]}"'}
    assert "nonce" not in labeler.get("/label/config").headers["content-security-policy"]


def test_nothing_is_fetched_from_elsewhere(labeler: Any, admin: Any) -> None:
    own = re.compile(r"https?://(testserver|www\.w3\.org)")
    for client, path in ((labeler, "/label/"), (admin, "/admin/")):
        texts = [client.get(path).text, client.get(f"{path}theme.css").text]
        tags = re.findall(r"<(?:script|link|img|iframe)[^>]*https?://[^>]*>|@import[^;]*|url\([^)]*\)", "".join(texts))
        assert [tag for tag in tags if "//" in tag and not own.search(tag)] == []
        config = client.get(f"{path}config").json()
        assert config["analytics_enabled"] is False
        assert [sheet for sheet in config.get("stylesheets") or [] if "//" in sheet] == []


def test_a_fault_says_nothing_about_itself(labeler: Any, state: Any, monkeypatch: pytest.MonkeyPatch, caplog: Any) -> None:
    def fail(*_: object) -> None:
        raise RuntimeError("roll-0-1 is secret")

    monkeypatch.setattr(type(state.campaign), "lease", fail)
    answer = labeler.post("/api/lease", json={"count": 1})
    assert answer.status_code == 500
    assert answer.json() == {"error": "something went wrong on the server; its log says what"}
    assert answer.headers["x-frame-options"] == "DENY"
    assert "roll-0-1 is secret" in caplog.text


def test_a_database_that_is_away_is_told_from_a_fault(labeler: Any, state: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    from sqlalchemy.exc import OperationalError

    def fail(*_: object) -> None:
        raise OperationalError("SELECT secret", {}, Exception("locked"))

    monkeypatch.setattr(type(state.campaign), "submit", fail)
    body = {"submission_id": "s", "lease_id": "l", "answers": [{"axis": "spill", "choice": "tie"}]}
    answer = labeler.post("/api/submit", json=body)
    assert (answer.status_code, answer.headers["retry-after"]) == (503, "2")
    assert "SELECT" not in answer.text


def test_websockets_are_closed(app: Any) -> None:
    from fastapi.testclient import TestClient
    from starlette.websockets import WebSocketDisconnect

    with pytest.raises(WebSocketDisconnect), TestClient(app).websocket_connect("/label/gradio_api/queue/join"):
        pass
