"""What every request passes before any route sees it: who asks, from where, how much.

Everything is closed unless it stands in ``PUBLIC``: the other paths want a signed-in person, those of ``ADMINS`` an
admin. Gradio brings dozens of routes, many without a check of their own; only those that its pages need are let through.
"""

from __future__ import annotations

import logging
import re
from collections.abc import Callable
from typing import Any
from urllib.parse import urlsplit

import anyio
from anyio import to_thread
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from ui.web.state import COOKIE, State

PUBLIC = re.compile(r"/|/sign-in|/join|/sign-out|/healthz|/favicon\.ico|/manifest\.json|/static/.*")
ADMINS = re.compile(r"/(admin|export)(/.*)?", re.DOTALL)
FORMS = ("/sign-in", "/join", "/sign-out")
_PAGE = r"|/|/config/?|/theme\.css|/(assets|static|svelte)/.*|/gradio_api/(heartbeat/.*|startup-events|app_id)"
_CALLS = r"|/gradio_api/(queue/(join|data)|cancel|reset/?)"
GRADIO = {"/label": re.compile(_PAGE), "/admin": re.compile(_PAGE + _CALLS)}
"""What may be asked for below each of Gradio's mounts."""

MAX_BODY = 64 * 1024
MAX_ADMIN_BODY = 4 * 1024 * 1024
BODY_TIMEOUT_S = 30.0

Refuse = Callable[[Request, Exception], Any]
_log = logging.getLogger(__name__)


class Guard:
    """Lets through who may come in, and turns a fault of ours into an answer.

    Args:
        app: What is guarded.
        state: Whose accounts count.
        refuse: Makes the answer to a request that isn't let through, or that a route failed to answer.
    """

    def __init__(self, app: ASGIApp, state: State, refuse: Refuse) -> None:
        self._app, self._state, self._refuse = app, state, refuse

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "websocket":  # nothing here speaks it
            await send({"type": "websocket.close", "code": 1008})
            return
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        request, started = Request(scope, receive), False

        async def send_noting(message: Message) -> None:
            nonlocal started
            started = True
            await send(message)

        try:
            _check_origin(request, self._state.public_url)
            await self._identify(request)
            await self._app(scope, await _read_body(request, receive), send_noting)
        except Exception as error:
            # Gradio's streams refuse a page that is older than the server after they have begun to answer.
            if not isinstance(error, HTTPException) and not isinstance(error.__cause__, HTTPException):
                _log.exception("a fault while answering %s %s", scope["method"], scope["path"])
            if not started:
                await self._refuse(request, error)(scope, receive, send)

    async def _identify(self, request: Request) -> None:
        # The path of the scope, by which routes are found: the one of request.url can be bent by the Host header.
        path, token = request.scope["path"], request.cookies.get(COOKIE, "")
        request.state.account = None
        if path.startswith("/static/"):
            return
        account = await to_thread.run_sync(self._state.accounts.session, token) if token else None
        request.state.account = account
        if PUBLIC.fullmatch(path):
            return
        if account is None:
            raise HTTPException(401, "sign in first")
        if ADMINS.fullmatch(path) and account.role != "admin":
            raise HTTPException(403, "this page is for admins")
        mount = next((name for name in GRADIO if path == name or path.startswith(name + "/")), None)
        if mount and not GRADIO[mount].fullmatch(path.removeprefix(mount)):
            raise HTTPException(404, "there is no such page")


def _check_origin(request: Request, public_url: str) -> None:
    """Refuses what another site's page sends in the name of somebody who is signed in here."""
    if request.method not in ("GET", "HEAD", "POST"):
        raise HTTPException(405, f"{request.method} is not allowed here", {"Allow": "GET, HEAD, POST"})
    origin = request.headers.get("origin")
    own = {urlsplit(public_url).netloc, request.headers.get("host", "")} - {""}
    if origin is not None and urlsplit(origin).netloc not in own:
        raise HTTPException(403, "the request comes from another site")
    if request.method != "POST":
        return
    if request.headers.get("sec-fetch-site", "same-origin") not in ("same-origin", "none"):
        raise HTTPException(403, "the request comes from another site")
    kind = request.headers.get("content-type", "").partition(";")[0].strip().lower()
    if request.scope["path"] in FORMS:
        if kind != "application/x-www-form-urlencoded":
            raise HTTPException(415, "send a form (application/x-www-form-urlencoded)")
    elif request.scope["path"].startswith("/api/"):
        if request.headers.get("x-gptsim") != "1":
            raise HTTPException(403, "the header X-Gptsim: 1 is missing")
        if kind != "application/json":
            raise HTTPException(415, "send JSON (application/json)")


async def _read_body(request: Request, receive: Receive) -> Receive:
    """The whole body, read up to its limit before anything parses it; returns what plays it back."""
    if request.method != "POST":
        return receive
    limit = MAX_ADMIN_BODY if request.scope["path"].startswith("/admin/") else MAX_BODY
    too_large = HTTPException(413, f"the request is larger than {limit // 1024} KiB")
    declared = request.headers.get("content-length", "0")
    if not declared.isdecimal() or len(declared) > 12 or int(declared) > limit:
        raise too_large
    body, more = bytearray(), True
    with anyio.move_on_after(BODY_TIMEOUT_S) as scope:
        while more:
            message = await receive()
            if message["type"] == "http.disconnect":
                raise HTTPException(400, "the request broke off")
            body += message.get("body", b"")
            more = message.get("more_body", False)
            if len(body) > limit:
                raise too_large
    if scope.cancelled_caught:
        raise HTTPException(408, "the request took too long to arrive")
    played: list[Message] = [{"type": "http.request", "body": bytes(body), "more_body": False}]

    async def play() -> Message:
        return played.pop() if played else await receive()

    return play
