"""What the probes' recipes share: jobs with labels over worker processes, tables and findings in the run folder."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from align.io import atomic_path, to_jsonable
from recipes._run import Run

if TYPE_CHECKING:
    import pandas as pd

    from align.audit.probes.base import Finding
    from align.types import UInt8

Labelled = tuple[Mapping[str, Any], Any]
"""What every row of a job is labelled with, and the job."""


def run_stage(
    run: Run, stage: str, why: str, task: Callable[[Any], list[dict[str, Any]]], jobs: Sequence[Labelled], num_workers: int
) -> list[dict[str, Any]]:
    """Rows of all jobs with their labels, in order; done once, so an interrupted probe goes on where it was."""
    from align.world_models.pool import Pool

    if (done := run.done(stage)) is not None:
        return list(done["rows"])
    with run.stage(stage, why) as results:
        rows: list[dict[str, Any]] = []
        with Pool(num_workers) as pool, run.progress(stage, len(jobs)) as advance:
            for (labels, _), part in zip(jobs, pool.map(task, [job for _, job in jobs]), strict=True):
                # Through plain JSON values, so that a resumed run holds the same rows.
                rows += [to_jsonable({**labels, **row}) for row in part]
                advance(1)
        results["rows"] = rows
    return rows


def make_frame(rows: Sequence[Mapping[str, Any]], numbers: Sequence[str]) -> pd.DataFrame:
    """Rows as a table; ``attributes`` become columns, and None among numbers becomes NaN."""
    import pandas as pd

    flat = [{**{k: v for k, v in row.items() if k != "attributes"}, **row.get("attributes", {})} for row in rows]
    table = pd.DataFrame(flat)
    return table.astype({name: float for name in numbers if name in table})


def write_table(run: Run, name: str, table: pd.DataFrame) -> str:
    """Write a table as parquet into the run folder; returns its name there."""
    if run.is_main:
        with atomic_path(run.path / name) as temporary:
            table.to_parquet(temporary, index=False)
    return name


def read_table(path: str | Path) -> pd.DataFrame:
    """A CSV, JSONL or parquet table; raises DataError if it can't be read."""
    import pandas as pd

    from align.errors import DataError

    readers: dict[str, Callable[[Path], pd.DataFrame]] = {
        ".csv": pd.read_csv,
        ".jsonl": lambda file: pd.read_json(file, lines=True),
        ".parquet": pd.read_parquet,
    }
    file = Path(path)
    if file.suffix not in readers:
        raise DataError(f"{path} must end in {', '.join(readers)}, got {file.suffix or 'no suffix'}")
    try:
        return readers[file.suffix](file)
    except (OSError, ValueError) as error:
        raise DataError(f"{path} can't be read as a table: {str(error).splitlines()[0]}") from error


def plain_findings(findings: Sequence[Finding]) -> list[dict[str, Any]]:
    """Findings for a report, those that were found first."""
    order = {"found": 0, "cannot tell": 1, "not found": 2}
    return [finding.as_dict() for finding in sorted(findings, key=lambda finding: order[finding.status])]


def join_side_by_side(clips: Sequence[UInt8], gap: int = 4, scale: int = 1) -> UInt8:
    """Clips of one size beside each other with a white gap, uint8 [T, H, W', 3]; W' and H are even, as H.264 wants."""
    import numpy as np

    height = clips[0].shape[1]
    wall = np.full((len(clips[0]), height, gap, 3), 255, np.uint8)
    parts = [part for clip in clips for part in (clip, wall)][:-1]
    joined: UInt8 = np.concatenate(parts, axis=2).repeat(scale, 1).repeat(scale, 2)
    return np.pad(joined, ((0, 0), (0, height * scale % 2), (0, joined.shape[2] % 2), (0, 0)), mode="edge")


def write_strip(path: Path, clips: Sequence[UInt8], labels: Sequence[str], columns: int = 8) -> None:
    """A PNG with one row of frames a clip under its label."""
    import numpy as np
    from PIL import Image, ImageDraw

    picked = np.linspace(0, len(clips[0]) - 1, min(columns, len(clips[0]))).round().astype(int)
    rows = [np.concatenate(list(clip[picked]), axis=1) for clip in clips]
    height, width = rows[0].shape[:2]
    sheet = Image.new("RGB", (width, len(rows) * (height + 14)), "white")
    pen = ImageDraw.Draw(sheet)
    for number, (row, label) in enumerate(zip(rows, labels, strict=True)):
        pen.text((2, number * (height + 14) + 1), label, fill="black")
        sheet.paste(Image.fromarray(row), (0, number * (height + 14) + 14))
    with atomic_path(path) as temporary:
        sheet.save(temporary, format="PNG")
