"""The recipe ``probe_overoptimisation`` as a command, on a tiny untrained world model and reward model."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import yaml
from typer.testing import CliRunner

from align.audit.probes.pools import read_pools
from align.errors import DataError
from align.io import read_json, write_json
from recipes._pools import read_recorded

AXES = ("spill", "breakage", "politeness", "success")


def run(*wishes: str, recipe: str = "probe_overoptimisation", name: str = "", expect: int = 0) -> Any:
    """``gptsim run RECIPE …`` in this process; the figures of its report, or what it said where it is to fail."""
    from ui.cli.main import app

    arguments = ["run", recipe, "--name", name or recipe, "--runs", "runs", *wishes]
    result = CliRunner().invoke(app, arguments, prog_name="gptsim")
    assert result.exit_code == expect, result.output
    return result.output if expect else read_json(Path("runs") / (name or recipe) / "report.json")


@pytest.fixture(scope="module")
def models(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A world model at 16x16 pixels, a judge, a reward model, and a tuning run with two checkpoints, all untrained."""
    import torch

    from align.audit.judge import JudgeConfig, OutcomeJudge
    from align.scenes import make_scene
    from align.world_models.adapters import add_lora
    from align.world_models.layout import TokenLayout
    from align.world_models.temporal_depth import TemporalDepthConfig, TemporalDepthModel
    from align.world_models.tokenizer import FrameTokenizer, TokenizerConfig
    from align.world_models.world_model import save_world_model
    from reward_models.backbones import Difference
    from reward_models.model import HeadConfig, RewardModel

    folder = tmp_path_factory.mktemp("choosing")
    torch.manual_seed(0)
    tokenizer = FrameTokenizer(TokenizerConfig((16, 16), (8, 8), (4, 4), width=8))
    layout = TokenLayout(16, 2, 4, 17, make_scene("pour").action_space)
    sizes = {"grid": (2, 2), "trunk_width": 32, "trunk_layers": 1, "depth_layers": 1, "hidden_width": 16}
    model = TemporalDepthModel(TemporalDepthConfig(layout.to_dict(), **sizes))
    save_world_model(folder / "wm", tokenizer, model, {})
    policy = add_lora(model.requires_grad_(False), 2, 4, 0)
    for step, strength in ((5, 0.3), (10, 1.0)):
        with torch.no_grad():
            for name, tensor in policy.named_parameters():
                if "lora_B" in name:
                    tensor.normal_(std=strength)
        checkpoint = folder / "tuned" / "checkpoints" / f"checkpoint-{step}"
        policy.save_pretrained(str(checkpoint))
        write_json(checkpoint / "trainer_state.json", {"global_step": step})
    (folder / "tuned" / "config.yaml").write_text(yaml.safe_dump({"rank": 2, "alpha": 4, "path": "action"}))
    OutcomeJudge(JudgeConfig(AXES, width=8, readable_threshold=0.0)).save(folder / "judge")
    RewardModel(Difference(grid=2, num_moments=3), HeadConfig(AXES, 2, 3, 4, 11)).save_pretrained(folder / "reward")
    return folder


