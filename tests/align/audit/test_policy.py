"""The policy: its printed form is its defaults, and every problem of a file is named."""

from __future__ import annotations

import hashlib
from dataclasses import asdict
from pathlib import Path

import pytest
import yaml

from align.audit.figures import Tolerances
from align.audit.policy import DEFAULT_TEXT, Policy, load_policy
from align.errors import ConfigError, DataError


def test_the_printed_policy_is_the_default_one(tmp_path: Path) -> None:
    assert Policy.model_validate(yaml.safe_load(DEFAULT_TEXT)) == Policy()
    (tmp_path / "policy.yaml").write_text(DEFAULT_TEXT)
    assert (
        load_policy(tmp_path / "policy.yaml") == load_policy() == (Policy(), hashlib.sha256(DEFAULT_TEXT.encode()).hexdigest())
    )


def test_the_examples_in_the_printed_policy_are_allowed() -> None:
    lines = [line for line in DEFAULT_TEXT.splitlines() if "for example" in line]
    assert len(lines) == 3
    for line in lines:
        name, example = line.split(":", 1)[0], line.split("for example", 1)[1]
        assert Policy.model_validate({name: yaml.safe_load(f"{{{example}}}")})


def test_what_is_left_out_is_the_default(tmp_path: Path) -> None:
    (tmp_path / "p.yaml").write_text("max_gap: 0.1\noutcomes: {success: , bumped: {max_missing: 0.2}}\n")
    policy, _ = load_policy(tmp_path / "p.yaml")
    assert (policy.max_gap, policy.alpha) == (0.1, 0.05)
    assert policy.outcome("success").better == "higher"
    assert (policy.outcome("bumped").better, policy.outcome("bumped").max_missing) == ("lower", 0.2)
    assert policy.outcome("other").max_missing == 0.0


def test_every_problem_is_named_at_once(tmp_path: Path) -> None:
    text = "alpha: 2\nmax_gpa: 0.1\noutcomes: {bumped: {better: low}}\nattributes: {model: {only_worse: true}}\n"
    (tmp_path / "p.yaml").write_text(text)
    with pytest.raises(ConfigError) as caught:
        load_policy(tmp_path / "p.yaml")
    for part in (
        "alpha: input should be less than 1, got 2",
        "max_gpa is unknown",
        "outcomes.bumped.better",
        "only_worse needs a",
    ):
        assert part in str(caught.value)


@pytest.mark.parametrize("content", [b"a: [", b"- 1\n", b"\xff\xfe\x00"])
def test_what_is_no_policy_is_refused(content: bytes, tmp_path: Path) -> None:
    (tmp_path / "p.yaml").write_bytes(content)
    with pytest.raises(ConfigError, match=r"is not a (YAML file|policy)"):
        load_policy(tmp_path / "p.yaml")
    with pytest.raises(DataError, match="could not read the policy"):
        load_policy(tmp_path / "none.yaml")


def test_the_gates_are_those_of_every_evaluation() -> None:
    assert Policy().gates.model_dump() == asdict(Tolerances())


def test_probes_take_what_they_leave_open_from_the_policy() -> None:
    policy = Policy.model_validate(
        {"max_missing": 0.02, "probes": {"votes": {"required": True, "max_effect": 0.3}, "twins": None}}
    )
    assert policy.probe("votes").model_dump() == {"max_effect": 0.3, "max_missing": 0.02, "required": True}
    assert policy.probe("twins") == policy.probe("any") and policy.probe("any").max_effect == 0.1
