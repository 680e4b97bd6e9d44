"""The frame tokenizer: a picture as at most 64 discrete codes, given the first picture of its clip.

Finite scalar quantisation (Mentzer et al. 2023, arXiv:2309.15505) on a grid of cells. Encoder and decoder see frame 0, so
that codes only say what has *changed*; a cell that still equals frame 0 gets the code COPY and is copied pixel by pixel.
Every other pixel is a mixture over the frame-0 pixel, colours attended from frame 0, a few learned colours and two colours
predicted for its patch, which keeps edges crisp. Frame 0 itself is coded without a condition.
"""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass
from pathlib import Path

import torch
import torch.nn.functional as F
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from align.errors import DataError

PATCH = 4
"""Side of the patches that convolutions run on, in pixels."""

CHUNK = 32
"""Frames at a time; more would push the working set out of a CPU's cache and cost memory."""


@dataclass(frozen=True)
class TokenizerConfig:
    """Sizes of a :class:`FrameTokenizer`.

    Attributes:
        size: Height and width of a frame in pixels.
        cell: Height and width of a cell in pixels, multiples of 4; a cell is one token.
        levels: FSQ levels per code dim; their product is the number of codes.
        width: Channels of the convolution blocks at patch resolution; cells have twice as many.
        num_attended: Colours attended from frame 0.
        num_learned: Learned colours.
        copy_threshold: A cell is COPY where no pixel differs from frame 0 by more than this (of 1) in any channel.
    """

    size: tuple[int, int] = (64, 64)
    cell: tuple[int, int] = (8, 16)
    levels: tuple[int, ...] = (8, 8, 8, 4)
    width: int = 64
    num_attended: int = 12
    num_learned: int = 20
    copy_threshold: float = 0.08

    def __post_init__(self) -> None:
        for side, cell in zip(self.size, self.cell, strict=True):
            if cell % PATCH or side % cell:
                raise ValueError(f"cell must be a multiple of {PATCH} and divide size, got cell={self.cell}, size={self.size}")
        if self.tokens_per_frame > 64:
            raise ValueError(f"size and cell give {self.tokens_per_frame} tokens a frame, at most 64 are allowed")

    @property
    def grid(self) -> tuple[int, int]:
        return self.size[0] // self.cell[0], self.size[1] // self.cell[1]

    @property
    def tokens_per_frame(self) -> int:
        return self.grid[0] * self.grid[1]

    @property
    def num_fsq(self) -> int:
        return int(torch.tensor(self.levels).prod())

    @property
    def num_codes(self) -> int:
        """FSQ codes and COPY, which is the last one."""
        return self.num_fsq + 1


