"""The admin's page as an admin meets it: the real app, a real browser."""

from __future__ import annotations

import random
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from align.preferences.campaign import Answer, Break, Submission
from align.preferences.votes.schema import read_votes
from ui.web import admin

AXES = ("spill=Which one spills less?", "care=Which one takes more care?")
TABS = ("People", "Assignment", "Guideline", "Checks", "Agreement", "Throughput", "Export")
READY = {
    "People": "#people table",
    "Assignment": "#axes table",
    "Guideline": "#versions :is(table, .empty)",
    "Checks": "#checks p",
    "Agreement": "#agreement figure svg",
    "Throughput": "#flags table",
    "Export": "#downloads table",
}
ATTACK = "<img src=x onerror=\"document.title='broken in'\"> ${document.title='broken in'} {{value}}"
STILL = "document.getAnimations().every((one) => one.playState !== 'running' || one.effect.getTiming().iterations === Infinity)"
"""Nothing fades in or out any more, which would change its contrast; hidden signs of progress turn for ever."""
Open = Callable[..., Any]


def label(server: Any, name: str, num_tasks: int, rng: random.Random) -> None:
    """This person answers, mostly in favour of the lower rollout id, marks breaks and flags a clip."""
    server.sign_in(name)
    for number in range(num_tasks):
        lease = server.campaign.lease(name, 1)[0]
        better = min(range(2), key=lambda place: lease.task.rollouts[lease.shown[place]])
        choice = rng.choice(["tie", "left", "right"]) if rng.random() < 0.3 else ("left", "right")[better]
        answers = tuple(Answer(axis=axis, choice=choice, response_time_s=2.0) for axis in lease.axes)
        breaks = (
            (Break(position=0, time_s=rng.uniform(0.2, 0.6), severity=2),) if number % 2 else (Break(position=0, none=True),)
        )
        ids = {"submission_id": f"{name}-{number}", "lease_id": lease.lease_id, "comment": ATTACK}
        server.campaign.submit(Submission(**ids, answers=answers, breaks=breaks), name)
        if number == 0:
            server.campaign.flag(f"flag-{name}", lease.lease_id, 0, "harm", True, name, ATTACK)


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory, web: Any) -> Iterator[Any]:
    """A campaign in which three people have answered; nobody is disturbed by what a test does to settings."""
    rollouts = web.make_rollouts(tmp_path_factory.mktemp("admin") / "rollouts", 4, 3)
    with web.serve_app(rollouts, f"sqlite:///{rollouts.parent}/labels.db", AXES, overlap=100) as running:
        rng = random.Random(0)
        for name in ("ann", "bea", "carl"):
            label(running, name, 10, rng)
        running.campaign.publish_guideline("# First\n\nLook closely.", "boss")
        yield running


@pytest.fixture
def open_page(browser: Any, server: Any) -> Iterator[Open]:
    """Opens the page as an admin; nobody may meet an error of a script, a refused resource or a way out of this machine."""
    contexts: list[Any] = []
    errors: list[str] = []

    def open_one(width: int = 1280, **options: Any) -> Any:
        context = browser.new_context(viewport={"width": width, "height": 900}, **options)
        contexts.append(context)
        context.add_cookies([{"name": "gptsim_session", "value": server.sign_in("boss", "admin"), "url": server.url}])
        page = context.new_page()
        page.set_default_timeout(30_000)
        page.on("pageerror", lambda error: errors.append(str(error)))
        page.on("console", lambda line: errors.append(f"{line.text} {line.location}") if line.type == "error" else None)
        own = (server.url, "data:", "blob:")
        page.on("request", lambda request: None if request.url.startswith(own) else errors.append(request.url))
        page.goto(f"{server.url}/admin/", wait_until="commit")
        page.wait_for_selector(READY["People"])
        return page

    yield open_one
    for context in contexts:
        assert all("broken in" not in page.title() for page in context.pages)
        context.close()
    assert errors == []


def go_to(page: Any, tab: str) -> None:
    """Open a tab; on a narrow screen it may stand in the menu behind the dots."""
    button = page.get_by_role("tab", name=tab, exact=True)
    if button.count() and button.first.is_visible():
        button.first.click()
    else:
        page.locator(".overflow-menu > button").click()
        page.locator(".overflow-dropdown button", has_text=tab).click()
    page.wait_for_selector(READY[tab], state="visible")


