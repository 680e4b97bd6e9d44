"""The admin's page without a browser: its handlers as functions, and who gets at them."""

from __future__ import annotations

import asyncio
import json
import re
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import gradio as gr
import pytest

from align.errors import Conflict, DataError, Forbidden, NotFound
from ui.web import admin, admin_assignment, admin_guideline, admin_people
from ui.web.desk import Desk, bind, require_admin
from ui.web.state import COOKIE


def in_loop(make: Callable[[], Any]) -> Any:
    """What ``make`` returns; where no event loop runs, Gradio would open two and leave them behind."""

    async def call() -> Any:
        return make()

    return asyncio.run(call())


def request_of(desk: Desk, name: str | None) -> Any:
    """An event's request as it comes from somebody's browser."""
    return SimpleNamespace(cookies={} if name is None else {COOKIE: desk.accounts.start_session(name)})


# ---------------------------------------------------------------------------------------------------------------- who asks


def test_only_admins_pass(desk: Desk) -> None:
    assert require_admin(desk.accounts, request_of(desk, "root")).annotator_id == "root"
    forged = SimpleNamespace(cookies={COOKIE: "root"})
    for request in (None, request_of(desk, None), request_of(desk, "ann"), forged):
        with pytest.raises(gr.Error, match="for admins"):
            require_admin(desk.accounts, request)


def test_a_role_that_was_taken_away_counts_at_once(desk: Desk) -> None:
    desk.accounts.set_role("ann", "admin")
    request = request_of(desk, "root")
    desk.accounts.set_role("root", "labeler")
    with pytest.raises(gr.Error):
        require_admin(desk.accounts, request)


def test_every_event_of_the_page_refuses_a_labeler(desk: Desk) -> None:
    blocks = in_loop(lambda: admin.make_blocks(desk.campaign, desk.accounts, desk.store))
    handlers = [event.fn for event in blocks.fns.values() if event.fn is not None]
    assert len(handlers) > 25
    before = desk.campaign.settings(), desk.accounts.accounts(), desk.campaign.tasks()
    for handler in handlers:
        for name in (None, "ann"):
            with pytest.raises(gr.Error, match="for admins"):
                handler(request_of(desk, name), *(SimpleNamespace(_data={"who": "ann"}) for _ in range(12)))
    assert (desk.campaign.settings(), desk.accounts.accounts(), desk.campaign.tasks()) == before


def test_no_event_can_be_called_as_an_api_and_the_page_holds_no_data(desk: Desk, label: Callable[..., None]) -> None:
    label("ann")
    blocks = in_loop(lambda: admin.make_blocks(desk.campaign, desk.accounts, desk.store))
    assert {event.api_visibility for event in blocks.fns.values()} == {"private"}
    config = json.dumps(blocks.get_config_file(), default=str)
    assert "ann" not in config.replace("annotator", "").replace("channel", "") and "root" not in config.replace("_root", "")


def test_what_fails_is_said_in_words_that_are_escaped(desk: Desk, evil: str) -> None:
    heard: dict[str, Any] = {}

    def trigger(fn: Any, inputs: Any, outputs: Any, **_: Any) -> None:
        heard.update(fn=fn, outputs=outputs)

    def work(desk: Desk, account: Any, value: str) -> list[Any]:
        raise DataError(f"no {value}")

    bind(desk, trigger, work, ["in"], ["out"], message="said")
    said, kept = heard["fn"](request_of(desk, "root"), evil)
    assert heard["outputs"] == ["said", "out"]
    assert "No &lt;img" in said and "<img" not in said and 'role="alert"' in said
    assert kept == gr.skip()


