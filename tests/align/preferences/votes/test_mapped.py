"""Tables of others become votes: the right rollout is a, ids stay the same, and every bad row is listed."""

from __future__ import annotations

import csv
import hashlib
import json
import os
import re
from collections import Counter
from collections.abc import Mapping, Sequence
from datetime import datetime
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from align.errors import DataError
from align.preferences.votes.mapped import map_rows, read_mapped
from align.preferences.votes.mapping import VoteMapping, make_mapping, read_mapping
from align.preferences.votes.schema import Vote

BASE = {"context_id": "{scene}", "annotator_id": "{who}"}
SIDES = BASE | {"left": "{x}", "right": "{y}"}
NAMES = BASE | {"rollout_a": "{x}", "rollout_b": "{y}"}


def mapping(fields: Mapping[str, str] = NAMES, translate: Any = None, **block: Any) -> VoteMapping:
    answers = {"columns": ["w"], "fields": {"axis": "spill"}} | block
    return make_mapping({"fields": dict(fields), "answers": [answers], "translate": translate or {}})


def table(*rows: Sequence[Any], columns: str = "scene who x y w") -> list[dict[str, Any]]:
    return [dict(zip(columns.split(), row, strict=True)) for row in rows]


def votes_of(rows: list[dict[str, Any]], by: VoteMapping) -> list[Vote]:
    return map_rows(rows, by).rows


def problems_of(rows: list[dict[str, Any]], by: VoteMapping) -> str:
    with pytest.raises(DataError) as caught:
        map_rows(rows, by, "t.csv")
    return str(caught.value)


def test_left_and_right_become_a_and_b_by_id() -> None:
    rows = table(["s", "ann", "r1", "r2", "left"], ["s", "bob", "r2", "r1", "left"], ["s", "cy", "r2", "r1", "tie"])
    votes = votes_of(rows, mapping(SIDES))
    assert [(v.rollout_a, v.rollout_b, v.vote, v.shown_left) for v in votes] == [
        ("r1", "r2", "a", "a"),
        ("r1", "r2", "b", "b"),
        ("r1", "r2", "tie", "b"),
    ]
    assert len({vote.pair_id for vote in votes}) == 1


def test_without_ids_a_and_b_turn_with_the_pair_and_with_ids_they_stay() -> None:
    rows = table(["s", "ann", "r2", "r1", "a"])
    assert [(v.rollout_a, v.vote) for v in votes_of(rows, mapping())] == [("r1", "b")]
    (vote,) = votes_of(rows, mapping(NAMES | {"pair_id": "p{scene}"}))
    assert (vote.pair_id, vote.rollout_a, vote.vote) == ("ps", "r2", "a")
    both = table(["s", "ann", "r2", "r1", "a"], ["s", "bob", "r1", "r2", "a"])
    assert "row 2, column 'w': pair 'ps' is ('s', 'r1', 'r2') here" in problems_of(
        both, mapping(NAMES | {"pair_id": "p{scene}"})
    )


@pytest.mark.parametrize(("shown", "vote"), [("a", "a"), ("b", "b"), ("r1", "a"), ("r2", "b")])
def test_a_column_may_say_who_stood_on_the_left(shown: str, vote: str) -> None:
    by = mapping(NAMES | {"shown_left": "{shown}"}, {"vote": {"L": "left", "R": "right"}})
    rows = table(["s", "ann", "r1", "r2", "L", shown], columns="scene who x y w shown")
    assert [(v.vote, v.shown_left) for v in votes_of(rows, by)] == [(vote, vote)]
    rows[0]["shown"] = "r3"
    assert "row 1, column 'w': shown_left is 'r3'; it must be a, b or one of the two rollouts" in problems_of(rows, by)
    rows[0]["shown"] = ""
    assert "the answer is left, but nothing says which rollout stood on the left" in problems_of(rows, by)


answer_rows = st.lists(
    st.tuples(st.sampled_from(["s1", "s2"]), st.sampled_from(["left", "right", "tie", "both_bad", "skip"]), st.booleans()),
    max_size=8,
)


@given(answer_rows)
def test_it_does_not_matter_in_which_order_a_pair_was_shown(rows: list[tuple[str, str, bool]]) -> None:
    other = {"left": "right", "right": "left"}
    plain = table(*([scene, f"ann{i}", "r1", "r2", answer] for i, (scene, answer, _) in enumerate(rows)))
    turned = [
        {**row, "x": "r2", "y": "r1", "w": other.get(row["w"], row["w"])} if turn else row
        for row, (_, _, turn) in zip(plain, rows, strict=True)
    ]
    first, second = votes_of(plain, mapping(SIDES)), votes_of(turned, mapping(SIDES))
    assert [vote.model_copy(update={"shown_left": None}) for vote in first] == [
        vote.model_copy(update={"shown_left": None}) for vote in second
    ]
    assert [vote.shown_left for vote in second] == ["b" if turn else "a" for _, _, turn in rows]
    assert all(vote.shown_left == "a" for vote in first)


