"""Train a frame tokenizer and a token world model from any clip folder."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from recipes._run import Run

if TYPE_CHECKING:
    import numpy as np
    import torch

    from align.video.folder import ClipFolder
    from align.world_models.base import TokenWorldModel
    from align.world_models.layout import TokenLayout
    from align.world_models.tokenizer import FrameTokenizer


@dataclass(frozen=True)
class TokenizerSizes:
    """The frame tokenizer; see ``align.world_models.tokenizer.TokenizerConfig``."""

    folder: str = ""
    """A finished tokenizer, which is taken as it is; empty trains one of ours, of the sizes below."""
    name: str = "fsq"
    """What kind of tokenizer is in that folder; one of your own must be in ``align.world_models.tokenizers.TOKENIZERS``."""
    size: tuple[int, int] = (64, 64)
    """Height and width that clips are brought to."""
    cell: tuple[int, int] = (8, 16)
    """Height and width of a token's cell in pixels."""
    levels: tuple[int, ...] = (8, 8, 8, 4)
    """FSQ levels; their product is the number of codes."""
    width: int = 64
    """Channels."""
    copy_threshold: float = 0.08
    """A cell is COPY where no pixel differs from frame 0 by more than this (of 1). Raise it for noisy cameras."""


@dataclass(frozen=True)
class ModelSizes:
    """The world model."""

    shape: str = "temporal_depth"
    """temporal_depth, or flat for any Hugging Face causal LM."""
    trunk_width: int = 256
    """Temporal + depth: width of the trunk."""
    trunk_layers: int = 3
    """Temporal + depth: layers of the trunk."""
    depth_layers: int = 3
    """Temporal + depth: layers of the decoder inside a frame."""
    hidden_width: int = 128
    """Temporal + depth: width of the decoder inside a frame."""
    causal_lm: dict[str, Any] = field(
        default_factory=lambda: {"model_type": "llama", "hidden_size": 256, "intermediate_size": 704, "num_hidden_layers": 4}
    )
    """Flat: config of the causal LM, ``model_type`` included."""


@dataclass(frozen=True)
class Config:
    """What to train on what."""

    clips: str = "clips/household"
    """Clip folder with actions; every clip of one length."""
    out: str = ""
    """Folder of the world model; empty puts it into the run folder."""
    tokenizer: TokenizerSizes = field(default_factory=TokenizerSizes)
    """Sizes of the tokenizer."""
    model: ModelSizes = field(default_factory=ModelSizes)
    """Sizes of the world model."""
    num_bins: int = 11
    """Levels per action dim."""
    held_out: int = 512
    """Clips kept apart for the figures (at most a tenth)."""
    tokenizer_clips: int = 6000
    """Clips that the tokenizer is trained on; they are held in memory."""
    tokenizer_steps: int = 6000
    """Steps of 64 crops."""
    model_steps: int = 12000
    """Steps of the world model."""
    batch_size: int = 32
    """Clips a step of the world model."""
    learning_rate: float = 1e-3
    """Peak of AdamW's learning rate for both."""
    action_weight: float = 0.2
    """Weight of an action token's loss beside a frame token's."""
    checkpoint_every: int = 500
    """Steps between checkpoints."""
    half: bool = True
    """Save fp16 weights."""
    seed: int = 0
    """Seed of initialisation and order."""


def main(config: Config, run: Run) -> dict[str, Any]:
    """Train both and write the world model's folder; returns held-out figures."""
    import torch

    from align.video.folder import load_clip_folder
    from align.world_models.pretraining import held_out_nll
    from align.world_models.world_model import save_world_model

    torch.manual_seed(config.seed)
    folder = load_clip_folder(config.clips)
    digest = run.record_input("clips", config.clips)
    out = Path(config.out) if config.out else run.path / "world_model"
    tokenizer, figures = _train_tokenizer(config, run, folder)
    layout, codes, bins = _encode_all(config, run, folder, tokenizer)
    # Again, because a resumed run has drawn other numbers on its way here.
    torch.manual_seed(config.seed)
    model = _make_model(config, layout, tokenizer)
    held = _num_held_out(config, len(codes))
    _train_model(config, run, model, codes[held:], bins[held:])
    with torch.no_grad():
        figures |= held_out_nll(model.eval(), codes[:held], bins[:held])
    info = {
        "axes": folder.info.get("axes", []),
        "scenes": folder.info.get("scenes", []),
        "source": folder.info.get("source", ""),
        "fps_hz": float(folder.table["fps_hz"].iloc[0]),
        "clips_sha256": digest,
        "num_clips": len(folder),
        "figures": figures,
    }
    save_world_model(out, tokenizer, model, info, half=config.half)
    return {**figures, "out": str(out), "parameters": sum(p.numel() for p in model.parameters())}


