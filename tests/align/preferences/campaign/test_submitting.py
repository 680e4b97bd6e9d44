from __future__ import annotations

import uuid
from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from align.errors import Conflict, DataError, Forbidden, NotFound
from align.preferences.campaign import Answer, AxisSetting, Break, Submission, Task
from align.preferences.campaign.answers import Shown, votes_of
from align.preferences.votes.fields import pair_id_of
from align.preferences.votes.schema import check_votes, effective_votes


@pytest.fixture
def lease(campaign, make_tasks):
    """Ann holds the only task, a pair."""
    campaign.add_tasks(make_tasks(1))
    return campaign.lease("ann", 1)[0]


def test_a_submission_becomes_votes_with_all_that_was_known(campaign, store, lease, answer) -> None:
    sent = answer(lease, "s1", "right", comment="häßlich <b>", guideline_version="3")
    receipt = campaign.submit(sent, "ann", now=datetime(2026, 3, 1, tzinfo=UTC))
    assert (receipt.submission_id, receipt.num_today, receipt.num_total) == ("s1", 0, 1)
    votes = store.votes()
    assert [vote.axis for vote in votes] == ["spill", "success"]
    vote = votes[0].model_dump()
    assert uuid.UUID(vote.pop("vote_id"))
    assert vote == {
        "pair_id": pair_id_of("c0", "t0-r0", "t0-r1"),
        "context_id": "c0",
        "rollout_a": "t0-r0",
        "rollout_b": "t0-r1",
        "axis": "spill",
        "vote": "a" if lease.shown[1] == 0 else "b",
        "annotator_id": "ann",
        "shown_left": "a" if lease.shown[0] == 0 else "b",
        "selection": "random",
        "simulated": False,
        "supersedes": None,
        "response_time_s": 1.5,
        "created_at": "2026-03-01T00:00:00.000000Z",
        "guideline_version": "3",
        "comment": "häßlich <b>",
        "ranking_id": None,
    }


def test_sending_again_changes_nothing(campaign, store, lease, answer) -> None:
    sent = answer(lease, "s1", "tie", breaks=[{"position": 0, "none": True}])
    receipts = [campaign.submit(sent, "ann") for _ in range(3)]
    assert receipts == [receipts[0]] * 3
    assert len(store.votes()) == 2
    assert len(campaign.breakpoints(effective=False)) == 1


def test_a_used_id_with_other_content_is_refused_and_changes_nothing(campaign, store, lease, answer, make_tasks) -> None:
    campaign.submit(answer(lease, "s1", "left"), "ann")
    before = store.votes()
    with pytest.raises(Conflict, match="submission_id 's1' was used for other answers"):
        campaign.submit(answer(lease, "s1", "right"), "ann")
    campaign.add_tasks(make_tasks(1, prefix="u"))
    (other,) = campaign.lease("bob", 1)
    with pytest.raises(Conflict):
        campaign.submit(answer(other, "s1", "left"), "bob")
    assert store.votes() == before
    assert campaign.progress("bob")["num_total"] == 0


def test_what_is_somebody_elses_or_nowhere_is_refused(campaign, store, lease, answer) -> None:
    with pytest.raises(Forbidden, match="lent to somebody else"):
        campaign.submit(answer(lease, "s1"), "bob")
    with pytest.raises(NotFound, match="no lease"):
        campaign.submit(answer(lease, "s1").model_copy(update={"lease_id": str(uuid.uuid4())}), "ann")
    assert store.votes() == []


def test_a_correction_supersedes_what_it_corrects(campaign, store, lease, answer) -> None:
    campaign.submit(answer(lease, "s1", "left"), "ann")
    campaign.submit(answer(lease, "s2", answers=[{"axis": "spill", "choice": "tie"}]), "ann")
    campaign.submit(answer(lease, "s3", "both_bad"), "ann")
    votes = store.votes()
    check_votes(votes)
    first, second = {vote.axis: vote for vote in votes[:2]}, votes[2]
    last = {vote.axis: vote for vote in votes[3:]}
    assert second.supersedes == first["spill"].vote_id
    assert last["spill"].supersedes == second.vote_id
    assert last["success"].supersedes == first["success"].vote_id
    assert [vote.vote for vote in effective_votes(votes)] == ["both_bad", "both_bad"]
    assert campaign.progress("ann")["num_total"] == 1


