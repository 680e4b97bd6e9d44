"""The reward model's scores and its folder."""

from __future__ import annotations

import json
import math
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from torch import Tensor, nn

from align.errors import DataError
from reward_models.backbones import Difference, TokenizerFeatures
from reward_models.calibration import FailCalibration, PairCalibration
from reward_models.heads import AxisHeads
from reward_models.model import HeadConfig, RewardModel, Scores, weighted_reward

CONFIG = HeadConfig(axes=("spill", "success"), num_members=3, num_moments=2, num_cells=4, feature_dim=11, lapse=0.06)


@pytest.fixture
def model() -> RewardModel:
    made = RewardModel(Difference(grid=2, num_moments=2), CONFIG, torch.Generator().manual_seed(0))
    made.set_calibration(0, torch.tensor([0.1, -0.2, 0.3]), PairCalibration(2.0, 0.4), FailCalibration(1.5, -0.5))
    return made.eval()


@pytest.fixture
def video() -> Tensor:
    return torch.rand(5, 4, 3, 16, 16, generator=torch.Generator().manual_seed(1))


def test_scores_are_the_members_mean_and_spread(model: RewardModel, video: Tensor) -> None:
    scores = model.score(video, batch_size=2)
    raw = model.heads[0](model.standardise(model.backbone.features(video)))
    members = 2.0 * (raw - torch.tensor([[0.1], [-0.2], [0.3]]))
    assert torch.allclose(scores.mean[:, 0], members.mean(0), atol=1e-6)
    assert torch.allclose(scores.uncertainty[:, 0], members.std(0, unbiased=False), atol=1e-6)
    assert torch.allclose(scores.lower_confidence_bound(2.0), scores.mean - 2 * scores.uncertainty)
    assert scores.axis("success") == 1
    with pytest.raises(ValueError, match="spill, success"):
        scores.axis("breakage")


def test_scores_with_gradient_are_the_scores_and_follow_the_pixels(model: RewardModel, video: Tensor) -> None:
    wanted = model.score(video)
    video.requires_grad_()
    scores = model.score_with_gradient(video)
    assert torch.allclose(scores.mean, wanted.mean, atol=1e-6)
    assert torch.allclose(scores.uncertainty, wanted.uncertainty, atol=2e-6)
    (slope,) = torch.autograd.grad(scores.lower_confidence_bound(0.5)[:, 0].sum(), video)
    assert (slope.flatten(2).abs().sum(-1) > 0).all(), "every frame is looked at here, the first one in every difference"
    step = 5e-4 * slope.sign()
    with torch.no_grad():
        rise = (model.score_with_gradient(video + step).mean - 0.5 * model.score_with_gradient(video + step).uncertainty)[:, 0]
    assert (rise > scores.lower_confidence_bound(0.5)[:, 0]).all()


def test_a_single_member_has_a_gradient_too(video: Tensor) -> None:
    config = replace(CONFIG, num_members=1)
    model = RewardModel(Difference(grid=2, num_moments=2), config, torch.Generator().manual_seed(0)).eval()
    scores = model.score_with_gradient(video.requires_grad_())
    (slope,) = torch.autograd.grad(scores.lower_confidence_bound(1.0).sum(), video)
    assert slope.isfinite().all() and (scores.uncertainty < 2e-6).all()


def test_a_clip_scores_the_same_in_any_company(model: RewardModel, video: Tensor) -> None:
    together = model.score(video).mean
    assert torch.allclose(together.flip(0), model.score(video.flip(0)).mean, atol=1e-6)
    assert torch.allclose(together[2:3], model.score(video[2:3]).mean, atol=1e-6)


def test_vote_probabilities_written_out(model: RewardModel) -> None:
    zero = torch.zeros(3, 1, 2)
    high = Scores(model.axes, torch.tensor([[2 * math.log(2), 0.0]]), zero[0], zero)
    low = Scores(model.axes, torch.zeros(1, 2), zero[0], zero)
    nu = math.exp(0.4)
    honest = model.vote_probabilities(high, low, lapse=False)[0]
    assert honest[0].tolist() == pytest.approx([2 / (2.5 + nu), 0.5 / (2.5 + nu), nu / (2.5 + nu)], abs=1e-6)
    assert honest[1].tolist() == pytest.approx([1 / 3] * 3, abs=1e-6)
    assert model.vote_probabilities(high, low)[0, 0, 0].item() == pytest.approx(0.94 * 2 / (2.5 + nu) + 0.02, abs=1e-6)


def test_fail_probability_written_out_and_nan_where_unknown(model: RewardModel, video: Tensor) -> None:
    mean = model.score(video).mean[:, 0]
    fail = model.hazard_probability(video)
    assert torch.allclose(fail[:, 0], 1 / (1 + torch.exp(1.5 * mean - 0.5)), atol=1e-6)
    assert fail[:, 1].isnan().all()


def test_weighted_reward_sums_bounds() -> None:
    scores = Scores(("spill", "success"), torch.tensor([[1.0, 2.0]]), torch.tensor([[0.5, 0.25]]), torch.zeros(1, 1, 2))
    assert weighted_reward(scores, {"success": 2.0, "spill": 1.0}, k=2.0).item() == pytest.approx(2 * 1.5 + 0.0)