def _num_held_out(config: Config, num_clips: int) -> int:
    return max(1, min(config.held_out, num_clips // 10))


def _read(folder: ClipFolder, indices: list[int], size: tuple[int, int]) -> np.ndarray:
    import numpy as np

    return np.stack([folder.video(i, size) for i in indices])


def _train_tokenizer(config: Config, run: Run, folder: ClipFolder) -> tuple[FrameTokenizer, dict[str, float]]:
    import numpy as np
    import torch

    from align.world_models.pretraining import reconstruction_psnr, sample_crops, tokenizer_loss
    from align.world_models.tokenizer import FrameTokenizer, TokenizerConfig

    sizes = config.tokenizer
    if sizes.folder:
        return _take_tokenizer(config, run, folder)
    tokenizer = FrameTokenizer(
        TokenizerConfig(sizes.size, sizes.cell, sizes.levels, sizes.width, copy_threshold=sizes.copy_threshold)
    )
    held = _num_held_out(config, len(folder))
    if (saved := run.done("tokenizer")) is not None:
        return FrameTokenizer.from_pretrained(run.path / "tokenizer"), saved
    with run.stage("tokenizer", "pictures become a few dozen codes, so that a small model can dream them") as results:
        rows = np.random.default_rng(config.seed).permutation(np.arange(held, len(folder)))[: config.tokenizer_clips]
        videos = _read(folder, sorted(rows.tolist()), sizes.size)
        crop = (min(sizes.size[0], 4 * sizes.cell[0]), min(sizes.size[1], 2 * sizes.cell[1]))

        def loss(step: int, _: torch.Generator) -> tuple[torch.Tensor, dict[str, float]]:
            rng = np.random.default_rng([config.seed, step])
            if step % 8 == 7:
                pick = rng.integers(0, len(videos), 12)
                whole = torch.from_numpy(videos[pick, 0]).permute(0, 3, 1, 2).float().div(255)
                return tokenizer_loss(tokenizer, whole, None, None), {}
            value = tokenizer_loss(tokenizer, *sample_crops(videos, rng, 64, crop, sizes.cell))
            return value, {"loss": float(value.detach())}

        _optimise(config, run, "tokenizer", tokenizer, loss, config.tokenizer_steps)
        tokenizer.eval().save_pretrained(run.path / "tokenizer")
        results |= reconstruction_psnr(tokenizer, _read(folder, list(range(min(held, 64))), sizes.size))
    return tokenizer, dict(results)


def _take_tokenizer(config: Config, run: Run, folder: ClipFolder) -> tuple[FrameTokenizer, dict[str, float]]:
    """Somebody's finished tokenizer, and how well it shows held-out clips."""
    from align.world_models.pretraining import reconstruction_psnr
    from align.world_models.tokenizers import load_tokenizer

    run.record_input("tokenizer", config.tokenizer.folder)
    tokenizer = load_tokenizer(config.tokenizer.name, Path(config.tokenizer.folder))
    if (figures := run.done("tokenizer")) is None:
        with run.stage("tokenizer", "how much of the pictures its codes keep") as figures:
            rows = list(range(min(_num_held_out(config, len(folder)), 64)))
            figures |= reconstruction_psnr(tokenizer, _read(folder, rows, tokenizer.config.size))
    return tokenizer, dict(figures)


def _encode_all(
    config: Config, run: Run, folder: ClipFolder, tokenizer: FrameTokenizer
) -> tuple[TokenLayout, torch.Tensor, torch.Tensor]:
    """Codes int64 [n, T, N] and bins int64 [n, T-1, A] of the whole folder, cached in the run folder."""
    from concurrent.futures import ThreadPoolExecutor

    import torch
    from safetensors.torch import load_file, save_file

    from align.errors import DataError
    from align.types import ActionSpace
    from align.world_models.layout import TokenLayout

    info = folder.info
    if not info.get("action_names"):
        raise DataError(f"{folder.path} has no actions; a token world model is trained on clips with actions")
    space = ActionSpace(tuple(info["action_names"]), tuple(info["action_low"]), tuple(info["action_high"]))
    num_frames = int(folder.table["num_frames"].iloc[0])
    context = int(folder.table["context_frames"].iloc[0])
    layout = TokenLayout(
        num_frames, context, tokenizer.config.tokens_per_frame, tokenizer.config.num_codes, space, config.num_bins
    )
    cache = run.path / "tokens.safetensors"
    if not cache.exists():

        def encode(start: int) -> tuple[torch.Tensor, torch.Tensor]:
            indices = range(start, min(start + 64, len(folder)))
            batch = next(folder.iter_batches(64, tokenizer.config.size, indices))
            if batch.actions is None:
                raise DataError(f"{folder.path}: a clip without actions; import only clips that have them")
            ids = tokenizer.encode(torch.from_numpy(batch.video)).to(torch.int32)
            return ids, layout.actions_to_bins(torch.from_numpy(batch.actions)).to(torch.uint8)

        parts = []
        with run.progress("encoding clips", len(folder)) as advance, ThreadPoolExecutor(2) as pool:
            for part in pool.map(encode, range(0, len(folder), 64)):
                parts.append(part)
                advance(len(part[0]))
        tokens = {"codes": torch.cat([p[0] for p in parts]), "bins": torch.cat([p[1] for p in parts])}
        save_file(tokens, cache.with_suffix(".tmp"))
        cache.with_suffix(".tmp").replace(cache)
    tokens = load_file(cache)
    return layout, tokens["codes"].long(), tokens["bins"].long()


def _make_model(config: Config, layout: TokenLayout, tokenizer: FrameTokenizer) -> TokenWorldModel:
    from align.errors import ConfigError
    from align.world_models.flat import FlatConfig, FlatModel
    from align.world_models.temporal_depth import TemporalDepthConfig, TemporalDepthModel

    sizes = config.model
    if sizes.shape == "flat":
        inner = {**sizes.causal_lm, "vocab_size": layout.vocab_size, "max_position_embeddings": layout.length}
        return FlatModel(FlatConfig(layout.to_dict(), inner=inner))
    if not hasattr(tokenizer.config, "grid"):
        raise ConfigError(
            "the tokenizer's codes don't lie on a grid (config.grid), which this shape needs; set model.shape=flat"
        )
    return TemporalDepthModel(
        TemporalDepthConfig(
            layout.to_dict(),
            grid=tokenizer.config.grid,
            trunk_width=sizes.trunk_width,
            trunk_layers=sizes.trunk_layers,
            depth_layers=sizes.depth_layers,
            hidden_width=sizes.hidden_width,
        )
    )


def _train_model(config: Config, run: Run, model: TokenWorldModel, codes: torch.Tensor, bins: torch.Tensor) -> None:
    import torch

    from align.world_models.base import kind_columns
    from align.world_models.pretraining import world_model_loss

    def loss(step: int, generator: torch.Generator) -> tuple[torch.Tensor, dict[str, float]]:
        rows = torch.randint(len(codes), (config.batch_size,), generator=generator)
        frame, action = world_model_loss(model, codes[rows], bins[rows], generator)
        figures = {"nll_frame_token": float(frame.detach()), "nll_action_token": float(action.detach())}
        return frame + config.action_weight * action, figures

    with run.stage("model", "the world model learns what comes next, and what people do next") as results:
        _optimise(config, run, "model", model, loss, config.model_steps)
        with torch.no_grad():
            model.lm_head.weight[:, model.config.hidden_width :] = kind_columns(model.layout)
        results["steps"] = config.model_steps


def _optimise(
    config: Config,
    run: Run,
    name: str,
    module: torch.nn.Module,
    loss: Callable[[int, torch.Generator], tuple[torch.Tensor, dict[str, float]]],
    num_steps: int,
) -> None:
    """The loop that both trainings share: AdamW, warm-up and cosine, clipped gradients, checkpoints that are resumed from."""
    import torch

    from align.world_models.pretraining import (
        learning_rate,
        load_training_state,
        make_optimizer,
        save_training_state,
        training_state,
    )

    optimizer = make_optimizer(module, 0.01)
    checkpoint = run.path / "checkpoints" / f"{name}.safetensors"
    checkpoint.parent.mkdir(exist_ok=True)
    start = 0
    if checkpoint.exists():
        start = int(load_training_state(checkpoint, module, optimizer)["step"])
    module.train()
    with run.progress(f"training the {name}", num_steps) as advance:
        advance(start)
        for step in range(start, num_steps):
            for group in optimizer.param_groups:
                group["lr"] = learning_rate(step, num_steps, config.learning_rate, min(200, num_steps // 10 + 1))
            generator = torch.Generator().manual_seed(config.seed * 1_000_003 + step)
            value, figures = loss(step, generator)
            value.backward()
            torch.nn.utils.clip_grad_norm_(module.parameters(), 1.0)
            optimizer.step()
            optimizer.zero_grad(set_to_none=True)
            if figures and step % 50 == 0:
                run.log(step, **figures)
            advance(1, **figures)
            if (step + 1) % config.checkpoint_every == 0:
                save_training_state(checkpoint, training_state(module, optimizer, step=torch.tensor(step + 1)))
    module.eval()
