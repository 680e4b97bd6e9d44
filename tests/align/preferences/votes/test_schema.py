from __future__ import annotations

import tempfile
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from align.errors import DataError
from align.preferences.votes.schema import (
    Breakpoint,
    Flag,
    Judgement,
    Vote,
    check_votes,
    effective_votes,
    new_id,
    read_judgements,
    read_votes,
    utc_now,
    write_judgements,
    write_votes,
)

SUFFIXES = (".csv", ".jsonl", ".parquet")
HEADER = "vote_id,pair_id,context_id,rollout_a,rollout_b,axis,vote"

ids = st.text(st.characters(min_codepoint=32, exclude_categories=["Cs", "Zs", "Zl", "Zp", "Cc"]), min_size=1, max_size=8)
texts = st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\x00"), max_size=20)
any_vote = st.builds(
    Vote,
    vote_id=ids,
    pair_id=ids,
    context_id=ids,
    rollout_a=ids.map("a".__add__),
    rollout_b=ids.map("b".__add__),
    axis=ids,
    vote=st.sampled_from(["a", "b", "tie", "both_bad", "skip"]),
    annotator_id=texts,
    shown_left=st.sampled_from(["a", "b", None]),
    selection=st.sampled_from(["random", "active", "gold", "catch", "twin", None]),
    simulated=st.booleans(),
    response_time_s=st.none() | st.floats(0, 1e9),
    created_at=st.none() | st.datetimes().map(lambda moment: moment.isoformat()),
    guideline_version=texts,
    comment=texts,
    ranking_id=st.none() | ids,
)


@pytest.mark.parametrize("suffix", SUFFIXES)
@settings(max_examples=40, deadline=None)
@given(votes=st.lists(any_vote, max_size=4, unique_by=(lambda vote: vote.vote_id, lambda vote: vote.pair_id)))
def test_votes_survive_a_file(suffix: str, votes: list[Vote]) -> None:
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / f"votes{suffix}"
        write_votes(path, votes)
        assert read_votes(path) == votes
        assert [file.name for file in Path(folder).iterdir()] == [path.name]  # no temporary file stays


@pytest.mark.parametrize("suffix", SUFFIXES)
def test_judgements_survive_a_file(suffix: str, tmp_path: Path) -> None:
    rows = [
        Judgement(
            judgement_id="j1", rollout_id="007", axis="spill", verdict="fail", comment='"a", b\r\nc', created_at=utc_now()
        ),
        Judgement(judgement_id="j2", rollout_id="NA", axis="spill", verdict="unsure", simulated=True),
    ]
    write_judgements(tmp_path / f"j{suffix}", rows)
    assert read_judgements(tmp_path / f"j{suffix}") == rows


def test_the_first_seven_columns_are_enough(tmp_path: Path) -> None:
    (tmp_path / "votes.csv").write_text(f"\ufeff{HEADER},shown_left\nv1,1,c,x,y,spill,tie,\n", encoding="utf-8")
    (vote,) = read_votes(tmp_path / "votes.csv")
    assert (vote.pair_id, vote.vote, vote.shown_left, vote.selection, vote.simulated) == ("1", "tie", None, None, False)


def test_times_become_utc_and_sort_as_text() -> None:
    row = {"judgement_id": "j", "rollout_id": "r", "axis": "x", "verdict": "pass"}
    at = [
        Judgement.model_validate(row | {"created_at": text}).created_at for text in ("2026-01-01T01:00:00+02:00", "2025-12-31")
    ]
    assert at == ["2025-12-31T23:00:00.000000Z", "2025-12-31T00:00:00.000000Z"]
    assert utc_now() > at[0]


def test_all_bad_rows_are_reported_at_once_with_their_numbers(tmp_path: Path) -> None:
    path = tmp_path / "votes.csv"
    path.write_text(
        f"{HEADER},response_time_s,created_at\n"
        "v1,p,c,x,y,spill,A,,\n"  # not an answer
        "v2,p,c,x,y,spill,a,,\n"
        "v3,,c,x,y,,b,-1,yesterday\n",  # two empty cells, a negative time, no date
        encoding="utf-8",
    )
    with pytest.raises(DataError) as caught:
        read_votes(path)
    message = str(caught.value)
    for part in ("row 1: vote is 'A'", "row 3: pair_id is empty", "row 3: axis is empty", "row 3: response_time_s is '-1'"):
        assert part in message
    assert "row 3: created_at is 'yesterday'" in message
    assert "row 2" not in message
    assert "5 problem(s)" in message


def test_columns_that_are_missing_or_unknown_are_named_once(tmp_path: Path) -> None:
    path = tmp_path / "votes.csv"
    path.write_text(HEADER.replace("axis", "axes") + "\n" + "v1,p,c,x,y,spill,a\nv2,p,c,x,y,spill,a\n", encoding="utf-8")
    with pytest.raises(DataError, match=r"mend 2 problem.*unknown column 'axes'.*the column 'axis' is missing"):
        read_votes(path)


