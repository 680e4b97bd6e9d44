"""Backbones: shapes, the arithmetic of the parameter-free one, the registry and the adapters."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from torch import Tensor, nn

from align.errors import ConfigError
from reward_models.backbones import (
    BACKBONES,
    Backbone,
    Difference,
    HuggingFaceVideo,
    TokenizerFeatures,
    build_backbone,
    choose_moments,
    describe_backbone,
)


class ToyTokenizer(nn.Module):
    """Cell means through a linear layer: the smallest thing with ``encode_features``."""

    def __init__(self, dim: int = 4) -> None:
        super().__init__()
        self.linear = nn.Linear(3, dim)

    def encode_features(self, video: Tensor) -> Tensor:
        cells = nn.functional.adaptive_avg_pool2d(video.flatten(0, 1), 2).unflatten(0, video.shape[:2])
        encoded: Tensor = self.linear(cells.flatten(3).transpose(2, 3))
        return encoded


def test_moments_spread_to_the_last_frame() -> None:
    assert choose_moments(16, 5) == [3, 6, 9, 12, 15]
    assert choose_moments(16, 1) == [15]
    assert choose_moments(3, 4) == [1, 1, 2, 2]
    with pytest.raises(ValueError, match="at least 2 frames"):
        choose_moments(1, 3)


def test_difference_written_out() -> None:
    # 3 frames of 4x4, 2x2 cells; in the last frame the top right cell turns half red (2 of 4 pixels), from black
    video = torch.zeros(1, 3, 3, 4, 4)
    video[0, 2, 0, 0, 2:] = 1.0
    features = Difference(grid=2, num_moments=2, threshold=0.1, smooth=1, tolerance=0.0).features(video)
    assert features.shape == (1, 2, 4, 11)
    assert features[0, 0].abs().sum() == 0
    half_red = [0.5, 0, 0, 0.5, 0, 0, 0.5, 0, 0, 0.5, 0.299 / 2]
    assert features[0, 1, 1].tolist() == pytest.approx(half_red, abs=1e-6)
    assert features[0, 1, [0, 2, 3]].abs().sum() == 0


def test_difference_forgives_small_drift_and_fine_noise() -> None:
    video = torch.full((1, 3, 3, 8, 8), 0.5)
    video[0, 1] += 0.04  # the whole frame drifts a little
    video[0, 2] += 0.3 * (-1.0) ** torch.arange(8)  # stripes that cancel within a box of two pixels
    features = Difference(grid=2, num_moments=2).features(video)
    assert features[..., :6].abs().max() < 1e-6 and features[..., 9:].abs().max() < 1e-6
    video[0, 2, 0, :4, :4] = 0.9  # a red cell: 0.4 less the tolerance
    assert Difference(grid=2, num_moments=2).features(video)[0, 1, 0, 0].item() == pytest.approx(0.35)


def test_difference_ignores_a_still_background() -> None:
    still = torch.rand(2, 1, 3, 16, 16, generator=torch.Generator().manual_seed(0)).expand(2, 5, 3, 16, 16)
    features = Difference().features(still)
    assert features[..., :6].abs().max() == 0 and features[..., 9:].abs().max() == 0


@pytest.mark.parametrize(
    ("video", "message"),
    [
        (torch.zeros(2, 3, 8, 8), "video must be float"),
        (torch.zeros(1, 2, 3, 8, 8, dtype=torch.uint8), "video must be float"),
        (torch.full((1, 2, 3, 8, 8), 255.0), r"\[0, 1\]"),
    ],
)
def test_bad_videos_are_named(video: Tensor, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        Difference().features(video)


def test_registry_rebuilds_from_the_description() -> None:
    again = build_backbone(describe_backbone(Difference(grid=4, num_moments=3, threshold=0.2, smooth=3, tolerance=0.1)))
    assert isinstance(again, Difference) and isinstance(again, Backbone)
    assert again.config() == {"grid": 4, "num_moments": 3, "threshold": 0.2, "smooth": 3, "tolerance": 0.1}
    assert {"difference", "tokenizer", "huggingface"} <= set(BACKBONES)


@pytest.mark.parametrize("config", [{"name": "nope"}, {"name": "difference", "gird": 8}, {"name": "difference", "grid": 0}, {}])
def test_bad_configs_are_refused(config: dict[str, object]) -> None:
    with pytest.raises(ConfigError, match="backbone"):
        build_backbone(config)


def test_tokenizer_is_frozen_and_known_by_its_weights() -> None:
    torch.manual_seed(0)
    module = ToyTokenizer()
    backbone = TokenizerFeatures(module, num_moments=2)
    video = torch.rand(3, 6, 3, 8, 8)
    features = backbone.features(video)
    assert torch.equal(features, module.encode_features(video)[:, [2, 5]])
    assert not features.requires_grad and not list(backbone.parameters())
    assert not any(parameter.requires_grad for parameter in module.parameters())
    record = describe_backbone(backbone)
    assert torch.equal(build_backbone(record, module).features(video), features)
    with pytest.raises(ConfigError, match="was trained on tokenizer"):
        build_backbone(record, ToyTokenizer())


def test_tokenizer_needs_encode_features() -> None:
    with pytest.raises(ConfigError, match="encode_features"):
        build_backbone({"name": "tokenizer"}, nn.Linear(2, 2))


def test_hugging_face_encoder_through_its_real_loader(tmp_path: Path) -> None:
    transformers = pytest.importorskip("transformers")
    sizes = {"hidden_size": 16, "num_hidden_layers": 1, "num_attention_heads": 2, "intermediate_size": 16}
    config = transformers.VideoMAEConfig(image_size=16, patch_size=8, num_frames=4, tubelet_size=2, **sizes)
    transformers.VideoMAEModel(config).save_pretrained(tmp_path)
    backbone = HuggingFaceVideo(str(tmp_path))
    video = torch.rand(2, 7, 3, 24, 24)
    features = backbone.features(video)
    assert features.shape == (2, 2, 4, 16)
    assert torch.equal(build_backbone(describe_backbone(backbone)).features(video), features)
    assert not torch.allclose(backbone.features(1 - video), features)


def test_a_missing_encoder_says_so(tmp_path: Path) -> None:
    pytest.importorskip("transformers")
    with pytest.raises(ConfigError, match="can't be loaded"):
        HuggingFaceVideo(f"{tmp_path}/nothing-here")


def test_a_backbone_that_wraps_no_module_ignores_one() -> None:
    assert isinstance(build_backbone({"name": "difference"}, ToyTokenizer()), Difference)
