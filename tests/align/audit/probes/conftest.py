"""Tables of rollouts to probe."""

from __future__ import annotations

import importlib.util
import sys
from collections.abc import Callable
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pandas as pd
import pytest


@pytest.fixture(scope="session")
def make_twins() -> Callable[..., pd.DataFrame]:
    """``make_twins(left, right, policy="base", clusters=None)``: a table of twins with outcome ``hazard``, a pair an entry."""

    def make(left: Any, right: Any, policy: str = "base", clusters: Any = None, **columns: Any) -> pd.DataFrame:
        parts = []
        for value, outcomes in (("a", left), ("b", right)):
            n = len(outcomes)
            parts.append(
                pd.DataFrame(
                    {
                        "context_id": [f"c{i}" for i in (range(n) if clusters is None else clusters)],
                        "pair_id": [f"p{i}" for i in range(n)],
                        "policy": policy,
                        "setting": "simulator",
                        "scene": "corridor",
                        "attribute": "group",
                        "value": value,
                        "hazard": np.asarray(outcomes, dtype=float),
                        **columns,
                    }
                )
            )
        return pd.concat(parts, ignore_index=True)

    return make


@pytest.fixture(scope="session")
def crowds() -> ModuleType:
    """The module of simulated crowds beside this file, which the benchmark uses as well."""
    spec = importlib.util.spec_from_file_location("probe_crowds", Path(__file__).with_name("crowds.py"))
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules["probe_crowds"] = module
    spec.loader.exec_module(module)
    return module
