"""Writing a clip folder: videos as they come, the table at the end, and nothing that looks complete before it is.

Everything goes into ``<dir>.partial`` beside the target: videos, and one line per finished clip in a journal. Closing
turns the journal into ``metadata.parquet`` and ``info.json`` and renames the folder. An interrupted run is continued
from its journal.
"""

from __future__ import annotations

import functools
import json
import multiprocessing
import os
import shutil
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Mapping
from concurrent.futures import Future, ProcessPoolExecutor
from pathlib import Path
from types import TracebackType
from typing import Any

import pyarrow.parquet as pq

from align.errors import DataError
from align.io import to_jsonable, write_error, write_json
from align.types import Clip, UInt8
from align.video.codec import write_clip
from align.video.schema import INFO_NAME, METADATA_NAME, complete_row, make_row, make_table

RowAndVideo = tuple[Mapping[str, Any], UInt8]
ClipLike = Clip | RowAndVideo
"""What can be written: a clip, or a row of the schema with its video."""

_JOURNAL = "journal.jsonl"
_PARTIAL_INFO = "info.partial.json"


class ClipFolderWriter:
    """Context manager that writes one clip or rollout folder.

    Args:
        path: The folder to make; it must not exist or be empty.
        info: What goes into ``info.json``; ``writer.info`` may be completed until the end.
        resume: Continue the ``.partial`` folder of an interrupted run, if there is one.
        keep_partial: Keep the ``.partial`` folder when an error leaves the ``with`` block, so that it can be resumed;
            otherwise it is removed.
        **columns: Values for every row, for instance ``context_frames=2``.

    Raises:
        DataError: The target exists, or an interrupted run stands in the way, or one of other content is resumed.
    """

    def __init__(
        self, path: str | Path, info: Mapping[str, Any], *, resume: bool = False, keep_partial: bool = False, **columns: Any
    ) -> None:
        self.path = Path(path)
        self.partial = self.path.with_name(self.path.name + ".partial")
        self.info: dict[str, Any] = dict(info)
        self.columns = columns
        self.keep_partial = keep_partial
        self.rows: dict[str, dict[str, Any]] = {}
        self.done_tasks: set[int] = set()
        self._check_target()
        resumed = self.partial.exists()
        if resumed and not resume:
            raise DataError(f"{self.partial} is left over from an interrupted run; resume it, or remove it and start again")
        try:
            (self.partial / "videos").mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise write_error(self.partial, error) from error
        self._check_info(resumed)
        if resumed:
            self._read_journal()
        self._journal = (self.partial / _JOURNAL).open("a", encoding="utf-8")

    def __len__(self) -> int:
        return len(self.rows)

    def __enter__(self) -> ClipFolderWriter:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        if error is None:
            try:
                self.close()
                return
            except BaseException:
                self.abort()
                raise
        self.abort()

    def add(self, item: Clip | Mapping[str, Any], video: UInt8 | None = None, **columns: Any) -> str:
        """Encode one clip, or one row with its ``video`` uint8 [T, H, W, 3], and return its id."""
        like = item if isinstance(item, Clip) else _with_video(item, video)
        row = encode_row(like, self.partial / "videos", {**self.columns, **columns}, taken=self.rows)
        self.record([row])
        return str(row["rollout_id"])

    def add_file(self, row: Mapping[str, Any], source: Path) -> None:
        """Take over a row whose mp4 was written by this package; linked where the disk allows it, else copied."""
        row = {**row, "file_name": f"videos/{row['rollout_id']}.mp4"}
        self._check_new(row["rollout_id"])
        target = self.partial / row["file_name"]
        target.unlink(missing_ok=True)
        try:
            os.link(source, target)
        except OSError:
            shutil.copyfile(source, target)
        self.record([row])

    def record(self, rows: Iterable[dict[str, Any]], task: int | None = None) -> None:
        """Enter rows whose videos lie in the folder; ``task`` marks the work item they came from as done."""
        rows = list(rows)
        for row in rows:
            self._check_new(row["rollout_id"])
            self.rows[row["rollout_id"]] = row
        if task is not None:
            self.done_tasks.add(task)
        self._write({"rows": rows, "task": task})

    def discard(self, rollout_ids: Iterable[str]) -> None:
        """Take clips back, for instance when the end of their episode turns out to be broken."""
        dropped = [row_id for row_id in rollout_ids if self.rows.pop(row_id, None) is not None]
        self._write({"discard": dropped})
        for row_id in dropped:
            (self.partial / "videos" / f"{row_id}.mp4").unlink(missing_ok=True)

    def close(self) -> Path:
        """Write the table and ``info.json``, then give the folder its name."""
        if not self.rows:
            raise DataError(f"{self.path} was not written, because there is no clip to put into it")
        self._journal.close()
        pq.write_table(make_table(list(self.rows.values())), self.partial / METADATA_NAME, row_group_size=1024)
        write_json(self.partial / INFO_NAME, {**self.info, "num_clips": len(self.rows)})
        (self.partial / _JOURNAL).unlink()
        (self.partial / _PARTIAL_INFO).unlink()
        self._check_target()
        os.replace(self.partial, self.path)
        return self.path

    def abort(self) -> None:
        """Stop without a folder; what was written is removed unless it is to be resumed."""
        self._journal.close()
        if not self.keep_partial:
            shutil.rmtree(self.partial, ignore_errors=True)

    def _check_target(self) -> None:
        if self.path.exists() and (not self.path.is_dir() or any(self.path.iterdir())):
            raise DataError(f"{self.path} already exists; choose another folder, nothing is overwritten")

    def _check_info(self, resumed: bool) -> None:
        wanted = json.dumps(to_jsonable(self.info), indent=2, sort_keys=True)
        partial_info = self.partial / _PARTIAL_INFO
        if not resumed or not partial_info.exists():
            partial_info.write_text(wanted, encoding="utf-8")
        elif partial_info.read_text(encoding="utf-8") != wanted:
            raise DataError(f"{self.partial} was begun with other settings; resume with the same ones, or remove it")

    def _check_new(self, row_id: str) -> None:
        if row_id in self.rows:
            raise DataError(f"clip {row_id} comes twice; ids must be unique within {self.path}")

    def _write(self, entry: Mapping[str, Any]) -> None:
        self._journal.write(json.dumps(entry) + "\n")
        self._journal.flush()

    def _read_journal(self) -> None:
        path = self.partial / _JOURNAL
        lines = path.read_text(encoding="utf-8").splitlines(keepends=True) if path.exists() else []
        if lines and not lines[-1].endswith("\n"):  # the run was killed while it wrote this line
            lines.pop()
            path.write_text("".join(lines), encoding="utf-8")
        for line in lines:
            entry = json.loads(line)
            self.rows.update({row["rollout_id"]: row for row in entry.get("rows", [])})
            for row_id in entry.get("discard", []):
                self.rows.pop(row_id, None)
            if entry.get("task") is not None:
                self.done_tasks.add(entry["task"])