def wait_for_text(field: Any, start: str) -> None:
    """Until the field's text begins so."""
    field.page.wait_for_function("([field, start]) => field.value.startsWith(start)", arg=[field.element_handle(), start])


def told(page: Any) -> str:
    return str(page.wait_for_selector("#message .notice").inner_text())


@pytest.mark.slow
@pytest.mark.parametrize(("scheme", "width"), [("light", 1280), ("dark", 1280), ("light", 375), ("dark", 375)])
def test_axe_finds_nothing_serious_on_any_tab(open_page: Open, web: Any, scheme: str, width: int) -> None:
    page = open_page(width, color_scheme=scheme)
    for tab in TABS:
        go_to(page, tab)
        if tab == "People":
            page.get_by_role("button", name="Manage: bea").click()
            page.get_by_role("button", name="Withdraw this person").click()
            page.get_by_role("button", name="Delete everything").click()
            assert "Nothing was deleted" in told(page)
        if tab == "Checks":
            page.get_by_role("button", name="Find pairs").click()
            page.wait_for_selector("#agreed :is(table, .empty)")
        page.wait_for_function(STILL)
        assert [rule for rule in web.find_barriers(page) if rule["impact"] in ("serious", "critical")] == [], tab
        assert page.evaluate("document.documentElement.scrollWidth") <= width, tab


def test_an_invited_person_joins_with_the_link(open_page: Open, browser: Any, server: Any) -> None:
    page = open_page()
    page.get_by_label("Name (optional)").fill("dora")
    page.get_by_role("button", name="Make an invitation link").click()
    field = page.locator("#invitation-link")
    field.wait_for()
    wait_for_text(field, f"{server.url}/join?token=")  # the page completes it with its own address
    link = field.input_value()
    guest = browser.new_context()
    joining = guest.new_page()
    joining.goto(link, wait_until="commit")
    joining.get_by_role("button", name="Join").click(no_wait_after=True)
    joining.wait_for_url(f"{server.url}/label**", wait_until="commit")
    guest.close()
    page.get_by_role("button", name="Refresh").click()
    page.wait_for_selector("#people tr:has-text('dora'):has-text('labeler')")
    assert open_page().locator("#invitation-link").count() == 0  # shown once


def test_a_person_is_disabled_and_everything_of_theirs_deleted(open_page: Open, server: Any) -> None:
    label(server, "eve", 2, random.Random(1))
    page = open_page()
    page.get_by_role("button", name="Manage: eve").click()
    page.get_by_role("button", name="Disable").click()
    assert "can't sign in any more" in told(page)
    page.wait_for_selector("#people tr:has-text('eve') .badge:has-text('disabled')")
    page.get_by_role("button", name="Withdraw this person").click()
    page.get_by_label("Type the name to delete").fill("eve")
    page.get_by_role("button", name="Delete everything").click()
    page.wait_for_selector("#message .notice:has-text('4 votes')")
    assert page.locator("#people tr", has_text="eve").count() == 0
    assert {vote.annotator_id for vote in server.app.state.gptsim.store.votes()} == {"ann", "bea", "carl"}


def test_an_axis_is_paused_by_keyboard(open_page: Open, server: Any) -> None:
    page = open_page()
    tab = page.get_by_role("tab", name="Assignment")
    tab.focus()
    page.keyboard.press("Enter")
    pause = page.get_by_role("button", name="Pause: care")
    pause.wait_for()
    for _ in range(20):
        page.keyboard.press("Tab")
        if pause.evaluate("button => button === document.activeElement"):
            break
    page.keyboard.press("Enter")
    resume = page.get_by_role("button", name="Resume: care")
    resume.wait_for()
    assert [axis.paused for axis in server.campaign.settings().axes] == [False, True]
    page.wait_for_function("document.activeElement.textContent === 'Resume'")  # the table was drawn anew around the focus
    page.keyboard.press("Enter")
    pause.wait_for()
    assert [axis.paused for axis in server.campaign.settings().axes] == [False, False]


