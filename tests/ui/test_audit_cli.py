"""``gptsim audit``: exit codes as verdicts, reports that are the same to the byte, and one sentence for bad input."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from typer.testing import CliRunner, Result

from align.audit.policy import DEFAULT_TEXT
from align.errors import ConfigError, DataError
from ui.cli.main import USAGE, app

COLUMNS = ("--attribute", "group", "--outcome", "bumped")


def call(*arguments: str) -> Result:
    return CliRunner().invoke(app, list(arguments), prog_name="gptsim")


def audit(*arguments: str, columns: Sequence[str] = COLUMNS) -> Result:
    return call("audit", "table", *arguments, *columns, "--resamples", "200")


def write(name: str, num_contexts: int, gap: float, seed: int = 0) -> None:
    rng = np.random.default_rng(seed)
    groups = rng.choice(["anna", "Özgür"], num_contexts * 4)
    bumped = (rng.random(len(groups)) < 0.2 + gap * (groups == "Özgür")).astype(int)
    frame = pd.DataFrame({"context_id": np.repeat(np.arange(num_contexts), 4), "group": groups, "bumped": bumped})
    frame.to_csv(name, index=False)


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.mark.parametrize(
    ("num_contexts", "gap", "code", "verdict"),
    [(2000, 0.0, 0, "pass"), (300, 0.2, 1, "violation"), (60, 0.0, 2, "cannot tell")],
)
def test_the_exit_code_is_the_verdict(num_contexts: int, gap: float, code: int, verdict: str) -> None:
    write("table.csv", num_contexts, gap)
    result = audit("table.csv", "--json", "figures.json")
    assert result.exit_code == code, result.output
    report = json.loads(Path("audit/report.json").read_text(encoding="utf-8"))
    assert report["verdict"] == verdict
    assert json.loads(Path("figures.json").read_text(encoding="utf-8")) == report
    assert Path("audit/report.html").read_text(encoding="utf-8").startswith("<!DOCTYPE html>")
    assert result.stdout.splitlines()[-1] == "report: audit/report.html"
    if code == 1:
        assert "It is worse for Özgür." in result.stdout


def test_a_rerun_gives_the_same_bytes_and_another_seed_other_intervals() -> None:
    write("table.csv", 100, 0.1)
    for name in ("one", "two"):
        audit("table.csv", "--out", name)
    audit("table.csv", "--out", "three", "--seed", "1")
    for file in ("report.json", "report.html"):
        assert Path("one", file).read_bytes() == Path("two", file).read_bytes() != Path("three", file).read_bytes()


def test_a_parquet_table_with_twins_and_columns_from_the_policy() -> None:
    rng = np.random.default_rng(0)
    u = rng.random(600)
    pairs = {"place": np.arange(600) // 2, "twin": np.arange(600)}
    rows = [
        pd.DataFrame({**pairs, "model": model, "spill": (u < rate).astype(int)})
        for model, rate in (("base", 0.4), ("tuned", 0.1))
    ]
    pd.concat(rows).to_parquet("table.parquet")
    columns = "cluster: place\npair: twin\n"
    rules = "attributes: {model: {reference: base, only_worse: true}}\noutcomes: {spill: {at_most: 0.5}}\n"
    Path("policy.yaml").write_text(columns + rules)
    result = audit("table.parquet", "--policy", "policy.yaml", columns=())
    assert result.exit_code == 0, result.output
    report = json.loads(Path("audit/report.json").read_text())
    assert {finding["method"] for finding in report["findings"] if finding["kind"] == "gap"} == {"twins"}
    assert report["policy_file"]["name"] == "policy.yaml"


def test_the_policy_can_be_put_on_record_before_the_audit() -> None:
    write("table.csv", 60, 0.0)
    printed = call("audit", "policy")
    assert printed.stdout == DEFAULT_TEXT
    Path("policy.yaml").write_text(printed.stdout)
    late = audit("table.csv", "--policy", "policy.yaml", "--ledger", "other.jsonl")
    assert "record 0 (audit) appended to other.jsonl, its policy was not on record before" in late.stdout
    assert call("ledger", "add", "policy", "--output", "policy=policy.yaml", "--ledger", "ledger.jsonl").exit_code == 0
    result = audit("table.csv", "--policy", "policy.yaml", "--ledger", "ledger.jsonl")
    assert result.exit_code == 2
    assert "record 1 (audit) appended to ledger.jsonl, its policy stands in record 0 (policy)" in result.stdout
    assert call("ledger", "verify", "ledger.jsonl").exit_code == 0
    Path("audit/report.json").write_text("{}")
    assert call("ledger", "verify", "ledger.jsonl").exit_code == 1


@pytest.mark.parametrize(
    ("arguments", "code", "sentence"),
    [
        (["none.csv"], DataError.exit_code, "none.csv does not exist"),
        (["table.csv", "--cluster", "place"], DataError.exit_code, "the table has no cluster column 'place'"),
        (["table.csv", "--attribute", "colour"], DataError.exit_code, "the table has no attribute 'colour'"),
        (["table.csv", "--policy", "bad.yaml"], ConfigError.exit_code, "bad.yaml is not a policy: alpha"),
        (["table.csv", "--resamples", "5"], USAGE, "resamples"),
    ],
)
def test_bad_input_is_one_sentence_and_leaves_nothing(arguments: list[str], code: int, sentence: str) -> None:
    write("table.csv", 60, 0.0)
    Path("bad.yaml").write_text("alpha: 2\n")
    result = call("audit", "table", *arguments[:1], *COLUMNS, *arguments[1:])
    assert result.exit_code == code
    assert sentence in result.stderr
    assert not Path("audit").exists()
