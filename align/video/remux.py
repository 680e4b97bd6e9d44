"""Videos that browsers play as they are: copied, picture for picture, into an mp4 that starts fast and has no sound."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import av

from align.io import atomic_path

_CONTAINERS = {"mp4", "mov"}
"""Others may not say in which order pictures are decoded."""
_PIXELS = ("yuv420p", "yuvj420p")
_MAX_RATE_GAP = 0.005
"""Share by which the average rate may differ from the nominal one; beyond, the pictures are not evenly spaced."""


def remux_mp4(src: str | Path, out: str | Path) -> bool:
    """Copy a video without encoding it anew; the same file gives the same bytes.

    Args:
        src: Any video file.
        out: The mp4 to write, whole or not at all.

    Returns:
        False, and nothing is written, where a browser might not play the pictures, or they are turned, unevenly spaced or
        damaged: such a video must be encoded anew (``codec.write_clip``).

    Raises:
        RunError: ``out`` can't be written.
    """
    try:
        with av.open(str(src)) as source:
            if not _is_fit(source):
                return False
        # Opened once more, because a picture of it was read.
        with av.open(str(src)) as source, atomic_path(out) as temporary:
            _copy(source, temporary)
    except (av.error.FFmpegError, ValueError):
        return False
    return True


def _is_fit(source: Any) -> bool:
    videos = source.streams.video
    if not videos or not _CONTAINERS & set(source.format.name.split(",")):
        return False
    stream = videos[0]
    context, average, nominal = stream.codec_context, stream.average_rate, stream.base_rate
    if context.name != "h264" or context.pix_fmt not in _PIXELS or not average or not nominal:
        return False
    first = next(source.decode(stream), None)
    even = abs(float(average) - float(nominal)) <= _MAX_RATE_GAP * float(nominal)
    return even and first is not None and first.rotation % 360 == 0


def _copy(source: Any, path: Path) -> None:
    stream = source.streams.video[0]
    with av.open(str(path), "w", format="mp4", options={"movflags": "+faststart"}) as target:
        copied = target.add_stream_from_template(stream)
        for packet in source.demux(stream):
            if packet.size:  # the last one is empty: the end
                packet.stream = copied
                target.mux(packet)
