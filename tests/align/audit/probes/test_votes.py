"""The probe of votes: answers by hand, planted bias found, honest crowds left in peace, twins, judgements."""

from __future__ import annotations

from types import ModuleType
from typing import Any

import numpy as np
import pytest

from align.audit.probes.answers import judgement_answers, tabulate_votes, vote_answers
from align.audit.probes.base import judge_findings
from align.audit.probes.votes import QUESTIONS, bias_findings, crowd_findings, crowd_preference, probe_annotators
from align.preferences.votes.schema import Judgement, Vote


def cast(name: str, pair: int, choice: str, **more: Any) -> Vote:
    """A vote on clips ``{pair}-x`` and ``{pair}-y``."""
    about: dict[str, Any] = {"context_id": f"c{pair}", "rollout_a": f"{pair}-x", "rollout_b": f"{pair}-y", "axis": "spill"}
    about |= {"vote_id": f"{name}-{pair}", "pair_id": f"p{pair}", "annotator_id": name, "vote": choice}
    return Vote(**{**about, **more})


GROUP = {"0-x": "b", "0-y": "b", "1-x": "a", "1-y": "b"}


def test_answers_stand_beside_what_others_said() -> None:
    votes = [cast("u", 0, "both_bad"), cast("v", 0, "tie"), cast("w", 0, "both_bad"), cast("alone", 5, "a"), cast("", 0, "a")]
    table = tabulate_votes(votes).set_index("name")
    assert table.loc["u", ["others_tie", "others_both_bad", "others_first", "others"]].tolist() == [1, 1, 0, 2]
    assert table.loc["alone", "others"] == 0 and "" not in table.index, "nobody knows who that was"
    faults = vote_answers(tabulate_votes(votes), GROUP)["faults"].set_index("name")
    assert faults["answer"].to_dict() == {"u": 2, "v": 0, "w": 2}
    assert faults["stratum"].to_dict() == {"u": "spill/1/0", "v": "spill/2/0", "w": "spill/1/0"}


def test_sides_are_counted_by_the_order_of_ids() -> None:
    swapped = {"rollout_a": "1-y", "rollout_b": "1-x"}
    votes = [cast("u", 1, "a"), cast("v", 1, "a", **swapped), cast("w", 1, "tie"), cast("twin", 1, "b", selection="twin")]
    answers = vote_answers(tabulate_votes(votes), GROUP)
    assert answers["side"].set_index("name")["answer"].to_dict() == {"u": 2, "v": 0, "w": 1}
    assert answers["twin"].set_index("name")["answer"].to_dict() == {"twin": 0}
    assert answers["faults"].empty and (answers["side"][["first", "second"]] == ["a", "b"]).all(axis=None)


def test_pairs_without_the_attribute_and_superseded_votes_are_left_out() -> None:
    votes = [cast("u", 0, "a"), cast("v", 0, "b"), cast("v", 0, "tie", vote_id="new", supersedes="v-0"), cast("u", 9, "a")]
    faults = vote_answers(tabulate_votes([*votes, cast("v", 9, "a")]), GROUP)["faults"]
    assert faults["answer"].tolist() == [1, 0]
    assert vote_answers(tabulate_votes([]), GROUP)["faults"].empty


def test_verdicts_are_compared_with_others_verdicts() -> None:
    def judged(name: str, verdict: str, **more: Any) -> Judgement:
        about: dict[str, Any] = {"judgement_id": f"{name}-{verdict}", "rollout_id": "0-x", "axis": "spill", "verdict": verdict}
        return Judgement(**{**about, "annotator_id": name, **more})

    rows = [judged("u", "fail"), judged("v", "pass"), judged("w", "pass"), judged("z", "unsure")]
    answers = judgement_answers([*rows, judged("v", "fail", supersedes="v-pass")], GROUP).set_index("name")
    assert answers["answer"].to_dict() == {"u": 2, "v": 2, "w": 0}
    assert answers["stratum"].to_dict() == {"u": "spill/1", "v": "spill/1", "w": "spill/2"}
    assert judgement_answers(rows[:1], GROUP).empty, "nobody else to be compared with"


@pytest.mark.parametrize("kind", ["both ways", "harsh"])
def test_planted_bias_is_found(crowds: ModuleType, kind: str) -> None:
    votes, group, biased = crowds.make_crowd(11, kind=kind, share=0.3)
    assert crowds.find_biased(votes, group) == biased


def test_an_honest_crowd_is_left_in_peace(crowds: ModuleType) -> None:
    """Group b ends badly twice as often; that nobody votes by the group must not be mistaken."""
    votes, group, _ = crowds.make_crowd(12, num_biased=0)
    rows = probe_annotators(votes, {"group": group})
    assert {row.question for row in rows} == {"faults"} and crowds.find_biased(votes, group) == set()


def test_who_always_prefers_one_twin_is_found_on_twins(crowds: ModuleType) -> None:
    votes, group, _ = crowds.make_crowd(13, num_biased=0, twin_share=0.5)
    biased = votes[0].annotator_id
    taken = [
        vote.model_copy(update={"vote": "a" if group[vote.rollout_a] == "a" else "b"})
        if vote.annotator_id == biased and vote.selection == "twin"
        else vote
        for vote in votes
    ]
    rows = probe_annotators(taken, {"group": group})
    found = [row for row in rows if row.excess.p_holm <= 0.05]
    assert {(row.annotator_id, row.question) for row in found} == {(biased, "twin")}
    assert found[0].value == "b" and found[0].excess.effect.value < -0.3
    (says,) = [finding for finding in judge_findings(bias_findings(rows), 0.1) if finding.status == "found"]
    assert QUESTIONS["twin"] in says.text and says.p_holm == pytest.approx(found[0].excess.p_holm)


def test_a_bias_that_all_share_shows_on_twins_only() -> None:
    rng = np.random.default_rng(0)
    votes = [
        cast(f"n{k}", pair, "a" if rng.random() < 0.5 else "tie", selection="twin") for pair in range(40) for k in range(4)
    ]
    group = {f"{pair}-{side}": value for pair in range(40) for side, value in (("x", "a"), ("y", "b"))}
    gain, p_value = crowd_preference(votes, group, "b")
    assert gain.value == pytest.approx(-0.5, abs=0.1) and gain.num_clusters == 40 and p_value < 1e-6
    fair, _ = crowd_preference(votes, {**group, **{f"{pair}-y": "a" for pair in range(40)}}, "b")
    assert fair.n == 0
    (finding,) = crowd_findings(votes, {"group": group})
    assert judge_findings([finding], 0.1)[0].status == "found"
    assert crowd_findings([vote.model_copy(update={"selection": "random"}) for vote in votes], {"group": group}) == []
