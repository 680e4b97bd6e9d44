"""Many at once: threads, processes, and processes that are killed while they write."""

from __future__ import annotations

import subprocess
import sys
import threading
from collections import Counter
from concurrent.futures import ThreadPoolExecutor, wait
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from align.errors import Conflict, NotFound
from align.preferences.campaign import Campaign, submitting
from align.preferences.storage.store import LabelStore
from align.preferences.votes.schema import check_votes

ROOT = Path(__file__).parents[4]


def with_overlap(campaign: Campaign, overlap: int) -> None:
    campaign.save_settings(campaign.settings().model_copy(update={"overlap": overlap}))


def check_overlap(store: LabelStore, num_tasks: int, overlap: int, num_axes: int = 2) -> None:
    """Every task was judged by as many people as wanted, by nobody twice."""
    votes = store.votes()
    check_votes(votes)
    assert len({(vote.pair_id, vote.axis, vote.annotator_id) for vote in votes}) == len(votes)
    assert set(Counter((vote.pair_id, vote.axis) for vote in votes).values()) == {overlap}
    assert len(votes) == num_tasks * overlap * num_axes


def test_eight_threads_share_the_work(campaign, store, make_tasks, answer) -> None:
    with_overlap(campaign, 2)
    campaign.add_tasks(make_tasks(20))

    def work(number: int) -> int:
        done, name = 0, f"ann{number}"
        while leases := campaign.lease(name, 3):
            campaign.submit(answer(leases[0], f"{name}-{done}"), name)
            done += 1
        return done

    with ThreadPoolExecutor(8) as pool:
        done = list(pool.map(work, range(8)))
    assert sum(done) == 40
    check_overlap(store, 20, 2)


def test_one_person_in_eight_windows_holds_no_more_than_asked_for(campaign, make_tasks) -> None:
    campaign.add_tasks(make_tasks(20))
    with ThreadPoolExecutor(8) as pool:
        held = list(pool.map(lambda _: frozenset(lease.lease_id for lease in campaign.lease("ann", 4)), range(8)))
    assert len(set(held)) == 1
    assert len(held[0]) == 4


def test_the_same_submission_sent_eight_times_at_once_is_stored_once(campaign, store, make_tasks, answer) -> None:
    campaign.add_tasks(make_tasks(1))
    sent = answer(campaign.lease("ann", 1)[0], "s1")
    with ThreadPoolExecutor(8) as pool:
        receipts = list(pool.map(lambda _: campaign.submit(sent, "ann"), range(8)))
    assert set(receipts) == {receipts[0]}
    assert len(store.votes()) == 2


def test_eight_corrections_at_once_form_one_chain(campaign, store, make_tasks, answer) -> None:
    campaign.add_tasks(make_tasks(1))
    (lease,) = campaign.lease("ann", 1)
    with ThreadPoolExecutor(8) as pool:
        list(pool.map(lambda i: campaign.submit(answer(lease, f"s{i}"), "ann"), range(8)))
    votes = [vote for vote in store.votes() if vote.axis == "spill"]
    corrected = [vote.supersedes for vote in votes if vote.supersedes]
    assert len(votes) == 8
    assert len(set(corrected)) == len(corrected) == 7


def test_one_id_for_two_leases_at_once_is_stored_for_one(campaign, store, make_tasks, answer) -> None:
    campaign.add_tasks(make_tasks(8))

    def send(lease: object) -> int:
        try:
            campaign.submit(answer(lease, "s1"), "ann")
        except Conflict:
            return 0
        return 1

    with ThreadPoolExecutor(8) as pool:
        assert sum(pool.map(send, campaign.lease("ann", 8))) == 1
    assert len(store.votes()) == 2


def test_a_withdrawal_waits_for_what_is_under_way_and_leaves_nothing(campaign, store, make_tasks, answer) -> None:
    with_overlap(campaign, 2)
    campaign.add_tasks(make_tasks(16))
    held = {name: campaign.lease(name, 16) for name in ("ann", "bob")}

    def send(work: tuple[str, int]) -> bool:
        name, number = work
        try:
            campaign.submit(answer(held[name][number], f"{name}-{number}"), name)
        except NotFound:
            return False
        return True

    with ThreadPoolExecutor(5) as pool:
        sent = pool.map(send, [(name, number) for number in range(16) for name in ("ann", "bob")])
        withdrawn = pool.submit(campaign.withdraw, "ann").result()
        assert sum(sent) >= 16
    assert {vote.annotator_id for vote in store.votes()} == {"bob"}
    assert len(store.votes()) == 32
    assert withdrawn["num_leases"] == 16
    assert set(store.annotators()) == {"bob"}


