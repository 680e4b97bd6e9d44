"""Episodes as arrays in ``.npz`` files, one a file; the keys are guessed, and said, unless ``camera`` names one."""

from __future__ import annotations

import functools
import zipfile
import zlib
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np

from align.errors import ClipError
from align.types import Float32, UInt8
from align.video.frames import resize_frame
from align.video.importers.base import DEFAULT_FPS_HZ, Episode, ImportOptions, Problem, Source, compute_file_digest

FRAME_KEYS = ("image", "images", "frames", "video", "rgb", "pixels", "observation", "observations", "obs")
ACTION_KEYS = ("action", "actions")
FPS_KEYS = ("fps", "fps_hz")
TASK_KEYS = ("task", "instruction", "language_instruction")
_MAX_CHANNELS = 48


def matches(src: Path) -> bool:
    """Whether ``src`` is an ``.npz`` file or a folder with one somewhere below."""
    return bool(_list_files(src))


def read(src: Path, options: ImportOptions) -> Source:
    """Every ``.npz`` below ``src``, in the order of their paths."""
    files = _list_files(src)
    root = src if src.is_dir() else src.parent
    source = Source("npz", iter(()), len(files))

    def episodes() -> Iterator[Episode | Problem]:
        for path in files:
            try:
                yield _make_episode(path, root, options, source.notes)
            except ClipError as error:
                yield Problem(str(path), str(error))

    source.episodes = episodes()
    return source


def _list_files(src: Path) -> list[Path]:
    if src.is_file():
        return [src] if src.suffix.lower() == ".npz" else []
    return sorted(path for path in src.rglob("*.npz") if path.is_file() and not path.name.startswith("."))


def _make_episode(path: Path, root: Path, options: ImportOptions, notes: list[str]) -> Episode:
    name = path.relative_to(root).as_posix()
    arrays = _load_arrays(path)
    key = find_frame_key(arrays, options.camera)
    if not options.camera and (others := [other for other in arrays if other != key and arrays[other].ndim == 4]):
        notes.append(f"{name}: frames are read from {key!r} (also there: {', '.join(others)}; --camera chooses)")
    video = to_video(arrays[key], key, options.stacked)
    actions = _find_actions(arrays, name, notes)
    fps_hz = options.fps_hz or next((float(arrays[key].item()) for key in FPS_KEYS if _is_scalar(arrays, key)), 0.0)
    if fps_hz <= 0:
        fps_hz = DEFAULT_FPS_HZ
        notes.append(f"{name}: says no frame rate, {DEFAULT_FPS_HZ:g} Hz is assumed (--fps sets it)")
    return Episode(
        name=name,
        file=str(path),
        frames=functools.partial(_iter_resized, video, options),
        fps_hz=fps_hz,
        num_frames=len(video),
        actions=actions,
        digest=compute_file_digest(path),
        task=next((str(arrays[key].item()) for key in TASK_KEYS if _is_scalar(arrays, key)), ""),
        attributes={"frames_key": key},
    )


def _load_arrays(path: Path) -> dict[str, Any]:
    if not zipfile.is_zipfile(path):  # numpy would take it for a pickle
        raise ClipError("isn't an .npz archive; it may be truncated")
    arrays = {}
    try:
        with np.load(path, allow_pickle=False) as data:
            for key in data.files:
                try:
                    arrays[key] = data[key]
                except ValueError as error:  # Python objects, which would have to be unpickled
                    raise ClipError(f"array {key!r} isn't made of plain numbers, so it can't be loaded safely") from error
    except (zipfile.BadZipFile, zlib.error, OSError, EOFError) as error:
        raise ClipError(f"can't be read as .npz: {error}; it may be truncated") from error
    return arrays


