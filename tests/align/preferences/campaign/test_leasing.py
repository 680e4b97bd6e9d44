from __future__ import annotations

from collections import Counter
from datetime import UTC, datetime, timedelta

import pytest
from sqlalchemy import text

from align.errors import Forbidden, NotFound
from align.preferences.campaign import AxisSetting, Lease, Task

NOW = datetime(2026, 3, 1, 12, tzinfo=UTC)


def change(campaign, **fields) -> None:
    campaign.save_settings(campaign.settings().model_copy(update=fields))


def ids(leases: list[Lease]) -> list[str]:
    return [lease.task.task_id for lease in leases]


def test_a_lease_says_what_to_show_and_open_ones_come_back_as_they_were(campaign, make_tasks) -> None:
    campaign.add_tasks(make_tasks(6, 3))
    first = campaign.lease("ann", 3, now=NOW)
    assert len(first) == 3
    assert all(sorted(lease.shown) == [0, 1, 2] and lease.axes == ("spill", "success") for lease in first)
    assert {lease.expires_at for lease in first} == {"2026-03-01T12:10:00.000000Z"}
    again = campaign.lease("ann", 4, now=NOW + timedelta(minutes=5))
    sides = {lease.lease_id: (lease.task, lease.shown) for lease in again}
    assert {lease.lease_id: (lease.task, lease.shown) for lease in first}.items() <= sides.items()
    assert len(again) == 4
    assert {lease.expires_at for lease in again} == {"2026-03-01T12:15:00.000000Z"}
    assert {lease.lease_id for lease in campaign.lease("ann", 2, now=NOW)} <= set(sides)  # no more than asked for


def test_nobody_gets_what_others_have_beyond_the_overlap(campaign, make_tasks, answer) -> None:
    change(campaign, overlap=2)
    campaign.add_tasks(make_tasks(3))
    people = {name: campaign.lease(name, 3) for name in ("ann", "bob")}
    assert campaign.lease("cay", 3) == []
    campaign.submit(answer(people["ann"][0], "s1"), "ann")
    assert campaign.lease("cay", 3) == []  # done counts as much as held
    assert people["ann"][0].task.task_id not in ids(campaign.lease("ann", 3))  # nor does one's own work come again
    change(campaign, overlap=3)
    assert sorted(ids(campaign.lease("cay", 3))) == ["t0", "t1", "t2"]


def test_an_expired_lease_goes_to_somebody_else_and_returns_with_its_sides(campaign, make_tasks) -> None:
    campaign.add_tasks(make_tasks(1, 4))
    (first,) = campaign.lease("ann", 1, now=NOW)
    assert campaign.lease("bob", 1, now=NOW + timedelta(minutes=9)) == []
    (second,) = campaign.lease("bob", 1, now=NOW + timedelta(minutes=11))
    assert second.task == first.task
    assert campaign.lease("ann", 1, now=NOW + timedelta(minutes=12)) == []
    (third,) = campaign.lease("ann", 1, now=NOW + timedelta(minutes=30))
    assert (third.lease_id, third.shown) == (first.lease_id, first.shown)


def test_a_lease_handed_back_is_free_at_once(campaign, make_tasks, answer) -> None:
    campaign.add_tasks(make_tasks(1))
    (lease,) = campaign.lease("ann", 1)
    with pytest.raises(Forbidden, match="lent to somebody else"):
        campaign.give_back(lease.lease_id, "bob")
    with pytest.raises(NotFound, match="no lease 'x'"):
        campaign.give_back("x", "ann")
    campaign.give_back(lease.lease_id, "ann")
    (other,) = campaign.lease("bob", 1)
    campaign.submit(answer(other, "s1"), "bob")
    campaign.give_back(other.lease_id, "bob")  # what is done stays done
    assert campaign.lease("ann", 1) == []


def test_a_skip_leaves_the_work_to_others(campaign, make_tasks, answer) -> None:
    campaign.add_tasks(make_tasks(1))
    (lease,) = campaign.lease("ann", 1)
    campaign.submit(answer(lease, "s1", "skip"), "ann")
    assert campaign.lease("ann", 1) == []
    (other,) = campaign.lease("bob", 1)
    campaign.submit(answer(other, "s2", "tie"), "bob")
    assert campaign.lease("cay", 1) == []


def test_a_skip_corrected_to_an_answer_takes_the_place_again(campaign, make_tasks, answer) -> None:
    campaign.add_tasks(make_tasks(1))
    (lease,) = campaign.lease("ann", 1)
    campaign.submit(answer(lease, "s1", "skip"), "ann")
    campaign.submit(answer(lease, "s2", "tie"), "ann")
    assert campaign.lease("bob", 1) == []
    campaign.submit(answer(lease, "s3", "skip"), "ann")
    assert len(campaign.lease("bob", 1)) == 1


