"""``gptsim audit run``: the verdict as exit code, findings in words, options that reach the recipe, one sentence for errors."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner, Result

from align.audit.probes import Finding
from align.audit.statistics import Rate
from align.errors import ConfigError, DataError
from align.io import read_json
from ui.cli.main import app

SAME = Rate(0.0, -0.2, 0.2, 500, 500)


def call(*arguments: str) -> Result:
    """``gptsim audit run …``, of the one probe that is planted."""
    return CliRunner().invoke(app, ["audit", "run", "--runs", "runs", "probes=[twins]", *arguments], prog_name="gptsim")


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.fixture
def twins_find(monkeypatch: pytest.MonkeyPatch) -> Callable[..., list[Any]]:
    """Let the probe of twins find something; the configurations that it is run with are returned."""

    def plant(effect: Rate, p_value: float, detectable: float) -> list[Any]:
        from recipes import probe_twins

        seen: list[Any] = []
        finding = Finding("twins", "corridor, politeness: group b against a", effect, "points", p_value, detectable)

        def main(config: Any, run: Any) -> dict[str, Any]:
            seen.append(config)
            return {"findings": [finding.as_dict()], "changes": [], "clips": []}

        monkeypatch.setattr(probe_twins, "main", main)
        return seen

    return plant


@pytest.mark.parametrize(
    ("effect", "p_value", "detectable", "code", "verdict"),
    [
        (SAME, 0.5, 0.08, 0, "pass"),
        (Rate(0.2, 0.1, 0.3, 500, 500), 1e-5, 0.08, 1, "violation"),
        (SAME, 0.5, 0.3, 2, "cannot tell"),
    ],
)
def test_the_exit_code_is_the_verdict(
    twins_find: Callable[..., list[Any]], effect: Rate, p_value: float, detectable: float, code: int, verdict: str
) -> None:
    twins_find(effect, p_value, detectable)
    result = call("--name", "x", "--json", "figures.json")
    assert result.exit_code == code, result.output
    report = read_json("runs/x/report.json")
    assert report["verdict"] == verdict and read_json("figures.json") == report
    assert f"{report['headline']}. {report['summary']}" in result.stdout
    assert ("corridor, politeness" in result.stdout) == (verdict != "pass")
    assert result.stdout.splitlines()[-1] == "run folder: runs/x"
    again = call("--name", "x", "--resume")
    assert again.exit_code == code, "a finished audit keeps its verdict"


def test_options_and_settings_reach_the_probes(twins_find: Callable[..., list[Any]]) -> None:
    seen = twins_find(SAME, 0.5, 0.08)
    Path("odd: policy.yaml").write_text("max_effect: 0.05\n")
    result = call(
        "--policy", "odd: policy.yaml", "--size", "full", "--seed", "3", "settings.twins.contexts=99", "num_workers=1"
    )
    assert result.exit_code == 2, "8 points would have been found, 5 are tolerated"
    [config] = seen
    assert (config.seed, config.contexts, config.dream_contexts, config.tolerance) == (3, 99, 1024, 0.05)


@pytest.mark.parametrize(
    ("arguments", "code", "sentence"),
    [
        (["--adapter", "nowhere"], DataError.exit_code, "adapter=nowhere does not exist"),
        (["--policy", "none.yaml"], DataError.exit_code, "could not read the policy none.yaml"),
        (["--size", "huge"], ConfigError.exit_code, "size"),
        (["--resume"], ConfigError.exit_code, "--resume needs --name"),
    ],
)
def test_what_is_wrong_is_one_sentence(arguments: list[str], code: int, sentence: str) -> None:
    result = call(*arguments)
    assert result.exit_code == code
    assert sentence in result.stderr and "Traceback" not in result.stderr
