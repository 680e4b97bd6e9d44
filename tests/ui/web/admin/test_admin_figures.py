"""What the admin's page shows and gives away: checks, agreement, throughput, exports."""

from __future__ import annotations

import asyncio
import itertools
import re
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from align.errors import DataError, NotFound
from align.preferences.campaign import AxisSetting
from align.preferences.votes.fields import pair_id_of
from align.preferences.votes.schema import Breakpoint, Judgement, Vote, read_votes
from ui.web import admin, admin_agreement, admin_assignment, admin_gold, admin_guideline, admin_people, admin_throughput
from ui.web.desk import Desk
from ui.web.standing import Statistics

# ------------------------------------------------------------------------------------------------------------------ checks


def test_gold_from_agreement_and_by_hand(desk: Desk, root: Any) -> None:
    base = {"context_id": "c0", "rollout_a": "x0", "rollout_b": "y0", "axis": "spill", "vote": "b"}
    base["pair_id"] = pair_id_of("c0", "x0", "y0")
    desk.store.add_votes([Vote.model_validate(base | {"vote_id": f"v{i}", "annotator_id": f"p{i}"}) for i in range(3)])
    told, found = admin_gold.show_agreed(desk, root, 3, 0.9)
    assert told is None and "spill=b" in found and base["pair_id"] in found
    told, checks = admin_gold.take_agreed(desk, root, {"pair": base["pair_id"], "answers": '{"spill": "b"}'})
    assert "gold now" in told and "spill=b" in checks
    assert "No pair" in admin_gold.show_agreed(desk, root, 3, 0.9)[0]
    admin_gold.make_typed(desk, root, pair_id_of("c1", "x1", "y1"), "spill=tie, care=a")
    gold = {task.context_id: task.gold for task in desk.campaign.tasks() if task.selection == "gold"}
    assert gold == {"c0": {"spill": "b"}, "c1": {"spill": "tie", "care": "a"}}
    assert "are now spill=a" in admin_gold.make_typed(desk, root, base["pair_id"], "spill=a")[0]
    assert "already" in admin_gold.make_typed(desk, root, base["pair_id"], "spill=a")[0]
    for pair_id, typed in (("nothing", "spill=a"), (base["pair_id"], "taste=a"), (base["pair_id"], "spill")):
        with pytest.raises(DataError):
            admin_gold.make_typed(desk, root, pair_id, typed)
    with pytest.raises(DataError, match="find the pairs again"):
        admin_gold.take_agreed(desk, root, {"pair": base["pair_id"], "answers": "7"})


def test_a_gold_pair_is_retired_by_its_button_and_comes_back(desk: Desk, root: Any) -> None:
    pair_id = pair_id_of("c1", "x1", "y1")
    shown = admin_gold.make_typed(desk, root, pair_id, "spill=tie")[1]
    (task,) = re.findall(r'data-act="retire" data-task="([^"]+)" aria-label="Retire: ' + pair_id, shown)
    told, left = admin_gold.retire(desk, root, {"task": task})
    assert "checks nobody any more" in told and pair_id not in left
    with pytest.raises(NotFound):
        admin_gold.retire(desk, root, {"task": task})
    told, shown, *_ = admin_gold.make_typed(desk, root, pair_id, "spill=a")
    assert "gold before" in told and "spill=a" in shown


def test_catch_trials_are_added(desk: Desk, root: Any) -> None:
    told, checks = admin_gold.add_catch(desk, root, 3)
    assert "3 catch trials" in told and "Catch trials:</b> 3" in checks
    with pytest.raises(ValueError, match="1 to 1000"):
        admin_gold.add_catch(desk, root, None)


# --------------------------------------------------------------------------------------------------------------- agreement


def cast(desk: Desk, people: int, clips: int = 3, axis: str = "spill") -> None:
    """Votes about every pair of a context's clips: the earlier clip wins mostly, the last person always says left."""
    votes = []
    for person in range(people):
        for number, (a, b) in enumerate(itertools.combinations(range(clips), 2)):
            left = "a" if (number + person) % 2 else "b"
            choice = "a" if (number + person) % 5 else "tie"
            row = {"pair_id": f"p{a}{b}", "context_id": "k", "rollout_a": f"m{a}", "rollout_b": f"m{b}", "axis": axis}
            row |= {"vote_id": f"{axis}-{person}-{number}", "annotator_id": f"person-{person}", "shown_left": left}
            row |= {"vote": left if person == people - 1 else choice, "response_time_s": 2.0 + person}
            votes.append(Vote.model_validate(row))
    desk.store.add_votes(votes)


