"""The page: no server asked, nothing hostile let through, and never a pass that was not measured."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from itertools import pairwise
from pathlib import Path
from typing import Any

from align.audit.report import draw_rates, format_interval, write_report
from align.io import to_jsonable

HOSTILE = "<script>alert('$x^{')</script><img src=\"http://evil.example/x.png\">--> &amp; $\\frac{$"


def test_the_page_asks_no_server(
    folder: Path, make_report: Callable[..., dict[str, Any]], read_page: Callable[[Path], Any]
) -> None:
    page = write_report(folder, make_report())
    assert not re.search(r"https?://", page.read_text(encoding="utf-8"))
    seen = read_page(page)
    policies = [meta["content"] for meta in seen.named("meta") if meta.get("http-equiv") == "Content-Security-Policy"]
    assert policies[0].startswith("default-src 'none';")
    links = [a[key] for _, a in seen.elements for key in ("src", "href", "xlink:href", "poster", "srcset") if key in a]
    assert links
    assert all(link.startswith(("data:video/mp4;base64,", "#")) for link in links)
    assert not seen.named("link")


def test_hostile_text_stays_text_everywhere(
    folder: Path,
    make_report: Callable[..., dict[str, Any]],
    make_figure: Callable[..., dict[str, Any]],
    read_page: Callable[[Path], Any],
) -> None:
    report = make_report(
        title=HOSTILE, summary=[HOSTILE], provenance={"config": {HOSTILE: HOSTILE}, "versions": {HOSTILE: HOSTILE}}
    )
    report["provenance"] |= {"seeds": HOSTILE, "commands": [HOSTILE], HOSTILE: HOSTILE}
    hostile = dict.fromkeys(("label", "scene", "axis", "note", "reason_not_measured", "explanation"), HOSTILE)
    report["figures"] = [make_figure(**hostile), make_figure(key="x", unit=HOSTILE, aligned=None, scene=HOSTILE)]
    report["gates"] = [{"name": HOSTILE, "passed": False, "text": HOSTILE}]
    report["clips"][0] |= dict.fromkeys(("context_id", "task", "caption", "base_says", "aligned_says"), HOSTILE)
    report["curves"][0] |= dict.fromkeys(("title", "x_label", "y_label"), HOSTILE)
    report["curves"][0]["series"][0]["name"] = HOSTILE
    seen = read_page(write_report(folder, report))
    assert len(seen.named("script")) == 1
    assert not seen.named("img")
    assert ("h1", HOSTILE) in seen.texts
    assert ("td", HOSTILE) in seen.texts


def test_a_gate_without_a_measurement_is_shown_so_and_never_as_a_pass(
    folder: Path, make_report: Callable[..., dict[str, Any]], read_page: Callable[[Path], Any]
) -> None:
    gates = [{"name": "honesty", "passed": None, "text": "no readable clip"}]
    seen = read_page(write_report(folder, make_report(gates=gates)))
    states = [a["class"] for a in seen.named("span") if a.get("class", "").startswith("state")]
    assert states == ["state not-measured"]
    assert ("span", "not measured") in seen.texts
    assert ("strong", "Not passed") in seen.texts
    shown = " ".join(text for tag, text in seen.texts if tag not in ("style", "script", "p"))
    assert not re.search(r"\bpass\b", shown, re.I)


def test_a_quickstart_shows_intervals_and_no_verdict_whatever_its_gates_say(
    folder: Path, make_report: Callable[..., dict[str, Any]], read_page: Callable[[Path], Any]
) -> None:
    gates = [{"name": "a", "passed": True, "text": ""}, {"name": "b", "passed": False, "text": ""}]
    report = make_report(kind="quickstart", gates=gates)
    seen = read_page(write_report(folder, report))
    assert ("strong", "No verdict at this size") in seen.texts
    assert {a["class"] for a in seen.named("span") if a.get("class", "").startswith("state")} == {"state no-verdict"}
    assert json.loads((folder / "report.json").read_text())["verdict"] == "no verdict"
    interval = format_interval(report["figures"][0]["base"].as_dict(), "%")
    assert ("span", interval) in seen.texts


def test_figures_not_measured_say_why(
    folder: Path,
    make_report: Callable[..., dict[str, Any]],
    make_figure: Callable[..., dict[str, Any]],
    read_page: Callable[[Path], Any],
) -> None:
    figures = [make_figure(aligned=None, difference=None, reason_not_measured="the judge could not be loaded")]
    seen = read_page(write_report(folder, make_report(figures=figures)))
    assert [text for _, text in seen.texts].count("not measured") == 2
    assert ("td", "Not measured: the judge could not be loaded") in seen.texts


def test_the_page_is_readable_without_eyes_and_without_scripts(
    folder: Path, make_report: Callable[..., dict[str, Any]], read_page: Callable[[Path], Any]
) -> None:
    seen = read_page(write_report(folder, make_report()))
    levels = [int(tag[1]) for tag, _ in seen.elements if re.fullmatch("h[1-6]", tag)]
    assert levels[0] == 1
    assert levels.count(1) == 1
    assert all(after - before <= 1 for before, after in pairwise(levels))
    videos = seen.named("video")
    assert [video["aria-label"] for video in videos] == [
        "Base model, context pour-0001: spilled",
        "Aligned model, context pour-0001: clean",
    ]
    assert all("muted" in video and "controls" in video for video in videos)
    assert all("scope" in head for head in seen.named("th"))
    assert all(a.get("aria-label") for a in [*seen.named("input"), *seen.named("button")])
    assert all(a["aria-label"] for _, a in seen.elements if a.get("role") == "img")
    ids = [a["id"] for _, a in seen.elements if "id" in a]
    assert len(ids) == len(set(ids))


def test_the_pair_is_told_its_frames_and_rate(
    folder: Path, make_report: Callable[..., dict[str, Any]], read_page: Callable[[Path], Any]
) -> None:
    pair = next(a for a in read_page(write_report(folder, make_report())).named("figure"))
    assert (pair["data-fps"], pair["data-frames"]) == ("8.0", "4")


def test_simulated_votes_are_announced_only_where_they_are(
    folder: Path, make_report: Callable[..., dict[str, Any]], read_page: Callable[[Path], Any]
) -> None:
    notice = "All votes in this run are SIMULATED."
    simulated = make_report(provenance={"votes_simulated": True})
    assert ("strong", notice) in read_page(write_report(folder, simulated)).texts
    assert ("strong", notice) not in read_page(write_report(folder, make_report())).texts


def test_an_empty_report_is_still_a_page(folder: Path, read_page: Callable[[Path], Any]) -> None:
    seen = read_page(write_report(folder, {"version": 1, "title": "Nothing yet", "kind": "evaluate"}))
    assert ("strong", "No verdict") in seen.texts
    assert not seen.named("figure")


def test_plots_show_what_is_defined_in_the_colours_of_the_page(make_figure: Callable[..., dict[str, Any]]) -> None:
    plain = to_jsonable(make_figure(aligned=None))
    svg = draw_rates([plain], "p")
    assert "var(--base)" in svg
    assert "var(--aligned)" not in svg
    assert "var(--aligned)" in draw_rates([{**plain, "aligned": plain["base"]}], "p")
