"""A tiny recipe on disk, for tests of what is around a recipe, and tiny untrained models, for tests of what measures models."""

from __future__ import annotations

from pathlib import Path

import pytest

RECIPE = '''"""Count to a number, slowly enough to be killed."""

from __future__ import annotations

import os
from dataclasses import dataclass, field
from typing import Annotated

from pydantic import Field

from align.errors import DataError

MANY_PROCESSES = True


@dataclass(frozen=True)
class Optimizer:
    """How steps are taken."""

    lr: Annotated[float, Field(gt=0)] = 0.1
    """Step size."""


@dataclass(frozen=True)
class Config:
    """What to count."""

    seed: int = 0
    """Seed of everything random."""
    num_steps: Annotated[int, Field(ge=1)] = 3
    """How far."""
    fail: str = ""
    """Ends with this error."""
    optimizer: Optimizer = field(default_factory=Optimizer)


def main(config, run):
    if config.fail == "interrupt":
        raise KeyboardInterrupt
    if config.fail == "bug":
        raise TypeError("a fault")
    if config.fail:
        raise DataError(config.fail)
    for step in range(config.num_steps):
        run.log(step, value=step * config.optimizer.lr)
    return {"total": config.num_steps, "ranks": int(os.environ.get("WORLD_SIZE", "1")), "part": {"nan": float("nan")}}
'''
YAML = "seed: 0\nnum_steps: 3\nfail: ''\noptimizer:\n  lr: 0.5\n"


@pytest.fixture
def recipe_file(tmp_path: Path) -> Path:
    """A folder's count.py with its count.yaml."""
    (tmp_path / "count.yaml").write_text(YAML)
    path = tmp_path / "count.py"
    path.write_text(RECIPE)
    return path


JUDGED = ("spill", "breakage", "politeness", "success")


@pytest.fixture(scope="session")
def models(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a world model ``wm`` at 16x16 pixels, an ``adapter``, a ``judge`` and a ``reward`` model, all untrained."""
    import torch

    from align.audit.judge import JudgeConfig, OutcomeJudge
    from align.scenes import make_scene
    from align.world_models.adapters import add_lora, save_adapter
    from align.world_models.layout import TokenLayout
    from align.world_models.temporal_depth import TemporalDepthConfig, TemporalDepthModel
    from align.world_models.tokenizer import FrameTokenizer, TokenizerConfig
    from align.world_models.world_model import save_world_model
    from reward_models.backbones import Difference
    from reward_models.model import HeadConfig, RewardModel

    folder = tmp_path_factory.mktemp("models")
    torch.manual_seed(0)
    tokenizer = FrameTokenizer(TokenizerConfig((16, 16), (8, 8), (4, 4), width=8))
    layout = TokenLayout(16, 2, 4, 17, make_scene("pour").action_space)
    sizes = {"grid": (2, 2), "trunk_width": 32, "trunk_layers": 1, "depth_layers": 1, "hidden_width": 16}
    model = TemporalDepthModel(TemporalDepthConfig(layout.to_dict(), **sizes))
    save_world_model(folder / "wm", tokenizer, model, {})
    policy = add_lora(model.requires_grad_(False), 2, 4, 0)
    with torch.no_grad():
        for name, tensor in policy.named_parameters():
            if "lora_B" in name:
                tensor.normal_(std=1.0)
    save_adapter(policy, folder / "adapter", "action", "")
    OutcomeJudge(JudgeConfig(JUDGED, width=8, readable_threshold=0.0)).save(folder / "judge")
    reward = RewardModel(Difference(grid=2, num_moments=3), HeadConfig(JUDGED, 2, 3, 4, 11))
    reward.fail_slope.fill_(1.0)
    reward.fail_bias.fill_(0.0)
    reward.save_pretrained(folder / "reward")
    return folder