def test_only_the_own_lease_is_corrected(campaign, store, make_tasks, answer) -> None:
    """The same pair in two tasks, and seen by two people: four opinions."""
    campaign.save_settings(campaign.settings().model_copy(update={"overlap": 2}))
    task = make_tasks(1)[0]
    campaign.add_tasks([task, task.model_copy(update={"task_id": "again", "rollouts": task.rollouts[::-1]})])
    for name in ("ann", "bob"):
        for number, lease in enumerate(campaign.lease(name, 2)):
            campaign.submit(answer(lease, f"{name}-{number}"), name)
    votes = store.votes()
    assert len(votes) == 8
    assert {vote.supersedes for vote in votes} == {None}
    assert {vote.pair_id for vote in votes} == {pair_id_of("c0", "t0-r0", "t0-r1")}  # whichever clip a task names first


def test_work_that_was_late_is_not_lost(campaign, store, make_tasks, answer) -> None:
    now = datetime(2026, 3, 1, tzinfo=UTC)
    campaign.add_tasks(make_tasks(1))
    (late,) = campaign.lease("ann", 1, now=now)
    (other,) = campaign.lease("bob", 1, now=now + timedelta(hours=1))
    campaign.submit(answer(late, "s1", "left"), "ann", now=now + timedelta(hours=2))
    campaign.submit(answer(other, "s2", "left"), "bob")
    campaign.submit(answer(late, "s3", "right"), "ann")  # undo, long after the lease expired
    assert [vote.annotator_id for vote in effective_votes(store.votes())] == ["bob", "bob", "ann", "ann"]
    assert campaign.lease("cay", 1) == []


def test_a_lease_handed_back_by_mistake_can_still_be_answered(campaign, store, lease, answer) -> None:
    campaign.give_back(lease.lease_id, "ann")
    campaign.submit(answer(lease, "s1"), "ann")
    assert len(store.votes()) == 2
    assert campaign.lease("bob", 1) == []


def test_an_axis_paused_meanwhile_is_still_taken(campaign, store, lease, answer) -> None:
    campaign.save_settings(campaign.settings().model_copy(update={"axes": (AxisSetting(name="spill", paused=True),)}))
    with pytest.raises(DataError, match="axis 'success' is not asked here"):  # no longer an axis at all
        campaign.submit(answer(lease, "s1"), "ann")
    campaign.submit(answer(lease, "s1", answers=[{"axis": "spill", "choice": "left"}]), "ann")
    assert [vote.axis for vote in store.votes()] == ["spill"]


def test_a_ranking_becomes_its_pairs(campaign, store, make_tasks, answer) -> None:
    campaign.add_tasks(make_tasks(1, 4, axes=("spill",)))
    (lease,) = campaign.lease("ann", 1)
    best, first, second, worst = 2, 0, 3, 1  # positions
    ranked = {"axis": "spill", "order": [[best], [first, second], [worst]], "response_time_s": 9}
    campaign.submit(answer(lease, "s1", answers=[ranked]), "ann")
    votes = store.votes()
    assert len(votes) == 6
    assert len({vote.ranking_id for vote in votes} - {None}) == 1
    rank = {lease.task.rollouts[lease.shown[position]]: place for position, place in ((2, 0), (0, 1), (3, 1), (1, 2))}
    place = {lease.task.rollouts[index]: position for position, index in enumerate(lease.shown)}
    for vote in votes:
        better = rank[vote.rollout_a] - rank[vote.rollout_b]
        assert vote.vote == ("tie" if better == 0 else "a" if better < 0 else "b")
        assert vote.shown_left == ("a" if place[vote.rollout_a] < place[vote.rollout_b] else "b")
        assert vote.pair_id == pair_id_of(vote.context_id, vote.rollout_a, vote.rollout_b)
        assert vote.response_time_s == 9
    campaign.submit(answer(lease, "s2", "skip"), "ann")
    later = store.votes()[6:]
    assert [vote.supersedes for vote in later] == [vote.vote_id for vote in votes]
    assert {vote.vote for vote in later} == {"skip"}