def test_sides_are_balanced_and_independent_of_who_looks(campaign, make_tasks) -> None:
    change(campaign, overlap=2)
    campaign.add_tasks(make_tasks(50))
    shown = [{lease.task.task_id: lease.shown for lease in campaign.lease(name, 50)} for name in ("ann", "bob")]
    left = Counter(sides[0] for person in shown for sides in person.values())
    assert 30 <= left[0] <= 70  # of 100: four standard deviations
    assert 10 <= sum(shown[0][name] == shown[1][name] for name in shown[0]) <= 40  # of 50


def test_tasks_come_in_a_random_order_or_in_the_one_they_had(campaign, make_tasks) -> None:
    campaign.add_tasks(make_tasks(20))
    order = ids(campaign.lease("ann", 20))
    assert sorted(order) == sorted(f"t{i}" for i in range(20))
    assert order != [f"t{i}" for i in range(20)]
    campaign.add_tasks(make_tasks(20, prefix="k"), keep_order=True)
    assert ids(campaign.lease("ann", 40))[20:] == [f"k{i}" for i in range(20)]


def scored(num: int, **fields) -> list[Task]:
    return [
        Task(task_id=f"t{i}", context_id="c", rollouts=(f"x{i}", f"y{i}"), priority=i, axes=("spill",), **fields)
        for i in range(num)
    ]


def test_active_takes_the_highest_priority_and_says_so(campaign) -> None:
    change(campaign, policy="active")
    campaign.add_tasks(scored(10))
    campaign.add_tasks([Task(task_id="u", context_id="c", rollouts=("x", "y"))])  # nobody gave it a priority: comes last
    leases = campaign.lease("ann", 11)
    assert ids(leases) == [f"t{i}" for i in reversed(range(10))] + ["u"]
    assert [lease.task.selection for lease in leases] == ["active"] * 10 + ["random"]


def test_new_priorities_count_from_then_on(campaign) -> None:
    change(campaign, policy="active")
    tasks = scored(4)
    campaign.add_tasks(tasks)
    renewed = [task.model_copy(update={"priority": -task.priority}) for task in tasks]
    assert campaign.add_tasks(renewed) == 0
    assert campaign.add_tasks([task.model_copy(update={"priority": None}) for task in tasks]) == 0  # says nothing
    assert ids(campaign.lease("ann", 4)) == ["t0", "t1", "t2", "t3"]


def test_hybrid_sets_a_fair_share_aside(campaign) -> None:
    """Random tasks are those that chance set aside, whatever their priority; active ones the best of the others."""
    change(campaign, policy="hybrid", random_share=0.3)
    campaign.add_tasks(scored(200))
    leases = [lease for name in ("ann", "bob") for lease in campaign.lease(name, 50)]
    drawn = Counter(lease.task.selection for lease in leases)
    assert 12 <= drawn["random"] <= 48  # of 100 with share 0.3: four standard deviations
    assert drawn["random"] + drawn["active"] == 100
    average = {kind: [lease.task.priority for lease in leases if lease.task.selection == kind] for kind in drawn}
    assert min(average["active"]) > 80
    assert 70 < sum(average["random"]) / len(average["random"]) < 130  # 99.5 is fair
    assert ids(leases)[:50] != sorted(ids(leases)[:50])


def test_what_a_task_was_first_drawn_as_stays(campaign) -> None:
    change(campaign, policy="active", overlap=2)
    campaign.add_tasks(scored(1))
    campaign.lease("ann", 1)
    change(campaign, policy="random")
    (lease,) = campaign.lease("bob", 1)
    assert lease.task.selection == "active"


@pytest.mark.parametrize("policy", ["random", "active", "hybrid"])
def test_checks_are_mixed_in_by_share_for_everybody(campaign, make_tasks, policy: str) -> None:
    change(campaign, policy=policy, gold_share=0.3, catch_share=0.2)
    campaign.add_tasks(make_tasks(100))
    campaign.add_tasks(make_tasks(100, prefix="g", selection="gold", axes=("spill",), gold={"spill": "b"}))
    catch = [Task(task_id=f"k{i}", context_id="c", rollouts=(f"r{i}", f"r{i}"), selection="catch") for i in range(100)]
    campaign.add_tasks(catch)
    leases = [lease for name in ("ann", "bob") for lease in campaign.lease(name, 50)]
    kinds = Counter(lease.task.selection for lease in leases)
    assert 14 <= kinds["gold"] <= 46
    assert 6 <= kinds["catch"] <= 36
    assert max(Counter(ids(leases)).values()) == 2  # a check doesn't wait for others to be done with it
    assert "gold=None" in repr(next(lease for lease in leases if lease.task.selection == "gold"))
    assert '"b"' not in repr(leases)
    assert "'b'" not in repr(leases)


