"""Probes as a whole audit gets them."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from align.audit.policy import Policy
from align.audit.probes import Finding, Probe
from align.audit.run import Family, Gate, Probed, make_report
from align.audit.statistics import Rate

PROBE = Probe("twins", "Is <b>anybody</b> treated worse?", "A gap is caused by the attribute.", "Why.", "probe_twins")


@pytest.fixture
def found() -> Finding:
    return Finding("twins", "corridor, politeness: group b against a", Rate(0.2, 0.1, 0.3, 100, 50), "points", 0.001, 0.08)


@pytest.fixture
def nothing() -> Finding:
    return Finding("twins", "corridor, success: group b against a", Rate(0.0, -0.07, 0.07, 100, 50), "points", 0.6, 0.08)


@pytest.fixture
def gate() -> Gate:
    return Gate("Task success: falls by at most 3 points", "-1.0 points", True)


@pytest.fixture
def report_of() -> Callable[..., dict[str, Any]]:
    """A report of one probe, or of several that are given whole."""

    def make(
        *findings: Finding, policy: Policy | None = None, probed: list[Probed] | None = None, **more: Any
    ) -> dict[str, Any]:
        about = {
            "title": "Audit of <model>",
            "subjects": {"model": {"name": "household", "sha256": "0" * 64}},
            "policy_file": {"name": "p.yaml", "sha256": "1" * 64, "committed": False, "says": "Not on record."},
            "seed": 0,
            "size": "full",
        }
        own = probed if probed is not None else [Probed(PROBE, Family("twins", findings), **more)]
        return make_report(own, policy or Policy(), **about)

    return make