def find_frame_key(arrays: Mapping[str, Any], camera: str = "") -> str:
    """The key of the frames: ``camera`` if given, else the first usual name, else the only array with 4 dims."""
    shapes = ", ".join(f"{key} {list(value.shape)}" for key, value in arrays.items()) or "nothing"
    if camera:
        if camera not in arrays:
            raise ClipError(f"has no array {camera!r}; it holds {shapes}")
        return camera
    for key in FRAME_KEYS:
        if key in arrays and arrays[key].ndim >= 3:
            return key
    four = [key for key, value in arrays.items() if value.ndim == 4]
    if len(four) != 1:
        raise ClipError(f"doesn't tell which array holds the frames; it holds {shapes}; name one with --camera")
    return four[0]


def to_video(array: Any, key: str = "frames", stacked: str = "") -> UInt8:
    """Frames in any usual layout to uint8 [T, H, W, 3].

    Args:
        array: [T, H, W] grey, [T, H, W, C] or [T, C, H, W] with C of 1 (grey), 3 or, if ``stacked`` says which
            picture to keep, a multiple of 3. Integers must lie in 0..255, floats in 0..1.
        key: Name for messages.
        stacked: ``last``, ``first`` or empty.

    Raises:
        ClipError: The array isn't such a video.
    """
    if array.ndim == 3:
        array = array[..., None]
    if array.ndim != 4 or 0 in array.shape:
        raise ClipError(f"array {key!r} isn't a video: its shape is {list(array.shape)}, not [T, H, W, C]")
    return _pick_channels(_to_channels_last(_to_bytes(array, key), key), key, stacked)


def _to_bytes(array: Any, key: str) -> UInt8:
    if array.dtype == np.uint8:
        return np.asarray(array)
    low, high = array.min(), array.max()
    if array.dtype.kind in "iu" and low >= 0 and high <= 255:
        return np.asarray(array, np.uint8)
    if array.dtype.kind == "f" and low >= 0 and high <= 1:  # NaN fails both comparisons
        return np.asarray(np.rint(array * 255), np.uint8)
    raise ClipError(
        f"array {key!r} holds {array.dtype} pixels from {low} to {high}; allowed are integers 0..255 or floats 0..1"
    )


def _to_channels_last(array: UInt8, key: str) -> UInt8:
    last, second = array.shape[3], array.shape[1]
    if last in (1, 3):
        return array
    if second in (1, 3) or (second <= _MAX_CHANNELS and second < min(array.shape[2:])):
        return np.moveaxis(array, 1, -1)
    if last <= _MAX_CHANNELS:
        return array
    raise ClipError(f"array {key!r} has no channel dim: its shape is {list(array.shape)}")


def _pick_channels(array: UInt8, key: str, stacked: str) -> UInt8:
    channels = array.shape[3]
    if channels == 1:
        return array.repeat(3, axis=3)
    if channels == 3:
        return array
    if channels % 3 or not channels:
        raise ClipError(f"array {key!r} has {channels} channels; allowed are 1 (grey) and 3 (RGB)")
    if not stacked:
        raise ClipError(
            f"array {key!r} has {channels} channels, which looks like {channels // 3} stacked frames; "
            "choose one picture with --stacked last or --stacked first"
        )
    return array[..., -3:] if stacked == "last" else array[..., :3]


def _find_actions(arrays: Mapping[str, Any], name: str, notes: list[str]) -> Float32 | None:
    key = next((key for key in ACTION_KEYS if key in arrays), None)
    if key is None:
        return None
    actions = arrays[key]
    if actions.dtype.kind not in "iufb":
        raise ClipError(f"array {key!r} must hold numbers, got {actions.dtype}")
    actions = np.asarray(actions.reshape(len(actions), -1) if actions.ndim == 1 else actions, np.float32)
    if "discount" in arrays and len(actions) and not actions[0].any():
        # replay buffers in dm_env's manner enter beside a frame the action that led to it, with zeros for the first
        notes.append(f"{name}: actions stand beside the frame they led to, as in dm_env replays; moved by one frame")
        return actions[1:]
    return actions


def _is_scalar(arrays: Mapping[str, Any], key: str) -> bool:
    return key in arrays and arrays[key].size == 1


def _iter_resized(video: UInt8, options: ImportOptions) -> Iterator[UInt8]:
    for frame in video:
        yield frame if options.size is None else resize_frame(frame, options.size, options.fit)
