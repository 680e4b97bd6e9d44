"""A world model as people use it: tokenizer and causal LM in one folder, pictures in and pictures out."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors.torch import load_file, save_file
from torch import Tensor

from align.errors import DataError
from align.types import Float32, UInt8
from align.world_models.base import TokenWorldModel, WorldModelConfig
from align.world_models.flat import FlatConfig, FlatModel
from align.world_models.layout import TokenLayout
from align.world_models.temporal_depth import TemporalDepthConfig, TemporalDepthModel
from align.world_models.tokenizer import FrameTokenizer
from align.world_models.tokenizers import load_tokenizer, name_of

SHIPPED = {"household": Path(__file__).parent / "household"}
"""World models inside the package, by name."""

SHAPES: dict[str, tuple[type[WorldModelConfig], type[TokenWorldModel]]] = {
    "temporal_depth": (TemporalDepthConfig, TemporalDepthModel),
    "flat": (FlatConfig, FlatModel),
}
"""Shapes of token world models by name."""


@dataclass(frozen=True)
class WorldModel:
    """Tokenizer, causal LM and what they were made from.

    Attributes:
        tokenizer: Pictures to codes and back: ours, or any other in ``align.world_models.tokenizers``.
        model: Causal LM over the layout's flat ids.
        info: Axes, scenes, source, fps_hz, sha256 of the clips, ...
        name: A shipped name or the folder's.
    """

    tokenizer: FrameTokenizer
    model: TokenWorldModel
    info: Mapping[str, Any]
    name: str

    @property
    def layout(self) -> TokenLayout:
        return self.model.layout

    def to_input(self, video: UInt8) -> Tensor:
        """Any clip as the model sees it: uint8 [..., H, W, 3] to float32 [..., 3, h, w] in [0, 1], by a box filter."""
        from align.video.frames import resize

        lead, size = video.shape[:-3], self.tokenizer.config.size
        flat = video.reshape(-1, *video.shape[-3:])
        if flat.shape[1:3] != tuple(size):
            flat = shrink(flat, size) if _divides(flat.shape[1:3], size) else resize(flat, size)
        return torch.from_numpy(np.ascontiguousarray(flat)).permute(0, 3, 1, 2).float().div_(255).reshape(*lead, 3, *size)

    def encode(self, video: UInt8, actions: Float32) -> Tensor:
        """Flat ids int64 [B, L'] of clips uint8 [B, T', H, W, 3] with actions float32 [B, T'-1, A]; T' may be a prefix."""
        codes = self.tokenizer.encode(self.to_input(video))
        return self.layout.join(codes, self.layout.actions_to_bins(torch.from_numpy(np.asarray(actions, np.float32))))

    def decode(self, ids: Tensor, first: Tensor) -> UInt8:
        """Pictures uint8 [B, T, h, w, 3] of whole clips [B, L], given frame 0 float32 [B, 3, h, w] in [0, 1]."""
        codes, _ = self.layout.split(ids)
        video = self.tokenizer.decode(codes, first)
        return (video.permute(0, 1, 3, 4, 2) * 255).round().byte().numpy()

    def actions(self, ids: Tensor) -> Float32:
        """Actions float32 [B, T-1, A] in the dims' units of whole clips [B, L]."""
        return self.layout.bins_to_actions(self.layout.split(ids)[1]).numpy()


def shrink(images: UInt8, size: tuple[int, int]) -> UInt8:
    """Box filter by a whole factor: uint8 [n, H, W, 3] to [n, h, w, 3]."""
    n, height, width, _ = images.shape
    rows, cols = height // size[0], width // size[1]
    blocks = images.reshape(n, size[0], rows, size[1], cols, 3).astype(np.float32)
    return np.round(blocks.mean((2, 4))).astype(np.uint8)


def _divides(shape: tuple[int, ...], size: tuple[int, int]) -> bool:
    return shape[0] % size[0] == 0 and shape[1] % size[1] == 0 and shape[0] // size[0] == shape[1] // size[1]


def save_world_model(
    folder: Path, tokenizer: FrameTokenizer, model: TokenWorldModel, info: Mapping[str, Any], *, half: bool = False
) -> None:
    """Write a world model's folder: tokenizer.*, config.json, model.safetensors, world_model.json (fp16 with ``half``)."""
    folder.mkdir(parents=True, exist_ok=True)
    tokenizer.save_pretrained(folder, half=half)
    state = {k: (v.half() if half else v).contiguous() for k, v in model.state_dict().items()}
    save_file(state, folder / "model.safetensors", metadata={"format": "pt"})
    shape = next(name for name, (_, cls) in SHAPES.items() if isinstance(model, cls))
    (folder / "config.json").write_text(json.dumps(model.config.to_dict(), indent=2, sort_keys=True, default=str) + "\n")
    about = {**info, "shape": shape, "tokenizer": name_of(tokenizer)}
    (folder / "world_model.json").write_text(json.dumps(about, indent=2, sort_keys=True) + "\n")


def load_world_model(name: str | Path) -> WorldModel:
    """Load a shipped world model by name, or one from a folder, as float32 in eval mode.

    Raises:
        DataError: If there is no such model or a file of it is missing.
    """
    folder = SHIPPED.get(str(name), Path(name))
    for file in ("world_model.json", "config.json", "model.safetensors"):
        if not (folder / file).is_file():
            shipped = ", ".join(sorted(SHIPPED))
            raise DataError(f"{name} is no world model: {folder / file} is missing (shipped: {shipped})")
    info = json.loads((folder / "world_model.json").read_text())
    if info.get("shape") not in SHAPES:
        raise DataError(f"{folder / 'world_model.json'} names the shape {info.get('shape')}; known: {', '.join(SHAPES)}")
    config_class, model_class = SHAPES[info["shape"]]
    model = model_class(config_class.from_dict(json.loads((folder / "config.json").read_text())))
    model.load_state_dict({k: v.float() for k, v in load_file(folder / "model.safetensors").items()})
    tokenizer = load_tokenizer(info.get("tokenizer", "fsq"), folder)
    return WorldModel(tokenizer, model.eval().requires_grad_(False), info, str(name))