def test_ids_come_from_what_a_row_is_about() -> None:
    rows = table(["s", "ann", "r1", "r2", "a"], ["s", "bob", "r1", "r2", "b"], ["t", "ann", "r1", "r2", "tie"])
    ids = {vote.vote_id for vote in votes_of(rows, mapping())}
    assert len(ids) == 3
    assert {vote.vote_id for vote in votes_of(rows[::-1], mapping())} == ids
    changed = votes_of([rows[0] | {"w": "b"}], mapping())
    assert changed[0].vote_id in ids  # so that a store refuses the changed answer instead of counting both
    digest = hashlib.sha256(b"s\nr1\nr2").hexdigest()[:20]
    assert changed[0].pair_id == f"pair-{digest}"


def test_one_annotator_answers_one_question_once_unless_times_tell_the_answers_apart() -> None:
    rows = table(["s", "ann", "r1", "r2", "a"], ["s", "ann", "r2", "r1", "a"])
    message = problems_of(rows, mapping())
    assert "row 2, column 'w': annotator 'ann' answers what row 1, column 'w' answers already (axis 'spill')" in message
    timed = [row | {"at": f"2026-01-0{day}"} for day, row in enumerate(rows, start=1)]
    votes = votes_of(timed, mapping(NAMES | {"created_at": "{at}"}))
    assert votes[1].created_at == "2026-01-02T00:00:00.000000Z"
    assert votes[0].vote_id != votes[1].vote_id
    assert [vote.vote_id for vote in votes_of(timed, mapping(NAMES | {"vote_id": "{at}"}))] == ["2026-01-01", "2026-01-02"]


def test_answers_without_a_name_are_counted() -> None:
    rows = table(["s", "", "r1", "r2", "a"], ["s", "", "r1", "r2", "a"], ["s", "", "r1", "r2", "b"])
    votes = votes_of(rows, mapping())
    assert len({vote.vote_id for vote in votes}) == 3
    assert votes == votes_of(rows, mapping())


def test_wide_tables_have_an_answer_a_column() -> None:
    by = make_mapping(
        {
            "fields": {"context_id": "{scene}", "rollout_a": "{x}", "rollout_b": "{y}"},
            "answers": [
                {"columns": ["VQ", "MQ"], "fields": {"axis": "{column}"}},
                {"columns": ["ann", "bob"], "optional": "true", "fields": {"axis": "all", "annotator_id": "{column}"}},
            ],
            "translate": {"vote": {"A": "a", "same": "tie", "": "null"}},
        }
    )
    mapped = map_rows(table(["s", "r1", "r2", "A", "", "same"], columns="scene x y VQ MQ bob"), by)
    assert [(vote.axis, vote.annotator_id, vote.vote) for vote in mapped.rows] == [("VQ", "", "a"), ("all", "bob", "tie")]
    assert mapped.places == ["row 1, column 'VQ'", "row 1, column 'bob'"]
    assert (mapped.num_table_rows, mapped.num_unanswered) == (1, 1)


@pytest.mark.parametrize(
    ("cell", "vote"),
    [("-3", "a"), (-1, "a"), ("-0.5", "a"), (0, "tie"), ("0.0", "tie"), (" 0 ", "tie"), ("2", "b"), (1.0, "b"), ("1e0", "b")],
)
def test_scales_are_folded_by_rules(cell: Any, vote: str) -> None:
    by = mapping(translate={"vote": {"<0": "a", "0": "tie", ">= 1": "b", "none": "skip", "true": "both_bad"}})
    assert votes_of(table(["s", "ann", "r1", "r2", cell]), by)[0].vote == vote
    assert votes_of(table(["s", "ann", "r1", "r2", True]), by)[0].vote == "both_bad"
    assert "'0.5' is not in translate.vote, which knows '<0', '0', '>= 1'" in problems_of(
        table(["s", "ann", "r1", "r2", 0.5]), by
    )


def test_rules_that_differ_are_no_rule() -> None:
    by = mapping(translate={"vote": {"<2": "a", ">0": "b", "1": "tie"}})
    assert "'1.0' fits rules of translate.vote that differ" in problems_of(table(["s", "ann", "r1", "r2", "1.0"]), by)
    assert votes_of(table(["s", "ann", "r1", "r2", "1"]), by)[0].vote == "tie"  # the text itself comes first


