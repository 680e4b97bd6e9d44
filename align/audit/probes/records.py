"""What else votes can show: standards that drift, groups that annotators agree less about, and clips nobody ever voted on."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

import pandas as pd

from align.audit.probes.answers import FAULTS, OTHERS, VALUES, fault_strata, halves, tabulate_votes
from align.audit.probes.base import LEVEL, Finding
from align.audit.probes.standards import Excess, compute_excesses
from align.audit.probes.votes import PROBE
from align.audit.statistics import Rate
from align.errors import DataError
from align.preferences.statistics.agreement import comparable_votes
from align.preferences.statistics.alpha import Alpha, alpha_of
from align.preferences.votes.schema import Vote, effective_votes

DRIFTS = {"faults": "clips found fault with", "agreement": "agreement with others"}
"""What may drift, and how it is said."""
NOT_MADE = ("", "simulator", "real")
"""Values of ``model_id`` of clips that no model made."""


def probe_drift(votes: Iterable[Vote], level: float = LEVEL) -> list[Excess]:
    """Whether the second half of an annotator's votes follows another standard than the first, given what others said.

    Args:
        votes: Raw votes; only those with ``created_at`` count, an annotator's later half by that time is flagged.
        level: Chance of any false finding.
    """
    table = tabulate_votes(votes)
    table = table[table["created_at"] != ""].sort_values(["created_at", "vote_id"])
    place, total = table.groupby("name").cumcount(), table.groupby("name")["name"].transform("size")
    told = table.assign(flag=(place >= total // 2).astype(int), cluster=table["context_id"])[table["others"] > 0]
    usual = VALUES[told[OTHERS].to_numpy().argmax(1)]
    agrees = usual == told["value"].to_numpy(dtype=str)
    common = told["axis"] + "/" + usual + "/" + halves(told[OTHERS].max(axis=1), told["others"])
    tables = {
        "faults": told.assign(answer=told["value"].map(FAULTS), stratum=fault_strata(told)),
        "agreement": told.assign(answer=2 * agrees, stratum=common),
    }
    return compute_excesses(tables, level)


def drift_findings(excesses: Iterable[Excess], level: float = LEVEL) -> list[Finding]:
    """Every test of drift that was made, not yet judged."""
    made = [row for row in excesses if not math.isnan(row.p_value)]
    return [
        Finding(
            probe=PROBE.name,
            name=f"{row.name}, {DRIFTS[row.question]} in the later half of the votes",
            effect=row.effect,
            unit="points",
            p_value=row.p_value,
            detectable=row.detectable(len(made), level),
            p_holm=row.p_holm,
        )
        for row in made
    ]


@dataclass(frozen=True)
class GroupAgreement:
    """How far annotators agree about clips with one value of an attribute.

    Attributes:
        attribute: The attribute.
        value: Its value, of both clips of a pair.
        alpha: Krippendorff's alpha of these pairs, all axes together.
        rest: The same of all other pairs whose clips share a value.
        gap: ``alpha - rest`` with its interval (both sides' intervals combined, as independent pairs).
    """

    attribute: str
    value: str
    alpha: Alpha
    rest: Alpha
    gap: Rate

    def as_dict(self) -> dict[str, Any]:
        """Plain JSON."""
        alphas = {
            name: {"value": _plain(alpha.value), "num_pairs": alpha.num_units, "reason": alpha.reason}
            for name, alpha in (("alpha", self.alpha), ("rest", self.rest))
        }
        return {"attribute": self.attribute, "value": self.value, **alphas, "gap": self.gap.as_dict()}


def _plain(value: float) -> float | None:
    return None if math.isnan(value) else value


def compare_agreement(votes: Iterable[Vote], attribute: str, of_clip: Mapping[str, str], seed: int = 0) -> list[GroupAgreement]:
    """Agreement about each value of an attribute against that about the others.

    Args:
        votes: Raw votes.
        attribute: The attribute's name.
        of_clip: Rollout id to its value.
        seed: Seed of the bootstrap.
    """
    known = [row for row in comparable_votes(votes) if row.unit[1] in of_clip and row.unit[2] in of_clip]
    rated = [row for row in known if of_clip[row.unit[1]] == of_clip[row.unit[2]]]
    rows = []
    for value in sorted({of_clip[row.unit[1]] for row in rated}):
        sides = [[row for row in rated if (of_clip[row.unit[1]] == value) == inside] for inside in (True, False)]
        alpha, rest = (alpha_of([row.unit for row in side], [row.value for row in side], seed=seed) for side in sides)
        rows.append(GroupAgreement(attribute, value, alpha, rest, _difference(alpha, rest)))
    return rows


def _difference(alpha: Alpha, rest: Alpha) -> Rate:
    gap = alpha.value - rest.value
    low = gap - math.hypot(alpha.value - alpha.low, rest.high - rest.value)
    high = gap + math.hypot(alpha.high - alpha.value, rest.value - rest.low)
    return Rate(gap, low, high, alpha.num_ratings + rest.num_ratings, alpha.num_units + rest.num_units)


def find_unvoted(training: pd.DataFrame, rollouts: pd.DataFrame, voted: Iterable[str]) -> pd.DataFrame:
    """Clips made by a model that are trained on though nobody ever voted on them: bad ones would enter unseen.

    A clip counts as made by a model if its row says so (``model_id``, ``adapter_id``), or if its file is one of the rollouts,
    whatever it is called now.

    Args:
        training: Table of a clip folder that something is trained on.
        rollouts: Table of the rollout folders that were made (``rollout_id``, ``sha256``); may be empty.
        voted: Rollout ids that votes or judgements name.

    Returns:
        ``rollout_id``, ``known_as`` (the rollout that the file is, empty where unknown) and ``model_id``, a row a clip.
    """
    if "rollout_id" not in training:
        raise DataError("the training table lacks the column rollout_id")
    seen = set(voted)
    known = dict(zip(rollouts["sha256"], rollouts["rollout_id"], strict=True)) if len(rollouts) else {}
    found = []
    for row in training.reindex(columns=["rollout_id", "sha256", "model_id", "adapter_id"]).fillna("").to_dict("records"):
        original = known.get(row["sha256"], "") if row["sha256"] else ""
        made = str(row["model_id"]) not in NOT_MADE or bool(row["adapter_id"]) or bool(original)
        if made and not {row["rollout_id"], original} & seen:
            found.append({"rollout_id": row["rollout_id"], "known_as": original, "model_id": row["model_id"]})
    return pd.DataFrame(found, columns=["rollout_id", "known_as", "model_id"])


def voted_rollouts(votes: Iterable[Vote]) -> set[str]:
    """Ids of the rollouts that a vote which counts is about."""
    return {name for vote in effective_votes(votes) for name in (vote.rollout_a, vote.rollout_b)}