def test_a_ranking_meets_pairs_that_are_known_already(campaign, store, answer) -> None:
    """Whichever way round a pair came first, its votes stay under one id."""
    campaign.add_tasks([Task(task_id="pair", context_id="c", rollouts=("z", "a"), axes=("spill",))])
    campaign.add_tasks([Task(task_id="rank", context_id="c", rollouts=("a", "m", "z"), axes=("spill",))])
    leases = {lease.task.task_id: lease for lease in campaign.lease("ann", 2)}
    campaign.submit(answer(leases["pair"], "s1", "left"), "ann")
    order = [[leases["rank"].shown.index(index)] for index in range(3)]  # a, m, z
    campaign.submit(answer(leases["rank"], "s2", answers=[{"axis": "spill", "order": order}]), "ann")
    said = {(vote.rollout_a, vote.rollout_b): vote.vote for vote in store.votes()[1:]}
    assert said == {("a", "m"): "a", ("z", "a"): "b", ("m", "z"): "a"}
    assert len(store.pairs()) == 3


@given(shown=st.permutations(range(3)), order=st.permutations(range(3)))
def test_rankings_agree_with_sorting(shown: list[int], order: list[int]) -> None:
    """Every vote of a strict order names the rollout that stands earlier in it."""
    row = {"rollouts": '["r0", "r1", "r2"]', "shown": str(shown), "pairs": '[["p", 0, 1], ["q", 0, 2], ["r", 2, 1]]'}
    answer = Answer(axis="x", order=tuple((position,) for position in order))
    ranked = [shown[position] for position in order]
    for vote, (a, b) in zip(votes_of(answer, "s", Shown.from_lease(row)), ((0, 1), (0, 2), (2, 1)), strict=True):
        assert vote["vote"] == ("a" if ranked.index(a) < ranked.index(b) else "b")
        assert vote["shown_left"] == ("a" if shown.index(a) < shown.index(b) else "b")


def test_a_single_clip_becomes_judgements(campaign, store, make_tasks, answer) -> None:
    campaign.save_settings(campaign.settings().model_copy(update={"mode": "single"}))
    campaign.add_tasks(make_tasks(1, 1))
    (lease,) = campaign.lease("ann", 1)
    said = [{"axis": "spill", "choice": "fail", "response_time_s": 2}, {"axis": "success", "choice": "skip"}]
    campaign.submit(answer(lease, "s1", answers=said, guideline_version="1"), "ann")
    campaign.submit(answer(lease, "s2", answers=[{"axis": "spill", "choice": "skip"}]), "ann")
    first, second = store.judgements()
    assert (first.rollout_id, first.axis, first.verdict, first.annotator_id) == ("t0-r0", "spill", "fail", "ann")
    assert (first.response_time_s, first.guideline_version) == (2, "1")
    # There is no verdict "skip"; but an opinion that was taken back must not stand.
    assert (second.verdict, second.supersedes) == ("unsure", first.judgement_id)
    assert store.votes() == []


def test_a_catch_trial_is_kept_as_one(campaign, store, answer, make_tasks) -> None:
    campaign.save_settings(campaign.settings().model_copy(update={"catch_share": 1.0}))
    campaign.add_tasks([Task(task_id="k", context_id="c", rollouts=("r", "r"), selection="catch"), *make_tasks(1)])
    (lease,) = campaign.lease("ann", 1)
    campaign.submit(answer(lease, "s1", "left"), "ann")
    vote = store.votes()[0]
    assert (vote.rollout_a, vote.rollout_b, vote.selection) == ("r", "r", "catch")
    assert vote.vote == vote.shown_left
    check_votes(store.votes())


