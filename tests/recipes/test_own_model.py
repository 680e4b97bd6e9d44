"""The commands of docs/your_own_model.md, as they stand there, on models small enough to take seconds."""

from __future__ import annotations

import re
import runpy
import shlex
import sys
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from align.io import read_json

pytestmark = pytest.mark.timeout(900)  # seconds on an idle machine, but a busy one is not a failure

PAGE = Path(__file__).parents[2] / "docs" / "your_own_model.md"
LM = {"hidden_size": 32, "intermediate_size": 48, "num_hidden_layers": 1, "num_attention_heads": 2}
LM |= {"num_key_value_heads": 1, "head_dim": 16}
DPO = ("num_steps=2", "batch_size=2", "save_every=2", "min_margin=0", "rank=2")
DREAM = ("samples_per_context=3", "num_workers=1")
TINY = {
    "film-pretrain": ("num_contexts=1", "num_workers=1"),
    "film-tune": ("num_contexts=6", "num_workers=1"),
    "film-held-out": ("num_contexts=1", "num_workers=1"),
    "pretrain": ("model_steps=4", "batch_size=2", "num_bins=5"),
    "dream": DREAM,
    "annotate": ("budget=200",),
    "reward": ("num_epochs=3", "num_members=2"),
    "dpo": DPO,
    "online": ("rounds=1", *DREAM, "dpo_steps=1", "batch_size=2", "min_margin=0", "rank=2", "kl_contexts=2"),
    "grpo": ("num_steps=2", "save_every=2", "contexts_per_step=2", "samples_per_context=2", "held_out=2", "held_out_samples=2"),
    "evaluate": ("num_workers=1",),
    "best": ("contexts=1", "n=[1, 2]", "num_workers=1"),
    "own": (*DPO, "anchor_weight=1"),
    "beside": (),
    "merged": (),
    "lm": (),
    "wrapped": DREAM,
}
"""What is appended to the command with this --name; every command of the page that has one stands here."""
LONG = {"online", "grpo", "best", "own", "merged", "lm", "wrapped"}
"""Left out of the short walk."""


def commands() -> list[str]:
    """The page's indented lines."""
    return [line.strip() for line in PAGE.read_text().splitlines() if re.match(r"    (gptsim|python|export) ", line)]


def write_sources() -> None:
    """The page's Python blocks, each under the file name that was mentioned last before it in backticks."""
    for before, source in re.findall(r"(.*?)```python\n(.*?)```", PAGE.read_text(), re.S):
        Path(re.findall(r"`(\w+\.py)`", before)[-1]).write_text(source)


def shrink(command: str, family: str) -> str:
    """The same command about a model with the same fields, but tiny ones."""
    if family != "qwen3":
        wanted = re.search(r"`(\{model_type: " + family + r".*?\})`", PAGE.read_text(), re.S)
        assert wanted, f"the page doesn't say what a {family} is"
        command = re.sub(r"\{model_type: .*?\}", " ".join(wanted[1].split()), command)
    for key, value in LM.items():
        command = re.sub(rf"\b{key}: \d+", f"{key}: {value}", command)
    return command.replace("tokenizers/mine 8", "tokenizers/mine 2")


def name_of(command: str) -> str:
    found = re.search(r"--name (\S+)", command)
    return found[1] if found else ""