def test_other_fields_are_translated_too_and_typed_cells_become_text() -> None:
    by = mapping(
        NAMES | {"simulated": "{bot}", "selection": "{kind}", "created_at": "{at}", "comment": "{note}"},
        {"simulated": {"true": "true", "false": "false"}, "selection": {"g": "gold", "": "null"}},
    )
    row = {"scene": 7.0, "who": 12, "x": "r1", "y": "r2", "w": "a", "bot": True, "kind": None, "at": datetime(2026, 1, 1)}
    (vote,) = votes_of([row | {"note": " =1\n"}], by)
    assert (vote.context_id, vote.annotator_id, vote.simulated, vote.selection) == ("7", "12", True, None)
    assert (vote.created_at, vote.comment) == ("2026-01-01T00:00:00.000000Z", " =1\n")


def test_the_same_clip_twice_is_a_catch_trial() -> None:
    (vote,) = votes_of(table(["s", "ann", "r1", "r1", "tie"]), mapping())
    assert vote.selection == "catch"
    by = mapping(NAMES | {"selection": "random"})
    assert "only a catch trial may do that" in problems_of(table(["s", "ann", "r1", "r1", "tie"]), by)


def test_hashes_make_ids_of_long_texts() -> None:
    by = mapping({"context_id": "{p:hash}{q:hash}", "rollout_a": "{x}", "rollout_b": "{y}"})
    rows = table(["a\nb", "", "r1", "r2", "a"], columns="p q x y w")
    digest = [hashlib.sha256(text).hexdigest()[:20] for text in (b"a\nb", b"")]
    assert votes_of(rows, by)[0].context_id == "".join(digest)
    alone = mapping({"context_id": "{q:hash}", "rollout_a": "{x}", "rollout_b": "{y}"})
    assert "row 1, column 'w': context_id is empty" in problems_of(rows, alone)
    raw = mapping({"context_id": "{p}", "rollout_a": "{x}", "rollout_b": "{y}"})
    assert r"context_id is 'a\nb': an id must not hold line breaks" in problems_of(rows, raw)


def test_lists_in_cells_give_an_answer_an_item() -> None:
    by = make_mapping(
        {
            "kind": "judgements",
            "fields": {"rollout_id": "{uid}/{column}", "annotator_id": "ann"},
            "answers": [{"columns": ["m"], "item": str(i), "fields": {"axis": axis}} for i, axis in enumerate(("SC", "PR"))],
            "translate": {"verdict": {"1": "pass", "0.5": "unsure", "0": "fail"}},
        }
    )
    rows = [{"uid": "u1", "m": "[0.5 ,1]"}, {"uid": "u2", "m": [0, 0.5]}]
    judged = map_rows(rows, by).rows
    assert [(row.rollout_id, row.axis, row.verdict) for row in judged] == [
        ("u1/m", "SC", "unsure"),
        ("u1/m", "PR", "pass"),
        ("u2/m", "SC", "fail"),
        ("u2/m", "PR", "unsure"),
    ]
    assert len({row.judgement_id for row in judged}) == 4
    message = problems_of([{"uid": "u", "m": cell} for cell in ("[1]", "1", "[1, 2]", "")], by)
    assert "row 1, column 'm' item 1: the cell '[1]' is not a list with an item 1" in message
    assert "row 2, column 'm' item 0: the cell '1' is not a list" in message
    assert "row 3, column 'm' item 1: '2' is not in translate.verdict" in message
    assert "row 4, column 'm' item 0: '' is not in translate.verdict" in message


def test_every_bad_row_is_listed() -> None:
    by = mapping({"context_id": "{scene}", "rollout_a": "{scene}/{x}", "rollout_b": "{scene}/{y}"}, {"vote": {"1": "a"}})
    rows = table(["s", "1", "2", "1"], ["s", "1", "", "1"], ["", "1", "2", "1"], ["s", "1", "2", "3"], columns="scene x y w")
    message = problems_of(rows, by)
    assert "t.csv can't be taken, mend 3 problem(s) first" in message
    assert "row 2, column 'w': rollout_b needs the column 'y', which is empty here" in message
    assert "row 3, column 'w': rollout_a needs the column 'scene', which is empty here" in message
    assert "row 4, column 'w': '3' is not in translate.vote, which knows '1'" in message


def test_answers_need_the_projects_words_or_a_translation() -> None:
    assert "the answer is 'A', not one of a, b, tie" in problems_of(table(["s", "ann", "r1", "r2", "A"]), mapping())
    assert "right is empty" in problems_of(table(["s", "ann", "r1", "", "tie"]), mapping(SIDES))


def test_columns_are_checked_before_rows() -> None:
    message = problems_of([{"scene": "s", "x": "r1"}], mapping(NAMES | {"comment": "{note} {note}"}))
    assert "mend 5 problem(s)" in message  # note, w, who, y, and no column of answers
    assert "the column 'note' is missing; it has scene, x" in message
    assert "it has none of the answers' columns w" in message
    clash = mapping(NAMES | {"comment": "{column}"})
    assert "but the table has a column of that name" in problems_of([{"column": "1"}], clash)
    assert map_rows([], mapping()).rows == []