def test_where_no_work_is_left_no_check_comes(campaign, make_tasks) -> None:
    change(campaign, gold_share=1.0)
    campaign.add_tasks(make_tasks(9, prefix="g", selection="gold", gold={"spill": "b"}))
    assert campaign.lease("ann", 5) == []
    campaign.add_tasks(make_tasks(1))
    assert {lease.task.selection for lease in campaign.lease("ann", 5)} == {"gold"}


def test_paused_axes_are_not_asked_and_tasks_without_any_wait(campaign, make_tasks) -> None:
    campaign.add_tasks([*make_tasks(2, prefix="s", axes=("spill",)), *make_tasks(2, prefix="b", axes=("spill", "success"))])
    held = campaign.lease("ann", 4)
    change(campaign, axes=(AxisSetting(name="spill", paused=True), AxisSetting(name="success")))
    again = campaign.lease("ann", 4)
    assert sorted(ids(again)) == ["b0", "b1"]
    assert {lease.axes for lease in again} == {("success",)}
    assert {lease.lease_id for lease in again} < {lease.lease_id for lease in held}
    assert campaign.lease("bob", 4) == []
    change(campaign, axes=(AxisSetting(name="spill"), AxisSetting(name="success")))
    assert len(campaign.lease("ann", 4)) == 4


def test_modes_hand_out_their_own_tasks(campaign, make_tasks) -> None:
    campaign.add_tasks([*make_tasks(2, 1, prefix="one"), *make_tasks(1, 2, prefix="two"), *make_tasks(1, 4, prefix="four")])
    assert sorted(ids(campaign.lease("ann", 5))) == ["four0", "two0"]
    change(campaign, mode="single")
    assert sorted(ids(campaign.lease("bob", 5))) == ["one0", "one1"]


def test_progress_counts_what_this_person_can_still_do(campaign, make_tasks, answer) -> None:
    change(campaign, overlap=2)
    campaign.add_tasks(make_tasks(5))
    assert campaign.progress("ann") == {"num_today": 0, "num_total": 0, "num_open_tasks": 5}
    leases = campaign.lease("ann", 3)
    campaign.submit(answer(leases[0], "s0"), "ann", now=datetime.now(UTC) - timedelta(days=2))
    campaign.submit(answer(leases[1], "s1"), "ann")
    campaign.submit(answer(leases[1], "s2"), "ann")  # a correction is no further task
    campaign.lease("bob", 3)
    assert campaign.progress("ann") == {"num_today": 1, "num_total": 2, "num_open_tasks": 3}
    assert campaign.progress("cay")["num_open_tasks"] == 2  # both of the others have, or have done, the first three
    assert campaign.progress("bob")["num_open_tasks"] == 5


def test_the_next_task_is_found_by_an_index(campaign, make_tasks, store) -> None:
    """No scan and no sort over all tasks, whatever the planner guesses."""
    from align.preferences.campaign import leasing

    campaign.add_tasks(make_tasks(300))
    campaign.lease("ann", 5)
    for query in (leasing._BY_KEY, leasing._BY_PRIORITY):
        bound = query.params(queue="pairs-random", who="ann", most=4)
        plan = str(bound.compile(store.engine, compile_kwargs={"literal_binds": True}))
        with store.engine.connect() as connection:
            prefix = "EXPLAIN QUERY PLAN" if store.engine.dialect.name == "sqlite" else "EXPLAIN"
            lines = [" ".join(map(str, row)) for row in connection.execute(text(f"{prefix} {plan}"))]
        found = "\n".join(lines)
        assert "ix_tasks_" in found
        assert not any(word in found for word in ("Seq Scan", "Sort", "SCAN tasks", "TEMP B-TREE", "Hash")), found


@pytest.mark.parametrize("count", [0, -1, 51])
def test_the_count_is_checked(campaign, count: int) -> None:
    with pytest.raises(ValueError, match="count must be from 1 to 50"):
        campaign.lease("ann", count)


def test_a_harm_flag_warns_until_it_is_taken_back(campaign, make_tasks) -> None:
    change(campaign, overlap=2)
    campaign.add_tasks(make_tasks(1))
    (mine,) = campaign.lease("ann", 1)
    assert mine.warn is False
    campaign.flag("f0", mine.lease_id, 0, "broken", True, "ann")
    assert campaign.lease("ann", 1)[0].warn is False
    campaign.flag("f1", mine.lease_id, 1, "harm", True, "ann")
    (other,) = campaign.lease("bob", 1)
    assert other.warn is True
    campaign.flag("f2", other.lease_id, other.shown.index(mine.shown[1]), "harm", False, "bob")  # not bob's to take back
    assert campaign.lease("bob", 1)[0].warn is True
    campaign.flag("f3", mine.lease_id, 1, "harm", False, "ann")
    assert campaign.lease("bob", 1)[0].warn is False
