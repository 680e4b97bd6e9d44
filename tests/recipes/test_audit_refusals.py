"""What the whole audit refuses before it measures, what it leaves out of its report, and how it reads a probe's."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from align.audit.policy import Policy, load_policy
from align.errors import ConfigError, DataError
from align.io import write_json
from recipes._checks import CHECKS, read_probe
from recipes._run import Run
from recipes.audit import Config, _policy_file, check_policy, plan, strip_paths


@pytest.mark.parametrize(
    ("policy", "sentence"),
    [
        ({"probes": {"vote": {"required": True}}}, "got vote"),
        ({"confidence": 0.99}, "confidence"),
        ({"min_contexts": 9}, "min_contexts"),
    ],
)
def test_a_policy_that_could_not_be_kept_is_refused(policy: dict[str, Any], sentence: str) -> None:
    with pytest.raises(ConfigError, match=sentence):
        check_policy(Policy.model_validate(policy))
    check_policy(Policy.model_validate({"probes": {"votes": {"required": True}}}))


@pytest.mark.parametrize(
    ("fields", "sentence"),
    [
        ({"training": (".",)}, "the probe votes needs votes and rollouts; votes and rollouts is missing"),
        ({"judgements": "."}, "the probe votes needs"),
        ({"source_clips": (".",)}, "the probe sources needs source_clips and reward_model; reward_model is missing"),
        ({"settings": {"gates": {"adapter": "other"}}}, "settings.gates can't set adapter"),
        ({"settings": {"reward": {"tolerance": 5, "world_model": "m"}}}, "can't set tolerance, world_model"),
    ],
)
def test_what_would_be_skipped_or_overruled_in_silence_is_refused(fields: dict[str, Any], sentence: str) -> None:
    with pytest.raises(ConfigError, match=sentence):
        plan(Config(**fields))


def test_a_reward_model_without_source_clips_leaves_them_out() -> None:
    assert plan(Config(reward_model="."))["sources"] == "no source clips was given"
    assert "overoptimisation" not in plan(Config(reward_model=".", settings={"overoptimisation": {"contexts": 2}}))


@pytest.mark.parametrize("stage", [False, True])
def test_a_policy_that_changed_is_not_gone_on_with(tmp_path: Path, stage: bool) -> None:
    file = tmp_path / "policy.yaml"
    file.write_text("max_effect: 0.1\n")
    config = Config(policy=str(file))
    with Run.create(tmp_path / "runs", "audit", config) as run:
        before = _policy_file(config, run, load_policy(file)[1])
    if not stage:
        (run.path / "inputs.json").unlink()
    with Run.create(tmp_path / "runs", "audit", config, resume=True) as run:
        assert _policy_file(config, run, load_policy(file)[1]) == before
    if not stage:
        (run.path / "inputs.json").unlink()
    file.write_text("max_effect: 0.9\n")
    with (
        Run.create(tmp_path / "runs", "audit", config, resume=True) as run,
        pytest.raises(DataError, match="has changed since"),
    ):
        _policy_file(config, run, load_policy(file)[1])


def test_no_path_gets_into_the_report() -> None:
    assert strip_paths("could not read /home/me/data/votes.csv: no such file") == "could not read votes.csv: no such file"
    settings = {"clips": ["/home/me/a", "b/c"], "contexts": 3, "axes": {"pour": ("spill",)}}
    assert strip_paths(settings) == {"clips": ["a", "c"], "contexts": 3, "axes": {"pour": ["spill"]}}


def read_sources(folder: Path, unscored: int, policy: Policy, **more: Any) -> Any:
    (folder / "step").mkdir(exist_ok=True)
    (folder / "step" / "a.mp4").write_bytes(b"clip")
    clip = {"scene": "pour", "axis": "spill", "source": "web", "clip": "a.mp4", "says": "spill: 90 % unsafe"}
    write_json(folder / "step" / "report.json", {"clips": [clip], "num_clips": 100, "num_unscored": unscored, **more})
    return read_probe("sources", Config(), policy, {}, folder, "step")


@pytest.mark.parametrize(("unscored", "most", "passed"), [(0, 0.0, True), (1, 0.0, None), (5, 0.05, True), (90, 0.05, None)])
def test_clips_that_were_not_scored_are_not_safe(tmp_path: Path, unscored: int, most: float, passed: bool | None) -> None:
    policy = Policy.model_validate({"probes": {"sources": {"max_missing": most}}})
    [gate] = read_sources(tmp_path, unscored, policy).gates
    assert gate.passed is passed and f"{unscored} of 100" in gate.text


def test_a_source_clip_is_called_by_what_it_shows_and_says_one_sentence(tmp_path: Path) -> None:
    [clip] = read_sources(tmp_path, 0, Policy()).clips
    assert clip["caption"] == "pour, spill: web" and clip["files"][0]["says"] == ["spill: 90 % unsafe"]


def test_a_probe_without_findings_could_not_be_made(tmp_path: Path) -> None:
    assert read_sources(tmp_path, 0, Policy(), findings=[]).failed
    assert not read_sources(tmp_path, 0, Policy()).failed, "a probe of gates alone has none"
    assert CHECKS["sources"].wanted_by == ("source_clips",)
