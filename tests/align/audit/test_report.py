"""The report: same bytes twice, no server asked, nothing hostile let through, and never a pass that was not measured."""

from __future__ import annotations

import copy
import io
import json
import math
import re
from html.parser import HTMLParser
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from rich.console import Console

from align.audit.report import (
    EXPLANATIONS,
    check_report,
    common_label,
    compute_headline,
    compute_verdict,
    draw_rates,
    explain,
    format_interval,
    format_number,
    print_table,
    write_report,
)
from align.audit.statistics import cluster_rate, paired_difference
from align.errors import ClipError, DataError
from align.io import to_jsonable
from align.video.codec import encode_mp4

HOSTILE = "<script>alert('$x^{')</script><img src=\"http://evil.example/x.png\">--> &amp; $\\frac{$"
CLUSTERS = np.arange(24) // 4


def make_figure(**changes: Any) -> dict[str, Any]:
    base, aligned = (np.arange(24) % 3 == 0).astype(float), (np.arange(24) % 8 == 0).astype(float)
    figure = {
        "key": "unsafe",
        "label": "Unsafe behaviour",
        "unit": "%",
        "scene": "pour",
        "axis": "spill",
        "base": cluster_rate(base, CLUSTERS, better="lower"),
        "aligned": cluster_rate(aligned, CLUSTERS, better="lower"),
        "difference": paired_difference(base, aligned, CLUSTERS, better="lower"),
        "better": "lower",
        "note": "",
        "reason_not_measured": None,
    }
    return figure | changes


def make_report(**changes: Any) -> dict[str, Any]:
    clip = {
        "context_id": "pour-0001",
        "task": "Fill the cup.",
        "caption": "Careless actions",
        "base": "clips/base.mp4",
        "aligned": "clips/aligned.mp4",
        "base_says": "spilled",
        "aligned_says": "clean",
    }
    curve = {
        "title": "DPO loss",
        "x_label": "step",
        "y_label": "loss",
        "series": [{"name": "train", "x": [0, 1, 2], "y": [1, None, 0.5]}],
    }
    report = {
        "version": 1,
        "title": "A run",
        "kind": "evaluate",
        "summary": ["One line."],
        "figures": [make_figure()],
        "gates": [{"name": "honesty", "passed": True, "text": "-0.4 points, interval -1.2 to +0.5"}],
        "clips": [clip],
        "curves": [curve],
        "provenance": {
            "config": {"beta": 0.1},
            "versions": {"torch": "2"},
            "seeds": [0],
            "votes_spent": 12,
            "commands": ["gptsim run"],
        },
    }
    return report | changes


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "clips").mkdir()
    for name, level in (("base", 40), ("aligned", 200)):
        encode_mp4(tmp_path / "clips" / f"{name}.mp4", np.full((4, 32, 32, 3), level, np.uint8), 8.0)
    return tmp_path


class Page(HTMLParser):
    """What a browser would see: elements with attributes, and the text inside each kind of element."""

    def __init__(self, html: str) -> None:
        super().__init__()
        self.elements: list[tuple[str, dict[str, str]]] = []
        self.texts: list[tuple[str, str]] = []
        self.open: list[str] = []
        self.feed(html)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.elements.append((tag, {key: value or "" for key, value in attrs}))
        if tag not in ("meta", "input", "br", "img", "path", "use"):
            self.open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        if tag in self.open:
            while self.open.pop() != tag:
                pass

    def handle_data(self, data: str) -> None:
        if self.open and data.strip():
            self.texts.append((self.open[-1], data.strip()))

    def named(self, tag: str) -> list[dict[str, str]]:
        return [attributes for name, attributes in self.elements if name == tag]


def read_page(path: Path) -> Page:
    return Page(path.read_text(encoding="utf-8"))


# ---------------------------------------------------------------------------------------------------------------- bytes


def test_the_same_report_gives_the_same_bytes(folder: Path) -> None:
    page = write_report(folder, make_report())
    first = (page.read_bytes(), (folder / "report.json").read_bytes())
    shuffled = dict(reversed(make_report().items()))
    write_report(folder, shuffled)
    assert (page.read_bytes(), (folder / "report.json").read_bytes()) == first
    write_report(folder, json.loads(first[1]))
    assert (page.read_bytes(), (folder / "report.json").read_bytes()) == first
    assert sorted(path.name for path in folder.iterdir()) == ["clips", "report.html", "report.json"]


def test_json_holds_verdict_hashes_and_null_for_undefined(folder: Path) -> None:
    lonely = cluster_rate([1.0], ["a"], better="lower")
    write_report(folder, make_report(figures=[make_figure(base=lonely)]))
    written = json.loads((folder / "report.json").read_text())
    assert written["verdict"] == "pass"
    assert re.fullmatch("[0-9a-f]{64}", written["clips"][0]["base_sha256"])
    assert written["figures"][0]["base"] == {
        "value": 1.0,
        "low": None,
        "high": None,
        "n": 1,
        "num_clusters": 1,
        "num_missing": 0,
    }


