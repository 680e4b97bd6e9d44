"""Every refusal as a status and one sentence: JSON for programs, a page for people."""

from __future__ import annotations

from http import HTTPStatus
from urllib.parse import quote

from fastapi import Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse, RedirectResponse, Response
from sqlalchemy.exc import OperationalError
from sqlalchemy.exc import TimeoutError as PoolTimeout
from starlette.exceptions import HTTPException

from align.errors import TooManyAttempts
from ui.web import auth
from ui.web.statuses import STATUS, status_of

HANDLED = (*STATUS, OperationalError, PoolTimeout, HTTPException, RequestValidationError)
_STOCK = {404: "there is nothing at this address", 405: "this can't be asked for in this way"}
"""For what the framework says in two words."""
_TITLES = {403: "Not yours to see", 404: "Nothing here"}


def answer_error(request: Request, error: Exception) -> Response:
    """What is sent where a request is refused or fails."""
    status, sentence, headers = _describe_error(error)
    wants_page = request.method in ("GET", "HEAD") and "text/html" in request.headers.get("accept", "")
    if not wants_page or request.scope["path"].startswith("/api/"):
        return JSONResponse({"error": sentence}, status, headers)
    if status == 401:
        return RedirectResponse(f"/sign-in?next={quote(request.scope['path'])}", 303)
    return auth.show_message(_TITLES.get(status, "That did not work"), sentence, status, headers)


def _describe_error(error: Exception) -> tuple[int, str, dict[str, str]]:
    if isinstance(error, HTTPException):
        stock = error.detail == HTTPStatus(error.status_code).phrase
        return (
            error.status_code,
            _STOCK.get(error.status_code, error.detail) if stock else error.detail,
            dict(error.headers or {}),
        )
    if isinstance(error, RequestValidationError):
        first = error.errors()[0]
        return 422, f"{'.'.join(map(str, first['loc'][1:])) or 'the request'}: {first['msg']}", {}
    if isinstance(error, OperationalError | PoolTimeout):
        return 503, "the label database is busy or away; try again", {"Retry-After": "2"}
    headers = {"Retry-After": str(error.retry_after_s)} if isinstance(error, TooManyAttempts) else {}
    status = status_of(error)
    return status, str(error) if status != 500 else "something went wrong on the server; its log says what", headers
