"""The clips that are asked about: a rollout folder as it is, or plain videos made into one beside the database."""

from __future__ import annotations

from pathlib import Path, PurePosixPath

import pyarrow as pa
import pyarrow.parquet as pq
from sqlalchemy import make_url
from sqlalchemy.exc import ArgumentError

from align.errors import DataError
from align.video.codec import probe
from align.video.folder import ClipFolder, load_clip_folder
from align.video.importers.base import compute_file_digest
from align.video.importers.media import SUFFIXES
from align.video.schema import METADATA_NAME, REQUIRED
from ui.web.videos import SOURCE_KEY, Progress, import_videos


def open_clips(path: Path, db_url: str, progress: Progress | None = None) -> ClipFolder:
    """Open a rollout folder, or import a folder of videos into one that browsers can play.

    Args:
        path: Rollout or clip folder, or any folder with videos in it.
        db_url: The label database; imported clips go beside it, and are taken from there the next time.
        progress: Called after every imported video with the number done and the total.

    Raises:
        DataError: There is nothing to show, a video is broken, or the videos have changed since they were imported.
    """
    check_source(path)
    if not _is_clip_folder(path):
        return _imported(path, imported_path(db_url), progress)
    folder = load_clip_folder(path)
    _check_playable(folder)
    return folder


def check_source(path: Path) -> None:
    """Check, without reading a video, that there is something to show.

    Raises:
        DataError: The path is no folder, or there are neither clips nor videos in it.
    """
    if not path.is_dir():
        raise DataError(f"{path} is not a folder; give a rollout folder or a folder of videos")
    if not _is_clip_folder(path) and not _find_videos(path):
        raise DataError(
            f"{path} is neither a rollout folder (it has no {METADATA_NAME}) nor does it hold videos "
            f"({', '.join(sorted(SUFFIXES))})"
        )


def imported_path(db_url: str) -> Path:
    """Where imported clips go: ``labels_clips`` beside ``labels.db``, or in the working folder for a server's database.

    Raises:
        DataError: This is no database URL.
    """
    try:
        url = make_url(db_url)
    except ArgumentError:
        raise DataError(f"{db_url!r} is not a database URL; write for example sqlite:///labels.db") from None
    name = url.database or "labels"
    base = Path(name) if url.get_backend_name() == "sqlite" else Path(PurePosixPath(name).name)
    return base.with_name(f"{base.stem}_clips")


def _is_clip_folder(path: Path) -> bool:
    """Whether the table is one of ours; other people's videos may have a metadata.parquet with other columns."""
    if not (path / METADATA_NAME).is_file():
        return False
    try:
        return set(REQUIRED) <= set(pq.read_schema(path / METADATA_NAME).names)
    except (pa.ArrowException, OSError) as error:
        raise DataError(f"{path / METADATA_NAME} can't be read: {error}") from error


def _check_playable(folder: ClipFolder) -> None:
    others = []
    for name in folder.table["file_name"]:
        path = folder.path / str(name)
        if path.is_file() and (codec := probe(path).codec) != "h264":
            others.append(f"{path.name} ({codec})")
    if others:
        raise DataError(
            f"{len(others)} videos of {folder.path} are not H.264, which every browser plays, the first is {others[0]}; bring "
            "them in with: gptsim clips import SRC --out DEST --size source --num-frames 0 --context-frames 1"
        )


def _imported(source: Path, out: Path, progress: Progress | None) -> ClipFolder:
    digests = {video.relative_to(source).as_posix(): compute_file_digest(video) for video in _find_videos(source)}
    if not out.exists():
        import_videos(source, out, digests, progress)
    folder = load_clip_folder(out)
    if folder.info.get(SOURCE_KEY) != digests:
        raise DataError(
            f"the videos in {source} are not those that {out} was made from; restore them, or name another database with --db"
        )
    return folder


def _find_videos(source: Path) -> list[Path]:
    paths = sorted(path for path in source.rglob("*") if path.suffix.lower() in SUFFIXES and path.is_file())
    return [path for path in paths if not any(part.startswith(".") for part in path.relative_to(source).parts)]