def test_attention_is_a_distribution_and_heads_share_nothing(model: RewardModel, video: Tensor) -> None:
    features = model.standardise(model.backbone.features(video))
    head = model.heads[0]
    assert isinstance(head, AxisHeads)
    assert torch.allclose(head.attention(features).sum(-1), torch.ones(5, 3, 2), atol=1e-5)
    head(features)[1].sum().backward()
    assert head.query.grad is not None
    assert head.query.grad[1].abs().sum() > 0 and head.query.grad[[0, 2]].abs().sum() == 0
    assert all(parameter.grad is None for parameter in model.heads[1].parameters())


def test_position_matters(model: RewardModel) -> None:
    head = model.heads[0]
    assert isinstance(head, AxisHeads)
    features = torch.randn(1, 2, 4, 11, generator=torch.Generator().manual_seed(3))
    assert not torch.allclose(head(features), head(features.flip(2)))


def test_saved_and_loaded_scores_are_identical(model: RewardModel, video: Tensor, tmp_path: Path) -> None:
    folder = tmp_path / "deep" / "reward"
    model.save_pretrained(folder)
    assert sorted(path.name for path in folder.iterdir()) == ["config.json", "model.safetensors"]
    assert [path.name for path in folder.parent.iterdir()] == ["reward"]
    again = RewardModel.from_pretrained(folder)
    assert again.config == model.config
    assert torch.equal(again.score(video).members, model.score(video).members)
    assert torch.equal(again.hazard_probability(video)[:, 0], model.hazard_probability(video)[:, 0])


def test_a_folder_is_replaced_only_on_demand_and_only_if_ours(model: RewardModel, tmp_path: Path) -> None:
    folder = tmp_path / "reward"
    model.save_pretrained(folder)
    with pytest.raises(DataError, match="already exists"):
        model.save_pretrained(folder)
    model.save_pretrained(folder, overwrite=True)
    assert [path.name for path in tmp_path.iterdir()] == ["reward"]
    foreign = tmp_path / "thesis"
    foreign.mkdir()
    (foreign / "config.json").write_text("{}")
    with pytest.raises(DataError, match="already exists"):
        model.save_pretrained(foreign, overwrite=True)
    assert (foreign / "config.json").read_text() == "{}"


def test_a_failed_save_leaves_nothing(model: RewardModel, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*_: object) -> None:
        raise OSError("disk full")

    monkeypatch.setattr("reward_models.saving.save_file", fail)
    with pytest.raises(OSError, match="disk full"):
        model.save_pretrained(tmp_path / "reward")
    assert list(tmp_path.iterdir()) == []


def edit_config(folder: Path, **changes: object) -> None:
    record = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps({**record, **changes}))


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (lambda folder: (folder / "model.safetensors").unlink(), "is not a reward model: it needs"),
        (lambda folder: (folder / "config.json").write_text("{broken"), "is not a reward model: its config.json"),
        (lambda folder: edit_config(folder, format="bert"), "is not a reward model: its config.json"),
        (lambda folder: edit_config(folder, format_version=99), "format 99"),
        (lambda folder: (folder / "model.safetensors").write_bytes(b"\x00" * 50), "damaged"),
        (lambda folder: edit_config(folder, heads={"axes": ["spill"]}), "damaged"),
        (lambda folder: edit_config(folder, heads={**CONFIG.__dict__, "width": 7}), "damaged"),
        (lambda folder: edit_config(folder, backbone=None), "damaged"),
    ],
)
def test_a_damaged_folder_says_so(model: RewardModel, tmp_path: Path, damage: object, message: str) -> None:
    folder = tmp_path / "reward"
    model.save_pretrained(folder)
    damage(folder)  # type: ignore[operator]
    with pytest.raises(DataError, match=message) as caught:
        RewardModel.from_pretrained(folder)
    assert "\n" not in str(caught.value)


def test_a_missing_folder_says_so(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="is not a reward model"):
        RewardModel.from_pretrained(tmp_path / "nothing")


def test_a_wrapped_network_is_handed_in_again(tmp_path: Path, video: Tensor) -> None:
    class Cells(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.gain = nn.Parameter(torch.rand(3, generator=torch.Generator().manual_seed(5)))

        def encode_features(self, clips: Tensor) -> Tensor:
            return (clips.mean((3, 4)) * self.gain).unsqueeze(2)

    cells = Cells()
    shape = HeadConfig(("spill",), num_members=2, num_moments=2, num_cells=1, feature_dim=3)
    model = RewardModel(TokenizerFeatures(cells, num_moments=2), shape)
    model.save_pretrained(tmp_path / "reward")
    again = RewardModel.from_pretrained(tmp_path / "reward", module=cells)
    assert torch.equal(again.score(video).mean, model.score(video).mean)


def test_a_network_that_the_backbone_does_not_wrap_is_ignored(model: RewardModel, video: Tensor, tmp_path: Path) -> None:
    """Recipes offer the world model's tokenizer whatever the backbone is."""
    model.save_pretrained(tmp_path / "reward")
    again = RewardModel.from_pretrained(tmp_path / "reward", module=nn.Linear(1, 1))
    assert torch.equal(again.score(video).mean, model.score(video).mean)


def test_the_votes_of_training_are_listed_sorted_and_once(model: RewardModel, tmp_path: Path) -> None:
    model.save_pretrained(tmp_path / "known", votes_used=["v2", "v1", "v2"])
    assert json.loads((tmp_path / "known" / "votes_used.json").read_text()) == ["v1", "v2"]
    model.save_pretrained(tmp_path / "unknown")
    assert not (tmp_path / "unknown" / "votes_used.json").exists(), "no list is not an empty list"
    assert RewardModel.from_pretrained(tmp_path / "known").axes == model.axes