@pytest.mark.parametrize(
    ("name", "content", "reason"),
    [
        ("v.csv", f"{HEADER}\nv1,p\n", "row.s. 1 do not have as many cells"),
        ("v.csv", "vote_id,vote_id\n", "occurs twice"),
        ("v.jsonl", '{"vote_id": \n[1]\n', "row.s. 1, 2 are not JSON objects"),
        ("v.parquet", "no parquet", "can't be read as parquet"),
        ("v.xlsx", "", "suffix '.xlsx'"),
    ],
)
def test_broken_files_are_refused_with_the_reason(tmp_path: Path, name: str, content: str, reason: str) -> None:
    (tmp_path / name).write_text(content, encoding="utf-8")
    with pytest.raises(DataError, match=reason):
        read_votes(tmp_path / name)


def test_a_missing_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"nothing\.csv does not exist"):
        read_votes(tmp_path / "nothing.csv")


def test_inconsistent_votes_are_all_listed(make_vote) -> None:
    votes = [
        make_vote("v1"),
        make_vote("v1", "b"),
        make_vote("v2", context_id="c2"),
        make_vote("v3", pair_id="p3", rollout_b="r1"),
        make_vote("v4", axis="breakage", supersedes="v1"),
        make_vote("v5", pair_id="p5", rollout_b="r1", selection="catch"),
        make_vote("v6", supersedes="v7"),
        make_vote("v7", supersedes="v6"),
    ]
    with pytest.raises(DataError) as caught:
        check_votes(votes)
    message = str(caught.value)
    for part in (
        "row 2: vote_id 'v1' repeats that of row 1",
        "row 3: pair 'p1'",
        "row 4: rollout_a and rollout_b",
        "another axis",
    ):
        assert part in message
    assert "v6 -> v7 -> v6 go in a circle" in message
    assert "row 6" not in message  # a catch trial may show one clip twice
    check_votes([votes[0], votes[5]])


def test_effective_votes_drop_superseded_ones_and_skips(make_vote) -> None:
    votes = [make_vote("v1"), make_vote("v2", "b", supersedes="v1"), make_vote("v3", "skip"), make_vote("v4", "tie")]
    assert [vote.vote_id for vote in effective_votes(votes)] == ["v2", "v4"]


def test_correcting_to_skip_takes_the_vote_back(make_vote) -> None:
    assert effective_votes([make_vote("v1"), make_vote("v2", "skip", supersedes="v1")]) == []


def test_of_two_corrections_only_the_last_counts(make_vote) -> None:
    votes = [
        make_vote("v1"),
        make_vote("late", "b", supersedes="v1", created_at="2026-01-02"),
        make_vote("early", "tie", supersedes="v1", created_at="2026-01-01"),
        make_vote("earlier", "a", supersedes="early", created_at="2026-01-01"),
    ]
    assert [vote.vote_id for vote in effective_votes(votes)] == ["late"]
    assert [vote.vote_id for vote in effective_votes(votes[:1] + votes[2:])] == ["earlier"]


def test_new_ids_differ() -> None:
    assert len({new_id() for _ in range(100)}) == 100


def test_votes_are_frozen(make_vote) -> None:
    with pytest.raises(ValueError, match="frozen"):
        make_vote().vote = "b"


def test_a_break_says_where_and_how_bad_and_none_says_nothing_else() -> None:
    row = {"breakpoint_id": "b1", "rollout_id": "r1"}
    assert Breakpoint(**row, time_s=0.52, severity=2).frame_idx is None
    assert Breakpoint(**row, none=True, annotator_id="ann").severity is None
    for fields in ({}, {"time_s": 0.5}, {"severity": 2}, {"frame_idx": 3, "severity": 2}):
        with pytest.raises(ValueError, match="a break needs time_s and severity"):
            Breakpoint(**row, **fields)
    for fields in ({"time_s": 0.0}, {"frame_idx": 0}, {"category": "hand"}, {"severity": 1}):
        with pytest.raises(ValueError, match="none=true says that there is no break"):
            Breakpoint(**row, none=True, **fields)
    with pytest.raises(ValueError, match="less than or equal to 3"):
        Breakpoint(**row, time_s=0.5, severity=4)


def test_a_flag_is_raised_or_taken_back() -> None:
    assert Flag(flag_id="f1", rollout_id="r1", kind="harm").raised
    assert not Flag.model_validate({"flag_id": "f1", "rollout_id": "r1", "kind": "broken", "raised": "false"}).raised
    with pytest.raises(ValueError, match="'harm' or 'broken'"):
        Flag(flag_id="f1", rollout_id="r1", kind="ugly")  # type: ignore[arg-type]


def test_places_name_the_votes_of_another_table(make_vote) -> None:
    with pytest.raises(DataError, match=r"row 9, column 'MQ': vote_id 'v1' repeats that of row 9, column 'VQ'"):
        check_votes([make_vote("v1"), make_vote("v1")], places=["row 9, column 'VQ'", "row 9, column 'MQ'"])
