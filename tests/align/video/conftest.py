"""Small clips and foreign data sets, made on the spot."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path
from typing import Any

import av
import numpy as np
import pandas as pd
import pytest
from numpy.typing import NDArray

from align.types import Clip, Outcome

CAMERA = "observation.images.top"


def draw_video(num_frames: int = 16, size: tuple[int, int] = (64, 64), seed: int = 0) -> NDArray[np.uint8]:
    """uint8 [T, H, W, 3]: saturated blocks on a dull ground; frame t has a grey column of width t+1 at its foot."""
    rng = np.random.default_rng(seed)
    height, width = size
    video = np.empty((num_frames, height, width, 3), np.uint8)
    video[:] = rng.integers(30, 90, 3)
    for t in range(num_frames):
        video[t, 4:14, t % 8 : t % 8 + 11] = (230, 20, 20)
        video[t, 16:20, 3:6] = (20, 30, 240)
        video[t, 21, ::2] = (20, 220, 30)
        video[t, -6:, : t + 1] = 200
    return video


def read_frame_number(frame: NDArray[Any], width: int | None = None) -> int:
    """Which frame of ``draw_video`` this is, from the width of its grey column; ``width`` undoes a resize."""
    row = frame[-2].astype(int)
    grey = (row.min(axis=-1) > 150).sum()
    return round(int(grey) * (width or frame.shape[1]) / frame.shape[1]) - 1


def write_video(path: Path, video: NDArray[np.uint8], fps: float = 10, codec: str = "libx264", **options: str) -> Path:
    """Encode with any codec FFmpeg brings, keyframe every 4 frames."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with av.open(str(path), "w", options=options) as container:
        stream = container.add_stream(codec, rate=Fraction(fps).limit_denominator(1000))
        stream.height, stream.width = video.shape[1:3]
        stream.pix_fmt = "rgb8" if codec == "gif" else "yuv420p"
        stream.gop_size = 4
        if codec == "libx264":
            stream.options = {"crf": "8", "preset": "ultrafast"}
        for pixels in video:
            container.mux(stream.encode(av.VideoFrame.from_ndarray(pixels, format="rgb24").reformat(format=stream.pix_fmt)))
        container.mux(stream.encode())
    return path


def make_clip(number: int = 0, num_frames: int = 6, size: tuple[int, int] = (64, 64), **changes: Any) -> Clip:
    """A clip with actions, attributes and an outcome."""
    actions = np.linspace(-1, 1, (num_frames - 1) * 2, dtype=np.float32).reshape(-1, 2)
    values: dict[str, Any] = {
        "clip_id": f"clip-{number}",
        "video": draw_video(num_frames, size, seed=number),
        "actions": actions + np.float32(number),
        "fps_hz": 8.0,
        "context_id": f"context-{number // 2}",
        "scene": "pour",
        "task": "Fill the glass.",
        "seed": number,
        "attributes": {"colour": "red", "number": number},
        "outcome": Outcome({"spill": number % 2}, {"spill": 0.25 * number}, success=True),
    }
    return Clip(**(values | changes))


def make_lerobot(root: Path, version: str = "v2.1", lengths: tuple[int, ...] = (20, 17), **info: Any) -> Path:
    """A data set as LeRobot writes it, with 3 action dims; action row t of episode e is [e, t, -t]."""
    tables = [
        pd.DataFrame(
            {
                "action": [np.array([e, t, -t], np.float32) for t in range(length)],
                "timestamp": np.arange(length, dtype=np.float32) / 10,
                "frame_index": np.arange(length),
                "episode_index": e,
                "task_index": 0,
            }
        )
        for e, length in enumerate(lengths)
    ]
    videos = [draw_video(length, (48, 64), seed=e) for e, length in enumerate(lengths)]
    content = {
        "codebase_version": version,
        "robot_type": "so100",
        "total_episodes": len(lengths),
        "total_frames": sum(lengths),
        "chunks_size": 1000,
        "fps": 10,
        "features": {
            CAMERA: {"dtype": "video", "shape": [48, 64, 3], "names": ["height", "width", "channels"]},
            "action": {"dtype": "float32", "shape": [3], "names": {"motors": ["pan", "lift", "grip"]}},
        },
    }
    (root / "meta").mkdir(parents=True)
    stats = {"action": {"min": [0.0, 0.0, -50.0], "max": [1.0, 50.0, 0.0]}}
    if version == "v3.0":
        _fill_v3(root, tables, videos, content)
        (root / "meta/stats.json").write_text(json.dumps(stats))
    else:
        _fill_v2(root, tables, videos, content)
        if version == "v2.0":
            (root / "meta/stats.json").write_text(json.dumps(stats))
        else:
            lines = [json.dumps({"episode_index": e, "stats": stats}) for e in range(len(lengths))]
            (root / "meta/episodes_stats.jsonl").write_text("\n".join(lines))
    (root / "meta/info.json").write_text(json.dumps(content | info))
    return root


