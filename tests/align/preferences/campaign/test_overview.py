from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from align.preferences.accounts import Accounts
from align.preferences.campaign import Campaign
from align.preferences.campaign.overview import (
    DAY,
    HOUR,
    Queue,
    count_answers,
    count_axes,
    count_queue,
    count_rows,
    list_guidelines,
    list_people,
    standing_flags,
)
from align.preferences.storage.store import LabelStore
from align.preferences.votes.schema import Judgement, Vote

NOON = datetime.now(UTC).replace(hour=12, minute=0, second=0, microsecond=0)


def test_queue_counts_every_task_once(
    store: LabelStore, campaign: Campaign, make_tasks: Callable[..., Any], answer: Callable[..., Any]
) -> None:
    campaign.save_settings(campaign.settings().model_copy(update={"overlap": 2}))
    campaign.add_tasks(make_tasks(4))
    campaign.add_tasks(make_tasks(1, prefix="g", selection="gold", gold={"spill": "a"}))
    first, second, _ = campaign.lease("ann", 3, NOON)
    campaign.submit(answer(first, "s1"), "ann", NOON)
    campaign.submit(answer(second, "s2", "skip"), "ann", NOON)
    # Twice done is done; once done, skipped, or lent until a minute ago is open.
    held = {lease.task.task_id: lease for lease in campaign.lease("bea", 4, NOON)}
    campaign.submit(answer(held[first.task.task_id], "s3"), "bea", NOON)
    assert count_queue(store.engine, NOON) == Queue(total=4, done=1, leased=3, paused=0, open=0, checks=1)
    later = NOON + timedelta(seconds=campaign.settings().lease_s + 60)
    assert count_queue(store.engine, later) == Queue(total=4, done=1, leased=0, paused=0, open=3, checks=1)


def test_queue_tells_paused_from_open(store: LabelStore, campaign: Campaign, make_tasks: Callable[..., Any]) -> None:
    campaign.add_tasks([*make_tasks(2, axes=("spill",)), *make_tasks(3, prefix="u", axes=("success",))])
    settings = campaign.settings()
    axes = tuple(axis.model_copy(update={"paused": axis.name == "spill"}) for axis in settings.axes)
    campaign.save_settings(settings.model_copy(update={"axes": axes}))
    queue = count_queue(store.engine)
    assert (queue.paused, queue.open, queue.total) == (2, 3, 5)


def test_people_have_their_own_counts(
    store: LabelStore, campaign: Campaign, make_tasks: Callable[..., Any], answer: Callable[..., Any]
) -> None:
    accounts = Accounts(store)
    for name, role in (("root", "admin"), ("ann", "labeler")):
        accounts.redeem(accounts.invite(role, "test"), name)  # type: ignore[arg-type]
    campaign.add_tasks(make_tasks(4))
    leases = campaign.lease("ann", 3, NOON - timedelta(days=1))
    campaign.submit(answer(leases[0], "s1"), "ann", NOON - timedelta(days=1))
    campaign.submit(answer(leases[1], "s2"), "ann", NOON)
    campaign.submit(answer(leases[1], "s3", "right"), "ann", NOON)  # a correction is no new answer
    campaign.lease("ann", 1, NOON)
    row = {"pair_id": "p", "context_id": "c", "rollout_a": "x", "rollout_b": "y", "axis": "spill", "vote": "a"}
    store.add_vote(Vote.model_validate(row | {"vote_id": "v", "annotator_id": "imported"}))
    store.add_judgements([Judgement(judgement_id="j", rollout_id="x", axis="spill", verdict="pass", annotator_id="imported")])
    accounts.disable("ann")

    people = {person.annotator_id: person for person in list_people(store.engine, NOON)}
    assert list(people) == ["root", "ann", "imported"]
    ann = people["ann"]
    assert (ann.num_answers, ann.num_done, ann.num_today, ann.num_held) == (4, 2, 1, 1)
    assert (ann.role, ann.disabled, people["root"].disabled) == ("labeler", True, False)
    assert ann.last_seen.startswith(NOON.strftime("%Y-%m-%dT12:00"))
    assert (people["imported"].role, people["imported"].num_answers, people["imported"].last_seen) == (None, 2, "")


def test_answers_of_an_hour_and_a_day(store: LabelStore, make_vote: Callable[..., Vote]) -> None:
    now = datetime.now(UTC)
    times = [now, now, now - timedelta(hours=1), now - timedelta(days=3)]
    store.add_votes([make_vote(f"v{i}", annotator_id=f"a{i}", created_at=moment) for i, moment in enumerate(times)])
    store.add_votes([make_vote("untimed")])
    hours = count_answers(store.engine, HOUR, now - timedelta(hours=2))
    assert list(hours.values())[:3] == [0, 1, 2]
    assert list(hours)[2] == now.strftime("%Y-%m-%dT%H")
    days = count_answers(store.engine, DAY, now - timedelta(days=4))
    assert list(days)[4] == now.strftime("%Y-%m-%d")
    assert list(days.values())[:3] == [0, 1, 0] and sum(days.values()) == 4


def test_rows_change_with_every_answer_and_withdrawal(
    store: LabelStore, campaign: Campaign, make_vote: Callable[..., Vote]
) -> None:
    before = count_rows(store.engine)
    assert (before.votes, before.judgements, before.flags, before.breakpoints) == (0, 0, 0, 0)
    store.add_votes([make_vote("v1", annotator_id="ann"), make_vote("v2", annotator_id="bea", axis="success")])
    after = count_rows(store.engine)
    assert after.votes == 2 and count_axes(store.engine) == {"spill": 1, "success": 1}
    campaign.withdraw("bea")
    store.add_votes([make_vote("v3", annotator_id="carl")])
    assert count_rows(store.engine).votes == 2 and count_rows(store.engine) != after


def test_flags_that_stand(store: LabelStore, campaign: Campaign, make_tasks: Callable[..., Any]) -> None:
    campaign.add_tasks(make_tasks(1))
    for name in ("ann", "bea"):
        campaign.save_settings(campaign.settings().model_copy(update={"overlap": 2}))
        (lease,) = campaign.lease(name, 1)
        place = lease.shown.index(0)
        campaign.flag(f"{name}-1", lease.lease_id, place, "harm", True, name)
        campaign.flag(f"{name}-2", lease.lease_id, place, "broken", True, name)
        if name == "ann":
            campaign.flag("ann-3", lease.lease_id, place, "harm", False, name)
    assert {(flag.annotator_id, flag.kind) for flag in standing_flags(store.engine)} == {
        ("ann", "broken"),
        ("bea", "harm"),
        ("bea", "broken"),
    }


def test_guidelines_newest_first(store: LabelStore, campaign: Campaign) -> None:
    assert list_guidelines(store.engine) == []
    campaign.publish_guideline("one", "ann")
    campaign.publish_guideline("two", "bea")
    assert [(item.version, item.created_by) for item in list_guidelines(store.engine)] == [("2", "bea"), ("1", "ann")]


@pytest.mark.parametrize("digits", [HOUR, DAY])
def test_answers_of_an_empty_store_are_zeros(store: LabelStore, digits: int) -> None:
    counts = count_answers(store.engine, digits, datetime.now(UTC) - timedelta(days=1))
    assert set(counts.values()) == {0} and len(counts) >= 2
