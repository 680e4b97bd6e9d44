"""When a labeler withdraws: what is theirs is deleted, and whatever was trained on it is named."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from sqlalchemy import Connection, Engine, Table, delete, select, text, true, update

from align.errors import Conflict, DataError, NotFound
from align.io import read_json, sha256_folder
from align.preferences.accounts.passwords import hash_token
from align.preferences.campaign.settings import load_settings
from align.preferences.campaign.tasks import count_anew
from align.preferences.storage.campaign_tables import (
    ACCOUNTS,
    BREAKPOINTS,
    FAILURES,
    FLAGS,
    GUIDELINES,
    INVITATIONS,
    LEASES,
    SESSIONS,
    SUBMISSIONS,
    lock_queue,
)
from align.preferences.storage.database import writing
from align.preferences.storage.store import ANNOTATORS, JUDGEMENTS, VOTES

VOTES_USED, PROVENANCE = "votes_used.json", "provenance.json"
# Whatever names another row comes before it.
_OWNED = (VOTES, JUDGEMENTS, BREAKPOINTS, FLAGS, SUBMISSIONS, LEASES, SESSIONS, INVITATIONS, ACCOUNTS, ANNOTATORS)


def withdraw(engine: Engine, annotator_id: str) -> dict[str, Any]:
    """Delete everything of one person in one transaction; the tasks they had are open to others again.

    Backups, exported files and trained models are out of reach; ``affected_models`` names the last.

    Returns:
        ``num_votes``, ``num_judgements`` … : how many rows of each table were deleted; ``vote_ids``: sorted ids of the votes.

    Raises:
        NotFound: Nobody has this id.
        Conflict: It is the last admin.
    """
    with writing(engine, bulk=True) as connection:
        if connection.dialect.name == "sqlite":
            connection.execute(text("PRAGMA secure_delete=ON"))  # deleted texts are overwritten, not only unlinked
        lock_queue(connection)
        # A submission under way is waited for; one that comes later finds no lease.
        mine = select(LEASES.c.task_id).where(LEASES.c.annotator_id == annotator_id).with_for_update()
        task_ids = list(connection.execute(mine).scalars())
        _check_may_go(connection, annotator_id)
        vote_ids = sorted(connection.execute(select(VOTES.c.vote_id).where(VOTES.c.annotator_id == annotator_id)).scalars())
        for table, key in ((VOTES, "vote_id"), (JUDGEMENTS, "judgement_id")):
            _free_others(connection, table, key, annotator_id)
        counts = {f"num_{table.name}": _delete(connection, table, annotator_id) for table in _OWNED}
        # One of an admin's own invitations could lead back in.
        connection.execute(delete(INVITATIONS).where(INVITATIONS.c.created_by == annotator_id, INVITATIONS.c.used_at.is_(None)))
        for table in (INVITATIONS, GUIDELINES):
            connection.execute(update(table).where(table.c.created_by == annotator_id).values(created_by=""))
        connection.execute(delete(FAILURES).where(FAILURES.c.name == hash_token(annotator_id)))
        count_anew(connection, task_ids, load_settings(connection).overlap)
    if engine.dialect.name == "sqlite":
        with engine.connect() as connection:
            connection.commit()
            connection.exec_driver_sql("PRAGMA wal_checkpoint(TRUNCATE)")  # the log still holds the old pages
    return {**counts, "vote_ids": vote_ids}


def _check_may_go(connection: Connection, annotator_id: str) -> None:
    if connection.execute(select(ANNOTATORS).where(ANNOTATORS.c.annotator_id == annotator_id)).one_or_none() is None:
        raise NotFound(f"there is no annotator {annotator_id!r}")
    admins = select(ACCOUNTS.c.annotator_id).where(ACCOUNTS.c.role == "admin", ACCOUNTS.c.disabled != true())
    if connection.execute(admins).scalars().all() == [annotator_id]:
        raise Conflict(f"{annotator_id!r} is the last admin; make somebody else admin first")


def _free_others(connection: Connection, table: Table, key: str, annotator_id: str) -> None:
    """Other people's rows that correct theirs (older imports brought such) stay, and correct nothing any more."""
    theirs = select(table.c[key]).where(table.c.annotator_id == annotator_id)
    others = table.c.annotator_id.is_distinct_from(annotator_id)
    connection.execute(update(table).where(table.c.supersedes.in_(theirs), others).values(supersedes=None))


