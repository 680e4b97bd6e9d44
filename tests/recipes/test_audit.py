"""The whole audit as a command, on tiny untrained models: what it makes, that it is the same again, and what it refuses."""

from __future__ import annotations

import hashlib
import json
from dataclasses import fields
from importlib import import_module
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from align.audit.policy import DEFAULT_TEXT
from align.io import read_json, sha256_file
from recipes._checks import CHECKS, find_probe
from recipes.audit import Config, configure

TINY = (
    "model=wm",
    "judge=judge",
    "scenes=[corridor]",
    "num_workers=1",
    "settings.twins={contexts: 4, dream_contexts: 2, attributes: [group], clips_shown: 2}",
    "settings.gates={simulator_contexts: 3, dream_contexts: 2, honesty_contexts: 4, fidelity_contexts: 2, clips_shown: 1}",
    "settings.reward={contexts: 3, interventions: [brighter], attributes: [group]}",
    "settings.awareness={contexts: 2, cues: [corner], outcomes: [hazard]}",
    "settings.overoptimisation={contexts: 3, samples: 4, clips_shown: 0, axes: {corridor: [politeness, success]}}",
)
EVERYTHING = ("adapter=adapter", "reward_model=reward", *TINY)


def call(*arguments: str) -> Any:
    """``gptsim …`` in this process."""
    from ui.cli.main import app

    return CliRunner().invoke(app, list(arguments), prog_name="gptsim")


def audit(*wishes: str, name: str = "audit", code: int = 0) -> Any:
    """``gptsim run audit …``; its report, or what it said where it is to fail."""
    result = call("run", "audit", "--name", name, "--runs", "runs", *wishes)
    assert result.exit_code == code, result.output
    return result.output if code else read_json(Path("runs") / name / "report.json")


