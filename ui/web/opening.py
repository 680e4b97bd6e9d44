"""Opening a folder and a database together, and asking about what nothing is asked about yet."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from align.errors import DataError
from align.preferences.accounts import Accounts
from align.preferences.campaign import Campaign
from align.preferences.campaign.schema import Settings
from align.preferences.storage.store import LabelStore
from ui.web.axes import plan_axes
from ui.web.clips import Progress, check_source, open_clips
from ui.web.media import Media
from ui.web.state import State
from ui.web.tasks import check_tasks, make_tasks


@dataclass(frozen=True)
class Setup:
    """What to ask, for tasks that are made now; None and empty keep what the database says, or the default.

    Attributes:
        axes: ``name`` or ``name=question``; empty takes those of the folder.
        overlap: How many people answer each task.
        clips_per_task: 1 (pass or fail), 2 (pairs), 3 or 4 (rankings); of no effect once there are tasks.
        per_context: Most tasks of one context; 0 takes three for every clip.
        seed: Seed of the draw.
    """

    axes: tuple[str, ...] = ()
    overlap: int | None = None
    clips_per_task: int | None = None
    per_context: int = 0
    seed: int = 0


def open_state(
    rollouts: Path,
    db_url: str,
    *,
    public_url: str | None = None,
    setup: Setup | None = None,
    progress: Progress | None = None,
    runs_dir: Path = Path("runs"),
) -> State:
    """Open folder and database and make the tasks that are missing; see :func:`make_app`."""
    address = _check_address(public_url or "")
    check_source(rollouts)  # a mistyped folder leaves no empty database behind
    store = LabelStore(db_url)
    try:
        campaign = Campaign(store)
        clips = Media(open_clips(rollouts, db_url, progress), campaign.secret())
        prepare_campaign(campaign, clips, setup or Setup())
    except BaseException:
        store.close()
        raise
    return State(store, campaign, Accounts(store), clips, db_url, address, runs_dir)


def _check_address(public_url: str) -> str:
    """The address without a slash at its end. One without https:// would silently let cookies travel in the clear."""
    parts = urlsplit(public_url)
    if public_url and (parts.scheme not in ("http", "https") or not parts.netloc or f"{parts.path}{parts.query}".strip("/")):
        raise ValueError(f"public_url must be like https://label.example.org, with nothing behind the host, got {public_url!r}")
    return public_url.rstrip("/")


def prepare_campaign(campaign: Campaign, clips: Media, setup: Setup) -> None:
    """Ask about every context that nothing is asked about yet; on the first start that is all of them.

    Raises:
        DataError: The stored tasks are about other clips, or there is nothing to ask.
    """
    known, before = campaign.tasks(), campaign.settings()
    check_tasks(known, clips.clips)
    settings = before if known else _first_settings(before, setup)
    if setup.overlap is not None:
        settings = _change(settings, overlap=setup.overlap)
    asked = {task.context_id for task in known}
    fresh = [clip for clip in clips.clips.values() if clip.context_id not in asked]
    num_clips = 1 if settings.mode == "single" else settings.clips_per_task
    plan = plan_axes([clip.scene for clip in fresh], clips.folder.info, setup.axes, settings.axes, num_clips == 1)
    named = {axis.name for axis in settings.axes}
    settings = _change(settings, axes=settings.axes + tuple(axis for axis in plan.axes if axis.name not in named))
    tasks = make_tasks(fresh, plan, setup.seed, num_clips, setup.per_context, settings.catch_share)
    if not known and not tasks:
        raise DataError(
            f"no context of {clips.folder.path} has enough clips to compare; make several rollouts a context, or ask "
            "about single clips with --clips-per-task 1"
        )
    if settings != before:
        campaign.save_settings(settings)
    campaign.add_tasks(tasks, keep_order=True)  # it was drawn at random, and asks about every context once before any twice


def _first_settings(settings: Settings, setup: Setup) -> Settings:
    if setup.clips_per_task is None:
        return settings
    mode = "single" if setup.clips_per_task == 1 else "pairs"
    return _change(settings, mode=mode, clips_per_task=max(2, setup.clips_per_task))


def _change(settings: Settings, **values: Any) -> Settings:
    return Settings.model_validate({**dict(settings), **values})
