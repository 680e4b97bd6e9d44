"""Answers beside what others said about the same clips: the tables by which ``standards`` compares people."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Mapping

import numpy as np
import pandas as pd

from align.preferences.statistics.agreement import comparable_votes
from align.preferences.votes.schema import Judgement, Vote

VALUES = np.array(["first", "second", "tie", "both_bad"])
"""Votes; clips stand in the order of their ids, not in that in which they were shown."""
OTHERS = [f"others_{value}" for value in VALUES]
UNIT = ["context_id", "first", "second", "axis"]
FAULTS = {"first": 1, "second": 1, "tie": 0, "both_bad": 2}
"""Of two clips, how many a vote finds fault with: the worse one where one is better."""
SIDES = {"first": 2, "second": 0, "tie": 1, "both_bad": 1}
"""How far a vote speaks for the first clip."""
NEEDED = ["name", "stratum", "answer", "first", "second", "cluster"]


def tabulate_votes(votes: Iterable[Vote]) -> pd.DataFrame:
    """A row a vote: ``name, vote_id, created_at, selection, context_id, first, second, axis, value`` and ``others_<value>``.

    The last four count what others said about the same pair on the same axis, ``others`` is their sum.

    Args:
        votes: Raw votes; superseded ones, skips, trials and those without an annotator don't count.
    """
    rows = [
        (vote.annotator_id, vote.vote_id, vote.created_at or "", vote.selection or "", *row.unit, row.value)
        for row in comparable_votes(votes)
        if (vote := row.vote).annotator_id
    ]
    table = pd.DataFrame(rows, columns=["name", "vote_id", "created_at", "selection", *UNIT, "value"])
    own = (table["value"].to_numpy(dtype=str)[:, None] == VALUES).astype(int)
    unit = table.groupby(UNIT, sort=False).ngroup().to_numpy()
    said = np.zeros((int(unit.max(initial=-1)) + 1, len(VALUES)), int)
    np.add.at(said, unit, own)
    others = said[unit] - own
    return table.assign(**dict(zip(OTHERS, others.T, strict=True)), others=others.sum(1))


def vote_answers(table: pd.DataFrame, of_clip: Mapping[str, str]) -> dict[str, pd.DataFrame]:
    """Question to answers of 0, 1 or 2 with their stratum (axis and halves of what others said) and both clips' attribute.

    ``faults`` counts clips found fault with, ``side`` and ``twin`` are 2 for the first clip, 0 for the second, 1 for neither.

    Args:
        table: Of :func:`tabulate_votes`.
        of_clip: Rollout id to value of the attribute; pairs with a clip that has none are left out.
    """
    first, second = table["first"].map(of_clip), table["second"].map(of_clip)
    rows = table.assign(first=first, second=second, side=table["value"].map(SIDES), faults=table["value"].map(FAULTS))
    rows["cluster"] = table["context_id"]
    known, alike = first.notna() & second.notna(), first == second
    twin, told = ~alike & (table["selection"] == "twin"), table["others"] > 0
    lead = table["axis"] + "/" + halves(table["others_first"] - table["others_second"], table["others"])
    answers = {
        "faults": rows.assign(answer=rows["faults"], stratum=fault_strata(table))[known & alike & told],
        "side": rows.assign(answer=rows["side"], stratum=lead)[known & ~alike & ~twin & told],
        "twin": rows.assign(answer=rows["side"], stratum=table["axis"])[known & twin],
    }
    return {question: chosen[NEEDED] for question, chosen in answers.items()}


def halves(count: pd.Series, total: pd.Series) -> pd.Series:
    """Shares rounded to halves, as text."""
    return (2 * count / total.clip(lower=1)).round().astype(int).astype(str)


def fault_strata(table: pd.DataFrame) -> pd.Series:
    """Axis, and the others' shares of ``both_bad`` and of decided votes in halves."""
    decided = halves(table["others_first"] + table["others_second"], table["others"])
    return table["axis"] + "/" + halves(table["others_both_bad"], table["others"]) + "/" + decided


def judgement_answers(judgements: Iterable[Judgement], of_clip: Mapping[str, str]) -> pd.DataFrame:
    """Single-clip verdicts: 2 where the clip fails, 0 where it passes, given the share of others who fail it."""
    rows = list(judgements)
    superseded = {row.supersedes for row in rows if row.supersedes}
    said_of: dict[tuple[str, str], dict[str, int]] = defaultdict(dict)
    for row in rows:
        counts = row.annotator_id and row.judgement_id not in superseded and row.verdict != "unsure"
        if counts and row.rollout_id in of_clip:
            said_of[row.rollout_id, row.axis].setdefault(row.annotator_id, 2 * (row.verdict == "fail"))
    answers = []
    for (clip, axis), said in said_of.items():
        for name, answer in said.items():
            if len(said) > 1:
                share = (sum(said.values()) - answer) / (len(said) - 1)
                answers.append((name, f"{axis}/{round(share)}", answer, of_clip[clip], of_clip[clip], clip))
    return pd.DataFrame(answers, columns=NEEDED)