def test_settings_are_saved_and_never_less_than_a_fifth_at_random(open_page: Open, server: Any) -> None:
    page = open_page()
    go_to(page, "Assignment")
    page.get_by_role("radio", name="Hybrid").check()
    slider = page.locator("input[type=range]").first
    assert slider.get_attribute("min") == "0.2"
    number = page.get_by_label("Overlap")
    number.fill("7")
    number.blur()
    page.get_by_role("button", name="Save").click()
    assert "Saved" in told(page)
    settings = server.campaign.settings()
    assert (settings.overlap, settings.policy, settings.random_share) == (7, "hybrid", 0.2)


def test_a_guideline_is_previewed_and_published(open_page: Open, server: Any) -> None:
    page = open_page()
    go_to(page, "Guideline")
    editor = page.get_by_label("Text (Markdown)")
    wait_for_text(editor, "# First")
    editor.fill(f"# Second\n\n{ATTACK} <script>document.title='broken in'</script>")
    page.wait_for_selector("#preview h1:has-text('Second')")
    assert page.locator("#preview :is(img, script)").count() == 0
    page.get_by_role("button", name="Publish").click()
    assert "Version 2 is published" in told(page)
    assert server.campaign.guideline().body.startswith("# Second")
    page.get_by_role("button", name="Edit: version 1").click()
    wait_for_text(editor, "# First")


def test_a_pair_that_people_agree_on_becomes_gold(open_page: Open, server: Any) -> None:
    page = open_page()
    go_to(page, "Checks")
    page.get_by_label("People, at least").fill("2")
    page.get_by_role("button", name="Find pairs").click()
    row = page.locator("#agreed tbody tr").first
    row.wait_for()
    clip = page.request.get(server.url + row.get_by_role("link", name="clip a").get_attribute("href"))
    assert clip.status == 200 and clip.headers["content-type"] == "video/mp4"
    row.get_by_role("button").click()
    assert "gold now" in told(page)
    page.wait_for_selector("#checks table")
    assert [task.selection for task in server.campaign.tasks()].count("gold") == 1


def test_agreement_and_flags_are_shown_and_attacks_are_text(open_page: Open) -> None:
    page = open_page()
    go_to(page, "Agreement")
    assert page.locator("#agreement figure svg").count() == 6  # alpha, skill, left share, two rankings, break-points
    assert page.locator("#agreement tr", has_text="ann").count() >= 1
    go_to(page, "Throughput")
    assert page.locator("#flags td", has_text=ATTACK).count() == 3
    assert page.locator("img[src=x]").count() == 0


@pytest.mark.parametrize("form", ["csv", "jsonl", "parquet"])
def test_exports_are_downloaded(open_page: Open, server: Any, tmp_path: Path, form: str) -> None:
    page = open_page()
    go_to(page, "Export")
    with page.expect_download() as waiting:
        page.get_by_role("link", name=f"votes as {form}").click()
    assert waiting.value.suggested_filename == f"votes.{form}"
    path = tmp_path / f"votes.{form}"
    waiting.value.save_as(path)
    assert read_votes(path) == server.app.state.gptsim.store.votes()


def test_a_labeler_is_refused(browser: Any, server: Any) -> None:
    context = browser.new_context()
    context.add_cookies([{"name": "gptsim_session", "value": server.sign_in("ann"), "url": server.url}])
    page = context.new_page()
    answer = page.goto(f"{server.url}/admin/")
    assert answer.status == 403 and "for admins" in page.inner_text("body")
    assert page.request.get(f"{server.url}/export/votes.csv").status == 403
    context.close()


def test_an_admin_who_loses_the_role_can_do_nothing_more(open_page: Open, server: Any) -> None:
    server.sign_in("second", "admin")
    page = open_page()
    go_to(page, "Assignment")
    accounts = server.app.state.gptsim.accounts
    accounts.set_role("boss", "labeler")
    try:
        before = server.campaign.settings()
        event = {"data": [], "fn_index": 0, "session_hash": "x"}
        status = page.request.post(f"{server.url}/admin/gradio_api/queue/join", data=event).status
        assert status == 403 and server.campaign.settings() == before
    finally:
        accounts.set_role("boss", "admin")