def _delete(connection: Connection, table: Table, annotator_id: str) -> int:
    return connection.execute(delete(table).where(table.c.annotator_id == annotator_id)).rowcount


@dataclass(frozen=True)
class AffectedModel:
    """A model that learned, or may have learned, from given votes.

    Attributes:
        path: Its folder.
        kind: What it is.
        num_votes: How many of the votes it was trained on directly; None where that isn't known.
        reason: Why it is listed, as a sentence.
    """

    path: Path
    kind: Literal["reward_model", "adapter"]
    num_votes: int | None
    reason: str


def affected_models(vote_ids: Iterable[str], runs_dir: str | Path) -> list[AffectedModel]:
    """Find the reward models and adapters under a folder that were trained on votes, directly or through a reward model.

    A reward model, or an adapter trained on votes, lists them in ``votes_used.json``; an adapter names the folders it was made
    from in ``provenance.json``, and is known to come from a folder by its hash or its path.

    Args:
        vote_ids: For example ``Campaign.withdraw(...)["vote_ids"]``.
        runs_dir: Searched with everything below it.

    Raises:
        DataError: The folder isn't there, or such a file is broken.
    """
    root, wanted = Path(runs_dir), set(vote_ids)
    if not root.is_dir():
        raise DataError(f"{root} is not a folder; give the one that holds your runs")
    kinds = dict(_model_folders(root))
    inputs = {path: _inputs(path, root) if kind == "adapter" else {} for path, kind in kinds.items()}
    found = {path: entry for path, kind in kinds.items() if (entry := _judge(path, kind, inputs[path], wanted))}
    fresh = list(found)
    while fresh:  # a model may come from a model that comes from an affected one
        marks = {mark: path for path in fresh for mark in (str(path.resolve()), sha256_folder(path))}
        fresh = []
        for path in (path for path in kinds if path not in found):
            source = next((marks[mark] for mark in sorted(_marks(inputs[path])) if mark in marks), None)
            if source is not None:
                doubt = "may have been" if found[source].num_votes is None else "was"
                found[path] = AffectedModel(path, kinds[path], 0, f"it {doubt} trained through {source}")
                fresh.append(path)
    return [found[path] for path in sorted(found)]


def _model_folders(root: Path) -> Iterator[tuple[Path, Literal["reward_model", "adapter"]]]:
    for file in sorted(root.rglob("adapter_config.json")):
        yield file.parent, "adapter"
    for file in sorted(root.rglob("config.json")):
        about = read_json(file)
        if isinstance(about, dict) and about.get("format") == "gptsim-reward-model":
            yield file.parent, "reward_model"


def _judge(
    path: Path, kind: Literal["reward_model", "adapter"], inputs: Mapping[str, Any], wanted: set[str]
) -> AffectedModel | None:
    """What the folder itself says; whether an adapter learned through a reward model is seen later."""
    if (path / VOTES_USED).is_file():
        used = read_json(path / VOTES_USED)
        if not isinstance(used, list) or not all(isinstance(name, str) for name in used):
            raise DataError(f"{path / VOTES_USED} is not a list of vote ids; restore it")
        count = len(wanted.intersection(used))
        return AffectedModel(path, kind, count, f"it was trained on {count} of these votes") if count else None
    if "reward_model" in inputs:
        return None
    return AffectedModel(path, kind, None, "its folder doesn't say which votes it was trained on")


def _inputs(path: Path, root: Path) -> dict[str, Any]:
    """What a model was made from, by name: its own provenance, or (for a checkpoint) the inputs of the run around it."""
    own = path / PROVENANCE
    runs = [folder / "inputs.json" for folder in path.parents if folder == root or root in folder.parents]
    file = next((file for file in (own, *runs) if file.is_file()), None)
    record = {} if file is None else read_json(file)
    inputs = record.get("inputs", record) if isinstance(record, dict) else None
    if not isinstance(inputs, dict) or not all(isinstance(item, dict) and "path" in item for item in inputs.values()):
        raise DataError(f"{file} is broken; restore it")
    return inputs


def _marks(inputs: Mapping[str, Any]) -> set[str]:
    """By what the sources of a model are known: their hashes and absolute paths."""
    return {str(Path(item["path"]).resolve()) for item in inputs.values()} | {
        str(item.get("sha256")) for item in inputs.values()
    }
