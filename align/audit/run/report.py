"""The report of a whole audit: what every probe found, judged together, as plain values that are the same to the byte.

kind, version   "whole audit", 1
title           str
verdict         "pass", "violation" or "cannot tell"; headline and summary say it in words
subjects        {model, adapter, …: {name, sha256}}: what was audited
policy          all its fields; policy_file {name, sha256, committed, says}: whether the ledger held it before the audit
probes          [{name, asks, shows, cannot_show, recipe, settings, verdict, num_findings, notes, skipped}]; skipped says
                why a probe was not made, "" if it was
findings        violations first: see ``align.audit.run.judging``, and ``sentence``
gates           [{probe, name, text, verdict}]
clips           [{probe, caption, files: [{file, sha256, says}]}], paths seen from the report
num_tests       how many tests share the level
seed, size, software
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

from align import __version__
from align.audit.policy import Policy
from align.audit.probes.base import Probe
from align.audit.run.judging import Family, judge_families
from align.audit.run.words import say_finding, say_verdict
from align.audit.table.audit import round_figures
from align.audit.table.verdicts import CANNOT_TELL, PASS, VIOLATION
from align.io import to_jsonable

KIND = "whole audit"
VERSION = 1
MOST_CLIPS = 16
"""In a report."""
_ORDER = {VIOLATION: 0, CANNOT_TELL: 1, PASS: 2}


@dataclass(frozen=True)
class Gate:
    """Something that has to hold, whatever the statistics of others.

    Attributes:
        name: What has to hold.
        text: What was measured.
        passed: None where it could not be measured, which is not a pass.
    """

    name: str
    text: str
    passed: bool | None

    @property
    def verdict(self) -> str:
        """As the audit counts it."""
        return CANNOT_TELL if self.passed is None else (PASS if self.passed else VIOLATION)


@dataclass(frozen=True)
class Probed:
    """One probe: what it brought, or why it was not made.

    Attributes:
        probe: What it asks.
        family: Its findings.
        gates: What has to hold besides.
        notes: Sentences about what it saw that no verdict hangs on.
        clips: Films, see the module.
        settings: What it was run with.
        skipped: Why it was not made; "" if it was.
        failed: Whether it was not made, or found nothing to test, although all that it needs was given; such an audit can't
            pass.
    """

    probe: Probe
    family: Family
    gates: Sequence[Gate] = ()
    notes: Sequence[str] = ()
    clips: Sequence[Mapping[str, Any]] = ()
    settings: Mapping[str, Any] | None = None
    skipped: str = ""
    failed: bool = False


def make_report(
    probed: Sequence[Probed],
    policy: Policy,
    *,
    title: str,
    subjects: Mapping[str, Any],
    policy_file: Mapping[str, Any],
    seed: int,
    size: str,
) -> dict[str, Any]:
    """Judge everything together.

    Args:
        probed: Every probe, those that were not made included.
        policy: What is tolerated.
        title: Headline of the page.
        subjects: What was audited, with hashes.
        policy_file: Name and hash of the policy, and whether it was on record.
        seed: Of the audit.
        size: Of the audit.

    Returns:
        The report, see the module.
    """
    findings = judge_families([one.family for one in probed], policy)
    findings.sort(key=lambda finding: (_ORDER[finding["verdict"]], _rank(finding)))
    gates = [
        {"probe": one.probe.name, "name": g.name, "text": g.text, "verdict": g.verdict} for one in probed for g in one.gates
    ]
    missing = [one.probe.name for one in probed if _lacks(one, policy)]
    checks = [item["verdict"] for item in (*findings, *gates)]
    verdict = _overall(checks, missing)
    num_tests = sum(one.family.num_tests for one in probed)
    counts = {name: checks.count(name) for name in _ORDER}
    headline, summary = say_verdict(verdict, counts, num_tests, missing)
    report = {
        "kind": KIND,
        "version": VERSION,
        "title": title,
        "verdict": verdict,
        "headline": headline,
        "summary": summary,
        "subjects": subjects,
        "policy": policy.model_dump(),
        "policy_file": policy_file,
        "probes": [_about(one, findings, gates) for one in probed],
        "gates": sorted(gates, key=lambda gate: _ORDER[gate["verdict"]]),
        "clips": _worst_clips(probed, findings),
        "num_tests": num_tests,
        "seed": seed,
        "size": size,
        "software": __version__,
        "findings": findings,
    }
    plain: dict[str, Any] = round_figures(to_jsonable(report))
    for finding in plain["findings"]:
        finding["sentence"] = say_finding(finding, plain)
    return plain


def _lacks(one: Probed, policy: Policy) -> bool:
    """Whether the audit can't pass without what this probe did not bring; a probe that was made must have been able to ask."""
    if one.skipped:
        return one.failed or policy.probe(one.probe.name).required
    return one.failed or not (one.family.findings or one.gates)


def _rank(finding: Mapping[str, Any]) -> tuple[float, float]:
    """Within one verdict what is clearest comes first, then what is largest in units of what is tolerated."""
    size = abs(finding["effect"]["value"] or 0.0) / finding["tolerance"]
    p = finding["adjusted_p_value"]
    return (round(p, 9) if p == p else 2.0, -round(size, 9))


def _worst_clips(probed: Sequence[Probed], findings: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """Those of the clearest findings first; a clip belongs to the finding that it is called by."""
    place = {finding["name"]: number for number, finding in enumerate(findings)}
    clips = [{"probe": one.probe.name, **clip} for one in probed for clip in one.clips]
    return sorted(clips, key=lambda clip: place.get(clip["caption"], len(place)))[:MOST_CLIPS]


def _overall(verdicts: Sequence[str], missing: Sequence[str]) -> str:
    """One violation is a violation; a pass needs something that was checked and nothing that could not be."""
    if VIOLATION in verdicts:
        return VIOLATION
    return PASS if verdicts and CANNOT_TELL not in verdicts and not missing else CANNOT_TELL


def _about(one: Probed, findings: Sequence[Mapping[str, Any]], gates: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    own = [item["verdict"] for item in (*findings, *gates) if item["probe"] == one.probe.name]
    return {
        **asdict(one.probe),
        "settings": dict(one.settings or {}),
        "verdict": "not made" if one.skipped else _overall(own, [one.probe.name] if one.failed else []),
        "num_findings": len(own),
        "counts": {name: own.count(name) for name in _ORDER},
        "notes": list(one.notes),
        "skipped": one.skipped,
    }
