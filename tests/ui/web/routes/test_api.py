"""What the labeler's page can ask for, and what it never learns."""

from __future__ import annotations

import json
import uuid
from collections.abc import Callable
from typing import Any

import pytest

SECRETS = (
    "roll-",
    "model-x7",
    "adapter-q9",
    "4711",
    "metadata",
    "labels.db",
    "videos/",
    "gold",
    "catch",
    "selection",
    "sha256",
)
"""Parts of ids, of file names, a seed, why a task was chosen."""
EVIL = (
    "'; DROP TABLE votes; --",
    '" OR 1=1',
    "<script>alert(1)</script>",
    "{{7*7}}",
    "%s%n",
    "=HYPERLINK(1)",
    "\u202eabc",
    "../../etc/passwd",
    "Robert'); DELETE FROM leases WHERE ('1'='1",
)


@pytest.fixture
def worker(person: Callable[..., Any], request: pytest.FixtureRequest) -> Any:
    """A labeler who has done nothing yet, one for each test."""
    return person(f"w{abs(hash(request.node.nodeid)) % 10**9}")


def lease(client: Any, count: int = 1) -> Any:
    answer = client.post("/api/lease", json={"count": count})
    assert answer.status_code == 200, answer.text
    return answer.json()["tasks"]


def answer_to(task: Any, **fields: Any) -> dict[str, Any]:
    answers = [{"axis": axis["name"], "choice": "left", "response_time_s": 1.5} for axis in task["axes"]]
    return {"submission_id": str(uuid.uuid4()), "lease_id": task["lease_id"], "answers": answers} | fields


def votes_of(state: Any, client: Any) -> list[Any]:
    name = client.get("/api/me").json()["annotator_id"]
    return [vote for vote in state.store.votes() if vote.annotator_id == name]


def test_me(worker: Any) -> None:
    me = worker.get("/api/me").json()
    assert me["role"] == "labeler"
    assert me["progress"] == {"num_today": 0, "num_total": 0, "num_open_tasks": 9}
    assert me["settings"] == {"mode": "pairs", "blur": False}


def test_a_task_has_what_the_page_needs(worker: Any) -> None:
    (task,) = lease(worker)
    assert set(task) == {"lease_id", "expires_at", "task_text", "context_text", "warn", "axes", "clips"}
    assert task["task_text"] == "Pour the <script>alert(1)</script> tea"
    assert task["context_text"] == "Frames 1 to 2 of 4 are given and alike in every clip."
    assert task["axes"] == [
        {"name": "spill", "question": "Which one spills less?"},
        {"name": "care", "question": "Which one is better: care?"},
    ]
    assert task["warn"] is False
    assert [set(clip) for clip in task["clips"]] == [{"url", "fps_hz", "num_frames", "width", "height"}] * 2
    assert {clip["width"] for clip in task["clips"]} == {128}
    assert all(worker.get(clip["url"]).status_code == 200 for clip in task["clips"])


def test_an_answer_is_stored_with_the_side_it_was_given_on(worker: Any, state: Any) -> None:
    (task,) = lease(worker)
    done = worker.post("/api/submit", json=answer_to(task, comment="fine", guideline_version="3"))
    assert done.json()["stored"] is True
    assert done.json()["progress"]["num_today"] == 1
    votes = votes_of(state, worker)
    assert [vote.axis for vote in votes] == ["spill", "care"]
    for vote in votes:
        assert vote.vote == vote.shown_left
        left = vote.rollout_a if vote.shown_left == "a" else vote.rollout_b
        assert state.media.url(left, 0) == task["clips"][0]["url"]
        assert (vote.comment, vote.guideline_version, vote.response_time_s) == ("fine", "3", 1.5)


def test_sending_twice_stores_once_and_another_answer_under_the_same_id_is_refused(worker: Any, state: Any) -> None:
    (task,) = lease(worker)
    body = answer_to(task)
    assert [worker.post("/api/submit", json=body).status_code for _ in range(3)] == [200] * 3
    assert len(votes_of(state, worker)) == 2
    assert worker.post("/api/submit", json=body | {"comment": "other"}).status_code == 409
    assert len(votes_of(state, worker)) == 2


