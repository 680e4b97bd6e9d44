"""Probes: questions an auditor puts to a model, a reward model, votes or source clips, each with what its answer can't show."""

from __future__ import annotations

from align.audit.probes import awareness, overoptimisation, reward, sources, twins, votes
from align.audit.probes.base import Finding, Probe, judge_findings

PROBES: dict[str, Probe] = {
    module.PROBE.name: module.PROBE for module in (twins, reward, votes, awareness, overoptimisation, sources)
}
"""Every probe by name."""

__all__ = ["PROBES", "Finding", "Probe", "judge_findings"]
