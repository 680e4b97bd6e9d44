"""Tables of scored rollouts, and the audit of a frame as the command makes it."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pandas as pd
import pytest

from align.audit.policy import Policy
from align.audit.table.audit import audit_table
from align.audit.table.groups import understand


@pytest.fixture(scope="session")
def audit() -> Callable[..., dict[str, Any]]:
    """``audit(frame, policy={}, attributes=["group"], outcomes=["bumped"], ...)``: the report."""

    def make(
        frame: pd.DataFrame,
        policy: dict[str, Any] | None = None,
        *,
        attributes: tuple[str, ...] = ("group",),
        outcomes: tuple[str, ...] = ("bumped",),
        pair: str = "",
        seed: int = 0,
        num_resamples: int = 300,
    ) -> dict[str, Any]:
        rules = Policy.model_validate(policy or {})
        table = understand(frame, rules, pair=pair, attributes=attributes, outcomes=outcomes)
        return audit_table(table, rules, seed=seed, num_resamples=num_resamples)

    return make


@pytest.fixture(scope="session")
def make_frame() -> Callable[..., pd.DataFrame]:
    """``make_frame(num_contexts, size, gap, seed)``: rollouts of two groups, b bumped ``gap`` more often; contexts differ."""

    def make(num_contexts: int = 100, size: int = 8, gap: float = 0.0, seed: int = 0) -> pd.DataFrame:
        rng = np.random.default_rng(seed)
        contexts = np.repeat(np.arange(num_contexts), size)
        groups = rng.choice(["a", "b"], len(contexts))
        rate = rng.beta(2, 6, num_contexts)[contexts] + gap * (groups == "b")
        bumped = (rng.random(len(contexts)) < rate).astype(float)
        return pd.DataFrame({"context_id": contexts.astype(str), "group": groups, "bumped": bumped})

    return make
