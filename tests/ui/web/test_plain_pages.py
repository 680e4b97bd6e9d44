"""Signing in, joining and refusals in a real browser: without JavaScript, by keyboard, on a phone, for everybody."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

PHONE = {"width": 375, "height": 667}


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory, web: Any) -> Iterator[Any]:
    """One app for all of these tests."""
    folder: Path = tmp_path_factory.mktemp("plain")
    with web.serve_app(web.make_rollouts(folder / "rollouts"), f"sqlite:///{folder}/labels.db") as running:
        yield running


@pytest.fixture
def visit(browser: Any, server: Any) -> Iterator[Callable[..., Any]]:
    """``visit(path, **options)``: a page in a window of its own."""
    contexts: list[Any] = []

    def open_one(path: str, **options: Any) -> Any:
        contexts.append(browser.new_context(**options))
        page = contexts[-1].new_page()
        page.goto(server.url + path)
        return page

    yield open_one
    for context in contexts:
        context.close()


@pytest.fixture
def accounts(server: Any) -> Any:
    """The app's accounts."""
    return server.app.state.gptsim.accounts


def test_joining_and_signing_in_need_no_javascript_and_no_mouse(visit: Callable[..., Any], accounts: Any, server: Any) -> None:
    page = visit(f"/join?token={accounts.invite('labeler', by='test')}", java_script_enabled=False, viewport=PHONE)
    page.keyboard.press("Tab")
    page.keyboard.type("grace")
    for _ in range(2):
        page.keyboard.press("Tab")
        page.keyboard.type("correct horse")
    page.keyboard.press("Enter")
    page.wait_for_url(f"{server.url}/label/")
    page.context.clear_cookies()
    page.goto(f"{server.url}/label/")
    assert page.url == f"{server.url}/sign-in?next=/label/"
    page.keyboard.press("Tab")
    page.keyboard.type("grace")
    page.keyboard.press("Tab")
    page.keyboard.type("wrong horse")
    page.keyboard.press("Enter")
    page.wait_for_selector("[role=alert]")
    assert page.input_value("#name") == "grace"
    page.fill("#password", "correct horse")
    page.keyboard.press("Enter")
    page.wait_for_url(f"{server.url}/label/")
    assert "grace" in {account.annotator_id for account in accounts.accounts()}


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("viewport", [PHONE, {"width": 1280, "height": 800}], ids=["phone", "desk"])
def test_no_page_keeps_anybody_out(visit: Callable[..., Any], accounts: Any, web: Any, viewport: Any, scheme: str) -> None:
    token = accounts.invite("labeler", by="test")
    paths = [
        "/sign-in",
        f"/join?token={token}",
        "/join?token=used",
        f"/join?token={accounts.invite('labeler', 'test', annotator_id='x' * 64)}",
    ]
    for path in paths:
        # The policy of these pages lets no script run, the checker's neither.
        page = visit(path, viewport=viewport, color_scheme=scheme, bypass_csp=True)
        assert web.find_barriers(page) == []
        assert page.evaluate("document.documentElement.scrollWidth <= window.innerWidth")
        sizes = page.evaluate("[...document.querySelectorAll('button, input:not([type=hidden])')].map((e) => e.offsetHeight)")
        assert all(size >= 44 for size in sizes)


def test_a_wrong_password_is_told_to_everybody(visit: Callable[..., Any], web: Any) -> None:
    page = visit("/sign-in", viewport=PHONE, bypass_csp=True)
    page.fill("#name", "nobody")
    page.fill("#password", "nothing")
    page.click("button")
    assert page.inner_text("[role=alert]") == "name and password don't fit together"
    assert web.find_barriers(page) == []


def test_the_pages_ask_nobody_else_for_anything_and_their_policy_holds(visit: Callable[..., Any], server: Any) -> None:
    page = visit("/sign-in")
    asked: list[str] = []
    told: list[str] = []
    page.on("request", lambda request: asked.append(request.url))
    page.on("console", lambda message: told.append(message.text))
    page.goto(f"{server.url}/sign-in?next=%22%3E%3Cscript%3Edocument.title=1%3C/script%3E")
    page.wait_for_load_state("networkidle")
    assert all(url.startswith(server.url) for url in asked)
    assert told == []
    page.evaluate("document.body.insertAdjacentHTML('beforeend', '<img src=x onerror=\"document.title=1\">')")
    page.wait_for_function("() => document.images[0].complete")
    assert page.title() == "Sign in – gptsim"