@pytest.fixture
def folder(models: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A working folder with links to the models."""
    for source in models.iterdir():
        (tmp_path / source.name).symlink_to(source)
    monkeypatch.chdir(tmp_path)
    return tmp_path


def test_everything_that_the_inputs_allow_is_asked_and_judged_together(folder: Path) -> None:
    report = audit(*EVERYTHING)
    probes = {probe["name"]: probe for probe in report["probes"]}
    assert list(probes) == list(CHECKS)
    assert {name for name, probe in probes.items() if not probe["skipped"]} == {
        "twins",
        "gates",
        "reward",
        "overoptimisation",
        "awareness",
    }
    assert probes["votes"]["skipped"] == "no votes and no rollouts was given"
    steps = ("twins-probe_twins", "reward-probe_reward", "overoptimisation-probe_overoptimisation", "awareness-probe_awareness")
    own = [finding["p_value"] for name in steps for finding in read_json(step(name))["findings"]]
    assert report["num_tests"] == sum(p is not None for p in own) > 0
    assert len(report["findings"]) == len(own) and report["verdict"] in ("violation", "cannot tell")
    assert len(report["gates"]) == len(read_json(step("gates-evaluate"))["gates"])
    assert set(report["subjects"]) == {"model", "adapter", "reward_model", "judge"}
    page = Path("runs/audit/report.html").read_text(encoding="utf-8")
    for clip in report["clips"]:
        for file in clip["files"]:
            assert sha256_file(Path("runs/audit") / file["file"]) == file["sha256"]
    assert page.count("<video") == sum(len(clip["files"]) for clip in report["clips"]) > 0


def step(name: str, run: str = "audit") -> Path:
    return Path("runs") / run / "steps" / name / "report.json"


def test_a_rerun_gives_the_same_bytes_and_another_seed_other_figures(folder: Path) -> None:
    for name, wishes in {"one": (), "two": (), "three": ("seed=1",)}.items():
        audit(*TINY, "settings.twins.clips_shown=1", *wishes, name=name)
    one, two, three = (Path("runs", name) for name in ("one", "two", "three"))
    for file in ("report.json", "report.html"):
        assert (one / file).read_bytes() == (two / file).read_bytes() != (three / file).read_bytes()


def test_the_report_says_whether_the_policy_was_on_record_before(folder: Path) -> None:
    Path("policy.yaml").write_text(DEFAULT_TEXT)
    wishes = (*TINY, "settings.twins.clips_shown=0", "settings.twins.dream_contexts=0", "policy=policy.yaml")
    digest = hashlib.sha256(DEFAULT_TEXT.encode()).hexdigest()
    for name in ("before", "again"):  # the first audit reads the policy, which doesn't put it on record for the second
        said = audit(*wishes, name=name)["policy_file"]
        assert (said["sha256"], said["committed"], said["record_hash"]) == (digest, False, "")
        assert "was not on record before the audit began" in said["says"]
    added = call("ledger", "add", "policy", "--output", "policy=policy.yaml", "--ledger", "runs/ledger.jsonl")
    assert added.exit_code == 0, added.output
    said = audit(*wishes, name="after")["policy_file"]
    assert said["committed"] and said["record_hash"] in Path("runs/ledger.jsonl").read_text()
    assert "was put on record before the audit began" in said["says"]
    default = audit(*wishes[:-1], name="default")["policy_file"]
    assert (default["name"], default["sha256"], default["committed"]) == ("default policy", digest, True)


def test_an_audit_that_was_interrupted_goes_on(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from recipes import probe_reward

    def stop(*_: Any) -> None:
        raise KeyboardInterrupt

    wishes = (*TINY, "reward_model=reward", "settings.twins.clips_shown=0")
    with monkeypatch.context() as patch:
        patch.setattr(probe_reward, "main", stop)
        assert "--name audit --resume" in audit(*wishes, code=130)
    twins = step("twins-probe_twins")
    before = twins.stat().st_mtime_ns
    assert audit("--resume")["probes"][2]["verdict"] != "not made"
    assert twins.stat().st_mtime_ns == before


def test_a_probe_that_the_data_do_not_allow_is_no_pass(folder: Path) -> None:
    Path("votes.csv").write_text("vote_id,pair_id,context_id,rollout_a,rollout_b,axis,vote\n")
    Path("rollouts").mkdir()
    Path("rollouts/notes.txt").write_text("no clips yet")
    report = audit("probes=[votes]", "votes=votes.csv", "rollouts=rollouts")
    votes = next(probe for probe in report["probes"] if probe["name"] == "votes")
    assert (votes["verdict"] == "not made" and "rollouts" in votes["skipped"]) or "votes" in votes["skipped"]
    assert report["verdict"] == "cannot tell" and "The audit needs votes" in report["summary"]


@pytest.mark.parametrize(
    ("wishes", "code", "sentence"),
    [
        (("adapter=nowhere",), 5, "adapter=nowhere does not exist"),
        (("votes=bad.yaml",), 4, "the probe votes needs votes and rollouts; rollouts is missing"),
        (("probes=[reward]",), 4, "the probe reward needs reward_model; reward_model is missing"),
        (("probes=[mood]",), 4, "probes must be among twins"),
        (("settings.mood.contexts=3",), 4, "probes must be among twins"),
        (("settings.twins.context=3",), 4, "context is unknown"),
        (("size=huge",), 4, "size"),
        (("policy=bad.yaml",), 4, "bad.yaml is not a policy: max_effect"),
    ],
)
def test_what_is_wrong_is_said_before_anything_is_measured(
    folder: Path, wishes: tuple[str, ...], code: int, sentence: str
) -> None:
    Path("bad.yaml").write_text("max_effect: no\n")
    assert sentence in audit("model=wm", *wishes, code=code)


def test_a_broken_ledger_is_not_written_on(folder: Path) -> None:
    Path("runs").mkdir()
    Path("runs/ledger.jsonl").write_text('{"index": 0}\n')
    assert "is not intact" in audit(*TINY, code=7)


@pytest.mark.parametrize("name", CHECKS)
@pytest.mark.parametrize("size", ["small", "full"])
def test_the_settings_of_every_size_are_fields_of_the_recipe(name: str, size: str) -> None:
    check, recipe = CHECKS[name], import_module(f"recipes.{find_probe(name).recipe}")
    configured = configure(Config(seed=7), recipe.Config, check, {}, check.sizes[size])
    assert configured.seed == 7
    assert {field.name for field in fields(Config)} >= {*check.needs, *check.renames.values()}
    assert json.dumps(check.sizes[size])