def test_simulated_annotators_stay_simulated(campaign, store, make_vote, answer, make_tasks) -> None:
    store.add_vote(make_vote(annotator_id="robot", simulated=True))
    campaign.add_tasks(make_tasks(1))
    campaign.submit(answer(campaign.lease("robot", 1)[0], "s1"), "robot")
    assert all(vote.simulated for vote in store.votes())


def test_a_votes_selection_is_how_its_task_was_drawn(campaign, store, answer) -> None:
    campaign.save_settings(campaign.settings().model_copy(update={"policy": "active"}))
    campaign.add_tasks([Task(task_id="t", context_id="c", rollouts=("x", "y"), priority=1)])
    campaign.submit(answer(campaign.lease("ann", 1)[0], "s1"), "ann")
    assert {vote.selection for vote in store.votes()} == {"active"}


@pytest.mark.parametrize(
    ("num_clips", "fields", "reason"),
    [
        (2, {"choice": "pass"}, "must be left or right or tie or both_bad or skip where 2 clip"),
        (2, {"order": [[0], [1]]}, "must be left or right"),
        (3, {"choice": "left"}, "must be an order or skip where 3 clip"),
        (3, {"choice": "both_bad"}, "must be an order or skip"),
        (3, {"order": [[0], [1]]}, "must be an order"),
        (3, {"order": [[0], [1], [1]]}, "must be an order"),
        (3, {"order": [[0, 1, 2], []]}, "must be an order"),
        (3, {"order": [[0, 1, 3]]}, "must be an order"),
        (1, {"choice": "tie"}, "must be pass or fail or unsure or skip"),
    ],
)
def test_answers_must_fit_what_was_shown(
    campaign, store, make_tasks, answer, num_clips: int, fields: dict, reason: str
) -> None:
    mode = "single" if num_clips == 1 else "pairs"
    campaign.save_settings(campaign.settings().model_copy(update={"mode": mode}))
    campaign.add_tasks(make_tasks(1, num_clips))
    (lease,) = campaign.lease("ann", 1)
    with pytest.raises(DataError, match=reason):
        campaign.submit(answer(lease, "s1", answers=[{"axis": "spill", **fields}]), "ann")
    assert store.votes() == []
    assert store.judgements() == []


@pytest.mark.parametrize(
    ("fields", "reason"),
    [
        ({"answers": [{"axis": "grace", "choice": "left"}]}, "axis 'grace' is not asked here"),
        ({"answers": [{"axis": "spill", "choice": "left"}] * 2}, "axis 'spill' is answered more than once"),
        ({"breaks": [{"position": 2, "none": True}]}, "no clip at position 2"),
        ({"breaks": [{"position": 0, "none": True}] * 2}, "position 0 can't have a break-point and none"),
        ({"breaks": [{"position": 0, "time_s": 1}]}, "a break needs time_s and severity"),
        ({"breaks": [{"position": 0, "none": True, "severity": 1}]}, "leave its time"),
    ],
)
def test_a_bad_submission_leaves_nothing(campaign, store, lease, answer, fields: dict, reason: str) -> None:
    with pytest.raises(DataError, match=reason):
        campaign.submit(answer(lease, "s1", **fields), "ann")
    assert store.votes() == []
    assert campaign.breakpoints() == []
    campaign.submit(answer(lease, "s1"), "ann")  # the id is still free


@pytest.mark.parametrize(
    "fields",
    [
        {"answers": []},
        {"answers": [{"axis": "spill"}]},
        {"answers": [{"axis": "spill", "choice": "left", "order": [[0], [1]]}]},
        {"answers": [{"axis": "spill", "choice": "left", "response_time_s": float("nan")}]},
        {"answers": [{"axis": "spill", "choice": "left", "response_time_s": -1}]},
        {"submission_id": "x" * 201},
        {"submission_id": ""},
        {"comment": "x" * 4001},
        {"comment": "\x00"},
        {"comment": "\ud800"},
        {"who": "somebody else"},
        {"breaks": [{"position": 4, "none": True}]},
        {"breaks": [{"position": 0, "time_s": 1.0, "severity": 4}]},
    ],
)
def test_what_comes_from_outside_is_checked(fields: dict) -> None:
    good = {"submission_id": "s", "lease_id": "l", "answers": [{"axis": "spill", "choice": "left"}]}
    Submission.model_validate(good)
    with pytest.raises(ValueError, match="validation error"):
        Submission.model_validate({**good, **fields})