def test_agreement_of_nothing_says_so(desk: Desk, root: Any) -> None:
    (shown,) = admin_agreement.show_agreement(desk, root)
    assert shown.count("–") >= 2  # the alphas of both axes
    assert "Nobody has voted yet" in shown and "Nobody has said where a clip breaks" in shown
    assert "nan" not in shown.lower()


def test_agreement_annotators_and_ranking_are_shown(desk: Desk, root: Any) -> None:
    cast(desk, people=4, clips=6)
    cast(desk, people=1, clips=4, axis="care")
    (shown,) = admin_agreement.show_agreement(desk, root)
    axes = desk.statistics.get().report["axes"]
    spill, care = (axes[axis]["alpha"] for axis in ("spill", "care"))
    assert f"{spill['value']:.2f} [{spill['low']:.2f}, {spill['high']:.2f}]" in shown.replace("−", "-")
    assert care["reason"] and shown.count(care["reason"]) == 2  # in the plot and in the table
    for place in range(4):
        assert f">person-{place}<" in shown
    ranking = axes["spill"]["ranking"]
    assert {item["name"] for item in ranking["items"]} == {f"m{place}" for place in range(6)} and not ranking["reason"]
    assert "Two equals tie in" in shown and "nan" not in shown.lower()


def test_a_plot_that_leaves_some_out_says_so(desk: Desk, root: Any) -> None:
    cast(desk, people=admin_agreement.MAX_DRAWN + 1, clips=2)
    (shown,) = admin_agreement.show_agreement(desk, root)
    assert shown.count("The first 40 of 41 are drawn; the table has all.") == 2  # skill and left bias
    assert all(f">person-{place}<" in shown for place in range(41))


def test_a_ranking_that_cannot_be_made_says_why(desk: Desk, root: Any) -> None:
    base = {"axis": "spill", "vote": "a", "annotator_id": "ann"}
    for name in ("p", "q"):
        row = {"vote_id": name, "pair_id": name, "context_id": name, "rollout_a": f"{name}1", "rollout_b": f"{name}2"}
        desk.store.add_vote(Vote.model_validate(base | row))
    (shown,) = admin_agreement.show_agreement(desk, root)
    assert "No ranking: the comparisons fall into 2 parts" in shown


def test_rankings_are_of_models_where_they_are_known(desk: Desk) -> None:
    cast(desk, people=3, clips=4)
    makers = {"m0": "base", "m1": "base", "m2": "tuned", "m3": "tuned"}
    ranking = Statistics(desk.store, desk.campaign, makers).get().report["axes"]["spill"]["ranking"]
    assert {item["name"] for item in ranking["items"]} == {"base", "tuned"}


def test_statistics_are_computed_once_until_something_changes(desk: Desk) -> None:
    cast(desk, people=2)
    first = desk.statistics.get()
    assert desk.statistics.get() is first
    cast(desk, people=2, axis="care")
    second = desk.statistics.get()
    assert second is not first and second.rows.votes == 2 * first.rows.votes
    desk.campaign.withdraw("person-1")
    third = desk.statistics.get()
    assert third.rows.votes == second.rows.votes // 2
    gold = admin_gold.make_gold(desk.store.engine, pair_id_of("c0", "x0", "y0"), {"spill": "a"})
    desk.campaign.add_tasks([gold])
    assert desk.statistics.get() is not third


def test_a_patient_reader_waits_nine_times_as_long_as_computing_takes(desk: Desk, monkeypatch: pytest.MonkeyPatch) -> None:
    now = [100.0]
    monkeypatch.setattr("ui.web.standing.time", SimpleNamespace(monotonic=lambda: now[0]))
    compute = desk.statistics._compute

    def slow(*args: Any) -> Any:
        now[0] += 2.0
        return compute(*args)

    monkeypatch.setattr(desk.statistics, "_compute", slow)
    first = desk.statistics.get(patient=True)
    cast(desk, people=2)
    now[0] += 17.0
    assert desk.statistics.get(patient=True) is first
    now[0] += 2.0
    assert desk.statistics.get(patient=True).rows.votes == 6
    cast(desk, people=2, axis="care")
    assert desk.statistics.get().rows.votes == 12