def test_the_walls_around_the_page(web: Any, tmp_path: Path) -> None:
    from fastapi.testclient import TestClient

    from ui.web.app import make_app

    app = make_app(web.make_rollouts(tmp_path / "rollouts", num_contexts=2), f"sqlite:///{tmp_path / 'labels.db'}")
    accounts = app.state.gptsim.accounts
    with TestClient(app, follow_redirects=False) as client:
        for name, role in (("root", "admin"), ("ann", "labeler")):
            accounts.redeem(accounts.invite(role, "test"), name)
        paths = ["/admin/", "/admin/config", "/admin/theme.css", "/export/votes.csv", "/export/flags.jsonl"]
        for name, status in ((None, 401), ("ann", 403), ("root", 200)):
            client.cookies.clear()
            if name:
                client.cookies.set(COOKIE, accounts.start_session(name))
            assert {path: client.get(path).status_code for path in paths} == dict.fromkeys(paths, status)
            event = {"data": ["ann"], "fn_index": 1, "session_hash": "abc"}
            joined = client.post("/admin/gradio_api/queue/join", json=event, headers={"origin": "http://testserver"})
            assert joined.status_code == status, joined.text
        assert client.get("/export/votes.xlsx").status_code == 404
        assert client.get("/export/accounts.csv").status_code == 404
        assert client.get("/export/..%2f..%2flabels.db").status_code == 404


# ------------------------------------------------------------------------------------------------------------------ people


def test_invitations_work_once_and_names_are_kept(desk: Desk, root: Any, evil: str) -> None:
    _, _, invitations, link, name = admin_people.invite_person(desk, root, "labeler", " bea ")
    token = link.split("token=")[1].split('"')[0]
    assert 'aria-label="Revoke: labeler link for bea' in invitations
    assert desk.accounts.redeem(token).annotator_id == "bea" and name == ""
    with pytest.raises(DataError, match="here already"):
        admin_people.invite_person(desk, root, "labeler", "ann")
    with pytest.raises(ValueError, match="role"):
        admin_people.invite_person(desk, root, "owner", "")
    with pytest.raises(DataError, match="a name needs"):
        admin_people.invite_person(desk, root, "labeler", evil)


def test_open_invitations_are_listed_and_revoked(desk: Desk, root: Any) -> None:
    assert "is used, expired or revoked" in admin_people.show_people(desk, root)[1]
    token = desk.accounts.invite("admin", "root")
    shown = admin_people.show_people(desk, root)[1]
    assert "whoever has it" in shown and "admin" in shown and "root" in shown and token not in shown
    (key,) = re.findall(r'data-invitation="(\w{64})"', shown)
    told, left = admin_people.revoke(desk, root, {"invitation": key})
    assert "revoked" in told and "data-invitation" not in left
    with pytest.raises(Forbidden):
        desk.accounts.redeem(token, "eve")
    for data in ({"invitation": key}, {"invitation": "' OR 1=1"}, {}):
        with pytest.raises(NotFound, match="can't be used any more"):
            admin_people.revoke(desk, root, data)


def test_roles_and_locks(desk: Desk, root: Any) -> None:
    assert "admin now" in admin_people.change_role(desk, root, "ann")[0]
    assert {account.annotator_id: account.role for account in desk.accounts.accounts()}["ann"] == "admin"
    told, people, *_ = admin_people.change_lock(desk, root, "ann")
    assert "t sign in any more" in told and "disabled" in people
    with pytest.raises(DataError, match="disabled"):
        admin_people.make_link(desk, root, "ann")
    admin_people.change_lock(desk, root, "ann")
    assert "labeler now" in admin_people.change_role(desk, root, "ann")[0]
    with pytest.raises(Conflict, match="last admin"):
        admin_people.change_lock(desk, root, "root")
    with pytest.raises(NotFound, match="nobody"):
        admin_people.open_panel(desk, root, {"who": "nobody"})


def test_withdrawal_wants_the_name_and_says_what_was_trained(desk: Desk, root: Any, label: Callable[..., None]) -> None:
    label("ann")
    for typed in ("", "an", None):
        with pytest.raises(DataError, match="nothing was deleted"):
            admin_people.withdraw(desk, root, "ann", typed)  # type: ignore[arg-type]
    model = desk.runs_dir / "first" / "reward_model"
    model.mkdir(parents=True)
    (model / "config.json").write_text('{"format": "gptsim-reward-model"}')
    (model / "votes_used.json").write_text(json.dumps([vote.vote_id for vote in desk.store.votes()][:1]))
    told, people, *_ = admin_people.withdraw(desk, root, "ann", "ann")
    assert "2 votes" in told and "1 flags" in told
    assert str(model) in told and "1 of these votes" in told
    assert "ann" not in people.replace("annotator", "") and desk.store.votes() == []


