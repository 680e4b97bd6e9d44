"""Encoding and decoding of video files; nothing else in the project opens a video, but ``remux``, which only copies.

Small frames and 4:2:0. H.264 for browsers stores one colour sample per 2x2 pixels, so a model's 64x64 frame would lose
three quarters of its colours. ``write_clip`` therefore repeats every pixel k times (k = 2 for 64x64) so that each
original pixel owns its colour sample; the file is at least 128 pixels on its short side and even on both. Readers undo
it with a box filter (``decode(path, size=(64, 64))``; a clip folder does it by itself), and only the rounding of the
codec is left.
"""

from __future__ import annotations

from collections.abc import Iterator
from fractions import Fraction
from pathlib import Path
from typing import Any, NamedTuple

import av
import numpy as np
from av.video.reformatter import VideoReformatter

from align.errors import ClipError
from align.io import atomic_path, sha256_file
from align.types import UInt8
from align.video.frames import Fit, Size, check_video, from_float, resize, resize_frame, to_float

__all__ = [
    "DecodedVideo",
    "VideoProbe",
    "WrittenClip",
    "compute_pixel_scale",
    "decode",
    "encode_mp4",
    "from_float",
    "iter_frames",
    "probe",
    "resize",
    "to_float",
    "write_clip",
]

MIN_SIDE = 128
"""A stored clip has at least this many pixels on its short side."""

_X264 = {"preset": "ultrafast", "crf": "10"}
_BT601 = 6  # SMPTE 170M; tagged, so that every player and our own decoder use the same matrix
_SINGLE_THREAD_PIXELS = 320 * 320


class DecodedVideo(NamedTuple):
    """Frames uint8 [T, H, W, 3] and the rate in Hz."""

    frames: UInt8
    fps_hz: float


class VideoProbe(NamedTuple):
    """What a file says about itself; ``num_frames`` is 0 where its container doesn't tell."""

    height: int
    width: int
    fps_hz: float
    num_frames: int
    codec: str


class WrittenClip(NamedTuple):
    """The hash of the written file and how often each pixel was repeated along both dims."""

    sha256: str
    pixel_scale: int


def encode_mp4(path: str | Path, video: UInt8, fps_hz: float) -> None:
    """Write H.264 (yuv420p, faststart), nearly lossless; the same frames give the same bytes.

    Args:
        path: Target; written beside under a temporary name, then moved.
        video: uint8 [T, H, W, 3] with even H and W.
        fps_hz: Frames per second, above 0.

    Raises:
        ValueError: The frames or the rate can't be encoded.
        RunError: The file can't be written.
    """
    check_video(video)
    height, width = video.shape[1:3]
    if height % 2 or width % 2:
        raise ValueError(f"yuv420p needs an even height and width, got {height}x{width}; write_clip repeats pixels instead")
    if not (np.isfinite(fps_hz) and fps_hz > 0):
        raise ValueError(f"fps_hz must be above 0, got {fps_hz}")
    with atomic_path(path) as temporary:
        _encode(temporary, video, fps_hz)


def _encode(path: Path, video: UInt8, fps_hz: float) -> None:
    reformatter = VideoReformatter()
    with av.open(str(path), "w", format="mp4", options={"movflags": "+faststart"}) as container:
        rate = Fraction(fps_hz).limit_denominator(1001)
        stream = container.add_stream("libx264", rate=rate, options=_X264)
        stream.height, stream.width, stream.pix_fmt = video.shape[1], video.shape[2], "yuv420p"
        context = stream.codec_context
        context.thread_count = 1  # several threads change the bytes and cost more than they bring at this size
        context.colorspace = context.color_primaries = context.color_trc = _BT601
        context.color_range = 1
        for pixels in video:
            frame = av.VideoFrame.from_ndarray(np.ascontiguousarray(pixels), format="rgb24")
            # AREA averages the colours of 2x2 pixels; the default smears them over the neighbours
            planar = reformatter.reformat(frame, format="yuv420p", interpolation="AREA", dst_colorspace=_BT601)
            container.mux(stream.encode(planar))
        container.mux(stream.encode())


