"""The pages without JavaScript: sign in, join by an invitation, sign out, and what a refusal looks like."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

from fastapi import APIRouter, Form, Request
from fastapi.responses import HTMLResponse, RedirectResponse, Response
from jinja2 import Environment, FileSystemLoader, StrictUndefined

from align.errors import Forbidden, GptsimError, TooManyAttempts
from align.preferences.accounts import SESSION_S, Account
from ui.web.state import COOKIE, State, StateOf
from ui.web.statuses import status_of

HOMES = {"labeler": "/label/", "admin": "/admin/"}
_templates = Environment(
    loader=FileSystemLoader(Path(__file__).parent / "templates"), autoescape=True, undefined=StrictUndefined
)
router = APIRouter()
Field = Annotated[str, Form(max_length=1000)]


def show_page(template: str, status: int = 200, **values: Any) -> HTMLResponse:
    """A page from a template of this package; every value is escaped."""
    return HTMLResponse(_templates.get_template(f"{template}.html.jinja").render(**values), status)


def show_message(title: str, message: str, status: int, headers: Any = None) -> HTMLResponse:
    """A page with one sentence and a way back."""
    page = show_page("message", status, title=title, message=message)
    page.headers.update(headers or {})
    return page


@router.get("/")
def go_home(request: Request) -> Response:
    """To the labeler's page, or to sign in first."""
    return RedirectResponse("/label/" if request.state.account else "/sign-in", 303)


@router.get("/sign-in")
def show_sign_in(request: Request, next: str = "") -> Response:
    """The form; who is signed in already goes on."""
    if request.state.account:
        return RedirectResponse(_next_page(next, request.state.account), 303)
    return show_page("sign_in", error="", name="", next=next)


@router.post("/sign-in")
def sign_in(request: Request, state: StateOf, name: Field = "", password: Field = "", next: Field = "") -> Response:
    """Check name and password; both wrong ones are answered alike."""
    address = request.client.host if request.client else ""
    try:
        token = state.accounts.sign_in(name, password, address)
    except TooManyAttempts as error:
        page = show_page("sign_in", 429, error=f"{error}", name=name, next=next)
        page.headers["Retry-After"] = str(error.retry_after_s)
        return page
    except Forbidden as error:
        return show_page("sign_in", 401, error=f"{error}", name=name, next=next)
    account = state.accounts.session(token)
    return _let_in(request, state, token, _next_page(next, account))


@router.get("/join")
def show_join(state: StateOf, token: str = "") -> Response:
    """The form behind an invitation; opening it doesn't use it up, because mail programs open links too."""
    return _show_join(state, token, "", "")


@router.post("/join")
def join(
    request: Request, state: StateOf, token: Field = "", name: Field = "", password: Field = "", repeated: Field = ""
) -> Response:
    """Make the invited account and sign it in."""
    if password != repeated:
        return _show_join(state, token, name, "the two passwords differ", 422)
    try:
        account = state.accounts.redeem(token, name, password or None)
    except GptsimError as error:
        return _show_join(state, token, name, f"{error}", status_of(error))
    except ValueError as error:  # the password is too short or too long
        return _show_join(state, token, name, f"{error}", 422)
    return _let_in(request, state, state.accounts.start_session(account.annotator_id), HOMES[account.role])


def _show_join(state: State, token: str, name: str, error: str, status: int = 200) -> Response:
    invitation = state.accounts.invitation(token)
    if invitation is None:
        return show_message("This link does not work", "It is unknown, used up or too old. Ask for a new one.", 403)
    return show_page("join", status, error=error, name=name, token=token, owner=invitation.annotator_id or "")


@router.post("/sign-out")
def sign_out(request: Request, state: StateOf) -> Response:
    """End this session, here and in the database."""
    if token := request.cookies.get(COOKIE):
        state.accounts.sign_out(token)
    response = RedirectResponse("/sign-in", 303)
    response.delete_cookie(COOKIE, httponly=True, samesite="lax", secure=state.secure)
    return response


def _next_page(wanted: str, account: Account | None) -> str:
    """Only pages of ours: an address from a link could lead anywhere."""
    if wanted in HOMES.values():
        return wanted
    return HOMES[account.role] if account else "/"


def _let_in(request: Request, state: State, token: str, page: str) -> Response:
    if old := request.cookies.get(COOKIE):
        state.accounts.sign_out(old)
    response = RedirectResponse(page, 303)
    response.set_cookie(COOKIE, token, max_age=SESSION_S, httponly=True, samesite="lax", secure=state.secure)
    return response
