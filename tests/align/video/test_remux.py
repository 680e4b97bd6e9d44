"""Copying videos: picture for picture, playable in browsers, or not at all."""

from __future__ import annotations

from fractions import Fraction
from pathlib import Path
from typing import Any

import av
import numpy as np
import pytest

from align.video.codec import decode, probe
from align.video.remux import remux_mp4


def write(path: Path, codec: str = "libx264", pix_fmt: str = "yuv420p", sound: bool = False, uneven: bool = False) -> None:
    """Twelve frames of 48x32 at 10 Hz."""
    rng = np.random.default_rng(0)
    with av.open(str(path), "w") as container:
        stream: Any = container.add_stream(codec, rate=10)
        stream.width, stream.height, stream.pix_fmt = 48, 32, pix_fmt
        audio: Any = container.add_stream("aac", rate=44100, layout="mono") if sound else None
        for number in range(12):
            frame = av.VideoFrame.from_ndarray(rng.integers(0, 255, (32, 48, 3), dtype=np.uint8))
            frame.pts, frame.time_base = number * (1 + 2 * (uneven and number > 6)), Fraction(1, 10)
            container.mux(stream.encode(frame))
        container.mux(stream.encode())
        if audio is not None:
            noise = av.AudioFrame.from_ndarray(rng.random((1, 1024), np.float32), format="fltp", layout="mono")
            noise.sample_rate = 44100
            container.mux([*audio.encode(noise), *audio.encode()])


@pytest.mark.parametrize("suffix", ["mp4", "mov"])
def test_pictures_are_copied_and_start_at_once(tmp_path: Path, suffix: str) -> None:
    source, out = tmp_path / f"film.{suffix}", tmp_path / "out.mp4"
    write(source, sound=suffix == "mp4")
    assert remux_mp4(source, out)
    assert np.array_equal(decode(out).frames, decode(source).frames)
    assert probe(out).codec == "h264"
    assert probe(out).fps_hz == pytest.approx(10)
    content = out.read_bytes()
    assert content.index(b"moov") < content.index(b"mdat")
    with av.open(str(out)) as container:
        assert [stream.type for stream in container.streams] == ["video"]
    remux_mp4(source, tmp_path / "again.mp4")
    assert (tmp_path / "again.mp4").read_bytes() == content


@pytest.mark.parametrize(
    ("suffix", "options"),
    [
        ("avi", {"codec": "mpeg4"}),
        ("avi", {}),
        ("mkv", {}),
        ("mp4", {"codec": "mpeg4"}),
        ("mp4", {"pix_fmt": "yuv444p"}),
        ("mp4", {"pix_fmt": "yuv420p10le"}),
        ("webm", {"codec": "libvpx-vp9"}),
        ("mp4", {"uneven": True}),
    ],
    ids=str,
)
def test_what_browsers_may_not_play_is_not_copied(tmp_path: Path, suffix: str, options: dict[str, Any]) -> None:
    source = tmp_path / f"film.{suffix}"
    write(source, **options)
    assert not remux_mp4(source, tmp_path / "out.mp4")
    assert [path.name for path in tmp_path.iterdir()] == [source.name]


@pytest.mark.parametrize("content", [b"", b"not a film", b"\x00\x00\x00\x18ftypmp42" + bytes(100)])
def test_no_video_is_not_copied(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "film.mp4").write_bytes(content)
    assert not remux_mp4(tmp_path / "film.mp4", tmp_path / "out.mp4")
    assert [path.name for path in tmp_path.iterdir()] == ["film.mp4"]
