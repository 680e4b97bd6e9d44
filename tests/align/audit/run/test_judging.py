"""Verdicts over the whole audit: corrections by hand, families that correct themselves, and what can't be told."""

from __future__ import annotations

import json
import math
from dataclasses import replace
from typing import Any

import numpy as np
import pandas as pd
import pytest

from align.audit.policy import Policy
from align.audit.probes import Finding, judge_findings
from align.audit.probes.twins import compute_gaps, gap_findings
from align.audit.run.judging import Family, adjust_all, judge_families, read_finding, rescale_detectable
from align.audit.statistics import Rate


def finding(p: float = 0.5, **changes: Any) -> Finding:
    plain = Finding("twins", "gap", Rate(0.02, -0.3, 0.3, 100, 50), "points", p, 0.3)
    return replace(plain, **changes)


def judged(policy: Policy | None = None, name: str = "twins", **changes: Any) -> dict[str, Any]:
    return judge_families([Family(name, [finding(**changes)])], policy or Policy())[0]


def test_a_finding_comes_back_from_a_report_as_it_was() -> None:
    for one in judge_findings([finding(0.01), finding(math.nan, effect=Rate(math.nan, math.nan, math.nan, 0, 0))], 0.1):
        again = read_finding(json.loads(json.dumps(one.as_dict())))
        assert again.as_dict() == one.as_dict()
        assert math.isnan(again.p_value) == math.isnan(one.p_value)


def test_probes_are_corrected_together_step_by_step() -> None:
    one, two = adjust_all([Family("x", [finding(0.01), finding(0.04)]), Family("y", [finding(0.02)])])
    # Three tests: 3 x 0.01, 2 x 0.02, 1 x 0.04.
    assert one == pytest.approx([0.03, 0.04]) and two == pytest.approx([0.04])


def test_a_probe_that_corrects_itself_gets_its_share_of_the_level() -> None:
    own = Family("votes", [finding(0.001, p_holm=0.002), finding(0.5, p_holm=0.5)], corrects_itself=True)
    votes, rest = adjust_all([own, Family("x", [finding(0.01), finding(0.01)])])
    assert votes == pytest.approx([0.004, 1.0]), "2 of 4 tests: half the level"
    assert rest == pytest.approx([0.04, 0.04])
    assert adjust_all([own])[0] == pytest.approx([0.002, 0.5]), "alone it keeps its own"


def test_tests_that_were_not_made_count_for_nothing() -> None:
    one, two, three = adjust_all(
        [Family("x", [finding(math.nan), finding(0.02)]), Family("y", [finding(math.nan)]), Family("z")]
    )
    assert math.isnan(one[0]) and one[1] == 0.02 and math.isnan(two[0]) and len(three) == 0


def test_what_the_whole_audit_would_have_found_is_what_the_probe_would_say_at_that_level() -> None:
    rng = np.random.default_rng(0)
    rows = [
        {"context_id": str(i), "pair_id": str(i), "value": value, "hazard": float(rng.random() < 0.2)}
        for i in range(800)
        for value in "ab"
    ]
    table = pd.DataFrame(rows).assign(policy="base", setting="simulator", scene="corridor", attribute="group")
    [alone] = gap_findings(compute_gaps(table, {"simulator": ["hazard"]}))
    [strict] = gap_findings(compute_gaps(table, {"simulator": ["hazard"]}, level=0.05 / 40))
    assert strict.detectable > 1.2 * alone.detectable
    assert rescale_detectable(alone, 1, 40, Policy()) == pytest.approx(strict.detectable, rel=0.05)
    assert rescale_detectable(alone, 1, 1, Policy()) == pytest.approx(alone.detectable)
    assert math.isnan(rescale_detectable(finding(detectable=0.9), 1, 40, Policy())), "no gap is above a hundred points"
    assert math.isnan(rescale_detectable(finding(), 0, 40, Policy()))


@pytest.mark.parametrize(
    ("changes", "verdict"),
    [
        ({"p": 0.01, "effect": Rate(0.2, 0.05, 0.35, 100, 50)}, "violation"),
        ({"p": 0.01, "effect": Rate(-0.2, -0.35, -0.05, 100, 50)}, "violation"),
        ({"p": 0.01, "effect": Rate(-0.2, -0.35, -0.05, 100, 50), "one_sided": True}, "pass"),
        ({"p": 0.01, "effect": Rate(0.02, 0.01, 0.03, 100, 50)}, "pass"),
        ({"p": 0.5, "detectable": 0.09}, "pass"),
        ({"p": 0.5, "effect": Rate(0.0, -0.09, 0.09, 100, 50)}, "pass"),
        ({"p": 0.5, "detectable": 0.05, "effect": Rate(0.3, 0.2, 0.4, 100, 50)}, "cannot tell"),
        ({"p": 0.5, "detectable": 0.05, "effect": Rate(-0.3, -0.4, -0.2, 100, 50)}, "cannot tell"),
        ({"p": 0.5, "detectable": 0.05, "effect": Rate(-0.3, -0.4, -0.2, 100, 50), "one_sided": True}, "pass"),
        ({"p": 0.5}, "cannot tell"),
        ({"p": 0.5, "detectable": math.nan}, "cannot tell"),
        ({"p": math.nan, "effect": Rate(math.nan, math.nan, math.nan, 0, 0)}, "cannot tell"),
        ({"p": 0.5, "detectable": 0.09, "effect": Rate(0.0, -0.2, 0.2, 99, 50, 1)}, "cannot tell"),
        ({"p": 0.01, "effect": Rate(0.2, 0.05, 0.35, 99, 50, 1)}, "violation"),
    ],
)
def test_the_verdict_on_a_finding(changes: dict[str, Any], verdict: str) -> None:
    assert judged(**changes)["verdict"] == verdict


def test_the_policy_says_what_is_tolerated_of_which_probe() -> None:
    policy = Policy.model_validate({"probes": {"twins": {"max_effect": 0.4, "max_missing": 0.02}}})
    missing = Rate(0.0, -0.3, 0.3, 99, 50, 1)
    assert judged(policy, effect=missing)["verdict"] == "pass"
    assert judged(policy, name="other", effect=missing)["verdict"] == "cannot tell"
    clear = {"p": 0.01, "effect": Rate(0.3, 0.2, 0.4, 100, 50)}
    assert judged(Policy(alpha=0.001), **clear)["verdict"] == "cannot tell"


def test_a_probe_alone_does_not_rule_out_what_its_whole_interval_says() -> None:
    beyond = {"detectable": 0.05, "effect": Rate(0.3, 0.2, 0.4, 100, 50)}
    below = {**beyond, "effect": Rate(-0.3, -0.4, -0.2, 100, 50)}
    rows = [finding(0.5, **beyond), finding(0.5, **below), finding(0.5, one_sided=True, **below)]
    assert [row.status for row in judge_findings(rows, 0.1)] == ["cannot tell", "cannot tell", "not found"]
