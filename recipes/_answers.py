"""Votes that come in between rounds: people's answers to a round's questions, and everything so far in one place."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from align.types import SUCCESS_AXIS
from recipes._run import Run

if TYPE_CHECKING:
    from align.preferences.votes.schema import Pair, Vote


def offer_questions(url: str, axes: Mapping[str, Sequence[str]], pairs: str, votes: str, rollouts: str, out: Path) -> str:
    """Prepare database and folder for just the round's questions, since ``gptsim label`` adds its own where a context has none.

    Args:
        url: The database; the tasks are in it.
        axes: What is asked about each scene.
        pairs: Pairs file of the round.
        votes: Vote file of the rounds before; "" in the first.
        rollouts: Folder with all rounds' rollouts.
        out: Folder to write, with the clips that were ever asked about.

    Returns:
        The folder to label.
    """
    from align.preferences.campaign import AxisSetting, Campaign, Settings
    from align.preferences.storage.store import LabelStore
    from align.preferences.votes.schema import Pair, read_votes
    from align.preferences.votes.tables import parse_rows, read_rows
    from align.scenes import SCENES

    asked = [*parse_rows(read_rows(pairs), Pair, pairs), *(read_votes(votes) if votes else ())]
    _keep_clips(rollouts, {name for item in asked for name in (item.rollout_a, item.rollout_b)}, out)
    words = {scene.axis: scene.question for scene in SCENES.values()} | {SUCCESS_AXIS: "Which one does the task better?"}
    with LabelStore(url) as store:
        campaign = Campaign(store)
        settings = campaign.settings()
        known = {axis.name for axis in settings.axes}
        fresh = [name for name in dict.fromkeys(axis for there in axes.values() for axis in there) if name not in known]
        added = [AxisSetting(name=name, question=words.get(name, f"Which one is better: {name}?")) for name in fresh]
        if added:
            campaign.save_settings(Settings.model_validate({**dict(settings), "axes": (*settings.axes, *added)}))
    return str(out)


def _keep_clips(rollouts: str, names: set[str], out: Path) -> None:
    import shutil

    import pyarrow.parquet as pq

    from align.video.folder import METADATA_NAME, load_clip_folder
    from align.video.writer import ClipFolderWriter

    if out.exists():
        return
    shutil.rmtree(out.with_name(out.name + ".partial"), ignore_errors=True)  # of a run that was killed
    folder = load_clip_folder(rollouts)
    with ClipFolderWriter(out, folder.info) as writer:
        for index, row in enumerate(pq.read_table(folder.path / METADATA_NAME).to_pylist()):
            if row["rollout_id"] in names:
                writer.add_file(row, folder.video_path(index))


def collect_answers(answers: str, run: Run, name: str, pairs: str, rollouts: str, out: Path) -> None:
    """Keep people's answers to a round's questions; once kept, they stay as they are.

    Args:
        answers: URL of a label database, or a folder with a vote file for each round.
        run: The run, which is named in what is said.
        name: The round.
        pairs: Pairs file with the questions.
        rollouts: Folder that the questions are about.
        out: Vote file to write.

    Raises:
        RunError: Questions are open (in a database, any; in a folder, all).
    """
    from align.errors import RunError
    from align.preferences.votes.schema import Pair, write_votes
    from align.preferences.votes.tables import parse_rows, read_rows

    if out.exists():
        return
    questions = {key for pair in parse_rows(read_rows(pairs), Pair, pairs) for key in _questions(pair)}
    votes, where = _read_answers(answers, name)
    mine = [vote for vote in votes if _question(vote) in questions]
    missing = len(questions - {_question(vote) for vote in mine})
    if missing if "://" in answers else not mine:
        how = f"let people answer: gptsim label {rollouts} --db {answers}" if "://" in answers else f"put them into {where}"
        raise RunError(
            f"round {name} waits for votes: {missing} of {len(questions)} questions in {pairs} about {rollouts} are not "
            f"answered; {how}; then go on with --name {run.name} --resume"
        )
    write_votes(out, mine)


def _read_answers(answers: str, name: str) -> tuple[list[Vote], str]:
    """All votes in the database, or in the round's file; and where they are looked for."""
    from align.preferences.storage.store import LabelStore
    from align.preferences.votes.schema import read_votes

    if "://" in answers:
        with LabelStore(answers) as store:
            return store.votes(), answers
    files = [Path(answers) / f"{name}.{suffix}" for suffix in ("csv", "jsonl", "parquet")]
    there = next((file for file in files if file.exists()), None)
    return ([] if there is None else read_votes(there)), f"{files[0]} (or .jsonl or .parquet)"


def _questions(pair: Pair) -> list[tuple[frozenset[str], str]]:
    return [(frozenset((pair.rollout_a, pair.rollout_b)), axis) for axis in pair.axes]


def _question(vote: Vote) -> tuple[frozenset[str], str]:
    return frozenset((vote.rollout_a, vote.rollout_b)), vote.axis


def merge_rollouts(before: str, new: str, out: Path) -> str:
    """Folder with the rollouts of all rounds so far."""
    import shutil

    from align.video.folder import merge_folders

    if not before:
        return new
    if not out.exists():
        shutil.rmtree(out.with_name(out.name + ".partial"), ignore_errors=True)  # of a run that was killed
        merge_folders([before, new], out)
    return str(out)


def merge_votes(before: str, new: str, out: Path) -> str:
    """File with the votes of all rounds so far."""
    from align.preferences.votes.schema import read_votes, write_votes

    if not before:
        return new
    votes: list[Vote] = [*read_votes(Path(before)), *read_votes(Path(new))]
    write_votes(out, votes)
    return str(out)


def count_votes(votes: str, reward_model: str) -> int:
    """Votes that the round's labels rest on: those so far, or those that the given reward model learned from."""
    from align.io import read_json
    from align.preferences.votes.schema import effective_votes, read_votes

    if votes:
        return len(effective_votes(read_votes(Path(votes))))
    used = Path(reward_model) / "votes_used.json"
    return len(read_json(used)) if used.is_file() else 0
