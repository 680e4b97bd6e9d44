"""Clips under opaque names, which tell neither the file nor what made it.

A clip has one name for each place on the page, so that a catch trial, which shows one clip twice, isn't given away by
two equal addresses. The names are stable, so browsers may keep what they have.
"""

from __future__ import annotations

import base64
import functools
import hashlib
import hmac
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

import fastapi
from fastapi import APIRouter, HTTPException
from fastapi.responses import FileResponse

from align.errors import DataError
from align.io import sha256_file
from align.video.codec import probe
from align.video.folder import ClipFolder
from ui.web.videos import SOURCE_KEY

MAX_PLACES = 4
"""Clips that one task can show."""
_EPOCH = "Thu, 01 Jan 1970 00:00:00 GMT"
"""Sent instead of a file's true age, which tells the batches of two models apart."""

router = APIRouter()


@dataclass(frozen=True)
class ClipInfo:
    """What is known about one clip of the folder."""

    rollout_id: str
    context_id: str
    scene: str
    task: str
    path: Path
    fps_hz: float
    num_frames: int
    context_frames: int
    """Leading frames that all clips of the context share, 0 where nobody knows."""
    sha256: str


class Media:
    """The clips of one rollout folder.

    Args:
        folder: A rollout or clip folder.
        secret: Key of the opaque names, the same for all workers and restarts.

    Raises:
        DataError: A clip's file is missing.
    """

    def __init__(self, folder: ClipFolder, secret: bytes) -> None:
        self.folder = folder
        self.clips = {clip.rollout_id: clip for clip in _read_clips(folder)}
        missing = [clip.path.name for clip in self.clips.values() if not clip.path.is_file()]
        if missing:
            raise DataError(
                f"{folder.path} lacks {len(missing)} of its video files, the first is {missing[0]}; copy the whole folder again"
            )
        self._secret = secret
        self._paths = {self._name(clip, place): clip.path for clip in self.clips.values() for place in range(MAX_PLACES)}
        self._sizes = functools.lru_cache(maxsize=None)(_probe_size)

    def url(self, rollout_id: str, place: int) -> str:
        """Where the browser finds a clip.

        Args:
            rollout_id: The clip.
            place: 0 to 3, from left to right.
        """
        return f"/media/{self._name(self.clips[rollout_id], place)}.mp4"

    def find_url(self, rollout_id: str) -> str | None:
        """An address of a clip for an admin, None where it isn't in the folder."""
        return self.url(rollout_id, 0) if rollout_id in self.clips else None

    def makers(self) -> dict[str, str]:
        """Rollout id to the model (and adapter) that made it, for an admin; those of unknown origin are left out."""
        table = self.folder.table
        rows = zip(table["rollout_id"], table["model_id"], table["adapter_id"], strict=True)
        return {str(name): " + ".join(str(part) for part in (model, adapter) if part) for name, model, adapter in rows if model}

    def path(self, name: str) -> Path | None:
        """The file behind an opaque name, None where there is none."""
        return self._paths.get(name)

    def describe(self, rollout_id: str, place: int) -> dict[str, Any]:
        """What the page may know of a clip: its address, rate in Hz, number of frames and size in pixels."""
        clip = self.clips[rollout_id]
        height, width = self._sizes(clip.path)
        return {
            "url": self.url(rollout_id, place),
            "fps_hz": clip.fps_hz,
            "num_frames": clip.num_frames,
            "width": width,
            "height": height,
        }

    def _name(self, clip: ClipInfo, place: int) -> str:
        message = f"{clip.rollout_id}\n{clip.sha256}\n{place}".encode()
        digest = hmac.new(self._secret, message, hashlib.sha256).digest()
        return base64.urlsafe_b64encode(digest[:18]).decode()


def _read_clips(folder: ClipFolder) -> Iterator[ClipInfo]:
    """One a row; a folder may hold a hundred thousand, so nothing here touches a video that has its hash."""
    imported = SOURCE_KEY in folder.info
    columns = ["rollout_id", "context_id", "scene", "task", "file_name", "fps_hz", "num_frames", "context_frames", "sha256"]
    for row in folder.table[columns].to_dict("records"):
        path = folder.path / str(row["file_name"])
        yield ClipInfo(
            rollout_id=str(row["rollout_id"]),
            context_id=str(row["context_id"]),
            scene=str(row["scene"]),
            task=str(row["task"]),
            path=path,
            fps_hz=float(row["fps_hz"]),
            num_frames=int(row["num_frames"]),
            context_frames=0 if imported else int(row["context_frames"]),
            sha256=str(row["sha256"]) or (sha256_file(path) if path.is_file() else ""),
        )


def _probe_size(path: Path) -> tuple[int, int]:
    seen = probe(path)
    return seen.height, seen.width


@router.api_route("/media/{name}.mp4", methods=["GET", "HEAD"])
def send_clip(name: Annotated[str, fastapi.Path(max_length=64)], request: fastapi.Request) -> FileResponse:
    """A clip, whole or in byte ranges."""
    path = request.app.state.gptsim.media.path(name)
    if path is None or not path.is_file():
        raise HTTPException(404, "there is no such clip")
    headers = {"Cache-Control": "private, max-age=86400, immutable", "ETag": f'"{name}"', "Last-Modified": _EPOCH}
    return FileResponse(path, media_type="video/mp4", headers=headers)