def test_absolute_clip_paths_inside_the_folder_become_relative(folder: Path) -> None:
    report = make_report()
    report["clips"][0]["base"] = str(folder / "clips" / "base.mp4")
    write_report(folder, report)
    assert str(folder) not in (folder / "report.json").read_text() + (folder / "report.html").read_text()


# -------------------------------------------------------------------------------------------------------------- the page


def test_the_page_asks_no_server(folder: Path) -> None:
    page = write_report(folder, make_report())
    assert not re.search(r"https?://", page.read_text(encoding="utf-8"))
    seen = read_page(page)
    policies = [meta["content"] for meta in seen.named("meta") if meta.get("http-equiv") == "Content-Security-Policy"]
    assert policies[0].startswith("default-src 'none';")
    links = [a[key] for _, a in seen.elements for key in ("src", "href", "xlink:href", "poster", "srcset") if key in a]
    assert links
    assert all(link.startswith(("data:video/mp4;base64,", "#")) for link in links)
    assert not seen.named("link")


def test_hostile_text_stays_text_everywhere(folder: Path) -> None:
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


def test_a_gate_without_a_measurement_is_shown_so_and_never_as_a_pass(folder: Path) -> None:
    gates = [{"name": "honesty", "passed": None, "text": "no readable clip"}]
    seen = read_page(write_report(folder, make_report(gates=gates)))
    states = [a["class"] for a in seen.named("span") if a.get("class", "").startswith("state")]
    assert states == ["state not-measured"]
    assert ("span", "not measured") in seen.texts
    assert ("strong", "Not passed") in seen.texts
    shown = " ".join(text for tag, text in seen.texts if tag not in ("style", "script", "p"))
    assert not re.search(r"\bpass\b", shown, re.I)


def test_a_quickstart_shows_intervals_and_no_verdict_whatever_its_gates_say(folder: Path) -> None:
    gates = [{"name": "a", "passed": True, "text": ""}, {"name": "b", "passed": False, "text": ""}]
    report = make_report(kind="quickstart", gates=gates)
    seen = read_page(write_report(folder, report))
    assert ("strong", "No verdict at this size") in seen.texts
    assert {a["class"] for a in seen.named("span") if a.get("class", "").startswith("state")} == {"state no-verdict"}
    assert json.loads((folder / "report.json").read_text())["verdict"] == "no verdict"
    interval = format_interval(report["figures"][0]["base"].as_dict(), "%")
    assert ("span", interval) in seen.texts


@pytest.mark.parametrize(
    ("kind", "states", "verdict"),
    [
        ("evaluate", [True, True], "pass"),
        ("evaluate", [True, None], "not measured"),
        ("evaluate", [None, False], "fail"),
        ("evaluate", [], "no verdict"),
        ("quickstart", [True], "no verdict"),
    ],
)
def test_verdicts(kind: str, states: list[bool | None], verdict: str) -> None:
    report = {"kind": kind, "gates": [{"name": "g", "passed": state, "text": ""} for state in states]}
    assert compute_verdict(report) == verdict
    assert (compute_headline(report)[0] == "Pass") == (verdict == "pass")


def test_figures_not_measured_say_why(folder: Path) -> None:
    figures = [make_figure(aligned=None, difference=None, reason_not_measured="the judge could not be loaded")]
    seen = read_page(write_report(folder, make_report(figures=figures)))
    assert [text for _, text in seen.texts].count("not measured") == 2
    assert ("td", "Not measured: the judge could not be loaded") in seen.texts


def test_the_page_is_readable_without_eyes_and_without_scripts(folder: Path) -> None:
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


def test_the_pair_is_told_its_frames_and_rate(folder: Path) -> None:
    pair = next(a for a in read_page(write_report(folder, make_report())).named("figure"))
    assert (pair["data-fps"], pair["data-frames"]) == ("8.0", "4")


def test_simulated_votes_are_announced_only_where_they_are(folder: Path) -> None:
    notice = "All votes in this run are SIMULATED."
    simulated = make_report(provenance={"votes_simulated": True})
    assert ("strong", notice) in read_page(write_report(folder, simulated)).texts
    assert ("strong", notice) not in read_page(write_report(folder, make_report())).texts


def test_an_empty_report_is_still_a_page(folder: Path) -> None:
    seen = read_page(write_report(folder, {"version": 1, "title": "Nothing yet", "kind": "evaluate"}))
    assert ("strong", "No verdict") in seen.texts
    assert not seen.named("figure")


def test_plots_show_what_is_defined_in_the_colours_of_the_page() -> None:
    plain = to_jsonable(make_figure(aligned=None))
    svg = draw_rates([plain], "p")
    assert "var(--base)" in svg
    assert "var(--aligned)" not in svg
    assert "var(--aligned)" in draw_rates([{**plain, "aligned": plain["base"]}], "p")


# ----------------------------------------------------------------------------------------------------------------- words


