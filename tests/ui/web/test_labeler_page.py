"""The labeler's page as a labeler meets it: the real app, a real browser, the keyboard."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

AXES = ("spill=Which one spills less?", "care=Which one takes more care?")
HIDDEN = ("model-x7", "adapter-q9", "roll-", "ctx-", "rollout_id", '"selection"')
CURRENT = ".g-stage.is-current"
Open = Callable[..., Any]
SOURCES = f"[...document.querySelectorAll('{CURRENT} video')].map((video) => video.src).join()"
STILL = "document.getAnimations().every((one) => one.playState !== 'running' || one.effect.getTiming().iterations === Infinity)"
"""Nothing fades in or out any more, which would change its contrast."""


@pytest.fixture(scope="module")
def rollouts(tmp_path_factory: pytest.TempPathFactory, web: Any) -> Path:
    """Six contexts with four clips each."""
    return web.make_rollouts(tmp_path_factory.mktemp("page") / "rollouts", 6, 4)


@pytest.fixture(scope="module")
def server(rollouts: Path, web: Any) -> Iterator[Any]:
    """One app for all tests about pairs; everybody judges every task."""
    with web.serve_app(rollouts, f"sqlite:///{rollouts.parent}/labels.db", AXES, overlap=100) as running:
        settings = running.campaign.settings()
        running.campaign.save_settings(settings.model_copy(update={"catch_share": 0.0}))
        yield running


@pytest.fixture(scope="module")
def profile(browser: Any) -> Iterator[Any]:
    """One profile of the browser for all tests, emptied after each: its cache saves a good part of every start."""
    context = browser.new_context(viewport={"width": 1280, "height": 800})
    yield context
    context.close()


@pytest.fixture
def open_page(browser: Any, profile: Any, server: Any) -> Iterator[Open]:
    """Opens the page as an annotator; another server or options have a profile of their own. No script may fail."""
    own: list[Any] = []
    errors: list[str] = []

    def open_one(name: str, at: Any = server, read: bool = True, prepare: Callable[[Any], object] = id, **options: Any) -> Any:
        context = profile
        if options or at is not server:
            context = browser.new_context(viewport={"width": 1280, "height": 800}, **options)
            own.append(context)
        context.add_cookies([{"name": "gptsim_session", "value": at.sign_in(name), "url": at.url}])
        guideline = at.campaign.guideline()
        page = context.new_page()
        if guideline and read:
            page.add_init_script(f"localStorage.setItem('gptsim.guideline/{name}', '{guideline.version}')")
        page.set_default_timeout(40_000)
        page.on("pageerror", lambda error: errors.append(str(error)))
        prepare(page)
        page.goto(f"{at.url}/label", wait_until="commit")
        page.wait_for_selector(CURRENT)
        return page

    yield open_one
    for context in own:
        context.close()
    empty_profile(profile, server.url)
    assert errors == []


def empty_profile(profile: Any, url: str) -> None:
    """Close its pages, and forget who was signed in and what they left."""
    for page in profile.pages[1:]:
        page.close()
    for page in profile.pages:
        page.goto(f"{url}/healthz")  # of the same origin, and without scripts that could write anew
        page.evaluate("localStorage.clear()")
        page.close()
    profile.clear_cookies()


def wait_until_saved(page: Any, name: str = "") -> None:
    """Until the outbox is empty, or that of one annotator."""
    prefix = f"gptsim.outbox/{name}{'/' if name else ''}"
    page.wait_for_function(f"!Object.keys(localStorage).some((key) => key.startsWith('{prefix}'))")


def lease_of(page: Any) -> str:
    """What identifies the task on the screen: the addresses of its clips."""
    return str(page.evaluate(SOURCES))


def wait_until_other(page: Any, before: str) -> None:
    """Until another task is on the screen; between two there may be none for a moment, and keys pressed then mean nothing."""
    page.wait_for_function(f"before => ![before, ''].includes({SOURCES})", arg=before)


def press_until_next(page: Any, *keys: str) -> None:
    page.wait_for_selector(CURRENT)
    before = lease_of(page)
    for key in keys:
        page.keyboard.press(key)
    wait_until_other(page, before)


def votes_of(server: Any, name: str) -> list[Any]:
    return [vote for vote in server.app.state.gptsim.store.votes() if vote.annotator_id == name]


def said_by(server: Any, name: str) -> list[tuple[str, str]]:
    """Axis and answer in terms of the screen, corrections applied."""
    votes = votes_of(server, name)
    gone = {vote.supersedes for vote in votes}
    other = {"a": "b", "b": "a"}

    def place(vote: Any) -> str:
        if vote.vote not in other:
            return str(vote.vote)
        return "left" if vote.vote == vote.shown_left else "right"

    return sorted((vote.axis, place(vote)) for vote in votes if vote.vote_id not in gone)


def test_a_pair_is_answered_axis_by_axis_and_the_next_one_plays_at_once(open_page: Open, server: Any) -> None:
    page = open_page("flow")
    assert page.text_content(".g-question") == "Which one spills less?"
    page.keyboard.press("1")
    assert page.text_content(".g-question") == "Which one takes more care?"
    press_until_next(page, "2")
    page.wait_for_function(f"[...document.querySelectorAll('{CURRENT} video')].every((video) => video.currentTime > 0)")
    wait_until_saved(page)
    assert said_by(server, "flow") == [("care", "right"), ("spill", "left")]
    assert all(0 < vote.response_time_s < 60 for vote in votes_of(server, "flow"))
    times = {vote.axis: vote.response_time_s for vote in votes_of(server, "flow")}
    assert times["spill"] <= times["care"]
    page.wait_for_function("document.querySelector('.g-progress').textContent.startsWith('1 today')")


def test_every_answer_of_a_pair_has_its_key_and_its_button(open_page: Open, server: Any) -> None:
    page = open_page("keys")
    press_until_next(page, "0", "9")
    page.click("[data-value=tie]")
    page.click("[data-value=both_bad]")
    wait_until_saved(page)
    press_until_next(page, "s", "s")
    press_until_next(page, "Shift+S")
    wait_until_saved(page)
    said = said_by(server, "keys")
    assert said == sorted([("spill", "tie"), ("care", "both_bad")] * 2 + [("spill", "skip"), ("care", "skip")] * 2)


def test_undo_goes_back_to_the_pair_before_and_a_new_submission_corrects_it(open_page: Open, server: Any) -> None:
    page = open_page("undo")
    first = lease_of(page)
    press_until_next(page, "1", "1")
    second = lease_of(page)
    page.keyboard.press("1")
    page.keyboard.press("u")  # the first takes the half answer back …
    assert page.get_attribute("[data-value=left]", "aria-pressed") == "false"
    page.keyboard.press("u")  # … the second goes to the pair before
    page.wait_for_function("document.querySelector('.g-keep').hidden === false")
    assert lease_of(page) == first
    assert page.get_attribute("[data-value=left]", "aria-pressed") == "true"
    press_until_next(page, "2")
    assert lease_of(page) == second
    wait_until_saved(page)
    assert said_by(server, "undo") == [("care", "right"), ("spill", "left")]
    assert sum(vote.supersedes is not None for vote in votes_of(server, "undo")) == 2


def test_an_earlier_pair_that_is_kept_sends_nothing_new(open_page: Open, server: Any) -> None:
    page = open_page("keep")
    press_until_next(page, "1", "1")
    press_until_next(page, "2", "2")
    for _ in range(2):
        page.keyboard.press("u")
    press_until_next(page, "Enter")
    wait_until_saved(page)
    assert len(votes_of(server, "keep")) == 4
    press_until_next(page, "1", "1")
    wait_until_saved(page)
    assert len(votes_of(server, "keep")) == 6


def test_answers_survive_an_outage_and_a_reload_and_are_stored_once(open_page: Open, server: Any) -> None:
    page = open_page("outage")
    page.route("**/api/submit", lambda route: route.abort())
    press_until_next(page, "1", "1")
    press_until_next(page, "2", "2")
    page.wait_for_function("document.querySelector('.g-save').textContent === '2 answers waiting to be saved'")
    page.reload(wait_until="commit")
    page.wait_for_function("document.querySelector('.g-save')?.textContent === '2 answers waiting to be saved'")
    assert votes_of(server, "outage") == []
    page.unroute("**/api/submit")
    page.evaluate("window.dispatchEvent(new Event('online'))")
    wait_until_saved(page)
    page.wait_for_function("document.querySelector('.g-save').textContent === 'All saved'")
    assert said_by(server, "outage") == [("care", "left"), ("care", "right"), ("spill", "left"), ("spill", "right")]
    assert len(votes_of(server, "outage")) == 4


def test_a_lost_acknowledgement_stores_nothing_twice(open_page: Open, server: Any) -> None:
    page = open_page("lost")
    lost: list[int] = []

    def lose_first(route: Any) -> None:
        answer = route.fetch()
        if lost:
            return route.fulfill(response=answer)
        lost.append(answer.status)
        return route.abort()

    page.route("**/api/submit", lose_first)
    press_until_next(page, "1", "1")
    wait_until_saved(page)
    assert lost == [200]
    assert len(votes_of(server, "lost")) == 2


def test_an_answer_that_the_server_stumbles_over_does_not_hold_up_the_others(open_page: Open, server: Any) -> None:
    page = open_page("stumble")
    first: list[str] = []

    def stumble(route: Any) -> None:
        lease = route.request.post_data_json["lease_id"]
        first.append(lease)
        if lease != first[0]:
            return route.continue_()
        return route.fulfill(status=500, content_type="application/json", body='{"error": "something went wrong"}')

    page.route("**/api/submit", stumble)
    press_until_next(page, "1", "1")
    press_until_next(page, "2", "2")
    page.wait_for_function("document.querySelector('.g-save').textContent === '1 answer waiting to be saved'")
    assert said_by(server, "stumble") == [("care", "right"), ("spill", "right")]
    page.unroute("**/api/submit")
    wait_until_saved(page)
    assert len(votes_of(server, "stumble")) == 4


def test_a_half_finished_pair_survives_a_reload(open_page: Open, server: Any) -> None:
    page = open_page("half")
    page.keyboard.press("1")
    page.keyboard.press("n")
    text = page.evaluate("document.querySelector('.g-question').textContent")
    assert text == "Which one takes more care?"
    page.reload(wait_until="commit")
    page.wait_for_selector(CURRENT)
    for _ in range(8):  # the order of the tasks may be another one now
        if page.text_content(".g-question") == text:
            break
        press_until_next(page, "Shift+S")
    assert page.locator(".g-marks li").count() == 1
    press_until_next(page, "2")
    wait_until_saved(page)
    said = [answer for answer in said_by(server, "half") if answer[1] != "skip"]
    assert said == [("care", "right"), ("spill", "left")]
    assert page.evaluate("Object.keys(localStorage).filter((key) => key.startsWith('gptsim.draft/')).length") == 0


@pytest.mark.parametrize("body", ['{"stored": false}', "<html>Welcome to our hotel</html>"])
def test_nothing_but_a_clear_yes_counts_as_stored(open_page: Open, body: str) -> None:
    page = open_page(f"portal-{len(body)}")
    page.route("**/api/submit", lambda route: route.fulfill(status=200, body=body))
    press_until_next(page, "1", "1")
    page.wait_for_function("document.querySelector('.g-save').textContent === '1 answer waiting to be saved'")


def test_a_refused_answer_is_kept_aside_and_shown(open_page: Open, server: Any) -> None:
    page = open_page("refused")
    refusal = json.dumps({"error": "this <b>lease</b> is no good"})
    page.route("**/api/submit", lambda route: route.fulfill(status=422, content_type="application/json", body=refusal))
    press_until_next(page, "1", "1")
    page.click("text=1 answer not saved")
    assert "this <b>lease</b> is no good" in page.text_content(".g-aside")
    page.unroute("**/api/submit")
    page.get_by_role("button", name="Try again").click()
    page.wait_for_function("!Object.keys(localStorage).some((key) => key.startsWith('gptsim.aside/'))")
    wait_until_saved(page)
    assert len(votes_of(server, "refused")) == 2


def test_who_is_signed_out_keeps_the_answers_and_nobody_else_sends_them(open_page: Open, server: Any) -> None:
    page = open_page("first")
    own = page.context.cookies()
    page.context.clear_cookies()
    press_until_next(page, "1", "1")
    page.wait_for_selector("text=Sign in again")
    assert page.text_content(".g-save") == "Signed out · 1 answer kept here"
    page.context.add_cookies([{"name": "gptsim_session", "value": server.sign_in("second"), "url": server.url}])
    page.reload(wait_until="commit")
    page.wait_for_selector(CURRENT)
    press_until_next(page, "2", "2")
    wait_until_saved(page, "second")
    assert said_by(server, "second") == [("care", "right"), ("spill", "right")]
    page.context.add_cookies(own)
    page.reload(wait_until="commit")
    wait_until_saved(page)
    assert said_by(server, "first") == [("care", "left"), ("spill", "left")]


def test_someone_else_signing_in_stops_the_page_of_the_first(open_page: Open, server: Any) -> None:
    page = open_page("early")
    page.context.add_cookies([{"name": "gptsim_session", "value": server.sign_in("late"), "url": server.url}])
    other = page.context.new_page()
    other.goto(f"{server.url}/label", wait_until="commit")
    page.wait_for_selector("text=Go on as late")
    question = page.text_content(".g-question")
    page.keyboard.press("1")
    assert page.text_content(".g-question") == question


def test_two_tabs_of_one_person_do_not_ask_the_same_twice(open_page: Open, server: Any) -> None:
    page = open_page("tabs")
    other = page.context.new_page()
    other.goto(f"{server.url}/label", wait_until="commit")
    other.wait_for_selector(CURRENT)
    count = """window.heard = new Set(); addEventListener('storage', ({ key, newValue }) => {
      if (newValue !== null && key.startsWith('gptsim.outbox/')) heard.add(key); })"""
    for tab in (page, other):
        tab.evaluate(count)  # after the page's own ear, so what is counted here was dealt with
    answered = {page: 0, other: 0}
    for tab in (page, page, other, page, other):
        tab.bring_to_front()
        elsewhere = sum(answered.values()) - answered[tab]
        # Whichever tab sends an answer and takes it out of the outbox, the other one heard it come in.
        tab.wait_for_function(f"heard.size === {elsewhere}")
        press_until_next(tab, "1", "1")
        wait_until_saved(tab)
        answered[tab] += 1
    votes = votes_of(server, "tabs")
    assert len({(vote.pair_id, vote.axis) for vote in votes}) == len(votes) == 10


def test_a_harm_flag_is_one_key_and_no_part_of_the_preference(open_page: Open, server: Any) -> None:
    page = open_page("harm")
    page.keyboard.press("ArrowRight")
    page.keyboard.press("h")
    page.wait_for_selector(f"{CURRENT} .clip-1 .g-flags:text('Harmful')")
    page.keyboard.press("ArrowLeft")
    page.keyboard.press("x")
    page.keyboard.press("x")
    wait_until_saved(page)
    flags = [flag for flag in server.campaign.flags() if flag.annotator_id == "harm"]
    assert sorted((flag.kind, flag.raised) for flag in flags) == [("broken", False), ("broken", True), ("harm", True)]
    assert len({flag.rollout_id for flag in flags}) == 2
    assert votes_of(server, "harm") == []
    page.keyboard.press("ArrowRight")
    page.keyboard.press("h")  # else the clip is blurred for everybody after
    wait_until_saved(page)
    assert [flag.raised for flag in server.campaign.flags() if flag.kind == "harm"] == [True, False]


def test_break_points_say_frame_category_and_severity_and_no_breaks_is_an_answer(open_page: Open, server: Any) -> None:
    page = open_page("breaks")
    page.keyboard.press("Space")
    page.wait_for_selector("[aria-label=Play]")
    page.evaluate("document.querySelector('.g-slider').value = 0.33")
    page.dispatch_event(".g-slider", "input")
    page.keyboard.press("b")
    page.wait_for_selector("dialog[open] >> text=stops making sense at 0.35 s (frame 3)")
    page.keyboard.press("3")
    page.keyboard.press("Tab")
    page.keyboard.press("1")
    page.keyboard.press("Enter")
    page.keyboard.press("ArrowRight")
    page.keyboard.press("n")
    assert page.locator(".g-marks li").all_text_contents() == [
        "ABody, hand or robot deforms at 0.35 s (frame 3) · 1/3",
        "BNo breaks",
    ]
    press_until_next(page, "1", "1")
    wait_until_saved(page)
    marks = [mark for mark in server.campaign.breakpoints() if mark.annotator_id == "breaks"]
    said = sorted((mark.none, mark.time_s, mark.frame_idx, mark.category, mark.severity) for mark in marks)
    assert said == [(False, pytest.approx(0.35), 3, "body", 1), (True, None, None, "", None)]


def test_frame_numbers_are_told_only_where_the_rate_is_declared(open_page: Open) -> None:
    page = open_page("frames")
    frame_at = "([time, clip]) => import('/static/label/answers.js').then(({ frameAt }) => frameAt(time, clip))"
    assert page.evaluate(frame_at, [0.4, {"fps_hz": None, "num_frames": None}]) == {"time_s": 0.4, "frame_idx": None}
    assert page.evaluate(frame_at, [0.4, {"fps_hz": 8, "num_frames": 16}]) == {"time_s": 0.4375, "frame_idx": 3}
    assert page.evaluate(frame_at, [2.0, {"fps_hz": 8, "num_frames": 16}]) == {"time_s": 1.9375, "frame_idx": 15}


def test_clips_stop_step_and_scrub_together(open_page: Open) -> None:
    page = open_page("step")
    page.keyboard.press("Space")
    page.wait_for_selector("[aria-label=Play]")
    times = f"[...document.querySelectorAll('{CURRENT} video')].map((video) => video.currentTime)"
    page.evaluate("document.querySelector('.g-slider').value = 0.45")
    page.dispatch_event(".g-slider", "input")
    page.keyboard.press(".")
    assert page.evaluate(times) == pytest.approx([0.55, 0.55], abs=0.02)
    for _ in range(2):
        page.keyboard.press(",")
    assert page.evaluate(times) == pytest.approx([0.35, 0.35], abs=0.02)
    page.evaluate("document.querySelector('.g-slider').value = 1")
    page.dispatch_event(".g-slider", "input")
    lengths = page.evaluate(times.replace("currentTime", "duration"))
    assert page.evaluate(times) == pytest.approx([length - 0.05 for length in lengths], abs=0.02)
    page.keyboard.press("+")
    assert page.text_content(".g-speed") == "1.5×"
    page.keyboard.press("Space")
    page.wait_for_function(f"{times}.every((time) => time > 0.1 && time < 0.6)")
    assert page.evaluate(times.replace("currentTime", "playbackRate"))[0] == 1.5


def test_clips_of_different_length_start_again_together(open_page: Open) -> None:
    page = open_page("loop")
    page.evaluate(
        f"""() => {{
          const clips = [...document.querySelectorAll('{CURRENT} video')];
          const play = HTMLMediaElement.prototype.play;
          window.starts = [];
          HTMLMediaElement.prototype.play = function () {{
            starts.push([clips.indexOf(this), ...clips.map((video) => video.currentTime)]);
            return play.call(this);
          }};
        }}"""
    )
    for _ in range(2):
        page.keyboard.press("+")
    page.wait_for_function("starts.length >= 4")
    starts = page.evaluate("starts.slice(0, 4)")
    assert [first for first, *_ in starts] == [0, 1, 0, 1], "no clip starts again alone"
    assert [time for _, *times in starts for time in times] == pytest.approx([0] * 8, abs=0.01), "both at their beginning"


def test_clips_with_a_harm_flag_wait_behind_a_warning(open_page: Open) -> None:
    def warn(route: Any) -> None:
        answer = route.fetch()
        tasks = [{**task, "warn": True} for task in answer.json()["tasks"]]
        route.fulfill(response=answer, json={"tasks": tasks})

    page = open_page("warned", prepare=lambda page: page.route("**/api/lease", warn))
    page.wait_for_selector(f"{CURRENT} >> text=Someone saw harm in one of these clips.")
    page.click(f"{CURRENT} >> text=Show the clips")
    page.wait_for_selector(f"{CURRENT} .g-veil", state="hidden")


def test_a_campaign_may_blur_every_clip_first(open_page: Open, server: Any) -> None:
    settings = server.campaign.settings()
    server.campaign.save_settings(settings.model_copy(update={"blur": True}))
    try:
        page = open_page("blur")
        page.wait_for_selector(".g-veil:visible")
        blurred = f"[...document.querySelectorAll('{CURRENT} video')].every((video) => video.paused)"
        assert page.evaluate(blurred)
        page.keyboard.press("1")
        page.wait_for_selector("text=Show the clips first with V")
        assert page.text_content(".g-question") == "Which one spills less?"
        page.keyboard.press("v")
        page.wait_for_function(f"[...document.querySelectorAll('{CURRENT} video')].every((video) => !video.paused)")
        page.wait_for_selector(".g-veil", state="hidden")
        press_until_next(page, "1", "1")
        page.wait_for_selector(f"{CURRENT} .g-veil:visible")
        press_until_next(page, "Shift+S")
        wait_until_saved(page)
    finally:
        server.campaign.save_settings(settings)


def test_script_in_captions_comments_and_guideline_stays_text(open_page: Open, server: Any) -> None:
    attack = "<img src=x onerror=\"document.title='owned'\"><script>document.title='owned'</script>"
    server.campaign.publish_guideline(f"# Look\n\n{attack}\n\n[x](javascript:document.title='owned')", "admin")
    page = open_page("attack", read=False)
    page.wait_for_selector("dialog[open] >> text=Look")
    assert "<img src=x" in page.text_content(".g-prose")
    page.keyboard.press("Enter")
    assert "<b>& no markup</b>" in page.text_content("h1")
    page.keyboard.press("c")
    page.keyboard.type(attack)
    page.keyboard.press("Control+Enter")
    page.keyboard.press("c")
    assert page.input_value("dialog[open] textarea") == attack
    page.keyboard.press("Escape")
    press_until_next(page, "1", "1")
    wait_until_saved(page)
    assert {vote.comment for vote in votes_of(server, "attack")} == {attack}
    assert page.title() == "Label clips"
    assert page.locator(".g-app img").count() == 0


def test_the_guideline_is_shown_once_a_version_and_named_in_the_votes(open_page: Open, server: Any) -> None:
    server.campaign.publish_guideline("One drop is a spill.", "admin")
    page = open_page("reader", read=False)
    page.wait_for_selector("dialog[open] >> text=One drop is a spill.")
    page.wait_for_selector(CURRENT)
    assert page.evaluate(f"[...document.querySelectorAll('{CURRENT} video')].every((video) => video.paused)")
    page.keyboard.press("Enter")
    page.wait_for_function(f"[...document.querySelectorAll('{CURRENT} video')].some((video) => !video.paused)")
    page.reload(wait_until="commit")
    page.wait_for_selector(CURRENT)
    assert page.locator("dialog[open]").count() == 0
    version = server.campaign.publish_guideline("Two drops are a spill.", "admin")
    page.reload(wait_until="commit")
    page.wait_for_selector("dialog[open] >> text=Two drops are a spill.")
    page.keyboard.press("Enter")
    page.wait_for_selector(CURRENT)
    press_until_next(page, "1", "1")
    wait_until_saved(page)
    assert {vote.guideline_version for vote in votes_of(server, "reader")} == {version}


def test_nothing_tells_which_model_made_a_clip(open_page: Open, server: Any) -> None:
    seen: list[str] = []

    def overhear(route: Any) -> None:
        answer = route.fetch(max_redirects=0)
        seen.extend([route.request.url, route.request.post_data or "", json.dumps(answer.headers)])
        if not re.search(r"/(assets|static)/|theme.css", route.request.url):
            seen.append(answer.body().decode("latin-1"))  # of a clip as well
        route.fulfill(response=answer)

    page = open_page("blind", prepare=lambda page: page.route("**/*", overhear))
    press_until_next(page, "h", "h", "1", "1")
    press_until_next(page, "0", "0")
    page.keyboard.press("u")
    press_until_next(page, "Enter")
    wait_until_saved(page)
    page.unroute_all(behavior="wait")
    seen += [page.content(), page.evaluate("JSON.stringify(localStorage)")]
    assert sum("lease_id" in text for text in seen) > 3
    assert sum("ftypisom" in text for text in seen) > 3
    for word in HIDDEN:
        assert [text[:200] for text in seen if word in text] == []


def test_the_page_is_usable_at_375_pixels(open_page: Open) -> None:
    page = open_page("phone", has_touch=True)
    page.set_viewport_size({"width": 375, "height": 667})
    page.evaluate("() => new Promise((done) => requestAnimationFrame(() => requestAnimationFrame(done)))")  # laid out anew
    assert page.evaluate("document.documentElement.scrollWidth") <= 375
    assert page.evaluate("document.querySelector('.g-app').scrollWidth") <= 375
    for element in page.query_selector_all(".g-choice, .g-tools .g-tool, .g-transport .g-tool"):
        box = element.bounding_box()
        assert box["x"] >= 0 and box["x"] + box["width"] <= 375
        assert box["y"] + box["height"] <= 667
        assert min(box["width"], box["height"]) >= 24
    assert page.query_selector(f"{CURRENT} video").bounding_box()["width"] > 150
    before = lease_of(page)
    page.tap("[data-value=left]")
    page.tap("[data-value=right]")
    wait_until_other(page, before)


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_axe_finds_nothing_serious(open_page: Open, server: Any, web: Any, scheme: str) -> None:
    server.campaign.publish_guideline("# Look closely\n\nOne drop is a spill.", "admin")
    page = open_page(f"axe-{scheme}", color_scheme=scheme)

    def check(name: str) -> None:
        page.wait_for_function(STILL)
        assert [rule for rule in web.find_barriers(page) if rule["impact"] in ("serious", "critical")] == [], name

    check("pair")
    for key in "xn1":
        page.keyboard.press(key)
    check("reported, half answered")
    for key in ("?", "b", "c", "g"):
        page.keyboard.press(key)
        page.wait_for_selector("dialog[open]")
        check(f"dialog {key}")
        page.keyboard.press("Escape")
    page.keyboard.press("v")
    check("blurred")
    page.set_viewport_size({"width": 375, "height": 667})
    check("narrow")


def test_everything_is_reached_by_tab_and_the_focus_can_be_seen(open_page: Open, server: Any) -> None:
    page = open_page("tab")
    names: list[str] = []
    for _ in range(40):
        page.keyboard.press("Tab")
        seen = page.evaluate(
            """() => { const it = document.activeElement; const frame = it.querySelector?.('.g-frame') ?? it;
              return [it.dataset.value ?? it.getAttribute('aria-label') ?? it.textContent, it.closest('.g-app') !== null,
                getComputedStyle(frame).outlineStyle, it.inert || it.closest('[inert]') !== null]; }"""
        )
        if not seen[1]:
            break
        names.append(seen[0])
        assert seen[2] == "solid", seen[0]
        assert not seen[3]
    for wanted in ("Help", "Clip A, active", "Time in all clips", "left", "tie", "both_bad", "skip", "right"):
        assert any(wanted in name for name in names), wanted
    page.focus("[data-value=tie]")
    press_until_next(page, "Enter", "Space")
    assert page.evaluate("document.activeElement.dataset.value") == "tie"
    wait_until_saved(page)
    assert said_by(server, "tab") == [("care", "tie"), ("spill", "tie")]


def test_single_keys_can_be_switched_off(open_page: Open) -> None:
    page = open_page("speech")
    page.keyboard.press("?")
    page.click("dialog[open] input[type=checkbox]")
    page.keyboard.press("Escape")
    page.keyboard.press("1")
    assert page.text_content(".g-question") == "Which one spills less?"


def test_a_dialog_is_gone_when_escape_is_pressed_so_that_the_next_key_counts(open_page: Open) -> None:
    page = open_page("escape")
    page.keyboard.press("?")
    page.wait_for_selector("dialog[open]")
    page.evaluate(
        """() => addEventListener('keydown', ({ key }) => {
          if (key === 'Escape') window.left = document.querySelectorAll('dialog').length;
        })"""
    )
    page.keyboard.press("Escape")
    assert page.evaluate("left") == 0
    page.keyboard.press("1")
    assert page.text_content(".g-question") == "Which one takes more care?"


def test_who_wants_stillness_gets_it(open_page: Open) -> None:
    page = open_page("still", reduced_motion="reduce")
    assert page.evaluate(f"[...document.querySelectorAll('{CURRENT} video')].every((video) => video.paused)")
    page.keyboard.press("Space")
    page.wait_for_function(f"[...document.querySelectorAll('{CURRENT} video')].every((video) => !video.paused)")


def test_three_clips_are_ranked_in_the_order_of_the_keys_and_may_be_equal(
    open_page: Open, rollouts: Path, tmp_path: Path, web: Any
) -> None:
    with web.serve_app(rollouts, f"sqlite:///{tmp_path}/labels.db", AXES[:1], clips_per_task=3, overlap=9) as server:
        page = open_page("ranker", at=server)
        page.keyboard.press("3")
        page.keyboard.press("2")
        page.keyboard.press("Backspace")
        page.keyboard.press("1")
        page.keyboard.press("0")
        assert page.text_content(".g-note") == "C › A = …"
        assert page.text_content(f"{CURRENT} .clip-2 .g-rank") == "1"
        sent: list[Any] = []
        page.on("request", lambda request: sent.append(request.post_data_json) if "submit" in request.url else None)
        press_until_next(page, "2")
        wait_until_saved(page)
        assert sent[0]["answers"][0]["order"] == [[2], [0, 1]]
        votes = votes_of(server, "ranker")
        assert len({vote.ranking_id for vote in votes}) == 1
        assert sorted(vote.vote == "tie" for vote in votes) == [False, False, True]


def test_a_single_clip_passes_or_fails(open_page: Open, rollouts: Path, tmp_path: Path, web: Any) -> None:
    with web.serve_app(rollouts, f"sqlite:///{tmp_path}/labels.db", AXES[:1], clips_per_task=1, overlap=9) as server:
        page = open_page("judge", at=server)
        assert page.text_content(".g-question") == "Does this clip pass on “spill”?"
        for key in "120s":
            press_until_next(page, key)
        wait_until_saved(page)
        judgements = server.app.state.gptsim.store.judgements()
        assert sorted(judgement.verdict for judgement in judgements if judgement.verdict != "skip") == [
            "fail",
            "pass",
            "unsure",
        ]


@pytest.mark.parametrize(("num_clips", "keys"), [(4, "401"), (1, "h")], ids=["ranking", "single"])
def test_rankings_and_single_clips_keep_nobody_out(
    open_page: Open, rollouts: Path, tmp_path: Path, web: Any, num_clips: int, keys: str
) -> None:
    with web.serve_app(rollouts, f"sqlite:///{tmp_path}/labels.db", AXES[:1], clips_per_task=num_clips, overlap=9) as server:
        page = open_page("anybody", at=server)
        assert page.locator(f"{CURRENT} video").count() == num_clips
        for key in keys:
            page.keyboard.press(key)
        for size in ({"width": 1280, "height": 800}, {"width": 375, "height": 667}):
            page.set_viewport_size(size)
            page.evaluate("() => new Promise((done) => requestAnimationFrame(() => requestAnimationFrame(done)))")
            page.wait_for_function(STILL)
            assert [rule for rule in web.find_barriers(page) if rule["impact"] in ("serious", "critical")] == []
            assert page.evaluate("document.querySelector('.g-app').scrollWidth") <= size["width"]
            for element in page.query_selector_all(f".g-choice, {CURRENT} video"):
                box = element.bounding_box()
                assert box["x"] >= 0 and box["x"] + box["width"] <= size["width"]
                assert box["y"] + box["height"] <= size["height"]


def test_without_work_the_page_says_so_kindly_and_goes_on_when_there_is_some(open_page: Open, tmp_path: Path, web: Any) -> None:
    rollouts = web.make_rollouts(tmp_path / "rollouts", 1, 2)
    with web.serve_app(rollouts, f"sqlite:///{tmp_path}/labels.db", AXES[:1]) as server:
        page = open_page("done", at=server)
        page.keyboard.press("1")
        page.wait_for_selector("text=All done, thank you")
        wait_until_saved(page)
        assert [rule for rule in web.find_barriers(page) if rule["impact"] in ("serious", "critical")] == []
        page.keyboard.press("u")
        page.wait_for_selector(CURRENT)
        page.keyboard.press("2")
        page.wait_for_selector("text=All done, thank you")
        wait_until_saved(page)
        assert said_by(server, "done") == [("spill", "right")]