def test_nobody_touches_another_persons_work(worker: Any, labeler: Any, admin: Any, state: Any) -> None:
    (task,) = lease(worker)
    flag = {"flag_id": "f-other", "lease_id": task["lease_id"], "position": 0, "kind": "harm", "raised": True}
    for other in (labeler, admin):
        before = len(state.store.votes()), len(state.campaign.flags())
        assert other.post("/api/submit", json=answer_to(task)).status_code == 403
        assert other.post("/api/flag", json=flag).status_code == 403
        assert other.post("/api/return", json={"lease_id": task["lease_id"]}).status_code == 403
        assert (len(state.store.votes()), len(state.campaign.flags())) == before
    assert worker.post("/api/submit", json=answer_to(task)).status_code == 200


def test_another_persons_submission_id_is_no_key_to_their_answers(worker: Any, labeler: Any, state: Any) -> None:
    (mine,), (theirs,) = lease(worker), lease(labeler)
    body = answer_to(mine)
    assert worker.post("/api/submit", json=body).status_code == 200
    taken = labeler.post("/api/submit", json=body | {"lease_id": theirs["lease_id"]})
    assert taken.status_code == 409
    assert len(votes_of(state, worker)) == 2


@pytest.mark.parametrize("lease_id", ["nope", str(uuid.UUID(int=0)), *EVIL])
def test_an_invented_lease_is_404(worker: Any, lease_id: str) -> None:
    assert worker.post("/api/return", json={"lease_id": lease_id}).status_code == 404
    body = {"submission_id": "x", "lease_id": lease_id, "answers": [{"axis": "spill", "choice": "tie"}]}
    assert worker.post("/api/submit", json=body).status_code == 404


def test_work_is_handed_back(worker: Any) -> None:
    (task,) = lease(worker)
    assert worker.post("/api/return", json={"lease_id": task["lease_id"]}).json() == {"returned": True}


@pytest.mark.parametrize("text", EVIL)
def test_text_is_only_text(worker: Any, state: Any, text: str) -> None:
    (task,) = lease(worker)
    breaks = [{"position": 0, "time_s": 0.25, "frame_idx": 2, "category": text[:60], "severity": 2}]
    body = answer_to(task, comment=text, breaks=breaks, submission_id=f"{text}-{uuid.uuid4()}")
    assert worker.post("/api/submit", json=body).status_code == 200
    assert {vote.comment for vote in votes_of(state, worker)} == {text}
    flag = {"flag_id": f"{text}-{uuid.uuid4()}", "lease_id": task["lease_id"], "position": 1, "kind": "harm", "raised": True}
    assert worker.post("/api/flag", json=flag | {"comment": text}).json() == {"stored": True}
    assert state.campaign.flags()[-1].comment == text
    taken_back = flag | {"flag_id": str(uuid.uuid4()), "raised": False}
    assert worker.post("/api/flag", json=taken_back).status_code == 200
    assert len(state.campaign.tasks()) == 10  # nine pairs and a catch trial


def bad_bodies() -> list[Any]:
    """Changes to a good body that make it bad."""
    answer = {"axis": "spill", "choice": "left"}
    return [
        {"answers": []},
        {"answers": [answer] * 2},
        {"answers": [answer] * 2000},
        {"answers": [{"axis": text, "choice": "left"} for text in EVIL]},
        {"answers": [answer | {"choice": EVIL[0]}]},
        {"answers": [answer | {"choice": "pass"}]},
        {"answers": [{"axis": "spill", "order": [[0], [1]]}]},
        {"answers": [answer | {"order": [[0], [1]]}]},
        {"answers": [answer | {"response_time_s": -1}]},
        {"answers": [answer | {"annotator_id": "ada"}]},
        {"answers": answer},
        {"answers": None},
        {"comment": "x" * 4001},
        {"comment": "nul\x00"},
        {"comment": "\ud800"},
        {"comment": ["x"]},
        {"submission_id": ""},
        {"submission_id": "x" * 300},
        {"submission_id": "a\x00b"},
        {"submission_id": None},
        {"lease_id": {"$ne": None}},
        {"guideline_version": "v" * 300},
        {"breaks": [{"position": 2, "none": True}]},
        {"breaks": [{"position": -1}]},
        {"breaks": [{"position": 0, "time_s": 1, "severity": 4, "category": "x"}]},
        {"breaks": [{"position": 0, "time_s": -1, "severity": 1, "category": "x"}]},
        {"breaks": [{"position": 0, "none": True}] * 500},
        {"annotator_id": "ada"},
        {"simulated": True},
        {"created_at": "2020-01-01"},
    ]


