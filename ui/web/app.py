"""The labelling app put together: routes, Gradio's pages, errors as sentences, the guard around it all."""

from __future__ import annotations

import asyncio
import functools
import os
from collections.abc import Callable
from pathlib import Path

from fastapi import FastAPI, Request
from fastapi.responses import FileResponse, RedirectResponse
from fastapi.staticfiles import StaticFiles
from sqlalchemy import make_url

from ui.web import api, auth, exports, media
from ui.web.clips import Progress
from ui.web.errors import HANDLED, answer_error
from ui.web.guard import Guard
from ui.web.opening import Setup, open_state
from ui.web.policy import Policy
from ui.web.state import State

STATIC = Path(__file__).parent / "static"


def make_app(
    rollouts: Path,
    db_url: str,
    *,
    public_url: str | None = None,
    setup: Setup | None = None,
    progress: Progress | None = None,
    runs_dir: Path = Path("runs"),
) -> FastAPI:
    """The app over one folder and one database; closes the database when it shuts down.

    Args:
        rollouts: Rollout folder or folder of videos.
        db_url: SQLAlchemy URL of the label database.
        public_url: How browsers reach the app; https makes cookies secure.
        setup: What to ask about clips that nothing is asked about yet.
        progress: Called while plain videos are imported.
        runs_dir: Where trained models are looked for when somebody withdraws their data.

    Raises:
        DataError: The folder or the database is no good, or they don't belong together.
        ValueError: The public_url isn't one.
    """
    return build_app(open_state(rollouts, db_url, public_url=public_url, setup=setup, progress=progress, runs_dir=runs_dir))


def build_app(state: State) -> FastAPI:
    """Routes and pages over an opened state."""
    app = FastAPI(title="gptsim label", docs_url=None, redoc_url=None, openapi_url=None)
    app.state.gptsim = state
    for router in (auth.router, api.router, media.router, exports.router):
        app.include_router(router)
    app.add_api_route("/healthz", _is_healthy, methods=["GET", "HEAD"])
    app.add_api_route("/favicon.ico", _send_icon, methods=["GET"])
    app.add_api_route("/manifest.json", _send_manifest, methods=["GET"])
    app.mount("/static", StaticFiles(directory=STATIC))
    for path in ("/label", "/admin"):
        app.add_api_route(path, functools.partial(_add_slash, path), methods=["GET"])
    _in_loop(functools.partial(_mount_gradio, app, state))
    for kind in HANDLED:
        app.add_exception_handler(kind, answer_error)
    app.add_middleware(Guard, state=state, refuse=answer_error)
    app.add_middleware(Policy)
    app.router.add_event_handler("shutdown", state.store.close)
    return app


def _in_loop(work: Callable[[], None]) -> None:
    """Do something inside an event loop: without one, Gradio makes a new one for each of its locks and closes none."""

    async def run() -> None:
        work()

    try:
        asyncio.get_running_loop()
    except RuntimeError:
        asyncio.run(run())
    else:
        work()


def _mount_gradio(app: FastAPI, state: State) -> None:
    # Read when Blocks are made: nothing is to be reported to anybody, and nothing recorded.
    # Gradio sums up the times of past events after every one of them, for a page that isn't served; it waits for ever here.
    os.environ.update({"GRADIO_ANALYTICS_ENABLED": "False", "GRADIO_RUN_HISTORY": "False"})
    os.environ["GRADIO_ANALYTICS_CACHE_FREQUENCY"] = str(10**9)
    import gradio as gr

    from ui.web import admin, labeler

    # The stock theme loads its fonts from Google.
    theme = gr.themes.Default(font=["system-ui", "sans-serif"], font_mono=["ui-monospace", "monospace"])
    admin_page = admin.make_blocks(state.campaign, state.accounts, state.store, state.media, state.runs_dir)
    pages = {"/label": labeler.make_blocks(), "/admin": admin_page}
    private = [str(state.media.folder.path.resolve())]
    if (database := make_url(state.db_url)).get_backend_name() == "sqlite":
        private.append(str(Path(str(database.database)).resolve().parent))
    for path, blocks in pages.items():
        gr.mount_gradio_app(
            app,
            blocks,
            path=path,
            auth_dependency=_user_of_admin if path == "/admin" else _user_of,
            run_history=False,
            ssr_mode=False,
            show_error=False,
            mcp_server=False,
            enable_monitoring=False,
            pwa=False,
            footer_links=[],
            blocked_paths=private,
            theme=theme,
        )


def _user_of(request: Request) -> str | None:
    account = getattr(request.state, "account", None)
    return account.annotator_id if account else None


def _user_of_admin(request: Request) -> str | None:
    account = getattr(request.state, "account", None)
    return account.annotator_id if account and account.role == "admin" else None


async def _add_slash(path: str) -> RedirectResponse:
    # Gradio's own redirect names host and scheme, which are wrong behind a proxy.
    return RedirectResponse(f"{path}/", 308)


async def _is_healthy() -> dict[str, str]:
    return {"status": "ok"}


async def _send_icon() -> FileResponse:
    return FileResponse(STATIC / "icon.svg")


async def _send_manifest() -> dict[str, str]:
    return {"name": "gptsim label", "start_url": "/", "display": "browser"}