def test_numbers_and_intervals() -> None:
    assert format_number(0.125, "%") == "12.5 %"
    assert format_number(0.0029, "%") == "0.29 %"
    assert format_number(-0.0001, "%", signed=True) == "0.0 points"
    assert format_number(0.031, "%", signed=True) == "+3.1 points"
    assert format_number(30.96, "dB") == "31.0 dB"
    assert format_number(None, "dB") == "undefined"
    assert format_interval({"low": 0.081, "high": 0.18}, "%") == "8.1 to 18.0"
    assert format_interval({"low": None, "high": None}, "%") == "no interval"


def test_explanations_go_by_key_and_give_way_to_the_figures_own() -> None:
    assert explain({"key": "honesty_careless_pour"}) == EXPLANATIONS["honesty_careless"]
    assert explain({"key": "unsafe", "explanation": "mine"}) == "mine"
    assert explain({"key": "other"}) == ""


def test_figures_of_one_key_share_a_heading_and_differ_by_row(folder: Path) -> None:
    figures = [
        make_figure(label="Unsafe rate, spill"),
        make_figure(label="Unsafe rate, breakage", scene="shelf", axis="breakage"),
        make_figure(key="success", label="Task success", scene="", axis="success"),
    ]
    seen = read_page(write_report(folder, make_report(figures=figures)))
    headings = [text for tag, text in seen.texts if tag == "h3"]
    assert headings[:2] == ["Unsafe rate", "Task success"]
    rows = [text for tag, text in seen.texts if tag == "th"]
    assert [row for row in rows if row not in ("Scene", "Base", "Aligned", "Change", "Result", "Gate")] == [
        "pour, spill",
        "shelf, breakage",
        "all scenes",
    ]
    assert common_label([{"label": "A b"}, {"label": "C d"}]) == "A b"


def test_the_terminal_table_says_the_same() -> None:
    gates = [{"name": "honesty [bold]", "passed": None, "text": "no readable clip"}]
    report = make_report(gates=gates, figures=[make_figure(), make_figure(aligned=None, difference=None, scene="shelf")])
    out = io.StringIO()
    print_table(report, Console(file=out, width=140))
    text = out.getvalue()
    assert "33.3 %" in text
    assert "not measured  honesty [bold]: no readable clip" in text
    assert text.rstrip().endswith("Not passed. 1 of 1 gates could not be measured; missing is not a pass.")


# ----------------------------------------------------------------------------------------------------------------- errors


def test_a_missing_clip_is_named_and_nothing_is_written(folder: Path) -> None:
    (folder / "clips" / "aligned.mp4").unlink()
    with pytest.raises(DataError, match=r"aligned clip clips/aligned\.mp4 of context pour-0001"):
        write_report(folder, make_report())
    assert [path.name for path in folder.iterdir()] == ["clips"]


def test_a_changed_clip_is_refused(folder: Path) -> None:
    report = make_report()
    report["clips"][0]["base_sha256"] = "0" * 64
    with pytest.raises(DataError, match=r"clips/base\.mp4 has changed"):
        write_report(folder, report)


def test_a_clip_that_is_no_video_is_refused(folder: Path) -> None:
    (folder / "clips" / "base.mp4").write_bytes(b"<html>")
    with pytest.raises(ClipError, match=r"base\.mp4"):
        write_report(folder, make_report())
    assert not (folder / "report.json").exists()


def test_every_problem_of_a_report_is_named_at_once(folder: Path) -> None:
    report = make_report(version=2, kind="other", title=None, summary="text", provenance=[])
    report["figures"] = [make_figure(better="up", base={"value": 1})]
    report["gates"] = [{"name": "g", "passed": "yes", "text": ""}, {"name": "h", "text": ""}]
    report["clips"] = [{}]
    report["curves"] = [{"title": "t", "x_label": "", "y_label": "", "series": [{"name": "s", "x": [1], "y": []}]}]
    with pytest.raises(DataError) as caught:
        write_report(folder, report)
    for part in (
        "version must",
        "kind must",
        "title must",
        "summary must",
        "provenance must",
        "figures[0].better",
        "figures[0].base",
    ):
        assert part in str(caught.value)
    for part in ("gates[0].passed", "gates[1].passed", "clips[0].context_id", "curves[0].series 's'"):
        assert part in str(caught.value)


@pytest.mark.parametrize("passed", [1, 0, "true", math.nan])
def test_only_true_counts_as_passed(folder: Path, passed: Any) -> None:
    report = make_report(gates=[{"name": "g", "passed": passed, "text": ""}])
    if isinstance(passed, float):
        write_report(folder, report)  # an undefined gate: NaN is null
        assert json.loads((folder / "report.json").read_text())["verdict"] == "not measured"
    else:
        with pytest.raises(DataError, match=r"gates\[0\]\.passed must be true, false or null"):
            write_report(folder, report)


def test_a_report_is_not_changed_by_writing_it(folder: Path) -> None:
    report = make_report()
    before = copy.deepcopy(report)
    write_report(folder, report)
    assert report == before
    with pytest.raises(DataError, match="must be a mapping"):
        check_report([])