def follow(command: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Do what a line of the page says, in this process."""
    words = shlex.split(command)
    if words[0] == "export":
        for word in words[1:]:
            monkeypatch.setenv(*word.split("=", 1))
    elif words[0] == "python":
        monkeypatch.setattr(sys, "argv", words[1:])
        runpy.run_path(words[1], run_name="__main__")
    else:
        gptsim(*words[1:], *TINY.get(name_of(command), ()))


def gptsim(*words: str, code: int = 0) -> str:
    from ui.cli.main import app

    result = CliRunner().invoke(app, list(words), prog_name="gptsim")
    assert result.exit_code == code, f"{words}\n{result.output}"
    return " ".join(result.output.split())


@pytest.fixture
def workplace(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty folder that modules are imported from; what they register is forgotten afterwards."""
    from align.world_models import tokenizers

    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(str(tmp_path))
    monkeypatch.setattr(tokenizers, "TOKENIZERS", dict(tokenizers.TOKENIZERS))
    monkeypatch.delitem(sys.modules, "my_tokenizer", raising=False)
    write_sources()
    return tmp_path


def test_every_command_of_the_page_is_walked() -> None:
    names = {name_of(command) for command in commands()} - {""}
    assert names == set(TINY) and names > LONG
    unnamed = [command for command in commands() if not name_of(command)]
    assert [command.split()[0] for command in unnamed] == ["export", "python", "gptsim", "python"]


def test_a_model_and_a_tokenizer_of_ones_own_go_from_clips_to_an_export(
    workplace: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from align.world_models.adapters import load_policy
    from align.world_models.world_model import load_world_model

    for command in commands():
        if name_of(command) not in LONG and "wrap.py" not in command:
            follow(shrink(command, "qwen3"), monkeypatch)
    world_model = load_world_model("exported/beside")
    assert world_model.info["tokenizer"] == "mean_colours" and type(world_model.tokenizer).__name__ == "MeanColours"
    assert world_model.model.config.inner["model_type"] == "qwen3"
    policy = load_policy(world_model.model, Path("exported/beside/adapter"))
    assert policy.dynamics is world_model.model and policy.behaviour is not policy.dynamics
    assert read_json("runs/evaluate/report.json")["verdict"] == "not measured"
    assert Path("mine/dpo.py").exists() and Path("mine/dpo.yaml").exists()
    again = ("run", "export", "model=models/mine", "adapter=adapters/dpo", "--name")
    assert "changes actions only" in gptsim(*again, "refused", "form=merged", "out=exported/wrong", code=6)
    assert not Path("exported/wrong").exists() and not Path("exported/wrong.partial").exists()
    assert "exists already" in gptsim(*again, "twice", "form=beside", "out=exported/beside", code=5)
    assert "exists already" in gptsim("run", "export", "--name", "twice", "--resume", code=5), "somebody's folder is left alone"
    Path("runs/beside/report.json").unlink()  # as if it had been killed after the last write
    gptsim("run", "export", "--name", "beside", "--resume")
    assert read_json("runs/beside/report.json")["out"] == "exported/beside"
    monkeypatch.delenv("GPTSIM_MODULES")
    from align.world_models import tokenizers

    tokenizers.TOKENIZERS.pop("mean_colours")
    said = gptsim("rollout", "--model", "exported/beside", "--contexts", "clips/tune", "--out", "other", code=5)
    assert "the tokenizer mean_colours is not known" in said and "GPTSIM_MODULES" in said


@pytest.mark.slow
@pytest.mark.parametrize("family", ["qwen3", "gpt_neox"])
def test_the_whole_page(family: str, workplace: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import torch
    from transformers import AutoModelForCausalLM

    from align.tuning.preflight import random_clips
    from align.world_models.adapters import load_policy
    from align.world_models.world_model import load_world_model

    for command in commands():
        follow(shrink(command, family), monkeypatch)
    causal_lm: Any = AutoModelForCausalLM.from_pretrained("exported/qwen")
    assert causal_lm.config.model_type == family
    base, merged, wrapped = (load_world_model(f).model for f in ("models/mine", "exported/merged", "models/wrapped"))
    tuned = load_policy(base, Path("adapters/shared")).behaviour
    ids = random_clips(base.layout, 2)
    with torch.no_grad():
        wanted = tuned.token_log_probs(ids)
        assert (wanted - base.token_log_probs(ids)).abs().max() > 0
        for other in (merged, wrapped):
            torch.testing.assert_close(other.token_log_probs(ids), wanted, atol=1e-5, rtol=0)
    assert read_json("runs/grpo/report.json")["out"] == "adapters/grpo"
    assert set(read_json("runs/best/report.json")) >= {"n1_pour", "n2_corridor"}
    assert read_json("runs/online/report.json")["arms"]["active"][-1]["kl"]["n"] == 2