def test_withdrawal_stands_even_where_models_cannot_be_searched(desk: Desk, root: Any, label: Callable[..., None]) -> None:
    label("ann")
    told = admin_people.withdraw(desk, root, "ann", "ann")[0]
    assert "is not known" in told and "not a folder" in told
    assert desk.store.votes() == []


# -------------------------------------------------------------------------------------------------------------- assignment


def test_an_axis_is_paused_and_resumed(desk: Desk, root: Any) -> None:
    told, table = admin_assignment.pause_axis(desk, root, {"axis": "spill"})
    assert "Nobody is asked about spill" in told and "Resume" in table
    assert {lease.axes for lease in desk.campaign.lease("ann", 2)} == {("care",)}
    admin_assignment.pause_axis(desk, root, {"axis": "spill"})
    assert {lease.axes for lease in desk.campaign.lease("ann", 2)} == {("spill", "care")}
    with pytest.raises(NotFound):
        admin_assignment.pause_axis(desk, root, {"axis": "nonsense"})


def test_settings_are_saved_and_axes_stay(desk: Desk, root: Any) -> None:
    admin_assignment.pause_axis(desk, root, {"axis": "care"})
    shown = admin_assignment.save_form(desk, root, 3, 5, "hybrid", 0.4, 0.1, 0.2, "pairs", True)
    now = desk.campaign.settings()
    assert (now.overlap, now.lease_s, now.policy, now.random_share) == (3, 300, "hybrid", 0.4)
    assert (now.gold_share, now.catch_share, now.blur) == (0.1, 0.2, True)
    assert [axis.paused for axis in now.axes] == [False, True]
    assert shown[1:] == admin_assignment.show_form(desk, root) == [3, 5, "hybrid", 0.4, 0.1, 0.2, "pairs", True]


@pytest.mark.parametrize(
    ("place", "value", "message"),
    [
        (0, 0, "overlap"),
        (0, None, "overlap"),
        (1, 0, "lease_s"),
        (1, None, "lease_s"),
        (2, "mine", "policy"),
        (3, 0.1, "unbiased"),
    ],
)
def test_settings_that_make_no_sense_are_refused(desk: Desk, root: Any, place: int, value: Any, message: str) -> None:
    values: list[Any] = [1, 10, "hybrid", 0.2, 0.05, 0.05, "pairs", False]
    values[place] = value
    before = desk.campaign.settings()
    with pytest.raises(DataError, match=message):
        admin_assignment.save_form(desk, root, *values)
    assert desk.campaign.settings() == before


# --------------------------------------------------------------------------------------------------------------- guideline


def test_guideline_is_published_in_versions_and_sanitised(desk: Desk, root: Any, evil: str) -> None:
    text = f"# Look\n\n{evil} <script>alert(1)</script> [go](javascript:alert(1)) [docs](https://example.org)"
    (preview,) = admin_guideline.show_preview(desk, root, text)
    assert "<h1>Look</h1>" in preview and 'href="https://example.org"' in preview
    assert "<img" not in preview and "<script" not in preview and 'href="javascript' not in preview
    assert "Version 1 is published" in admin_guideline.publish_text(desk, root, text)[0]
    assert "already" in admin_guideline.publish_text(desk, root, text)[0]
    admin_guideline.publish_text(desk, root, "two")
    assert admin_guideline.show_newest(desk, root) == ["two"]
    assert admin_guideline.load_version(desk, root, {"version": "1"})[1] == text
    with pytest.raises(NotFound):
        admin_guideline.load_version(desk, root, {})
    with pytest.raises(DataError, match="guideline needs"):
        admin_guideline.publish_text(desk, root, " ")
