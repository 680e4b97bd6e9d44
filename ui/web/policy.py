"""What browsers are told to refuse: scripts that aren't ours, frames, other sites' reading.

Gradio writes its settings into inline scripts, and its components make functions from their templates. Its pages therefore
get a fresh nonce a visit, for the scripts that stand in them when they leave; what a comment, a caption or a name might
smuggle in later doesn't have it.
"""

from __future__ import annotations

import secrets

from starlette.datastructures import Headers, MutableHeaders
from starlette.types import ASGIApp, Message, Receive, Scope, Send

GRADIO_PAGES = ("/label/", "/admin/")
_HASHED = ("/label/assets/", "/admin/assets/")
"""Files of Gradio whose names change with their content."""

_PAGE_POLICY = (
    "default-src 'none'; style-src 'self'; img-src 'self'; form-action 'self'; base-uri 'none'; frame-ancestors 'none'"
)
_GRADIO_POLICY = (
    "default-src 'self'; script-src 'self' 'unsafe-eval'{nonce}; style-src 'self' 'unsafe-inline'; img-src 'self' data: blob:; "
    "media-src 'self' blob:; font-src 'self' data:; connect-src 'self'; worker-src 'self' blob:; object-src 'none'; "
    "form-action 'self'; base-uri 'self'; frame-ancestors 'none'"
)
_FIXED = {
    "X-Content-Type-Options": "nosniff",
    "X-Frame-Options": "DENY",
    # Not "no-referrer": with that, browsers send forms without an origin, and there is nothing to check.
    "Referrer-Policy": "same-origin",
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cross-Origin-Resource-Policy": "same-origin",
}


class Policy:
    """Puts security headers on every answer."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
        elif scope["path"] in GRADIO_PAGES:
            await _send_page(self._app, scope, receive, send)
        else:
            await self._app(scope, receive, _with_headers(send, scope["path"]))


def _with_headers(send: Send, path: str, nonce: str = "") -> Send:
    gradio = path.startswith(GRADIO_PAGES)

    async def send_secure(message: Message) -> None:
        if message["type"] == "http.response.start":
            headers = MutableHeaders(scope=message)
            for name in [name for name in headers if name.startswith("access-control-")]:
                del headers[name]  # Gradio would let pages of any other site read its answers
            headers["Content-Security-Policy"] = (
                _GRADIO_POLICY.format(nonce=f" 'nonce-{nonce}'" if nonce else "") if gradio else _PAGE_POLICY
            )
            headers.update(_FIXED)
            if path.startswith(_HASHED) and message["status"] == 200:
                headers["Cache-Control"] = "private, max-age=31536000, immutable"
            headers.setdefault("Cache-Control", "no-cache" if path.startswith("/static/") else "no-store")
        await send(message)

    return send_secure


async def _send_page(app: ASGIApp, scope: Scope, receive: Receive, send: Send) -> None:
    """Hold a page back until it is whole, and give its scripts the nonce."""
    nonce = secrets.token_urlsafe(18)
    plain = [(name, value) for name, value in scope["headers"] if name != b"accept-encoding"]
    send = _with_headers(send, scope["path"], nonce)
    start: Message = {}
    parts: list[bytes] = []

    async def collect(message: Message) -> None:
        if message["type"] == "http.response.start":
            start.update(message)
        if message["type"] != "http.response.body":
            return
        parts.append(message.get("body", b""))
        if message.get("more_body", False):
            return
        body = b"".join(parts)
        if Headers(raw=start["headers"]).get("content-type", "").startswith("text/html"):
            # "<" is escaped in the settings that Gradio writes into the page, so that these are its own tags only.
            body = body.replace(b"<script", f'<script nonce="{nonce}"'.encode())
        if scope["method"] != "HEAD":
            MutableHeaders(scope=start)["Content-Length"] = str(len(body))
        await send(start)
        await send({"type": "http.response.body", "body": body})

    await app({**scope, "headers": plain}, receive, collect)