def test_break_points_name_the_clip_that_was_shown(campaign, lease, answer) -> None:
    breaks = [
        Break(position=0, time_s=0.125, frame_idx=1, category="physics", severity=2),
        Break(position=0, time_s=0.5, severity=1),
        Break(position=1, none=True),
    ]
    campaign.submit(answer(lease, "s1", breaks=breaks, guideline_version="1"), "ann")
    rows = campaign.breakpoints()
    left, right = (lease.task.rollouts[index] for index in lease.shown)
    assert [(row.rollout_id, row.time_s, row.frame_idx, row.category, row.severity, row.none) for row in rows] == [
        (left, 0.125, 1, "physics", 2, False),
        (left, 0.5, None, "", 1, False),
        (right, None, None, "", None, True),
    ]
    assert {row.annotator_id for row in rows} == {"ann"}
    assert {row.guideline_version for row in rows} == {"1"}


def test_corrected_break_points_replace_the_old_ones(campaign, lease, answer) -> None:
    marks = [Break(position=0, time_s=time_s, severity=1) for time_s in (0.1, 0.3)]
    campaign.submit(answer(lease, "s1", breaks=marks), "ann")
    campaign.submit(answer(lease, "s2", breaks=[Break(position=0, time_s=0.2, severity=3)]), "ann")
    (row,) = campaign.breakpoints()
    everything = campaign.breakpoints(effective=False)
    assert (row.time_s, row.supersedes) == (0.2, everything[0].breakpoint_id)
    assert [(row.supersedes, row.taken_back) for row in everything[3:]] == [(everything[1].breakpoint_id, True)]
    campaign.submit(answer(lease, "s3", breaks=[Break(position=0, none=True)]), "ann")
    assert [row.supersedes for row in campaign.breakpoints()] == [everything[2].breakpoint_id]
    campaign.submit(answer(lease, "s4"), "ann")
    assert campaign.breakpoints() == []
    campaign.submit(answer(lease, "s5", breaks=marks), "ann")
    assert [(row.time_s, row.supersedes) for row in campaign.breakpoints()] == [(0.1, None), (0.3, None)]


def test_flags_can_be_taken_back_and_stay_on_record(campaign, lease) -> None:
    clip = lease.task.rollouts[lease.shown[1]]
    campaign.flag("f1", lease.lease_id, 1, "harm", True, "ann", "blood")
    campaign.flag("f1", lease.lease_id, 1, "harm", True, "ann", "blood")
    campaign.flag("f2", lease.lease_id, 1, "harm", False, "ann")
    rows = campaign.flags()
    assert [(row.flag_id, row.rollout_id, row.kind, row.raised, row.comment) for row in rows] == [
        ("f1", clip, "harm", True, "blood"),
        ("f2", clip, "harm", False, ""),
    ]
    with pytest.raises(Conflict, match="flag_id 'f1' was used for another flag"):
        campaign.flag("f1", lease.lease_id, 0, "harm", True, "ann", "blood")
    with pytest.raises(Forbidden):
        campaign.flag("f3", lease.lease_id, 0, "harm", True, "bob")
    with pytest.raises(DataError, match="no clip at position 2"):
        campaign.flag("f3", lease.lease_id, 2, "harm", True, "ann")
    with pytest.raises(DataError, match="this FlagRequest can't be taken: kind"):
        campaign.flag("f3", lease.lease_id, 0, "ugly", True, "ann")
    assert len(campaign.flags()) == 2