@pytest.fixture
def ended_page(browser: Any, server: Any) -> Iterator[Any]:
    """The page of an admin whose session ends in this moment, with a clock that tests turn."""
    context = browser.new_context()
    token = server.sign_in("boss", "admin")
    context.add_cookies([{"name": "gptsim_session", "value": token, "url": server.url}])
    page = context.new_page()
    page.set_default_timeout(60_000)  # a tick that came before the page listened comes again after REFRESH_S only
    page.clock.install()
    page.goto(f"{server.url}/admin/", wait_until="commit")
    page.wait_for_selector(READY["People"])
    server.app.state.gptsim.accounts.sign_out(token)
    yield page
    context.close()


def test_an_ended_session_is_said_once_and_what_was_pressed_is_done_after_signing_in(ended_page: Any, server: Any) -> None:
    asked: list[str] = []
    ended_page.on("request", lambda request: asked.append(request.url) if "/queue/" in request.url else None)
    ended_page.get_by_label("Name (optional)").fill("gustav")
    ended_page.clock.run_for(admin.REFRESH_S * 1000 + 100)
    alert = ended_page.get_by_role("alert")
    alert.get_by_text("Your session has ended").wait_for()
    assert alert.get_by_role("link").get_attribute("href") == "/sign-in?next=/admin/"
    num_asked = len(asked)
    ended_page.get_by_role("button", name="Make an invitation link").click()
    ended_page.clock.run_for(20 * admin.REFRESH_S * 1000)
    assert len(asked) == num_asked
    assert ended_page.get_by_role("alert").count() == 1
    assert ended_page.get_by_label("Name (optional)").input_value() == "gustav"

    token = server.sign_in("boss", "admin")
    ended_page.context.add_cookies([{"name": "gptsim_session", "value": token, "url": server.url}])
    ended_page.evaluate("window.dispatchEvent(new Event('focus'))")
    ended_page.wait_for_selector("#invitations tr:has-text('gustav')")
    assert ended_page.get_by_role("alert").count() == 0


@pytest.mark.parametrize(("failure", "outcome"), [("refused", 403), ("broken off", "TypeError")])
def test_a_call_that_fails_though_all_is_well_is_given_up(browser: Any, server: Any, failure: str, outcome: int | str) -> None:
    context = browser.new_context()
    context.add_cookies([{"name": "gptsim_session", "value": server.sign_in("boss", "admin"), "url": server.url}])
    page = context.new_page()
    page.goto(f"{server.url}/admin/", wait_until="commit")
    page.wait_for_selector(READY["People"])
    asked: list[str] = []

    def fail(route: Any) -> None:
        asked.append(route.request.url)
        if failure == "refused":
            route.fulfill(status=403, json={"error": "no"})
        else:
            route.abort()

    page.route("**/gradio_api/queue/join?mine", fail)
    ended = page.evaluate(
        """() => Promise.race([
          fetch('/admin/gradio_api/queue/join?mine', { method: 'POST', body: '{}' })
            .then(({ status }) => status, ({ name }) => name),
          new Promise((resolve) => setTimeout(resolve, 20000, 'goes on for ever')),
        ])"""
    )
    assert (ended, len(asked)) == (outcome, 3)
    assert page.locator("#session").count() == 0
    context.close()


def test_links_are_revoked_and_gold_is_retired_by_buttons(open_page: Open, server: Any) -> None:
    accounts = server.app.state.gptsim.accounts
    token = accounts.invite("labeler", "boss", annotator_id="hanna")
    page = open_page()
    page.get_by_role("button", name="Revoke: labeler link for hanna").click()
    assert "revoked" in told(page)
    page.wait_for_selector("#invitations:not(:has-text('hanna'))")
    assert accounts.invitation(token) is None
    pair = next(pair for pair in server.app.state.gptsim.store.pairs() if pair.rollout_a != pair.rollout_b)
    go_to(page, "Checks")
    page.get_by_label("Pair id").fill(pair.pair_id)
    page.get_by_label("Expected answers").fill("spill=tie")
    page.get_by_role("button", name="Make it gold").last.click()
    page.get_by_role("button", name=f"Retire: {pair.pair_id}").click()
    page.wait_for_selector(f"#checks:not(:has-text('{pair.pair_id}'))")
    assert "checks nobody" in told(page)