def compute_pixel_scale(height: int, width: int) -> int:
    """Smallest repetition of pixels that makes both sides even and the short one at least ``MIN_SIDE``."""
    scale = max(1, -(-MIN_SIDE // min(height, width)))
    while (height * scale) % 2 or (width * scale) % 2:
        scale += 1
    return scale


def write_clip(path: str | Path, video: UInt8, fps_hz: float) -> WrittenClip:
    """Write frames of any size so that they survive chroma subsampling (see the module's text).

    Args:
        path: Target mp4.
        video: uint8 [T, H, W, 3].
        fps_hz: Frames per second.
    """
    check_video(video)
    scale = compute_pixel_scale(*video.shape[1:3])
    grown = video if scale == 1 else video.repeat(scale, axis=1).repeat(scale, axis=2)
    encode_mp4(path, grown, fps_hz)
    return WrittenClip(sha256_file(path), scale)


def probe(path: str | Path) -> VideoProbe:
    """Read a file's header without decoding it; raises ClipError where there is no video in it."""
    with _open(path) as container:
        stream = _video_stream(container, path)
        context = stream.codec_context
        return VideoProbe(context.height, context.width, _rate(stream), int(stream.frames), context.name)


def decode(path: str | Path, *, size: Size | None = None, fit: Fit = "pad") -> DecodedVideo:
    """Decode a whole file: mp4, webm, mkv, gif, AV1, VP9, H.264 and whatever else FFmpeg reads.

    Args:
        path: The file.
        size: Target (height, width) for a box-filtered resize while decoding; None keeps the file's own.
        fit: See ``resize_frame``.

    Returns:
        Frames uint8 [T, H, W, 3] in display order and the average rate.

    Raises:
        ClipError: The file is missing, truncated, corrupt or holds fewer frames than its header promises.
    """
    frames = list(iter_frames(path, size=size, fit=fit))
    return DecodedVideo(np.stack(frames), probe(path).fps_hz)


def iter_frames(
    path: str | Path, *, size: Size | None = None, fit: Fit = "pad", start_s: float = 0.0, num_frames: int | None = None
) -> Iterator[UInt8]:
    """Decode frame by frame, so that long files need little memory.

    Args:
        path: The file.
        size: See ``decode``.
        fit: See ``resize_frame``.
        start_s: Skip what is shown before this time, for files that hold several episodes.
        num_frames: Stop after so many; None reads to the end and checks the header's promise.

    Yields:
        uint8 [H, W, 3].

    Raises:
        ClipError: As ``decode``, or the file ends before ``num_frames``.
    """
    try:
        with _open(path) as container:
            yield from _decode_span(container, path, size, fit, start_s, num_frames)
    except av.error.FFmpegError as error:
        raise ClipError(f"{path} can't be decoded: {error.strerror}") from error


def _decode_span(
    container: Any, path: str | Path, size: Size | None, fit: Fit, start_s: float, num_frames: int | None
) -> Iterator[UInt8]:
    stream = _video_stream(container, path)
    small = stream.codec_context.width * stream.codec_context.height <= _SINGLE_THREAD_PIXELS
    stream.thread_type = "NONE" if small else "AUTO"
    earliest_s = start_s - 0.5 / _rate(stream)
    if start_s > 0:
        container.seek(int(start_s / stream.time_base), stream=stream, backward=True)
    shape: tuple[int, ...] | None = None
    reformatter = VideoReformatter()  # one for all frames: setting a scaler up costs more than a small frame
    count = packets = 0
    for packet in container.demux(stream):
        if packet.is_corrupt:
            raise ClipError(f"{path} is truncated or corrupt: frame {packets} is incomplete; export it again")
        packets += packet.size > 0
        for frame in packet.decode():
            if start_s > 0 and frame.time is not None and frame.time < earliest_s:
                continue
            if num_frames is not None and count >= num_frames:
                return
            if frame.is_corrupt:
                raise ClipError(f"{path} is corrupt: frame {count} can't be decoded; export it again")
            pixels = _to_rgb(frame, reformatter)
            if shape is not None and pixels.shape != shape:
                raise ClipError(f"{path} changes its frame size from {shape[:2]} to {pixels.shape[:2]} at frame {count}")
            shape = pixels.shape
            count += 1
            yield pixels if size is None else resize_frame(pixels, size, fit)
    _check_complete(stream, path, count, packets, num_frames, start_s)


def _check_complete(stream: Any, path: str | Path, count: int, packets: int, num_frames: int | None, start_s: float) -> None:
    """Compare what came out with what was promised; some containers don't tell a frame count, but a duration."""
    if count == 0:
        raise ClipError(f"{path} holds no frame{f' after {start_s:g} s' if start_s else ''}")
    if num_frames is not None and count < num_frames:
        raise ClipError(f"{path} ends after {count} of the {num_frames} frames that are promised from {start_s:g} s on")
    if num_frames is not None or start_s > 0:
        return
    if packets < stream.frames:
        raise ClipError(f"{path} is truncated: its header promises {stream.frames} frames, {packets} are there")
    duration_s = _promised_duration_s(stream)
    missing_s = duration_s - packets / _rate(stream)
    if not stream.frames and duration_s > 0 and missing_s > max(2.5 / _rate(stream), 0.1 * duration_s):
        raise ClipError(
            f"{path} is truncated: its header promises {duration_s:.2f} s, {duration_s - missing_s:.2f} s are there"
        )


def _promised_duration_s(stream: Any) -> float:
    tag = stream.metadata.get("DURATION", "")
    try:
        hours, minutes, seconds = (float(part) for part in tag.split(":"))
        return hours * 3600 + minutes * 60 + seconds
    except ValueError:
        alone = len(stream.container.streams) == 1  # else the duration may be that of the sound
        return float(stream.container.duration or 0) / av.time_base if alone else 0.0


def _to_rgb(frame: Any, reformatter: VideoReformatter) -> UInt8:
    """Frame to uint8 [H, W, 3], upright as a player shows it (phones film sideways and say so in the header)."""
    pixels = np.asarray(reformatter.reformat(frame, format="rgb24").to_ndarray(), np.uint8)
    return np.rot90(pixels, round(frame.rotation / 90)) if frame.rotation % 360 else pixels


def _open(path: str | Path) -> Any:
    if not Path(path).is_file():
        raise ClipError(f"{path} does not exist or is not a file")
    try:
        return av.open(str(path))
    except av.error.FFmpegError as error:
        raise ClipError(f"{path} can't be opened as a video: {error.strerror}; it may be truncated or empty") from error


def _video_stream(container: Any, path: str | Path) -> Any:
    if not container.streams.video:
        raise ClipError(f"{path} holds no video stream; it may be truncated")
    return container.streams.video[0]


def _rate(stream: Any) -> float:
    rate = stream.average_rate or stream.guessed_rate or stream.base_rate
    return float(rate) if rate else 25.0
