"""Votes under suspicion: who votes by what should not matter, who drifts, and what was trained on without any vote."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated, Any

from pydantic import Field

from recipes._run import Run

if TYPE_CHECKING:
    import pandas as pd

    from align.audit.probes.base import Finding
    from align.audit.probes.votes import BiasRow
    from align.preferences.votes.schema import Judgement, Vote


@dataclass(frozen=True)
class Config:
    """Whose votes on what."""

    votes: str = ""
    """Vote file: CSV, JSONL or parquet."""
    judgements: str = ""
    """File of single-clip judgements, where there are any."""
    rollouts: str = ""
    """Rollout folder that the votes are about; its attributes say who is in a clip."""
    attributes: tuple[str, ...] = ()
    """Attributes that votes should not depend on; empty takes all with 2 to 8 values."""
    training: tuple[str, ...] = ()
    """Clip folders that something is trained on: rollouts in them need votes."""
    tolerance: Annotated[float, Field(gt=0, le=1)] = 0.1
    """A difference this large matters, as a share of the clips."""
    seed: int = 0
    """Seed of the bootstrap of agreement."""


def main(config: Config, run: Run) -> dict[str, Any]:
    """Write unvoted.parquet; returns tests, agreement by group and findings in words."""
    from align.audit.probes.base import LEVEL, judge_findings
    from align.audit.probes.records import compare_agreement
    from align.audit.probes.votes import BIAS, PROBE, probe_annotators
    from recipes._probe import plain_findings, write_table

    votes, judgements, rollouts = _read(config, run)
    attributes = read_attributes(rollouts, config.attributes)
    run.say("every annotator is compared with what the others said about the same clips")
    bias = probe_annotators(votes, attributes, judgements, LEVEL * BIAS)
    findings = judge_findings(_findings(votes, attributes, bias), config.tolerance)
    unvoted = _unvoted(config, run, rollouts, votes, judgements)
    write_table(run, "unvoted.parquet", unvoted)
    agreement = [row for name, of_clip in attributes.items() for row in compare_agreement(votes, name, of_clip, config.seed)]
    return {
        "probe": PROBE.name,
        "asks": PROBE.asks,
        "cannot_show": PROBE.cannot_show,
        "num_votes": len(votes),
        "findings": plain_findings(findings),
        "annotators": [row.as_dict() for row in bias],
        "agreement": [row.as_dict() for row in agreement],
        "num_unvoted": len(unvoted),
        "unvoted": unvoted["rollout_id"].head(20).tolist(),
        "files": ["unvoted.parquet"],
    }


def _read(config: Config, run: Run) -> tuple[list[Vote], list[Judgement], pd.DataFrame]:
    from align.errors import ConfigError
    from align.preferences.votes.schema import read_judgements, read_votes
    from align.video.folder import load_clip_folder

    if not config.votes or not config.rollouts:
        raise ConfigError("votes and rollouts are needed; give the vote file and the rollout folder that it is about")
    for name in ("votes", "judgements", "rollouts"):
        if path := getattr(config, name):
            run.record_input(name, path)
    judgements = read_judgements(config.judgements) if config.judgements else []
    return read_votes(config.votes), judgements, load_clip_folder(config.rollouts).table


def _findings(votes: list[Vote], attributes: Mapping[str, Mapping[str, str]], bias: list[BiasRow]) -> list[Finding]:
    """All three questions; together they have one chance in twenty of any false finding."""
    from align.audit.probes.base import LEVEL
    from align.audit.probes.records import drift_findings, probe_drift
    from align.audit.probes.votes import BIAS, CROWD, DRIFT, bias_findings, crowd_findings, share_level

    single = share_level(bias_findings(bias, LEVEL * BIAS), BIAS)
    drift = share_level(drift_findings(probe_drift(votes, LEVEL * DRIFT), LEVEL * DRIFT), DRIFT)
    return [*single, *drift, *share_level(crowd_findings(votes, attributes, LEVEL * CROWD), CROWD)]


def read_attributes(table: pd.DataFrame, names: Iterable[str]) -> dict[str, dict[str, str]]:
    """Attribute to rollout id to value, as text; all attributes with 2 to 8 values where none is named.

    Raises:
        DataError: An attribute that is named is nowhere, or has one value only.
    """
    import json

    from align.errors import DataError

    found: dict[str, dict[str, str]] = {}
    for clip, text in zip(table["rollout_id"], table["attributes"], strict=True):
        for name, value in json.loads(text or "{}").items():
            found.setdefault(str(name), {})[str(clip)] = str(value)
    wanted = list(names) or [name for name, of_clip in found.items() if 2 <= len(set(of_clip.values())) <= 8]
    poor = [name for name in wanted if len(set(found.get(name, {}).values())) < 2]
    if poor or not wanted:
        raise DataError(
            f"the rollouts have no two values of {', '.join(poor) or 'any attribute'}; "
            f"attributes there are: {', '.join(sorted(found)) or 'none'}"
        )
    return {name: found[name] for name in wanted}


def _unvoted(config: Config, run: Run, rollouts: pd.DataFrame, votes: list[Vote], judgements: list[Judgement]) -> pd.DataFrame:
    import pandas as pd

    from align.audit.probes.records import find_unvoted, voted_rollouts
    from align.video.folder import load_clip_folder

    voted = voted_rollouts(votes) | {row.rollout_id for row in judgements}
    parts = [find_unvoted(pd.DataFrame({"rollout_id": []}), rollouts, voted)]
    for number, path in enumerate(config.training):
        run.record_input(f"training_{number}", path)
        parts.append(find_unvoted(load_clip_folder(path).table, rollouts, voted).assign(folder=path))
    return pd.concat(parts, ignore_index=True)
