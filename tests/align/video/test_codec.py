from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor

import av
import numpy as np
import pytest

from align.errors import ClipError
from align.video.codec import compute_pixel_scale, decode, encode_mp4, iter_frames, probe, write_clip
from align.video.frames import from_float, resize, to_float


def psnr(a, b):
    return 10 * np.log10(255**2 / np.mean((a.astype(float) - b.astype(float)) ** 2))


def test_small_frames_survive_chroma_subsampling(lab, tmp_path):
    video = lab.draw_video(8)
    written = write_clip(tmp_path / "a.mp4", video, 8)
    assert written.pixel_scale == 2
    assert psnr(decode(tmp_path / "a.mp4", size=(64, 64)).frames, video) > 40
    encode_mp4(tmp_path / "b.mp4", video, 8)  # without the repetition of pixels the colours are lost
    assert psnr(decode(tmp_path / "b.mp4").frames, video) < 35


def test_a_written_file_is_what_browsers_play_and_has_the_frames_in_order(lab, tmp_path):
    path = tmp_path / "a.mp4"
    write_clip(path, lab.draw_video(12, (128, 128)), 7.5)
    frames, fps_hz = decode(path)
    assert frames.shape == (12, 128, 128, 3)
    assert fps_hz == 7.5
    assert [lab.read_frame_number(frame) for frame in frames] == list(range(12))
    content = path.read_bytes()
    assert content.index(b"moov") < content.index(b"mdat")
    with av.open(str(path)) as container:
        stream = container.streams.video[0]
        assert (stream.codec_context.name, stream.codec_context.pix_fmt) == ("h264", "yuv420p")


def test_the_same_frames_give_the_same_bytes(lab, tmp_path):
    hashes = {write_clip(tmp_path / f"{n}.mp4", lab.draw_video(6), 8).sha256 for n in range(2)}
    assert len(hashes) == 1
    assert sorted(path.name for path in tmp_path.iterdir()) == ["0.mp4", "1.mp4"]  # no temporary file is left


@pytest.mark.parametrize(("size", "scale"), [((64, 64), 2), ((128, 128), 1), ((32, 48), 4), ((65, 65), 2), ((129, 130), 2)])
def test_every_size_is_stored_even_and_large_enough_and_comes_back(lab, tmp_path, size, scale):
    assert compute_pixel_scale(*size) == scale
    video = lab.draw_video(2, size)
    write_clip(tmp_path / "a.mp4", video, 8)
    seen = probe(tmp_path / "a.mp4")
    assert (seen.height, seen.width) == (size[0] * scale, size[1] * scale)
    assert psnr(decode(tmp_path / "a.mp4", size=size).frames, video) > 30


@pytest.mark.parametrize(
    ("suffix", "codec"),
    [(".webm", "libvpx-vp9"), (".mkv", "libx264"), (".mp4", "libsvtav1"), (".gif", "gif"), (".avi", "mpeg4")],
)
def test_other_formats_are_read(lab, tmp_path, suffix, codec):
    # In a thread of its own: run by root, SVT-AV1 gives the thread that calls it real-time priority, which every process that a
    # later test starts would inherit. A browser with it starves the whole machine.
    with ThreadPoolExecutor(1) as pool:
        path = pool.submit(lab.write_video, tmp_path / f"a{suffix}", lab.draw_video(9, (96, 128)), codec=codec).result()
    frames, fps_hz = decode(path)
    assert frames.shape == (9, 96, 128, 3)
    assert fps_hz == pytest.approx(10)
    assert abs(lab.read_frame_number(frames[4]) - 4) <= 1


@pytest.mark.parametrize(
    ("suffix", "options"), [(".mp4", {"movflags": "+faststart"}), (".mp4", {}), (".mkv", {}), (".webm", {})]
)
def test_a_truncated_file_is_named_with_the_reason(lab, tmp_path, suffix, options):
    codec = "libvpx-vp9" if suffix == ".webm" else "libx264"
    path = lab.write_video(tmp_path / f"a{suffix}", lab.draw_video(30, (96, 128)), codec=codec, **options)
    assert len(decode(path).frames) == 30
    lab.truncate(path, 0.6)
    with pytest.raises(ClipError, match=rf"a\{suffix}.*(truncated|corrupt)"):
        decode(path)