def encode_row(
    item: ClipLike, video_dir: Path, columns: Mapping[str, Any], taken: Mapping[str, Any] | None = None
) -> dict[str, Any]:
    """Write the mp4 of one clip into ``video_dir`` and return its finished row."""
    row, video = (make_row(item), item.video) if isinstance(item, Clip) else item
    full = complete_row({**row, **columns}, video)
    if taken and full["rollout_id"] in taken:
        raise DataError(f"clip {full['rollout_id']} comes twice; ids must be unique within a folder")
    written = write_clip(video_dir / f"{full['rollout_id']}.mp4", video, float(full["fps_hz"]))
    return full | written._asdict()


def write_clip_folder(
    path: str | Path,
    info: Mapping[str, Any],
    items: Iterable[Any],
    *,
    make: Callable[[Any], ClipLike | list[ClipLike]] | None = None,
    num_workers: int = 1,
    resume: bool = False,
    keep_partial: bool = False,
    progress: Callable[[int], None] | None = None,
    **columns: Any,
) -> Path:
    """Write a folder from work items, on several processes if wished; the rows come in the order of the items.

    Args:
        path: The folder to make.
        info: Content of ``info.json``.
        items: Clips, (row, video) pairs, or whatever ``make`` turns into them, such as seeds.
        make: Runs in the worker, so simulating and encoding are both spread; a function at the top of a module (or a
            ``functools.partial`` of one). None takes the items as they are.
        num_workers: Processes; 1 stays in this one.
        resume: Continue an interrupted run: items whose number stands in the journal are not made again.
        keep_partial: See ``ClipFolderWriter``.
        progress: Called after every item with the number of items done.
        **columns: Values for every row.
    """
    with ClipFolderWriter(path, info, resume=resume, keep_partial=keep_partial, **columns) as writer:
        work = functools.partial(_encode_item, make, writer.partial / "videos", columns)
        todo = ((number, item) for number, item in enumerate(items) if number not in writer.done_tasks)
        for number, rows in _run(work, todo, num_workers):
            writer.record(rows, task=number)
            if progress is not None:
                progress(len(writer.done_tasks))
    return Path(path)


def _encode_item(make: Callable[[Any], Any] | None, video_dir: Path, columns: Mapping[str, Any], item: Any) -> list[Any]:
    made = item if make is None else make(item)
    return [encode_row(like, video_dir, columns) for like in (made if isinstance(made, list) else [made])]


def _run(work: Callable[[Any], Any], todo: Iterable[tuple[int, Any]], num_workers: int) -> Iterator[tuple[int, Any]]:
    """Map in order; with several workers only a few items are in flight, so a long iterable isn't held in memory."""
    if num_workers <= 1:
        yield from ((number, work(item)) for number, item in todo)
        return
    # spawn: a forked child of a process that runs torch threads may hang
    with ProcessPoolExecutor(num_workers, mp_context=multiprocessing.get_context("spawn")) as pool:
        flying: deque[tuple[int, Future[Any]]] = deque()
        try:
            for number, item in todo:
                flying.append((number, pool.submit(work, item)))
                if len(flying) >= 4 * num_workers:
                    number, future = flying.popleft()
                    yield number, future.result()
            while flying:
                number, future = flying.popleft()
                yield number, future.result()
        finally:
            for _, future in flying:
                future.cancel()


def _with_video(row: Mapping[str, Any], video: UInt8 | None) -> RowAndVideo:
    if video is None:
        raise ValueError("video must be given together with a row")
    return row, video
