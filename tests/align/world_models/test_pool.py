"""What a process keeps: world models and policies are known by their full paths."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from align.world_models import pool


def test_a_relative_adapter_is_another_one_in_another_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pool, "_load_once", lambda name: SimpleNamespace(model=name))
    monkeypatch.setattr(pool, "load_policy", lambda base, folder: (base, folder))
    found: list[Any] = []
    for name in ("one", "two"):
        (tmp_path / name).mkdir()
        monkeypatch.chdir(tmp_path / name)
        found.append(pool.cached_policy("wm", "adapter"))
    assert found == [(str(tmp_path / name / "wm"), tmp_path / name / "adapter") for name in ("one", "two")]
