from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np
import pytest

from align.io import to_jsonable
from align.preferences.statistics.overlaps import Overlap
from align.preferences.statistics.reliability import (
    FEW_VOTES,
    SHARES,
    AnnotatorRow,
    annotator_report,
    combine,
    holm,
)
from align.preferences.votes.schema import Vote

Answer = Callable[[int, np.random.Generator], str]


@pytest.fixture
def make_crowd(make_vote) -> Callable[..., list[Vote]]:
    """Votes of people who all judge the same pairs; ``honest`` ones give the right answer, the pair's number modulo 3."""

    def make(num_pairs: int = 40, honest: int = 6, others: dict[str, Answer] | None = None, seed: int = 0) -> list[Vote]:
        rng = np.random.default_rng(seed)
        words = ("a", "b", "tie")

        def right(pair: int, rng: np.random.Generator) -> str:
            return words[pair % 3] if rng.random() < 0.8 else str(rng.choice(words))

        people: dict[str, Answer] = {**{f"good{i}": right for i in range(honest)}, **(others or {})}
        votes = []
        for name, answer in people.items():
            for pair in range(num_pairs):
                shown_left = str(rng.choice(["a", "b"]))
                choice = answer(pair, rng)
                choice = {"left": shown_left}.get(choice, choice)
                ids = {"pair_id": f"p{pair}", "context_id": f"c{pair}", "rollout_a": f"x{pair}", "rollout_b": f"y{pair}"}
                votes.append(make_vote(f"{name}-{pair}", choice, annotator_id=name, shown_left=shown_left, **ids))
        return votes

    return make


def by_name(rows: list[AnnotatorRow]) -> dict[str, AnnotatorRow]:
    return {row.annotator_id: row for row in rows}


def test_every_kind_of_bad_annotator_is_named_with_the_reason(make_crowd) -> None:
    shared = np.random.default_rng(5).choice(["a", "b", "tie"], 40)
    votes = make_crowd(
        honest=8,
        others={
            "clicker": lambda pair, rng: str(rng.choice(["a", "b", "tie"])),
            "lefty": lambda pair, rng: "left",
            "tied": lambda pair, rng: "tie",
            "copy1": lambda pair, rng: shared[pair],
            "copy2": lambda pair, rng: shared[pair],
        },
    )
    rows = annotator_report(votes)
    named = by_name(rows)
    assert {row.annotator_id for row in rows if row.flagged} == {"clicker", "lefty", "tied", "copy1", "copy2"}
    assert all(row.status == "fine" and not row.reason for row in rows if row.annotator_id.startswith("good"))
    assert "on 40 shared questions; a typical annotator would with" in named["clicker"].reason
    assert "always answered 'left'" in named["lefty"].reason
    assert "chose the left clip in 100 % of 40 decided votes" in named["lefty"].reason
    assert named["tied"].reason.startswith("always answered 'tie'")
    assert "agrees with copy2 on 40 of 40 shared questions" in named["copy1"].reason
    assert (named["copy1"].partner_id, named["copy2"].partner_id) == ("copy2", "copy1")
    assert [row.suspicion for row in rows] == sorted((row.suspicion for row in rows), reverse=True)


def test_what_a_row_says(make_crowd) -> None:
    votes = make_crowd(others={"clicker": lambda pair, rng: str(rng.choice(["a", "b"]))})
    named = by_name(annotator_report(votes))
    good, bad = named["good0"].overlap, named["clicker"].overlap
    assert (good.num_overlaps, good.num_partners) == (40, 6)
    mine = {vote.pair_id: vote.vote for vote in votes if vote.annotator_id == "clicker"}
    others = [vote for vote in votes if vote.annotator_id != "clicker"]
    assert bad.agreement == pytest.approx(np.mean([mine[vote.pair_id] == vote.vote for vote in others]))
    assert bad.agreement_by_chance < 0.45 < bad.agreement_typical
    assert bad.skill_low < 0 < bad.skill_high < good.skill_low < good.skill < good.skill_high
    assert named["clicker"].p_holm >= named["clicker"].p_bh >= named["clicker"].p_value
    assert named["clicker"].suspicion == pytest.approx(-math.log10(named["clicker"].p_value))
    assert set(named["good0"].p_values) == {"skill", "copying", "left", "constant"}
    assert to_jsonable(named["good0"])["trials"]["num_catch"] == 0


def test_an_annotator_with_three_votes_is_not_judged(make_crowd, make_vote) -> None:
    votes = make_crowd()
    few = [vote.model_copy(update={"vote_id": f"few{i}", "annotator_id": "few"}) for i, vote in enumerate(votes[:3])]
    row = by_name(annotator_report([*votes, *few]))["few"]
    assert row.reason.startswith(f"3 votes: too few to judge (at least {FEW_VOTES} are needed)")
    assert (row.status, row.flagged, math.isnan(row.p_holm), row.num_votes) == ("too few", False, True, 3)
    assert row.overlap.num_overlaps == 3


def test_a_constant_rater_with_few_votes_is_stated_without_a_flag(make_crowd) -> None:
    votes = make_crowd()
    ties = [
        vote.model_copy(update={"vote_id": f"t{i}", "annotator_id": "t", "vote": "tie"}) for i, vote in enumerate(votes[:4])
    ]
    row = by_name(annotator_report([*votes, *ties]))["t"]
    assert "always answered 'tie'" in row.reason
    assert not row.flagged