class ConvBlock(nn.Module):
    """Depthwise convolution and MLP with a residual (ConvNeXt, Liu et al. 2022), channels last: [B, H, W, C]."""

    def __init__(self, width: int, kernel: int = 5) -> None:
        super().__init__()
        self.depthwise = nn.Conv2d(width, width, kernel, padding=kernel // 2, groups=width)
        self.norm = nn.LayerNorm(width)
        self.up = nn.Linear(width, 2 * width)
        self.down = nn.Linear(2 * width, width)

    def forward(self, x: Tensor) -> Tensor:
        y = self.depthwise(x.permute(0, 3, 1, 2)).permute(0, 2, 3, 1)
        return x + self.down(F.gelu(self.up(self.norm(y))))


def patchify(x: Tensor, height: int, width: int) -> Tensor:
    """[B, C, H, W] to [B, H/height, W/width, C·height·width]."""
    batch, channels, rows, cols = x.shape
    x = x.reshape(batch, channels, rows // height, height, cols // width, width)
    return x.permute(0, 2, 4, 1, 3, 5).reshape(batch, rows // height, cols // width, -1)


def unpatchify(x: Tensor, height: int, width: int) -> Tensor:
    """[B, h, w, C·height·width] to [B, C, h·height, w·width]."""
    batch, rows, cols, _ = x.shape
    x = x.reshape(batch, rows, cols, -1, height, width)
    return x.permute(0, 3, 1, 4, 2, 5).reshape(batch, -1, rows * height, cols * width)


class FrameTokenizer(nn.Module):
    """Frames to codes and back. See the module's docstring for how."""

    levels: Tensor
    places: Tensor

    def __init__(self, config: TokenizerConfig) -> None:
        super().__init__()
        self.config = config
        width, cells = config.width, 2 * config.width
        self.merge = (config.cell[0] // PATCH, config.cell[1] // PATCH)
        merged = self.merge[0] * self.merge[1]
        pixels = 3 * PATCH * PATCH
        self.num_candidates = 1 + config.num_attended + config.num_learned + 2
        self.stem = nn.Linear(3 * pixels + 1, width)
        self.encoder = nn.Sequential(ConvBlock(width), ConvBlock(width))
        self.to_cells = nn.Linear(width * merged, cells)
        self.cell_encoder = nn.Sequential(ConvBlock(cells, 3), ConvBlock(cells, 3))
        self.to_code = nn.Sequential(nn.LayerNorm(cells), nn.Linear(cells, len(config.levels)))
        self.from_code = nn.Linear(len(config.levels), cells)
        self.copy_embedding = nn.Parameter(torch.randn(cells) * 0.02)
        self.cell_decoder = nn.Sequential(ConvBlock(cells, 3), ConvBlock(cells, 3))
        self.from_cells = nn.Linear(cells, width * merged)
        self.condition = nn.Sequential(nn.Linear(pixels + 1, width), ConvBlock(width))
        self.decoder = nn.Sequential(ConvBlock(width), ConvBlock(width))
        self.to_pixels = nn.Sequential(nn.LayerNorm(width), nn.Linear(width, PATCH * PATCH * self.num_candidates + 6))
        self.palette_keys = nn.Linear(pixels, config.num_attended)
        self.palette = nn.Parameter(torch.rand(config.num_learned, 3))
        self.register_buffer("levels", torch.tensor(config.levels), persistent=False)
        places = torch.cat([torch.ones(1, dtype=torch.long), torch.tensor(config.levels).cumprod(0)[:-1]])
        self.register_buffer("places", places, persistent=False)

    # -- quantisation ---------------------------------------------------------------------------------------------------

    def quantise(self, z: Tensor) -> tuple[Tensor, Tensor]:
        """FSQ with a straight-through gradient: z [..., D] to values in [-1, 1] [..., D] and codes int64 [...]."""
        half = (self.levels.float() - 1) / 2
        bounded = (torch.tanh(z) + 1) * half
        digits = bounded + (bounded.round() - bounded).detach()
        return digits / half - 1, (digits.detach().round().long() * self.places).sum(-1)

    def code_values(self, codes: Tensor) -> Tensor:
        """Values in [-1, 1] [..., D] of FSQ codes [...]; COPY gives the values of code 0 and is masked by the caller."""
        digits = codes.clamp(max=self.config.num_fsq - 1)[..., None] // self.places % self.levels
        return digits.to(self.palette.dtype) / ((self.levels.to(self.palette.dtype) - 1) / 2) - 1

    # -- encoding -------------------------------------------------------------------------------------------------------

    def cell_features(self, frames: Tensor, first: Tensor | None) -> Tensor:
        """What the encoder sees in every cell, before quantisation.

        Args:
            frames: float32 [B, 3, H, W] in [0, 1]; H and W may be any multiple of the cell (training uses crops).
            first: Frame 0 of each clip, of the same shape; None where ``frames`` are first frames themselves.

        Returns:
            float32 [B, rows, cols, 2·width].
        """
        known = first is not None
        base = first if first is not None else torch.zeros_like(frames)
        x = patchify(torch.cat([frames, base, frames - base], dim=1), PATCH, PATCH)
        flag = x.new_full((*x.shape[:3], 1), float(known))
        x = self.encoder(self.stem(torch.cat([x, flag], dim=-1)))
        x = x.permute(0, 3, 1, 2)
        return self.cell_encoder(self.to_cells(patchify(x, *self.merge)))

    def copy_mask(self, frames: Tensor, first: Tensor) -> Tensor:
        """bool [B, rows, cols]: cells that still equal frame 0."""
        different = (frames - first).abs().amax(dim=1, keepdim=True)
        return patchify(different, *self.config.cell).amax(dim=-1) <= self.config.copy_threshold

    @torch.no_grad()
    def encode(self, video: Tensor, chunk: int = CHUNK) -> Tensor:
        """Codes of clips: float32 [B, T, 3, H, W] in [0, 1] to int64 [B, T, N]."""
        if video.ndim != 5 or tuple(video.shape[-2:]) != tuple(self.config.size) or video.shape[2] != 3:
            raise ValueError(f"video must be [B, T, 3, {self.config.size[0]}, {self.config.size[1]}], got {list(video.shape)}")
        batch, frames = video.shape[:2]
        first = video[:, :1].expand_as(video).flatten(0, 1)
        flat = video.flatten(0, 1)
        codes = torch.empty(batch * frames, self.config.tokens_per_frame, dtype=torch.long, device=video.device)
        for start in range(0, len(flat), chunk):
            codes[start : start + chunk] = self.encode_frame(flat[start : start + chunk], first[start : start + chunk])
        codes = codes.reshape(batch, frames, -1)
        _, code = self.quantise(self.to_code(self.cell_features(video[:, 0], None)))
        codes[:, 0] = code.flatten(1)
        return codes

    @torch.no_grad()
    def encode_frame(self, frames: Tensor, first: Tensor) -> Tensor:
        """Codes int64 [B, N] of single later frames float32 [B, 3, H, W], given frame 0 of the same shape."""
        _, code = self.quantise(self.to_code(self.cell_features(frames, first)))
        return torch.where(self.copy_mask(frames, first), self.config.num_fsq, code).flatten(1)

    def encode_features(self, video: Tensor, chunk: int = CHUNK) -> Tensor:
        """Cell features before quantisation, for models that judge clips: [B, T, 3, H, W] to float32 [B, T, N, 2·width].

        Differentiable in ``video``.
        """
        batch, frames = video.shape[:2]
        flat, first = video.flatten(0, 1), video[:, :1].expand_as(video).flatten(0, 1)
        parts = [self.cell_features(flat[i : i + chunk], first[i : i + chunk]) for i in range(0, len(flat), chunk)]
        return torch.cat(parts).reshape(batch, frames, self.config.tokens_per_frame, -1)

    # -- decoding -------------------------------------------------------------------------------------------------------

    def decode_cells(self, values: Tensor, copy: Tensor | None, first: Tensor | None, whole_first: Tensor | None) -> Tensor:
        """Pixels of quantised cells; differentiable.

        Args:
            values: float32 [B, rows, cols, D], FSQ values in [-1, 1].
            copy: bool [B, rows, cols], or None for first frames.
            first: Frame 0 (or its crop) [B, 3, h, w] in [0, 1]; None for first frames.
            whole_first: Uncropped frame 0, from which colours are attended; None for first frames.

        Returns:
            float32 [B, 3, h, w] in [0, 1]; COPY cells are not yet copied.
        """
        cells = self.from_code(values)
        if copy is not None:
            cells = torch.where(copy[..., None], self.copy_embedding, cells)
        return self.paint_cells(cells, first, whole_first)

    def paint_cells(self, cells: Tensor, first: Tensor | None, whole_first: Tensor | None) -> Tensor:
        """Pixels of embedded cells float32 [B, rows, cols, 2·width]; the rest is as in :meth:`decode_cells`."""
        x = unpatchify(self.from_cells(self.cell_decoder(cells)), *self.merge).permute(0, 2, 3, 1)
        base = first if first is not None else x.new_zeros(len(x), 3, x.shape[1] * PATCH, x.shape[2] * PATCH)
        patches = patchify(base, PATCH, PATCH)
        flag = patches.new_full((*patches.shape[:3], 1), float(first is not None))
        x = x + self.condition(torch.cat([patches, flag], dim=-1))
        out = self.to_pixels(self.decoder(x))
        logits = unpatchify(out[..., :-6], PATCH, PATCH)
        own = torch.sigmoid(out[..., -6:]).permute(0, 3, 1, 2).repeat_interleave(PATCH, 2).repeat_interleave(PATCH, 3)
        weights = torch.softmax(logits, dim=1)
        colours = torch.cat([self._attended(whole_first, len(x)), self.palette.expand(len(x), -1, -1)], dim=1)
        mixed = torch.einsum("bkhw,bkc->bchw", weights[:, 1:-2], colours)
        return weights[:, :1] * base + mixed + weights[:, -2:-1] * own[:, :3] + weights[:, -1:] * own[:, 3:]

    def _attended(self, whole_first: Tensor | None, batch: int) -> Tensor:
        """Colours [B, num_attended, 3] that learned queries find in frame 0; grey where there is none."""
        if whole_first is None:
            return self.palette.new_full((batch, self.config.num_attended, 3), 0.5)
        patches = patchify(whole_first, PATCH, PATCH).flatten(1, 2)
        attention = torch.softmax(8 * self.palette_keys(patches), dim=1)
        centre = patches.reshape(*patches.shape[:2], 3, PATCH * PATCH).mean(-1)
        return torch.einsum("bpk,bpc->bkc", attention, centre)

    @torch.no_grad()
    def decode(self, codes: Tensor, first: Tensor, chunk: int = CHUNK) -> Tensor:
        """Pixels of clips. Frame 0 is returned as it was given.

        Args:
            codes: int64 [B, T, N].
            first: Frame 0 of each clip, float32 [B, 3, H, W] in [0, 1].

        Returns:
            float32 [B, T, 3, H, W] in [0, 1].
        """
        batch, frames, _ = codes.shape
        grid = codes[:, 1:].reshape(batch * (frames - 1), *self.config.grid)
        base = first[:, None].expand(-1, frames - 1, -1, -1, -1).flatten(0, 1)
        parts = []
        for start in range(0, len(grid), chunk):
            code, whole = grid[start : start + chunk], base[start : start + chunk]
            copy = code == self.config.num_fsq
            pixels = self.decode_cells(self.code_values(code), copy, whole, whole)
            keep = copy[:, None].repeat_interleave(self.config.cell[0], 2).repeat_interleave(self.config.cell[1], 3)
            parts.append(torch.where(keep, whole, pixels.clamp(0, 1)))
        return torch.cat([first[:, None], torch.cat(parts).reshape(batch, frames - 1, *first.shape[1:])], dim=1)

    # -- files ----------------------------------------------------------------------------------------------------------

    def save_pretrained(self, folder: Path, *, half: bool = False) -> None:
        """Write tokenizer.json and tokenizer.safetensors (fp16 with ``half``)."""
        folder.mkdir(parents=True, exist_ok=True)
        state = {k: (v.half() if half else v).contiguous() for k, v in self.state_dict().items()}
        save_file(state, folder / "tokenizer.safetensors")
        (folder / "tokenizer.json").write_text(json.dumps(asdict(self.config), indent=2) + "\n")

    @classmethod
    def from_pretrained(cls, folder: Path) -> FrameTokenizer:
        """Read what :meth:`save_pretrained` wrote, as float32.

        Raises:
            DataError: If a file is missing.
        """
        for name in ("tokenizer.json", "tokenizer.safetensors"):
            if not (folder / name).is_file():
                raise DataError(f"{folder} holds no frame tokenizer: {name} is missing")
        values = json.loads((folder / "tokenizer.json").read_text())
        values = {k: tuple(v) if isinstance(v, list) else v for k, v in values.items()}
        tokenizer = cls(TokenizerConfig(**values))
        tokenizer.load_state_dict({k: v.float() for k, v in load_file(folder / "tokenizer.safetensors").items()})
        return tokenizer.eval()
