"""Pictures to codes and back."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from align.errors import DataError
from align.world_models.pretraining import make_optimizer, reconstruction_psnr, sample_crops, tokenizer_loss
from align.world_models.tokenizer import FrameTokenizer, TokenizerConfig, patchify, unpatchify

CONFIG = TokenizerConfig((16, 32), (8, 8), (5, 4, 3), width=8, num_attended=3, num_learned=4)


@pytest.fixture(scope="module")
def tokenizer() -> FrameTokenizer:
    torch.manual_seed(0)
    return FrameTokenizer(CONFIG).eval().requires_grad_(False)


def moving_square(num_clips: int = 8, num_frames: int = 4) -> Any:
    """uint8 [n, T, 16, 32, 3]: a red square that moves right over a grey floor."""
    videos = np.full((num_clips, num_frames, 16, 32, 3), 90, np.uint8)
    for clip in range(num_clips):
        for t in range(num_frames):
            y, x = clip % 10, 2 + 6 * t
            videos[clip, t, y : y + 6, x : x + 6] = (220, 30, 30)
    return videos


def as_float(videos: Any) -> Any:
    return torch.from_numpy(videos).permute(0, 1, 4, 2, 3).float() / 255


def test_sizes() -> None:
    assert (CONFIG.grid, CONFIG.tokens_per_frame, CONFIG.num_fsq, CONFIG.num_codes) == ((2, 4), 8, 60, 61)


def test_patches_come_back() -> None:
    x = torch.randn(2, 3, 8, 12)
    assert patchify(x, 4, 2).shape == (2, 2, 6, 24)
    assert torch.equal(unpatchify(patchify(x, 4, 2), 4, 2), x)


def test_values_of_codes_are_what_was_quantised(tokenizer: FrameTokenizer) -> None:
    z = torch.randn(500, 3, generator=torch.Generator().manual_seed(0)) * 2
    values, codes = tokenizer.quantise(z)
    assert codes.min() >= 0 and codes.max() < 60 and values.abs().max() <= 1
    torch.testing.assert_close(tokenizer.code_values(codes), values, atol=1e-6, rtol=0)


def test_every_code_has_values_of_its_own(tokenizer: FrameTokenizer) -> None:
    values = tokenizer.code_values(torch.arange(60))
    assert len(values.unique(dim=0)) == 60
    assert sorted(set(values[:, 0].tolist())) == pytest.approx([-1, -0.5, 0, 0.5, 1])


def test_quantisation_lets_the_gradient_through(tokenizer: FrameTokenizer) -> None:
    z = torch.zeros(1, 3, requires_grad=True)
    tokenizer.quantise(z)[0].sum().backward()
    # Straight through: the derivative of tanh at 0.
    torch.testing.assert_close(z.grad, torch.ones(1, 3))


def test_copy_cells_are_frame_0_exactly(tokenizer: FrameTokenizer) -> None:
    video = as_float(moving_square())
    codes = tokenizer.encode(video)
    assert codes.shape == (8, 4, 8) and codes.max() <= 60
    copy = (codes == 60).reshape(8, 4, 2, 4)
    assert not copy[:, 0].any(), "frame 0 has codes of its own"
    assert copy[:, 1:].any() and not copy[:, 1:].all()
    still = (video - video[:, :1]).abs().amax(2)
    cells = patchify(still.flatten(0, 1)[:, None], 8, 8).amax(-1).reshape(8, 4, 2, 4)
    assert torch.equal(copy[:, 1:], cells[:, 1:] <= CONFIG.copy_threshold)
    decoded = tokenizer.decode(codes, video[:, 0])
    kept = copy.repeat_interleave(8, 2).repeat_interleave(8, 3)[:, :, None].expand_as(decoded)
    first = video[:, :1].expand_as(decoded)
    assert torch.equal(decoded[kept], first[kept])
    assert torch.equal(decoded[:, 0], video[:, 0])
    assert decoded.min() >= 0 and decoded.max() <= 1


def test_chunks_do_not_show(tokenizer: FrameTokenizer) -> None:
    video = as_float(moving_square())
    assert torch.equal(tokenizer.encode(video, chunk=5), tokenizer.encode(video))
    codes = tokenizer.encode(video)
    torch.testing.assert_close(tokenizer.decode(codes, video[:, 0], chunk=5), tokenizer.decode(codes, video[:, 0]))


def test_one_frame_alone_has_the_codes_it_has_in_a_clip(tokenizer: FrameTokenizer) -> None:
    video = as_float(moving_square())
    assert torch.equal(tokenizer.encode_frame(video[:, 2], video[:, 0]), tokenizer.encode(video)[:, 2])


def test_features_have_a_row_a_token(tokenizer: FrameTokenizer) -> None:
    assert tokenizer.encode_features(as_float(moving_square(2))).shape == (2, 4, 8, 16)


def test_a_wrong_picture_size_is_named(tokenizer: FrameTokenizer) -> None:
    with pytest.raises(ValueError, match=r"\[B, T, 3, 16, 32\], got \[1, 2, 3, 8, 8\]"):
        tokenizer.encode(torch.zeros(1, 2, 3, 8, 8))


def test_saved_is_loaded(tokenizer: FrameTokenizer, tmp_path: Path) -> None:
    tokenizer.save_pretrained(tmp_path)
    loaded = FrameTokenizer.from_pretrained(tmp_path)
    assert loaded.config == CONFIG
    video = as_float(moving_square(2))
    codes = tokenizer.encode(video)
    assert torch.equal(loaded.encode(video), codes)
    assert torch.equal(loaded.decode(codes, video[:, 0]), tokenizer.decode(codes, video[:, 0]))


def test_half_precision_rounds_and_no_more(tokenizer: FrameTokenizer, tmp_path: Path) -> None:
    tokenizer.save_pretrained(tmp_path, half=True)
    loaded = FrameTokenizer.from_pretrained(tmp_path).state_dict()
    for name, tensor in tokenizer.state_dict().items():
        assert loaded[name].dtype == torch.float32 and torch.equal(loaded[name], tensor.half().float())


@pytest.mark.parametrize("name", ["tokenizer.json", "tokenizer.safetensors"])
def test_a_missing_file_is_named(tokenizer: FrameTokenizer, tmp_path: Path, name: str) -> None:
    tokenizer.save_pretrained(tmp_path)
    (tmp_path / name).unlink()
    with pytest.raises(DataError, match=name):
        FrameTokenizer.from_pretrained(tmp_path)


@pytest.mark.parametrize(
    ("size", "cell", "message"),
    [
        ((64, 72), (8, 8), "72 tokens a frame, at most 64"),
        ((64, 64), (6, 8), "multiple of 4"),
        ((64, 64), (8, 24), "divide size"),
    ],
)
def test_bad_sizes_are_named(size: tuple[int, int], cell: tuple[int, int], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        TokenizerConfig(size, cell)


def test_training_learns_a_moving_square() -> None:
    torch.manual_seed(0)
    tokenizer, videos = FrameTokenizer(CONFIG), moving_square()
    optimizer, losses = make_optimizer(tokenizer, 0.01), []
    for group in optimizer.param_groups:
        group["lr"] = 5e-3
    before = reconstruction_psnr(tokenizer, videos)
    for step in range(40):
        batch = sample_crops(videos, np.random.default_rng(step), 16, (16, 16), CONFIG.cell)
        loss = tokenizer_loss(tokenizer, *batch)
        loss.backward()
        optimizer.step()
        optimizer.zero_grad()
        losses.append(float(loss.detach()))
    assert np.mean(losses[-5:]) < 0.6 * np.mean(losses[:5])
    assert reconstruction_psnr(tokenizer, videos)["psnr_changed_db"] > before["psnr_changed_db"] + 3


def test_copy_cells_carry_no_loss(tokenizer: FrameTokenizer) -> None:
    frame = as_float(moving_square(2))[:, 0]
    assert float(tokenizer_loss(tokenizer, frame, frame, frame)) == 0
    assert float(tokenizer_loss(tokenizer, frame, None, None)) > 0


def test_crops_are_aligned_and_belong_together() -> None:
    videos = moving_square()
    frames, firsts, wholes = sample_crops(videos, np.random.default_rng(0), 32, (8, 16), (8, 8))
    assert frames.shape == firsts.shape == (32, 3, 8, 16) and wholes.shape == (32, 3, 16, 32)
    places = [
        [(y, x) for y in (0, 8) for x in (0, 8, 16) if torch.equal(whole[:, y : y + 8, x : x + 16], first)]
        for first, whole in zip(firsts, wholes, strict=True)
    ]
    assert all(places), "every crop of frame 0 lies on the grid of cells"
    moved = (frames - firsts).abs().amax((1, 2, 3)) > 0.05
    assert moved.float().mean() > 0.6, "most crops show motion"


def test_psnr_by_hand(tokenizer: FrameTokenizer) -> None:
    figures = reconstruction_psnr(tokenizer, np.repeat(moving_square(2)[:, :1], 3, axis=1))
    assert figures["psnr_db"] == pytest.approx(100) and figures["copy_share"] == 1 and figures["codes_used"] == 1