@pytest.mark.parametrize("change", bad_bodies(), ids=lambda change: json.dumps(change)[:50])
def test_bad_answers_are_refused_and_nothing_is_stored(labeler: Any, state: Any, change: Any) -> None:
    (task,) = lease(labeler)
    before = len(state.store.votes()), len(state.campaign.breakpoints())
    content = json.dumps(answer_to(task) | change)
    answer = labeler.post("/api/submit", content=content, headers={"Content-Type": "application/json"})
    assert answer.status_code in (400, 413, 422)
    assert set(answer.json()) == {"error"}
    assert (len(state.store.votes()), len(state.campaign.breakpoints())) == before
    assert not [secret for secret in SECRETS if secret in answer.text]


def test_nothing_a_labeler_sees_tells_what_made_a_clip(worker: Any, state: Any) -> None:
    before, seen = state.campaign.settings(), []
    state.campaign.save_settings(before.model_copy(update={"catch_share": 1.0, "gold_share": 0.0}))
    for _ in range(11):
        for task in lease(worker, 4):
            flag = {
                "flag_id": str(uuid.uuid4()),
                "lease_id": task["lease_id"],
                "position": 0,
                "kind": "broken",
                "raised": False,
            }
            answers = [
                worker.post("/api/flag", json=flag),
                worker.post("/api/submit", json=answer_to(task)),
                worker.post("/api/submit", json=answer_to(task, answers=[])),
                worker.post("/api/submit", json=answer_to(task, answers=[{"axis": "x", "choice": "left"}])),
                worker.post("/api/return", json={"lease_id": "x"}),
                *(worker.head(clip["url"]) for clip in task["clips"]),
            ]
            seen += [json.dumps(task), *(f"{answer.headers} {answer.text}" for answer in answers)]
    pages = [
        "/",
        "/label/",
        "/label/config",
        "/label/gradio_api/info",
        "/label/theme.css",
        "/api/me",
        "/media/x.mp4",
        "/static/label.js",
    ]
    seen += [f"{answer.headers} {answer.text}" for answer in map(worker.get, pages[:4] + pages[5:])]
    assert {vote.selection for vote in votes_of(state, worker)} == {"random", "catch"}  # catch trials were among them
    found = {secret for secret in SECRETS if any(secret in text.replace("randomUUID", "") for text in seen)}
    assert found == set()


def test_flagged_clips_come_with_a_warning(worker: Any, person: Callable[..., Any], state: Any) -> None:
    tasks = lease(worker, 9)
    flag = {"flag_id": str(uuid.uuid4()), "lease_id": tasks[0]["lease_id"], "position": 0, "kind": "harm", "raised": True}
    assert worker.post("/api/flag", json=flag).status_code == 200
    flagged = tasks[0]["clips"][0]["url"].split("/")[-1]
    rollout = next(name for name in state.media.clips if state.media.url(name, 0).endswith(flagged))
    addresses = {state.media.url(rollout, place) for place in range(4)}
    for task in lease(person("second"), 9):
        assert task["warn"] == bool(addresses & {clip["url"] for clip in task["clips"]})
    back = flag | {"flag_id": str(uuid.uuid4()), "raised": False}
    assert worker.post("/api/flag", json=back).status_code == 200
    assert not any(task["warn"] for task in lease(person("second"), 9))


def test_the_guideline_is_html_without_scripts(worker: Any, state: Any) -> None:
    text = (
        "# Spills\n\nLook at the **glass**.\n\n<script>alert(1)</script>\n\n<img src=x onerror=alert(1)>\n\n"
        '[bad](javascript:alert(1)) [data](data:text/html,x) [good](https://example.org "a\'b")\n\n'
        "| a | b |\n|---|---|\n| 1 | 2 |"
    )
    version = state.campaign.publish_guideline(text, "ada")
    shown = worker.get("/api/me").json()["guideline"]
    assert shown["version"] == version
    html = shown["html"]
    assert "<h1>Spills</h1>" in html and "<strong>glass</strong>" in html and "<table>" in html
    assert "<script" not in html and "<img" not in html and "&lt;script&gt;" in html
    assert 'href="javascript' not in html and 'href="data' not in html
    assert '<a href="https://example.org" title="a\'b" target="_blank" rel="noopener noreferrer">' in html