def test_a_withdrawal_waits_for_a_submission_that_is_about_to_commit(
    campaign, store, make_tasks, answer, monkeypatch: pytest.MonkeyPatch
) -> None:
    campaign.add_tasks(make_tasks(1))
    sent = answer(campaign.lease("ann", 1)[0], "s1")
    stored, go_on = threading.Event(), threading.Event()
    count_done = submitting.count_done

    def linger(*arguments: Any) -> dict[str, int]:
        stored.set()
        assert go_on.wait(60)
        return count_done(*arguments)

    monkeypatch.setattr(submitting, "count_done", linger)
    with ThreadPoolExecutor(2) as pool:
        submitted = pool.submit(campaign.submit, sent, "ann")
        assert stored.wait(60)
        withdrawn = pool.submit(campaign.withdraw, "ann")
        assert not wait([withdrawn], timeout=0.3).done
        go_on.set()
        assert submitted.result().num_total == 1
        assert withdrawn.result()["num_votes"] == 2
    assert store.votes() == []


WORKER = """
import sys, time
from align.preferences.campaign import Campaign, Submission
from align.preferences.storage.store import LabelStore
url, name = sys.argv[1:]
with LabelStore(url) as store:
    campaign, number = Campaign(store), 0
    print("ready", flush=True)
    sys.stdin.readline()
    while leases := campaign.lease(name, 4):
        answers = [{"axis": axis, "choice": "left"} for axis in leases[0].axes]
        made = {"submission_id": f"{name}-{number}", "lease_id": leases[0].lease_id, "answers": answers}
        campaign.submit(Submission.model_validate(made), name)
        print(leases[0].task.task_id, flush=True)
        number += 1
        time.sleep(0.01)  # lets the others in: SQLite gives processes no turns
"""


def start_workers(url: str, names: list[str]) -> dict[str, subprocess.Popen[str]]:
    """Processes that answer everything they get, as fast as they can; they begin together."""
    command = [sys.executable, "-W", "error", "-c", WORKER, url]
    pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE}
    workers = {name: subprocess.Popen([*command, name], cwd=ROOT, text=True, **pipes) for name in names}  # type: ignore[call-overload]
    assert [worker.stdout.readline() for worker in workers.values()] == ["ready\n"] * len(names)
    for worker in workers.values():
        worker.stdin.write("go\n")
        worker.stdin.flush()
    return workers


def finish(worker: subprocess.Popen[str]) -> list[str]:
    """The rest of what a worker acknowledged."""
    rest = worker.stdout.read().split()  # type: ignore[union-attr]
    worker.wait()
    worker.stdin.close()  # type: ignore[union-attr]
    worker.stdout.close()  # type: ignore[union-attr]
    return rest


def test_killed_workers_lose_nothing_and_their_work_goes_on(campaign, store, store_url: str, make_tasks, answer) -> None:
    """Three processes answer at the same time; two are killed in the middle of it, the third finishes."""
    tasks = make_tasks(120)
    campaign.add_tasks(tasks)
    workers = start_workers(store_url, ["ann", "bob", "cay"])
    acknowledged = {name: [worker.stdout.readline().strip() for _ in range(2)] for name, worker in workers.items()}  # type: ignore[union-attr]
    for name in ("ann", "bob"):
        workers[name].kill()
    for name, worker in workers.items():
        acknowledged[name] += finish(worker)
    assert [worker.returncode for worker in workers.values()] == [-9, -9, 0]
    pair_of = {task.task_id: task.rollouts for task in tasks}
    stored = {name: Counter[tuple[str, ...]]() for name in workers}
    for vote in store.votes():
        stored[vote.annotator_id][vote.rollout_a, vote.rollout_b] += 1
    for name, done in acknowledged.items():
        # Both axes of everything that was acknowledged, once; at most one more was stored and about to be acknowledged.
        assert len(done) == len(set(done)) >= 2
        assert {pair_of[task] for task in done} <= set(stored[name])
        assert len(stored[name]) - len(done) <= (name != "cay")
        assert set(stored[name].values()) == {2}
    # What the dead ones held waits until it expires, and then goes to others.
    left = campaign.lease("dan", 50, now=datetime.now(UTC) + timedelta(hours=1))
    assert 0 < len(left) <= 8
    for number, lease in enumerate(left):
        campaign.submit(answer(lease, f"dan-{number}"), "dan")
    check_overlap(store, 120, 1)
