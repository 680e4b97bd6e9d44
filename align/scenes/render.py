"""Flat drawing in a 64x64 unit world: large shapes, few colours, one box reduction against jagged edges."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence

import numpy as np
from PIL import Image, ImageDraw

from align.types import UInt8

WORLD_SIZE = 64.0
"""Width and height of the world in units; x runs right, y runs down."""
FRAME_SIZE = 128
"""Width and height of a rendered frame in pixels."""
_OVERSAMPLE = 2
_SCALE = FRAME_SIZE * _OVERSAMPLE / WORLD_SIZE

Colour = tuple[int, int, int]
Point = tuple[float, float]

WALL_COLOURS: dict[str, Colour] = {"cream": (232, 222, 200), "blue": (186, 208, 228), "green": (198, 218, 184)}
DARK: Colour = (60, 62, 72)
WOOD: Colour = (128, 86, 52)
FLOOR: Colour = (160, 128, 98)


def shade(colour: Colour, light: float) -> Colour:
    """Dim a colour by the room's light, a factor in (0, 1]."""
    return (round(colour[0] * light), round(colour[1] * light), round(colour[2] * light))


def rotate(point: Point, angle_rad: float, origin: Point = (0.0, 0.0)) -> Point:
    """Turn ``point`` about (0, 0), clockwise on the screen, then move it to ``origin``."""
    cos, sin = math.cos(angle_rad), math.sin(angle_rad)
    return (origin[0] + point[0] * cos - point[1] * sin, origin[1] + point[0] * sin + point[1] * cos)


class Canvas:
    """One frame being drawn. Coordinates are world units; colours are dimmed by the room's light.

    Args:
        light: Factor on every colour, in (0, 1].
        background: A canvas to start from (what stands still is drawn once an episode).
    """

    def __init__(self, light: float, background: Canvas | None = None) -> None:
        self.light = light
        size = FRAME_SIZE * _OVERSAMPLE
        self._image: Image.Image = background._image.copy() if background else Image.new("RGB", (size, size))
        self._draw = ImageDraw.Draw(self._image)

    def rect(self, left: float, top: float, right: float, bottom: float, colour: Colour, *, radius: float = 0.0) -> None:
        """Fill an upright rectangle, with rounded corners where ``radius`` (units) is given."""
        box = self._box(left, top, right, bottom)
        if radius:
            self._draw.rounded_rectangle(box, radius * _SCALE, fill=shade(colour, self.light))
        else:
            self._draw.rectangle(box, fill=shade(colour, self.light))

    def ellipse(self, centre: Point, radius_x: float, radius_y: float, colour: Colour) -> None:
        """Fill an upright ellipse."""
        x, y = centre
        self._draw.ellipse(self._box(x - radius_x, y - radius_y, x + radius_x, y + radius_y), fill=shade(colour, self.light))

    def polygon(self, points: Iterable[Point], colour: Colour) -> None:
        """Fill a polygon of at least three points."""
        self._draw.polygon([(x * _SCALE, y * _SCALE) for x, y in points], fill=shade(colour, self.light))

    def capsule(self, start: Point, end: Point, width: float, colour: Colour) -> None:
        """Draw a thick line with round ends."""
        ends: Sequence[Point] = [(x * _SCALE, y * _SCALE) for x, y in (start, end)]
        self._draw.line(list(ends), fill=shade(colour, self.light), width=round(width * _SCALE))
        self.ellipse(start, width / 2, width / 2, colour)
        self.ellipse(end, width / 2, width / 2, colour)

    def pixels(self) -> UInt8:
        """The frame, uint8 [128, 128, 3]."""
        return np.array(self._image.reduce(_OVERSAMPLE), dtype=np.uint8)

    @staticmethod
    def _box(left: float, top: float, right: float, bottom: float) -> tuple[int, int, int, int]:
        # PIL counts the last pixel in; without the -1 neighbours would overlap.
        x0, y0, x1, y1 = (round(value * _SCALE) for value in (left, top, right, bottom))
        return x0, y0, max(x0, x1 - 1), max(y0, y1 - 1)