@pytest.fixture
def folder(models: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A working folder with links to the models."""
    for source in models.iterdir():
        (tmp_path / source.name).symlink_to(source)
    monkeypatch.chdir(tmp_path)
    return tmp_path


SMALL = (
    "model=wm",
    "reward_model=reward",
    "num_workers=1",
    "contexts=3",
    "samples=4",
    "axes={corridor: [politeness, success]}",
)


def test_pools_are_carried_out_and_checkpoints_followed(folder: Path) -> None:
    report = run(*SMALL, "checkpoints=[tuned]", "checkpoint_samples=2", "clips_shown=1")
    pools = pd.read_parquet("runs/probe_overoptimisation/pools.parquet")
    assert len(pools) == 12 and pools.groupby("context_id").size().eq(4).all()
    assert (pools["gold"] == (1 - pools["hazard"]) * (1 - pools["failure"])).all()
    followed = pd.read_parquet("runs/probe_overoptimisation/checkpoints.parquet")
    kl = followed.groupby("policy")["kl"].mean()
    assert kl["base"] == 0 < kl["tuned-checkpoint-5"] < kl["tuned-checkpoint-10"]
    assert (followed["kl"] >= 0).all()
    base = followed[followed["policy"] == "base"].merge(pools, on=["context_id", "sample"])
    assert len(base) == 6 and np.allclose(base["proxy_x"], base["proxy_y"]), "the same random numbers, the same dreams"
    choice, training = report["curves"]
    assert [point["label"] for point in choice["points"]] == ["n = 1", "n = 2", "n = 3", "n = 4"]
    assert [point["label"] for point in training["points"]] == ["base", "tuned-checkpoint-5", "tuned-checkpoint-10"]
    assert choice["points"][-1]["proxy"] == pytest.approx(pools.groupby("context_id")["proxy"].max().mean())
    assert choice["points"][-1]["gold"]["value"] == pytest.approx(
        pools.loc[pools.groupby("context_id")["proxy"].idxmax(), "gold"].mean()
    )
    assert {finding["name"].split(":")[0] for finding in report["findings"]} == {
        "corridor, best of n",
        "corridor, training",
        "corridor, hazard",
        "corridor, failure",
    }
    assert all(finding["status"] != "found" for finding in report["findings"]), "three contexts prove nothing"
    assert all((Path("runs/probe_overoptimisation") / name).is_file() for name in report["files"])
    assert len(report["clips"]) == 1 and (Path("runs/probe_overoptimisation") / report["clips"][0]["clip"]).is_file()
    about = read_json("runs/probe_overoptimisation/adapters/tuned-checkpoint-5/gptsim_adapter.json")
    assert about == {"path": "action"}, "frames stay the base's, as in the run that made it"


def test_own_tables_are_judged(folder: Path) -> None:
    rng = np.random.default_rng(0)
    context, exploit = np.repeat(np.arange(20), 40), rng.random(800) < 0.05
    table = pd.DataFrame({"context_id": context, "proxy": rng.normal(size=800) + 9 * exploit, "gold": 1.0 - exploit})
    table.assign(hazard=exploit.astype(float)).to_csv("scored.csv", index=False)
    report = run("table=scored.csv", "outcomes=[hazard]", "samples=40")
    assert [finding["status"] for finding in report["findings"]] == ["found", "found"]
    assert report["num_rollouts"] == 800 and report["clips"] == []
    assert "fitted gold is highest at n = " in report["turning_points"][0]


def test_own_rollouts_are_scored_and_judged(folder: Path) -> None:
    run("out=clips", "num_contexts=3", "samples_per_context=3", "scenes=[corridor]", "num_workers=1", recipe="simulate")
    wishes = ("model=wm", "reward_model=reward", "num_workers=1", "rollouts=clips")
    recorded = run(*wishes)
    table = pd.read_parquet("runs/probe_overoptimisation/pools.parquet")
    truth = pd.read_parquet("clips/metadata.parquet")
    assert table["hazard"].tolist() == truth["outcome_politeness"].tolist()
    assert table["failure"].tolist() == (1 - truth["success"]).tolist()
    assert recorded["curves"][0]["points"][-1]["label"] == "n = 3"
    judged = run(*wishes, "judge=judge", name="judged")
    assert judged["num_rollouts"] == 9


def test_an_interrupted_probe_goes_on(folder: Path) -> None:
    whole = run(*SMALL, "clips_shown=0", name="whole")
    (Path("runs/whole/report.json")).unlink()
    stage = Path("runs/whole/stages/pools.json")
    before = stage.stat().st_mtime_ns
    assert run("--resume", name="whole") == whole and stage.stat().st_mtime_ns == before


@pytest.mark.parametrize(
    ("wishes", "code", "reason"),
    [
        (("model=wm",), 4, "reward_model is empty"),
        (("table=a.csv", "rollouts=b"), 4, "both given"),
        ((*SMALL[:-1], "axes={corridor: [kindness]}"), 4, "has no axis kindness"),
        ((*SMALL[:-1], "axes={kitchen: [success]}"), 4, "scenes must be among"),
        ((*SMALL, "checkpoints=[judge.json]"), 5, "neither an adapter nor a tuning run"),
    ],
)
def test_mistakes_are_one_sentence(wishes: tuple[str, ...], code: int, reason: str, folder: Path) -> None:
    assert reason in " ".join(run(*wishes, expect=code).split())


def test_what_nobody_read_is_not_safe() -> None:
    """Which columns there are is decided by the scene, not by the rows of a job; an unread row stays unread."""
    nan = float("nan")
    columns = {"outcome_spill": [1.0, nan, 0.0, nan], "outcome_breakage": [nan, 0.0, 0.0, nan], "success": [nan] * 4}
    table = pd.DataFrame({"scene": "pour", **columns})
    assert read_recorded(table, "pour", [3])["hazard"].tolist() == pytest.approx([nan], nan_ok=True)
    truth = read_recorded(table, "pour", range(4))
    assert truth["hazard"].tolist() == pytest.approx([1, nan, 0, nan], nan_ok=True), "a hazard that was seen is one"
    assert "failure" not in truth, "no rollout says whether it succeeded"
    with pytest.raises(DataError, match="give judge"):
        read_recorded(table.assign(outcome_spill=nan, outcome_breakage=nan), "pour", [0])
    pools = pd.DataFrame({"context_id": [0, 0, 1, 1], "proxy": 0.0, "gold": 1.0, "failure": nan})
    with pytest.raises(DataError, match="no rollout's failure could be read"):
        read_pools(pools, ["failure"])
