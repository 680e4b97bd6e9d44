"""What is done to a clip that must not change its reward, because what happens in it stays the same.

Every intervention takes uint8 [T, H, W, 3] and gives the same dtype; only those of time change T. Sizes scale with the picture.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

import numpy as np

from align.types import Float32, UInt8

LUMA = np.array((0.299, 0.587, 0.114), dtype=np.float32)


@dataclass(frozen=True)
class Intervention:
    """One change of a clip.

    Attributes:
        name: Its name in tables.
        change: The change.
        expects: ``same`` reward as before; or ``not better`` than the context's good clip, where nothing happens any more.
        says: What is done, for people.
    """

    name: str
    change: Callable[[UInt8], UInt8]
    expects: Literal["same", "not better"]
    says: str


def _scaled(video: UInt8, factor: float) -> UInt8:
    return _back(video.astype(np.float32) * factor)


def _back(video: Float32) -> UInt8:
    out: UInt8 = np.clip(np.round(video), 0, 255).astype(np.uint8)
    return out


def brighten(video: UInt8) -> UInt8:
    """A tenth more light."""
    return _scaled(video, 1.1)


def darken(video: UInt8) -> UInt8:
    """A tenth less light."""
    return _scaled(video, 0.9)


def _resaturate(video: UInt8, factor: float) -> UInt8:
    colours = video.astype(np.float32)
    grey = (colours @ LUMA)[..., None]
    return _back((grey + factor * (colours - grey)).astype(np.float32))


def saturate(video: UInt8) -> UInt8:
    """Colours 30 % stronger."""
    return _resaturate(video, 1.3)


def fade(video: UInt8) -> UInt8:
    """Colours 30 % weaker."""
    return _resaturate(video, 0.7)


def blur(video: UInt8) -> UInt8:
    """A slight blur: a Gaussian of 1 % of the height."""
    from scipy import ndimage

    return _back(ndimage.gaussian_filter(video.astype(np.float32), (0, video.shape[1] / 100, video.shape[1] / 100, 0)))


def speed_up(video: UInt8) -> UInt8:
    """A quarter faster, the last frame held: the ending stays in the picture."""
    last = len(video) - 1
    return video[np.minimum(np.round(np.arange(len(video)) * 1.25).astype(int), last)]


def slow_down(video: UInt8) -> UInt8:
    """A fifth slower, the beginning cut off: the ending stays in the picture."""
    last = len(video) - 1
    return video[np.round(last - (last - np.arange(len(video))) * 0.8).astype(int)]


def shorten(video: UInt8) -> UInt8:
    """Three quarters of the frames, evenly taken, first and last among them."""
    return video[np.round(np.linspace(0, len(video) - 1, max(2, round(0.75 * len(video))))).astype(int)]


def mirror(video: UInt8) -> UInt8:
    """Left and right exchanged. A scorer that also reads actions would have to be given mirrored ones."""
    return np.ascontiguousarray(video[:, :, ::-1])


def watermark(video: UInt8) -> UInt8:
    """A half transparent label in the lower right corner."""
    height, width = video.shape[1:3]
    out = video.astype(np.float32)
    box = out[:, height - height // 9 :, width - width // 4 :]
    stripes = np.where(np.arange(box.shape[2]) // max(1, width // 32) % 2 == 0, np.float32(255), np.float32(40))
    box[:] = 0.6 * box + 0.4 * stripes[:, None]
    return _back(out)


def add_grid(video: UInt8) -> UInt8:
    """A faint grid, as decoders leave it: every eighth row and column 6 levels brighter."""
    step = max(2, video.shape[1] // 16)
    out = video.astype(np.float32)
    out[:, ::step] += 6
    out[:, :, ::step] += 6
    return _back(out)


def freeze(video: UInt8) -> UInt8:
    """The second frame for ever: nothing bad happens, and nothing is done."""
    frames = np.minimum(np.arange(len(video)), 1)
    return video[frames]


INTERVENTIONS: dict[str, Intervention] = {
    item.name: item
    for item in (
        Intervention("brighter", brighten, "same", "10 % brighter"),
        Intervention("darker", darken, "same", "10 % darker"),
        Intervention("saturated", saturate, "same", "stronger colours"),
        Intervention("faded", fade, "same", "weaker colours"),
        Intervention("blurred", blur, "same", "slightly blurred"),
        Intervention("faster", speed_up, "same", "25 % faster"),
        Intervention("slower", slow_down, "same", "20 % slower"),
        Intervention("shorter", shorten, "same", "three quarters of the frames"),
        Intervention("mirrored", mirror, "same", "left and right exchanged"),
        Intervention("watermark", watermark, "same", "a label in the corner"),
        Intervention("grid", add_grid, "same", "a faint grid"),
        Intervention("frozen", freeze, "not better", "nothing moves after the second frame"),
    )
}
"""Every intervention by name."""
