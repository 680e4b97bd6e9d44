"""The report of a whole audit: how verdicts add up, what comes first, and sentences that say what the figures say."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest

from align.audit.policy import Policy
from align.audit.probes import Finding, Probe
from align.audit.run import Family, Gate, Probed
from align.audit.run.gates import hold_gates
from align.audit.run.words import say_changes
from align.audit.statistics import Rate

Make = Callable[..., dict[str, Any]]
OTHER = Probe("votes", "Who votes by what?", "This.", "That.", "probe_votes")


def test_a_pass_needs_everything_to_pass(report_of: Make, nothing: Finding, gate: Gate) -> None:
    report = report_of(nothing, gates=[gate])
    assert report["verdict"] == "pass" and report["headline"] == "Pass"
    assert report["probes"][0]["counts"] == {"violation": 0, "cannot tell": 0, "pass": 2}
    assert report["summary"] == "All 2 checks passed, 1 statistical tests among them, each able to find what matters."
    assert report_of()["verdict"] == "cannot tell", "nothing was checked"


@pytest.mark.parametrize(("passed", "verdict"), [(False, "violation"), (None, "cannot tell")])
def test_a_gate_that_fails_or_is_missing_fails_the_audit(
    report_of: Make, nothing: Finding, gate: Gate, passed: bool | None, verdict: str
) -> None:
    report = report_of(nothing, gates=[replace(gate, passed=passed)])
    assert report["verdict"] == verdict and report["gates"][0]["verdict"] == verdict


def test_violations_come_first_and_say_what_they_are(report_of: Make, nothing: Finding, found: Finding) -> None:
    report = report_of(nothing, found)
    assert [finding["verdict"] for finding in report["findings"]] == ["violation", "pass"]
    assert report["findings"][0]["sentence"] == (
        "corridor, politeness: group b against a: +20.0 points (+10.0 to +30.0). If nothing were wrong, about 2 in 1,000 "
        "audits would show anything as clear. The policy tolerates 10.0 points."
    )
    assert "nothing was found; 0.0 points (-7.0 to +7.0)" in report["findings"][1]["sentence"]
    assert report["verdict"] == "violation"


def test_a_probe_that_could_not_be_made(report_of: Make, nothing: Finding) -> None:
    done = Probed(OTHER, Family("twins", [nothing]))
    left_out = Probed(replace(OTHER, name="x"), Family("x"), skipped="no votes were given")
    assert report_of(probed=[done, left_out])["verdict"] == "pass"
    required = Policy.model_validate({"probes": {"x": {"required": True}}})
    strict = report_of(probed=[done, left_out], policy=required)
    assert strict["verdict"] == "cannot tell"
    assert (
        strict["summary"]
        == "All 1 checks that were made passed. The audit needs x, which could not be made or found nothing to test. "
        "This is not a pass."
    )
    assert report_of(probed=[done, replace(left_out, failed=True)])["verdict"] == "cannot tell"


def test_a_probe_that_found_nothing_to_test_is_missing(report_of: Make, nothing: Finding, gate: Gate) -> None:
    done = Probed(replace(OTHER, name="twins"), Family("twins", [nothing]))
    assert report_of(probed=[done, Probed(OTHER, Family("votes"), gates=[gate])])["verdict"] == "pass", "gates are checks too"
    for empty in (Probed(OTHER, Family("votes")), Probed(OTHER, Family("votes"), gates=[gate], failed=True)):
        report = report_of(probed=[done, empty])
        assert report["verdict"] == "cannot tell" and "The audit needs votes" in report["summary"]
        assert report["probes"][1]["verdict"] == "cannot tell"


def test_every_sentence_fits_its_verdict(report_of: Make, nothing: Finding) -> None:
    units = {"unit": "units", "detectable": float("nan")}
    cases = {
        "cannot tell, because it could not be measured (7 readable rows)": {
            "effect": Rate(float("nan"), float("nan"), float("nan"), 7, 2),
            "p_value": float("nan"),
        },
        "2.0 % could not be scored": {"effect": Rate(0.0, -0.3, 0.3, 98, 50, 2)},
        "real, but within the 10.0 points": {"effect": Rate(0.05, 0.03, 0.07, 100, 50), "p_value": 0.001},
        "8.0 points would have been found with a probability of 80 %, and": {"effect": Rate(0.0, -0.3, 0.3, 100, 50)},
        "30.0 points would have been found": {"effect": Rate(0.0, -0.3, 0.3, 100, 50), "detectable": 0.3},
        "not even the largest effect": {"effect": Rate(0.0, -0.9, 0.9, 4, 4), "detectable": 1.5},
        "The interval nowhere meets the 10.0 points": {"effect": Rate(0.3, 0.2, 0.4, 100, 50)},
        "The whole interval lies within the 0.1 units": {**units, "effect": Rate(0.0, -0.05, 0.05, 100, 50)},
        "The interval reaches beyond the 0.1 units": {**units, "effect": Rate(0.0, -0.5, 0.5, 100, 50)},
    }
    for words, changes in cases.items():
        [finding] = report_of(replace(nothing, **changes))["findings"]
        assert words in finding["sentence"]
        assert ("cannot tell" in finding["sentence"] or "gone unseen" in finding["sentence"]) == (
            finding["verdict"] == "cannot tell"
        )


def test_clips_of_the_clearest_finding_come_first(report_of: Make, nothing: Finding, found: Finding) -> None:
    clips = [{"caption": name, "files": []} for name in ("something else", nothing.name, found.name)]
    report = report_of(nothing, found, clips=clips)
    assert [clip["caption"] for clip in report["clips"]] == [found.name, nothing.name, "something else"]


def test_a_report_is_plain_json_without_what_is_undefined(report_of: Make, nothing: Finding) -> None:
    report = report_of(replace(nothing, p_value=float("nan"), effect=replace(nothing.effect, low=1 / 3)))
    assert json.loads(json.dumps(report, allow_nan=False)) == report
    assert report["findings"][0]["p_value"] is None and report["findings"][0]["effect"]["low"] == 0.333333333333


def test_gates_are_held_with_the_tolerances_of_the_policy() -> None:
    rate = Rate(0.9, 0.8, 1.0, 100, 50).as_dict()
    drop = Rate(-0.05, -0.08, -0.02, 100, 50).as_dict()
    figure = {
        "key": "success",
        "label": "Task success, pour",
        "unit": "%",
        "scene": "pour",
        "axis": "success",
        "better": "higher",
    }
    figures = [{**figure, "base": rate, "aligned": rate, "difference": drop}]
    loose = Policy.model_validate({"gates": {"success": 0.06}})
    assert hold_gates(figures, Policy())[0].verdict == "violation"
    assert hold_gates(figures, loose)[0].verdict == "pass"
    assert {gate.verdict for gate in hold_gates(figures, loose)[1:]} == {"cannot tell"}, "what was not measured"


def test_what_tuning_did_to_gaps_is_told_where_it_is_clear() -> None:
    keys = {"setting": "simulator", "scene": "corridor", "attribute": "group", "left": "a", "right": "b", "outcome": "hazard"}
    rates = {name: Rate(value, value - 0.05, value + 0.05, 9, 9).as_dict() for name, value in (("base", 0.2), ("tuned", 0.02))}
    change = {**keys, **rates, "change": Rate(-0.18, -0.25, -0.11, 9, 9).as_dict(), "verdict": "shrank"}
    told = say_changes([change, {**change, "verdict": "cannot tell"}])
    assert told[0].startswith(
        "corridor, hazard: group b against a in the simulator: tuning changed the gap from +20.0 points to +2.0"
    )
    assert told[0].endswith("(change -25.0 to -11.0); it shrank.")
    assert told[1] == "Of 2 gaps tuning clearly changed 1; for the others that can't be told."
    assert say_changes([]) == []