def test_where_everybody_ties_a_constant_tie_is_no_offence(make_crowd) -> None:
    votes = make_crowd(honest=0, others={f"t{i}": lambda pair, rng: "tie" if rng.random() < 0.97 else "a" for i in range(6)})
    same = [vote.model_copy(update={"vote": "tie"}) if vote.annotator_id == "t0" else vote for vote in votes]
    row = by_name(annotator_report(same))["t0"]
    assert (row.only_answer, row.status) == ("tie", "fine")
    assert row.reason == "always answered 'tie'"


def test_failed_trials_flag(make_crowd, make_vote) -> None:
    votes = make_crowd()
    for name in ("good0", "good1", "good2", "good3"):
        for trial in range(10):
            fields = {"pair_id": f"k{trial}", "context_id": f"k{trial}", "rollout_a": f"k{trial}", "rollout_b": f"k{trial}"}
            choice = "a" if name == "good0" else "tie"
            votes.append(make_vote(f"{name}-k{trial}", choice, annotator_id=name, selection="catch", **fields))
    named = by_name(annotator_report(votes))
    assert named["good0"].flagged
    assert named["good0"].reason == "failed 10 of 10 trials with known answers, far more than the others"
    assert named["good1"].status == "fine"
    assert "trials" not in named["good4"].p_values
    gold = {(f"x{pair}", f"y{pair}", "spill"): "b" for pair in range(0, 40, 3)}  # everybody says a there
    assert by_name(annotator_report(votes, gold))["good5"].trials.num_gold_failed > 5


def test_nobody_to_compare_with(make_crowd) -> None:
    alone = by_name(annotator_report(make_crowd(honest=1)))["good0"]
    assert alone.reason == "nobody else judged the same pairs, so the skill is unknown"
    assert (math.isnan(alone.overlap.skill), set(alone.p_values), alone.status) == (True, {"left"}, "fine")
    two = by_name(annotator_report(make_crowd(honest=1, others={"other": lambda pair, rng: str(rng.choice(["a", "b"]))})))
    assert "nobody can say which of the two is right" in two["other"].reason
    assert "skill" not in two["other"].p_values
    assert annotator_report([]) == []


def test_nothing_is_known_at_all(make_vote) -> None:
    (row,) = annotator_report([make_vote(f"v{i}", "tie", annotator_id="x", pair_id=f"p{i}") for i in range(12)])
    assert (row.status, math.isnan(row.suspicion), row.p_values) == ("too few", True, {})
    assert row.reason.startswith("always answered 'tie'")


def test_votes_without_a_name_are_no_annotator(make_crowd) -> None:
    votes = [vote.model_copy(update={"annotator_id": ""}) for vote in make_crowd(honest=3)]
    assert annotator_report(votes) == []


def test_haste_is_stated(make_crowd) -> None:
    votes = [vote.model_copy(update={"response_time_s": 0.5 if vote.annotator_id == "good0" else 4.0}) for vote in make_crowd()]
    named = by_name(annotator_report(votes))
    assert named["good0"].reason == "takes 0.5 s a vote, 12 % of the usual time"
    assert (named["good0"].status, named["good1"].reason) == ("fine", "")


def test_the_order_of_votes_and_of_sides_in_a_pair_does_not_matter(make_crowd) -> None:
    votes = make_crowd(others={"clicker": lambda pair, rng: str(rng.choice(["a", "b", "tie"]))})
    turn = {"a": "b", "b": "a", "tie": "tie", None: None}
    turned = [
        vote.model_copy(
            update={
                "rollout_a": vote.rollout_b,
                "rollout_b": vote.rollout_a,
                "vote": turn[vote.vote],
                "shown_left": turn[vote.shown_left],
                "pair_id": f"turned {vote.pair_id}",
            }
        )
        if number % 2
        else vote
        for number, vote in enumerate(votes)
    ]
    one, two = by_name(annotator_report(votes)), by_name(annotator_report(turned[::-1]))
    for name, row in one.items():
        assert two[name].suspicion == pytest.approx(row.suspicion, abs=1e-6)


def test_holm_by_hand() -> None:
    assert holm(np.array([0.01, 0.04, 0.03])).tolist() == pytest.approx([0.03, 0.06, 0.06])
    assert holm(np.array([0.5, 0.9])).tolist() == pytest.approx([1.0, 1.0])


def test_the_combined_p_value_is_uniform_where_all_tests_are() -> None:
    assert sum(SHARES.values()) == pytest.approx(1)
    rng = np.random.default_rng(0)
    found = np.array([combine(dict(zip(SHARES, row, strict=True))) for row in rng.random((4000, len(SHARES)))])
    for level in (0.01, 0.05, 0.3):
        assert np.mean(found < level) == pytest.approx(level, abs=4 * math.sqrt(level * (1 - level) / 4000))
    assert math.isnan(combine({}))
    assert combine({"skill": 0.001}) == pytest.approx(0.001 / SHARES["skill"], rel=0.01)
    assert combine({"left": 0.0}) == 0
    assert combine({"left": 1.0}) == pytest.approx(1.0)


def test_an_overlap_with_nobody_is_all_unknown() -> None:
    assert to_jsonable(Overlap())["skill"] is None