def test_what_is_no_video_is_refused(tmp_path):
    (tmp_path / "a.mp4").write_text("hello")
    for name, reason in (("a.mp4", "can't be opened"), ("b.mp4", "does not exist")):
        with pytest.raises(ClipError, match=rf"{name} {reason}"):
            decode(tmp_path / name)


def test_a_span_of_a_long_file(lab, tmp_path):
    path = lab.write_video(tmp_path / "a.mp4", lab.draw_video(20, (96, 128)), fps=10)
    frames = list(iter_frames(path, start_s=0.7, num_frames=5))
    assert [lab.read_frame_number(frame) for frame in frames] == [7, 8, 9, 10, 11]
    with pytest.raises(ClipError, match="ends after 3 of the 5 frames"):
        list(iter_frames(path, start_s=1.7, num_frames=5))


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        (lambda video: video[..., :1], "uint8 "),
        (lambda video: video.astype(np.float32), "float32"),
        (lambda video: video[:0], "not empty"),
        (lambda video: video[:, :31], "even"),
    ],
)
def test_encode_refuses_what_it_cant_write(lab, tmp_path, change, reason):
    with pytest.raises(ValueError, match=reason):
        encode_mp4(tmp_path / "a.mp4", change(lab.draw_video(2)), 8)
    with pytest.raises(ValueError, match="fps_hz must be above 0"):
        encode_mp4(tmp_path / "a.mp4", lab.draw_video(2), 0)
    assert not list(tmp_path.iterdir())


def test_resize_is_a_box_filter():
    frame = np.arange(48, dtype=np.uint8).reshape(1, 4, 4, 3) * 5
    expected = frame.reshape(1, 2, 2, 2, 2, 3).mean((2, 4))
    assert np.abs(resize(frame, (2, 2)) - expected).max() <= 0.5
    np.testing.assert_array_equal(resize(frame, (8, 8)), frame.repeat(2, 1).repeat(2, 2))
    np.testing.assert_array_equal(resize(resize(frame, (8, 8)), (4, 4)), frame)


def test_resize_of_another_aspect_ratio():
    wide = np.full((1, 10, 20, 3), 200, np.uint8)
    wide[:, :, :5] = wide[:, :, 15:] = 100  # the sides that a crop loses
    padded, cropped, stretched = (resize(wide, (10, 10), fit)[0, ..., 0] for fit in ("pad", "crop", "stretch"))
    assert (padded[:2] == 0).all()
    assert (padded[-2:] == 0).all()
    assert sorted(set(padded[4])) == [100, 150, 200]  # 2.5 pixels of 5: the border is a mean
    assert (cropped == 200).all()
    assert (stretched[:, :2] == 100).all()
    assert (stretched[0] > 0).all()
    with pytest.raises(ValueError, match="fit must be one of pad, crop, stretch"):
        resize(wide, (10, 10), "cover")


def test_floats_and_back(lab):
    video = lab.draw_video(3, (24, 10))
    floats = to_float(video)
    assert floats.shape == (3, 3, 24, 10)
    assert floats.dtype == np.float32
    assert floats[1, 2, 3, 4] == np.float32(video[1, 3, 4, 2]) / 255
    np.testing.assert_array_equal(from_float(floats), video)
    np.testing.assert_array_equal(from_float(to_float(video[None])), video[None])
    np.testing.assert_array_equal(from_float(np.full((1, 3, 1, 1), 1.2)), np.full((1, 1, 1, 3), 255))
    with pytest.raises(ValueError, match="NaN"):
        from_float(np.full((1, 3, 1, 1), np.nan))
    with pytest.raises(ValueError, match="must be uint8"):
        to_float(floats)
