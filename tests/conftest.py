"""Every test runs on the CPU, offline, with one thread and without a display."""

from __future__ import annotations

import os
from collections.abc import Iterator

import pytest
from hypothesis import settings

# Set before anything imports torch or numpy, and inherited by the commands that tests start. OMP_NUM_THREADS gives torch
# one thread without the seconds that importing torch costs tests which don't need it.
os.environ.update(
    {
        "CUDA_VISIBLE_DEVICES": "",
        "HF_HUB_DISABLE_TELEMETRY": "1",
        "HF_HUB_OFFLINE": "1",
        "MPLBACKEND": "Agg",
        "OMP_NUM_THREADS": "1",
        "TERM": "dumb",
    }
)
for name in ("GPTSIM_DEBUG", "FORCE_COLOR"):
    os.environ.pop(name, None)

# Examples are the same on every run, and a slow machine is not a failure.
settings.register_profile("gptsim", deadline=None, derandomize=True, database=None)
settings.load_profile("gptsim")


@pytest.fixture(autouse=True)
def keep_priority() -> Iterator[None]:
    """No test may leave its process with another scheduling policy: everything that is started later inherits it."""
    before = os.sched_getscheduler(0) if hasattr(os, "sched_getscheduler") else None
    yield
    if before is not None:
        assert os.sched_getscheduler(0) == before
