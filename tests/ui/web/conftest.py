"""A labelling server on a free port of this machine, over tiny clips, and a Chromium to look at it."""

from __future__ import annotations

import os
import shutil
import socket
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from align.preferences.campaign import Campaign
from align.video.codec import compute_pixel_scale
from align.video.writer import ClipFolderWriter


def find_chromium() -> str | None:
    """Path of the system's Chromium, or of GPTSIM_CHROMIUM."""
    names = (os.environ.get("GPTSIM_CHROMIUM"), "chromium", "chromium-browser", "google-chrome", "google-chrome-stable")
    return next((found for name in names if name and (found := shutil.which(name))), None)


@contextmanager
def open_browser() -> Iterator[Any]:
    """Headless Chromium: the system's, else playwright's own; None where there is neither."""
    from playwright.sync_api import sync_playwright

    with sync_playwright() as playwright:
        path = find_chromium() or playwright.chromium.executable_path
        if not Path(path).is_file():
            yield None
            return
        browser = playwright.chromium.launch(executable_path=path, args=["--no-sandbox", "--disable-background-networking"])
        yield browser
        browser.close()


def make_rollouts(
    path: Path, num_contexts: int = 4, clips_per_context: int = 2, num_frames: int = 10, fps_hz: float = 10.0
) -> Path:
    """A rollout folder of small clips in which a square moves; the second clip of a context is a little shorter.

    Args:
        path: The folder to make.
        num_contexts: Contexts, named ``ctx-0`` and so on.
        clips_per_context: Rollouts of each.
        num_frames: Frames of most clips.
        fps_hz: Their rate.
    """
    rng = np.random.default_rng(0)
    info = {"axes": ["spill", "care"], "questions": {"spill": "Which one spills less?"}, "source": "test", "licence": "CC0-1.0"}
    with ClipFolderWriter(path, info) as writer:
        for context in range(num_contexts):
            for number in range(clips_per_context):
                length = num_frames - (2 if number == 1 and num_frames > 4 else 0)
                name = f"roll-{context:03d}-{number}"
                row = {
                    "rollout_id": name,
                    "file_name": f"videos/{name}.mp4",
                    "context_id": f"ctx-{context}",
                    "scene": "kitchen",
                    "task": f"Pour the tea, round {context} <b>& no markup</b>",
                    "seed": number,
                    "model_id": f"model-x7-{number}",
                    "adapter_id": f"adapter-q9-{number}",
                    "fps_hz": fps_hz,
                    "num_frames": length,
                    "context_frames": 2,
                }
                writer.add(row, _draw(rng, length))
    return path


def _draw(rng: np.random.Generator, num_frames: int) -> np.ndarray[Any, np.dtype[np.uint8]]:
    video = np.empty((num_frames, 64, 64, 3), np.uint8)
    video[:] = rng.integers(40, 200, 3, dtype=np.uint8)
    row = int(rng.integers(8, 48))
    for frame_idx in range(num_frames):
        left = 2 + frame_idx * 52 // num_frames
        video[frame_idx, row : row + 9, left : left + 9] = 255 - video[frame_idx, 0, 0]
    assert compute_pixel_scale(64, 64) == 2
    return video


@dataclass(frozen=True)
class Server:
    """A running app.

    Attributes:
        url: Its address, without a slash at the end.
        app: The FastAPI app.
    """

    url: str
    app: Any

    @property
    def campaign(self) -> Campaign:
        """The campaign behind it."""
        campaign: Campaign = self.app.state.gptsim.campaign
        return campaign

    def sign_in(self, name: str, role: str = "labeler") -> str:
        """Make an account if there is none of this name; returns a session's token."""
        accounts = self.app.state.gptsim.accounts
        if name not in {account.annotator_id for account in accounts.accounts()}:
            accounts.redeem(accounts.invite(role, by="test"), name, None)
        token: str = accounts.start_session(name)
        return token


@contextmanager
def serve_app(rollouts: Path, db_url: str, axes: Sequence[str] = (), **setup: Any) -> Iterator[Server]:
    """The real app in a thread."""
    import uvicorn

    from ui.web.app import make_app
    from ui.web.opening import Setup

    app = make_app(rollouts, db_url, setup=Setup(axes=tuple(axes), **setup))
    with socket.create_server(("127.0.0.1", 0)) as listener:
        config = uvicorn.Config(app, log_level="error", access_log=False, timeout_graceful_shutdown=1, ws="none")
        server = uvicorn.Server(config)
        thread = threading.Thread(target=server.run, kwargs={"sockets": [listener]}, daemon=True)
        thread.start()
        try:
            yield Server(f"http://127.0.0.1:{listener.getsockname()[1]}", app)
        finally:
            server.should_exit = True
            thread.join(timeout=20)


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    """A Chromium for the tests of one module, as long as which playwright keeps an event loop running; skips without one."""
    pytest.importorskip("playwright")
    with open_browser() as found:
        if found is None:
            pytest.skip("no Chromium found; install one or set GPTSIM_CHROMIUM")
        yield found


def find_barriers(page: Any) -> list[dict[str, str]]:
    """What axe-core finds wrong with a page: rule ``id``, ``impact`` and the ``html`` of the first element.

    Started and then waited for: an evaluation by itself has no time limit, and a page that is stuck would hold up everything.
    """
    axe = pytest.importorskip("axe_playwright_python.sync_playwright").Axe()
    page.evaluate(f"{axe.axe_script}; undefined")
    page.evaluate(
        """() => { window.barriers = null; axe.run({ resultTypes: ['violations'] }).then(
          ({ violations }) => violations.map(({ id, impact, nodes }) => ({ id, impact, html: nodes[0].html.slice(0, 150) })),
          (error) => [{ id: 'axe failed', impact: 'critical', html: String(error) }],
        ).then((found) => { window.barriers = found; }); }"""
    )
    found = page.wait_for_function("window.barriers", timeout=60_000)
    return list(found.json_value())


@pytest.fixture(scope="session")
def web() -> Any:
    """The functions of this file, for tests: test modules can't import each other."""
    return SimpleNamespace(make_rollouts=make_rollouts, serve_app=serve_app, find_barriers=find_barriers)
