"""Pure array work on frames: resizing, and the way between uint8 on disk and canonical floats."""

from __future__ import annotations

from typing import Any, Literal, get_args

import numpy as np
from PIL import Image

from align.types import Float32, UInt8

Size = tuple[int, int]
"""Height and width in pixels, in this order."""

Fit = Literal["pad", "crop", "stretch"]
"""How a frame of another shape meets a target size: black bars (nothing is lost), a centre crop, or distortion."""

FITS: tuple[str, ...] = get_args(Fit)


def resize_frame(frame: UInt8, size: Size, fit: Fit = "pad") -> UInt8:
    """Resize one frame with a box filter: area mean when shrinking, nearest neighbour when growing.

    Args:
        frame: uint8 [H, W, 3].
        size: Target (height, width).
        fit: What happens to another aspect ratio. ``pad`` keeps the whole picture and adds black bars, because a
            labeler can't judge what was cut off; ``crop`` keeps the centre; ``stretch`` distorts.

    Returns:
        uint8 [height, width, 3].
    """
    (src_h, src_w), (height, width) = frame.shape[:2], size
    if (src_h, src_w) == (height, width):
        return frame
    image = Image.fromarray(np.ascontiguousarray(frame))
    if fit == "stretch" or src_h * width == src_w * height:
        return np.asarray(image.resize((width, height), Image.Resampling.BOX))
    if fit == "crop":
        scale = min(src_h / height, src_w / width)
        top, left = (src_h - scale * height) / 2, (src_w - scale * width) / 2
        box = (left, top, left + scale * width, top + scale * height)
        return np.asarray(image.resize((width, height), Image.Resampling.BOX, box=box))
    if fit != "pad":
        raise ValueError(f"fit must be one of {', '.join(FITS)}, got {fit!r}")
    scale = min(height / src_h, width / src_w)
    inner_h, inner_w = max(1, round(src_h * scale)), max(1, round(src_w * scale))
    out = np.zeros((height, width, 3), np.uint8)
    top, left = (height - inner_h) // 2, (width - inner_w) // 2
    out[top : top + inner_h, left : left + inner_w] = np.asarray(image.resize((inner_w, inner_h), Image.Resampling.BOX))
    return out


def resize(video: UInt8, size: Size, fit: Fit = "pad") -> UInt8:
    """Resize every frame of uint8 [T, H, W, 3] to (height, width); see ``resize_frame``."""
    check_video(video)
    if size[0] < 1 or size[1] < 1:
        raise ValueError(f"size must be a positive (height, width), got {size}")
    if tuple(video.shape[1:3]) == tuple(size):
        return video
    return np.stack([resize_frame(frame, size, fit) for frame in video])


def to_float(video: UInt8) -> Float32:
    """uint8 [..., T, H, W, 3] on disk to canonical float32 [..., T, 3, H, W] in [0, 1]."""
    if video.dtype != np.uint8 or video.ndim < 4 or video.shape[-1] != 3:
        raise ValueError(f"video must be uint8 [..., T, H, W, 3], got {video.dtype} {list(video.shape)}")
    return np.ascontiguousarray(np.moveaxis(video, -1, -3), dtype=np.float32) / np.float32(255)


def from_float(video: Any) -> UInt8:
    """Canonical floats [..., T, 3, H, W] in [0, 1] (an array or a CPU tensor) to uint8 [..., T, H, W, 3].

    Values beyond [0, 1] are clipped, because decoders of tokenizers overshoot a little.
    """
    array = np.asarray(video)
    if array.ndim < 4 or array.shape[-3] != 3 or array.dtype.kind != "f":
        raise ValueError(f"video must be floats [..., T, 3, H, W], got {array.dtype} {list(array.shape)}")
    if np.isnan(array).any():
        raise ValueError("video must hold numbers, got NaN")
    scaled = np.rint(np.clip(array, 0.0, 1.0) * 255).astype(np.uint8)
    return np.ascontiguousarray(np.moveaxis(scaled, -3, -1))


def check_video(video: UInt8) -> None:
    """Raise a ValueError unless ``video`` is uint8 [T, H, W, 3] with at least one frame and one pixel."""
    if video.ndim != 4 or video.shape[-1] != 3 or video.dtype != np.uint8 or video.size == 0:
        raise ValueError(f"video must be uint8 [T, H, W, 3] and not empty, got {video.dtype} {list(video.shape)}")