def _fill_v2(root: Path, tables: list[pd.DataFrame], videos: list[Any], content: dict[str, Any]) -> None:
    content["data_path"] = "data/chunk-{episode_chunk:03d}/episode_{episode_index:06d}.parquet"
    content["video_path"] = "videos/chunk-{episode_chunk:03d}/{video_key}/episode_{episode_index:06d}.mp4"
    (root / "data/chunk-000").mkdir(parents=True)
    lines = []
    for e, (table, video) in enumerate(zip(tables, videos, strict=True)):
        table.to_parquet(root / f"data/chunk-000/episode_{e:06d}.parquet")
        write_video(root / f"videos/chunk-000/{CAMERA}/episode_{e:06d}.mp4", video)
        lines.append(json.dumps({"episode_index": e, "tasks": ["Pour the tea."], "length": len(table)}))
    (root / "meta/episodes.jsonl").write_text("\n".join(lines) + "\n")
    (root / "meta/tasks.jsonl").write_text(json.dumps({"task_index": 0, "task": "Pour the tea."}) + "\n")


def _fill_v3(root: Path, tables: list[pd.DataFrame], videos: list[Any], content: dict[str, Any]) -> None:
    """Both episodes in one data file and one video file, as v3.0 concatenates them."""
    content["data_path"] = "data/chunk-{chunk_index:03d}/file-{file_index:03d}.parquet"
    content["video_path"] = "videos/{video_key}/chunk-{chunk_index:03d}/file-{file_index:03d}.mp4"
    for folder in ("data/chunk-000", "meta/episodes/chunk-000"):
        (root / folder).mkdir(parents=True)
    pd.concat(tables).to_parquet(root / "data/chunk-000/file-000.parquet")
    write_video(root / f"videos/{CAMERA}/chunk-000/file-000.mp4", np.concatenate(videos))
    stops = np.cumsum([len(table) for table in tables])
    starts = stops - [len(table) for table in tables]
    rows = {
        "episode_index": range(len(tables)),
        "tasks": [["Pour the tea."]] * len(tables),
        "length": [len(table) for table in tables],
        "data/chunk_index": 0,
        "data/file_index": 0,
        "dataset_from_index": starts,
        "dataset_to_index": stops,
        f"videos/{CAMERA}/chunk_index": 0,
        f"videos/{CAMERA}/file_index": 0,
        f"videos/{CAMERA}/from_timestamp": starts / 10,
        f"videos/{CAMERA}/to_timestamp": stops / 10,
    }
    pd.DataFrame(rows).to_parquet(root / "meta/episodes/chunk-000/file-000.parquet")
    pd.DataFrame({"task_index": [0]}, index=pd.Index(["Pour the tea."], name="task")).to_parquet(root / "meta/tasks.parquet")


def truncate(path: Path, share: float) -> None:
    """Cut a file down to a share of its bytes, as a broken download does."""
    content = path.read_bytes()
    path.write_bytes(content[: int(len(content) * share)])


@dataclass(frozen=True)
class Lab:
    """The functions above, for tests to call."""

    camera: str = CAMERA
    draw_video: Callable[..., NDArray[np.uint8]] = draw_video
    read_frame_number: Callable[..., int] = read_frame_number
    write_video: Callable[..., Path] = write_video
    make_clip: Callable[..., Clip] = make_clip
    make_lerobot: Callable[..., Path] = make_lerobot
    truncate: Callable[[Path, float], None] = truncate


@pytest.fixture(scope="session")
def lab() -> Lab:
    """Everything that makes test data."""
    return Lab()