def test_videoalign_reads_its_own_format(tmp_path: Path) -> None:
    path = tmp_path / "data.csv"
    path.write_text(
        "path_A,path_B,prompt,VQ,MQ,TA,fps_A,num_frames_A,fps_B,num_frames_B\r\n"
        'videos/1_A.mp4,videos/1_B.mp4,"A cat,\na dog",A,same,B,24.0,126.0,30.0,152.0\r\n'
        "videos/2_B.mp4,videos/2_A.mp4,A cat,A,invalid,,24.0,126.0,30.0,152.0\r\n",
        newline="",
    )
    mapped = read_mapped(path, read_mapping("videoalign"))
    assert [(vote.axis, vote.rollout_a, vote.vote) for vote in mapped.rows] == [
        ("VQ", "videos/1_A.mp4", "a"),
        ("MQ", "videos/1_A.mp4", "tie"),
        ("TA", "videos/1_A.mp4", "b"),
        ("VQ", "videos/2_A.mp4", "b"),
        ("MQ", "videos/2_A.mp4", "skip"),
    ]
    assert mapped.num_unanswered == 1
    assert len({vote.context_id for vote in mapped.rows}) == 2
    path.write_text(path.read_text().replace(",TA,", ",Overall,").replace(",same,", ",Same,"))
    with pytest.raises(DataError, match=r"row 1, column 'MQ': 'Same' is not in translate\.vote"):
        read_mapped(path, read_mapping("videoalign"))


# The folder with votes_llm, votes_tonemap and so on, for whoever has it; see docs/votes.md.
REAL = os.environ.get("GPTSIM_REAL_DATA", "")
needs_data = pytest.mark.skipif(not REAL, reason="GPTSIM_REAL_DATA names no folder of real votes")


def example(name: str, folder: Path) -> VoteMapping:
    docs = Path(__file__).parents[4] / "docs" / "votes.md"
    (found,) = re.findall(rf"```yaml\n# {name}\n(.+?)```", docs.read_text(), re.S)
    (folder / "m.yaml").write_text(found)
    return read_mapping(folder / "m.yaml", {"annotator_id": "rater1"} if name == "imagenhub" else None)


@needs_data
@pytest.mark.parametrize(
    ("name", "file", "winner"),
    [
        (
            "llmfao",
            "votes_llm/crowd-comparisons.csv",
            lambda row: row.get(row["winner"]) and f"{row['prompt']}/{row[row['winner']]}",
        ),
        (
            "hd-uhd",
            "votes_hd_video/results.csv",
            lambda row: row["rating"] != "0" and f"{row['src']}/{row['second_res' if int(row['rating']) > 0 else 'first_res']}",
        ),
        (
            "pwcmp",
            "votes_tonemap/ex3_tmo_cmp_data.csv",
            lambda row: f"{row['scene']}/{row['condition_A' if row['is_A_selected'] == '1' else 'condition_B']}",
        ),
    ],
)
def test_the_examples_count_the_wins_of_real_tables(name: str, file: str, winner: Any, tmp_path: Path) -> None:
    with (Path(REAL) / file).open(newline="") as opened:
        wins = Counter(winner(row) or "tie" for row in csv.DictReader(opened))
    votes = read_mapped(Path(REAL) / file, example(name, tmp_path)).rows
    rollouts = {"a": "rollout_a", "b": "rollout_b"}
    assert Counter(getattr(vote, rollouts[vote.vote]) if vote.vote in rollouts else vote.vote for vote in votes) == wins


@needs_data
def test_the_examples_read_wide_tables_of_votes_and_ratings(tmp_path: Path) -> None:
    path = Path(REAL) / "votes_pandalm" / "testset-v1.json"
    answers = Counter(row[f"annotator{i}"] for row in json.loads(path.read_text()) for i in (1, 2, 3))
    votes = read_mapped(path, example("pandalm", tmp_path)).rows
    assert Counter(vote.vote for vote in votes) == {"a": answers[1], "b": answers[2], "tie": answers[0]}
    rated = read_mapped(Path(REAL) / "ratings_imagenhub" / "Text-To-Image_rater1.tsv", example("imagenhub", tmp_path))
    assert len(rated.rows) == 197 * 7 * 2
    pair = read_mapped(Path(REAL) / "pairs_videoalign" / "example.csv", read_mapping("videoalign")).rows
    assert [(vote.axis, vote.vote) for vote in pair] == [("VQ", "b"), ("MQ", "b"), ("TA", "a")]