def test_verdicts_of_single_clips_have_their_own_agreement(desk: Desk, root: Any) -> None:
    rows = [
        Judgement(judgement_id=f"{clip}-{who}", rollout_id=f"r{clip}", axis="spill", verdict=verdict, annotator_id=who)
        for clip, verdict in enumerate(("pass", "pass", "fail", "unsure"))
        for who in ("ann", "bea")
    ]
    again = {"judgement_id": "again", "rollout_id": "r0", "axis": "spill", "verdict": "fail", "annotator_id": "ann"}
    desk.store.add_judgements([*rows, Judgement.model_validate(again | {"supersedes": "0-ann"})])
    assert "spill (single clips)" in admin_agreement.show_agreement(desk, root)[0]


def test_breaks_are_shown_over_a_sweep(desk: Desk, root: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    marks = [
        Breakpoint(breakpoint_id=f"{clip}-{who}", rollout_id=f"r{clip}", annotator_id=who, time_s=clip + shift, severity=2)
        for clip in range(4)
        for who, shift in (("ann", 0.0), ("bea", 0.3))
    ]
    monkeypatch.setattr(desk.campaign, "breakpoints", lambda: marks)
    (shown,) = admin_agreement.show_agreement(desk, root)
    breaks = desk.statistics.get().report["breaks"]["agreement"]
    assert [row["agreement"] for row in breaks] == [0, 0, 0, 1, 1, 1]  # 0.3 s apart: the same from a tolerance of 0.5 s on
    assert shown.count("<svg") >= 2 and "Mean overlap (F1)" in shown


# --------------------------------------------------------------------------------------------------- throughput and export


def test_everything_people_typed_is_shown_escaped(desk: Desk, root: Any, label: Callable[..., None], evil: str) -> None:
    base = {"pair_id": "p", "context_id": "c", "rollout_a": evil, "rollout_b": "y", "axis": evil, "vote": "a"}
    desk.store.add_vote(Vote.model_validate(base | {"vote_id": "v", "annotator_id": evil}))
    desk.campaign.save_settings(desk.campaign.settings().model_copy(update={"axes": (AxisSetting(name=evil, question=evil),)}))
    label("ann")
    shows = [admin.show_head, admin_people.show_people, admin_assignment.show_axes, admin_guideline.show_versions]
    shows += [admin_gold.show_checks, admin_throughput.show_counts, admin_throughput.show_flags, admin_agreement.show_agreement]
    shown = {show.__name__: "".join(map(str, show(desk, root))) for show in shows}
    assert {name for name, html in shown.items() if "<img" in html} == set()
    typed = {name for name, html in shown.items() if "&lt;img" in html}
    assert typed == {"show_people", "show_axes", "show_counts", "show_flags", "show_agreement"}
    panel = admin_people.open_panel(desk, root, {"who": evil})
    assert "<img" not in panel[3] and "&lt;img" in panel[3]


def test_speed_is_drawn_and_said(desk: Desk, root: Any, label: Callable[..., None]) -> None:
    label("ann")
    (shown,) = admin_throughput.show_plots(desk, root)
    assert shown.count("<svg") == 2 and shown.count('style="fill: var(--accent)"') == 48 + 30
    assert "2 in all, at most 2, newest 2" in shown


def test_exports_read_back_and_run_no_formula(desk: Desk, tmp_path: Path, label: Callable[..., None]) -> None:
    from align.preferences.exchange import KINDS
    from ui.web.exports import FORMATS, send_table

    label("ann")
    for name in KINDS:
        for form in FORMATS:
            response = send_table(name, form, desk, SimpleNamespace(role="admin"))  # type: ignore[arg-type]
            data = b"".join(asyncio.run(_gather(response.body_iterator)))
            assert int(response.headers["content-length"]) == len(data)
            (tmp_path / f"{name}.{form}").write_bytes(data)
    for form in FORMATS:
        assert read_votes(tmp_path / f"votes.{form}") == desk.store.votes()
    assert b",'=1+1," in (tmp_path / "votes.csv").read_bytes()
    assert list(Path("/tmp").glob("gptsim-export-*")) == []


async def _gather(chunks: Any) -> list[bytes]:
    return [chunk async for chunk in chunks]
