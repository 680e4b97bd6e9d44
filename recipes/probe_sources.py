"""Source clips: how unsafe and how unbalanced they are, by source and group, as a reward model sees them."""

from __future__ import annotations

import shutil
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Annotated, Any

from pydantic import Field

from recipes._run import Run
from recipes._sources import Seer, choose_columns, score_sources

if TYPE_CHECKING:
    import pandas as pd

    from align.audit.probes.sources import SourceRate


@dataclass(frozen=True)
class Config:
    """Which clips, and who looks at them."""

    clips: tuple[str, ...] = ("clips/household",)
    """Clip folders."""
    reward_model: str = ""
    """Folder that gptsim run reward wrote."""
    world_model: str = "household"
    """World model whose frame size (and tokenizer, if the backbone wants it) is used."""
    axes: dict[str, tuple[str, ...]] = field(
        default_factory=lambda: {"pour": ("spill",), "shelf": ("breakage",), "corridor": ("politeness",)}
    )
    """Axes that count in each scene; all of the reward model's in a scene that is not named."""
    source: str = ""
    """Column or attribute that says where a clip comes from; empty takes the folders' names."""
    attributes: tuple[str, ...] = ()
    """Attributes to compare by; empty takes all with 2 to 8 values."""
    tolerance: Annotated[float, Field(gt=0, le=1)] = 0.1
    """A gap this large matters: where it would not have been found, the answer is "cannot tell"."""
    clips_shown: Annotated[int, Field(ge=0)] = 2
    """Most unsafe clips of each scene and axis that are copied into the run folder."""
    num_workers: int = 2
    """Processes."""
    seed: int = 0
    """Nothing is drawn; kept with the record."""


def main(config: Config, run: Run) -> dict[str, Any]:
    """Write sources.parquet, unsafe.png and the most unsafe clips; returns rates, gaps, shares and findings in words."""
    from align.audit.probes.base import judge_findings
    from align.audit.probes.plots import draw_whiskers, save_figure
    from align.audit.probes.shares import compute_shares
    from align.audit.probes.sources import PROBE, compute_gaps, compute_rates, source_findings
    from recipes._probe import plain_findings, write_table

    for number, path in enumerate(config.clips):
        run.record_input(f"clips_{number}", path)
    seer = Seer(config.reward_model, config.world_model, config.axes)
    table = score_sources(run, seer, config.clips, config.source, config.num_workers)
    columns = choose_columns(table, config.attributes)
    rates = compute_rates(table, columns)
    num_tests = len(compute_gaps(table, columns)) + len(compute_shares(table, columns))
    gaps = compute_gaps(table, columns, num_tests=num_tests)
    shares = compute_shares(table, columns, num_tests=num_tests)
    unsafe = [rate.unsafe for rate in rates]
    save_figure(
        draw_whiskers([_label(rate) for rate in rates], unsafe, ["base"] * len(rates), "% unsafe", 100), run.path / "unsafe.png"
    )
    return {
        "probe": PROBE.name,
        "asks": PROBE.asks,
        "cannot_show": PROBE.cannot_show,
        "num_clips": len(table),
        "num_unscored": int(table.filter(like="unsafe_").isna().all(axis=1).sum()),
        "compared_by": columns,
        "findings": plain_findings(judge_findings(source_findings(gaps, shares), config.tolerance)),
        "rates": [row.as_dict() for row in rates],
        "gaps": [row.as_dict() for row in gaps],
        "shares": [row.as_dict() for row in shares],
        "clips": _show(config, run, table),
        "files": [write_table(run, "sources.parquet", table), "unsafe.png"],
    }


def _label(rate: SourceRate) -> str:
    return f"{rate.scene}, {rate.axis}: " + (f"{rate.column} {rate.value}" if rate.column else "all clips")


def _show(config: Config, run: Run, table: pd.DataFrame) -> list[dict[str, Any]]:
    """The most unsafe clips of every scene and axis, copied, so that the report plays them."""
    from align.io import atomic_path
    from align.video.folder import load_clip_folder

    folders = {str(folder.path): folder for folder in map(load_clip_folder, config.clips)}
    shown: list[dict[str, Any]] = []
    for column in map(str, table.filter(like="unsafe_")):
        for _, part in table[table[column].notna()].groupby("scene", sort=False):
            worst = part.sort_values([column, "rollout_id"], ascending=[False, True]).head(config.clips_shown)
            for row in worst.to_dict("records"):
                name = f"clips/{len(shown)}-{row['rollout_id']}.mp4"
                (run.path / "clips").mkdir(exist_ok=True)
                with atomic_path(run.path / name) as temporary:
                    shutil.copyfile(folders[row["folder"]].video_path(int(row["row"])), temporary)
                about = {key: row[key] for key in ("folder", "rollout_id", "scene", "source")}
                axis = column.removeprefix("unsafe_")
                says = f"{axis}: {100 * row[column]:.0f} % unsafe by the reward model"
                shown.append({**about, "axis": axis, "unsafe": row[column], "clip": name, "says": says})
    return shown
