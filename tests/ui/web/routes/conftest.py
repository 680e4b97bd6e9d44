"""The whole app in this process, over nine tiny clips, with people to ask it things."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest


def write_rollouts(path: Path) -> Path:
    """Three contexts with three clips of 4 frames, and names that would give them away."""
    from align.video.writer import ClipFolderWriter

    rng = np.random.default_rng(0)
    with ClipFolderWriter(path, {"axes": ["spill", "care"], "questions": {"spill": "Which one spills less?"}}) as writer:
        for context in range(3):
            for number in range(3):
                row = {
                    "rollout_id": f"roll-{context}-{number}",
                    "context_id": f"ctx-{context}",
                    "scene": "kitchen",
                    "task": "Pour the <script>alert(1)</script> tea",
                    "seed": 4711,
                    "model_id": f"model-x7-{number}",
                    "adapter_id": "adapter-q9",
                    "fps_hz": 8.0,
                    "context_frames": 2,
                }
                writer.add(row, rng.integers(0, 255, (4, 32, 32, 3), dtype=np.uint8))
    return path


@pytest.fixture(scope="session")
def rollouts(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A rollout folder that no test changes."""
    return write_rollouts(tmp_path_factory.mktemp("site") / "rollouts")


@pytest.fixture(scope="session", autouse=True)
def cheap_passwords() -> Iterator[None]:
    """Hashes that cost nothing; what a real one costs is tested where passwords are."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("align.preferences.accounts.passwords.LOG2_N", 4)
        patch.setattr("align.preferences.accounts.passwords.P", 1)
        yield


@pytest.fixture(scope="session")
def app(rollouts: Path) -> Iterator[Any]:
    """The app, with its start-up and its end; everybody judges every task."""
    from fastapi.testclient import TestClient

    from ui.web.app import make_app
    from ui.web.opening import Setup

    made = make_app(rollouts, f"sqlite:///{rollouts.parent}/labels.db", setup=Setup(overlap=100))
    with TestClient(made):
        yield made


@pytest.fixture
def state(app: Any) -> Any:
    """What the app works with."""
    return app.state.gptsim


@pytest.fixture
def visitor(app: Any) -> Any:
    """Somebody who isn't signed in, and follows no redirects."""
    from fastapi.testclient import TestClient

    return TestClient(app, follow_redirects=False, raise_server_exceptions=False)


@pytest.fixture
def person(app: Any, state: Any) -> Callable[..., Any]:
    """``person(name, role)``: a client signed in as that person, who is made where there is none."""
    from fastapi.testclient import TestClient

    def make(name: str, role: str = "labeler") -> Any:
        if name not in {account.annotator_id for account in state.accounts.accounts()}:
            state.accounts.redeem(state.accounts.invite(role, by="test"), name)
        client = TestClient(app, follow_redirects=False, raise_server_exceptions=False)
        client.cookies.set("gptsim_session", state.accounts.start_session(name))
        client.headers["X-Gptsim"] = "1"
        return client

    return make


@pytest.fixture
def labeler(person: Callable[..., Any]) -> Any:
    """A signed-in labeler."""
    return person("lena")


@pytest.fixture
def admin(person: Callable[..., Any]) -> Any:
    """A signed-in admin."""
    return person("ada", "admin")
