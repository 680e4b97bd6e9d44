from __future__ import annotations

import sqlite3
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from pathlib import Path

import pytest
from sqlalchemy import inspect, text

from align.errors import DataError, MissingExtra
from align.preferences.storage.database import VERSION_TABLE, open_engine
from align.preferences.storage.store import JUDGEMENTS, PAIRS, VOTES, LabelStore
from align.preferences.votes.schema import Judgement, Pair, Vote

ROOT = Path(__file__).parents[4]

FULL = {
    "annotator_id": "ann",
    "shown_left": "b",
    "selection": "active",
    "response_time_s": 1.1,
    "created_at": "2026-01-01T10:00:00.123Z",
    "guideline_version": "2",
    "comment": 'häßlich, "quoted"\n%s :x ?',
    "ranking_id": "k1",
}


def test_votes_come_back_as_they_were(store_url: str, make_vote) -> None:
    votes = [make_vote("v1", **FULL), make_vote("v2", "both_bad", simulated=True), make_vote("v3", axis="success")]
    with LabelStore(store_url) as store:
        assert store.add_votes(votes) == 3
    with LabelStore(store_url) as store:  # opened anew: nothing was only in memory
        assert store.votes() == votes
        assert store.votes(axis="success") == votes[2:]
        assert store.annotators() == {"ann": False}
        assert [pair.pair_id for pair in store.pairs()] == ["p1"]


def test_adding_again_is_a_no_op_and_other_content_an_error(store_url: str, make_vote) -> None:
    with LabelStore(store_url) as store:
        assert store.add_vote(make_vote("v1", **FULL)) is True
        assert store.add_vote(make_vote("v1", **FULL)) is False
        with pytest.raises(DataError, match="'v1' is already stored with another content"):
            store.add_vote(make_vote("v1", "b", **FULL))
        assert store.votes() == [make_vote("v1", **FULL)]


def test_a_bad_bulk_leaves_nothing_behind(store_url: str, make_vote) -> None:
    with LabelStore(store_url) as store:
        store.add_vote(make_vote("v1"))
        bulk = [make_vote("v0", pair_id="p0", annotator_id="new"), make_vote("v1", "b"), make_vote("v2", supersedes="gone")]
        with pytest.raises(DataError, match="row 2: vote_id 'v1'"):
            store.add_votes(bulk)
        with pytest.raises(DataError, match="row 2: 'v2' supersedes 'gone', which is not stored"):
            store.add_votes([bulk[0], bulk[2]])
        assert store.votes() == [make_vote("v1")]
        assert [pair.pair_id for pair in store.pairs()] == ["p1"]
        assert store.annotators() == {}


def test_a_correction_is_a_new_row(store_url: str, make_vote) -> None:
    with LabelStore(store_url) as store:
        store.add_vote(make_vote("v1", annotator_id="ann"))
        correction = make_vote("v2", "tie", annotator_id="ann", supersedes="v1")
        assert store.add_vote(correction)
        assert [vote.vote_id for vote in store.votes()] == ["v1", "v2"]
        with pytest.raises(DataError, match="has another annotator_id"):
            store.add_vote(make_vote("v3", annotator_id="bob", supersedes="v1"))
        # In one bulk a correction may stand before what it corrects.
        assert store.add_votes([make_vote("w2", supersedes="w1"), make_vote("w1")]) == 2


def test_a_pair_keeps_its_rollouts_and_an_annotator_their_kind(store_url: str, make_vote) -> None:
    with LabelStore(store_url) as store:
        store.add_vote(make_vote("v1", annotator_id="ann"))
        with pytest.raises(DataError, match="pair 'p1' is already stored"):
            store.add_vote(make_vote("v2", rollout_b="r9"))
        with pytest.raises(DataError, match="annotator 'ann' appears both as a person and as simulated"):
            store.add_vote(make_vote("v2", annotator_id="ann", simulated=True))
        assert len(store.votes()) == 1


def test_pairs_and_judgements(store_url: str) -> None:
    pairs = [
        Pair(pair_id=f"p{i}", context_id="c", rollout_a="x", rollout_b="y", selection="active", axes=("spill", "é"))
        for i in (2, 1)
    ]
    judgement = Judgement(
        judgement_id="j1", rollout_id="x", axis="spill", verdict="fail", annotator_id="ann", response_time_s=0.1
    )
    with LabelStore(store_url) as store:
        assert (store.add_pairs(pairs), store.add_pairs(pairs)) == (2, 0)
        assert store.pairs() == pairs
        assert (store.add_judgements([judgement]), store.add_judgements([judgement])) == (1, 0)
        assert store.judgements() == [judgement]
        with pytest.raises(DataError, match="'j1' is already stored with another content"):
            store.add_judgements([judgement.model_copy(update={"verdict": "pass"})])
        with pytest.raises(DataError, match="'j2' supersedes 'j0', which is not stored"):
            store.add_judgements([judgement.model_copy(update={"judgement_id": "j2", "supersedes": "j0"})])


def test_more_votes_than_one_query_holds(store_url: str, make_vote, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("align.preferences.storage.inserting.CHUNK", 3)
    votes = [make_vote(f"v{i}", pair_id=f"p{i}") for i in range(10)]
    with LabelStore(store_url) as store:
        assert (store.add_votes(votes), store.add_votes(votes)) == (10, 0)
        assert store.votes() == votes


def test_threads_lose_nothing(store_url: str, make_vote) -> None:
    """Eight threads, every vote sent twice, all of one pair and annotator: the rows they share must not get in the way."""
    votes = [make_vote(f"v{i}", annotator_id="ann") for i in range(25)]
    with LabelStore(store_url) as store, ThreadPoolExecutor(8) as pool:
        new = list(pool.map(store.add_vote, votes + votes))
        assert sum(new) == 25
        assert {vote.vote_id for vote in store.votes()} == {vote.vote_id for vote in votes}


WRITER = """
import itertools, sys
from align.preferences.votes.schema import Vote
from align.preferences.storage.store import LabelStore
with LabelStore(sys.argv[1]) as store:
    for i in itertools.count():
        vote = Vote(vote_id=f"{sys.argv[2]}-{i}", pair_id="p", context_id="c", rollout_a="x", rollout_b="y", axis="s", vote="a")
        store.add_vote(vote)
        print(vote.vote_id, flush=True)
"""


def test_killed_processes_lose_no_acknowledged_vote(store_url: str) -> None:
    """Two processes create the database together, write at the same time and are killed in the middle of it."""
    command = [sys.executable, "-W", "error", "-c", WRITER, store_url]
    writers = [subprocess.Popen([*command, str(i)], cwd=ROOT, stdout=subprocess.PIPE, text=True) for i in range(2)]
    acknowledged = {writer.stdout.readline().strip() for writer in writers for _ in range(10)}  # type: ignore[union-attr]
    for writer in writers:
        writer.kill()
        acknowledged |= set(writer.communicate()[0].split())
    with LabelStore(store_url) as store:
        stored = {vote.vote_id for vote in store.votes()}
    assert {f"{writer}-{i}" for writer in range(2) for i in range(10)} <= acknowledged <= stored
    assert len(stored - acknowledged) <= 2  # at most the one vote that each was about to acknowledge


def test_a_backup_made_while_people_write_holds_what_was_acknowledged_before(tmp_path: Path, make_vote) -> None:
    """As the labelling guide has it: sqlite3's ``.backup`` of the running database, put in its place again."""
    url, copy = f"sqlite:///{tmp_path / 'labels.db'}", tmp_path / "copy.db"
    with LabelStore(url) as store, ThreadPoolExecutor(4) as pool:
        for i in range(20):
            store.add_vote(make_vote(f"before{i}"))
        later = [pool.submit(store.add_vote, make_vote(f"v{i}")) for i in range(40)]
        with closing(sqlite3.connect(tmp_path / "labels.db")) as source, closing(sqlite3.connect(copy)) as target:
            source.backup(target)
        assert all(job.result() for job in later)
    for file in tmp_path.glob("labels.db*"):
        file.unlink()
    copy.rename(tmp_path / "labels.db")
    with LabelStore(url) as restored:
        assert {f"before{i}" for i in range(20)} <= {vote.vote_id for vote in restored.votes()}
        assert restored.add_vote(make_vote("after"))


def test_an_empty_database_gets_the_schema_that_the_queries_use(store_url: str) -> None:
    engine = open_engine(store_url)
    found = inspect(engine)
    for table in (PAIRS, VOTES, JUDGEMENTS):
        assert {column["name"] for column in found.get_columns(table.name)} == set(table.c.keys())
    assert VERSION_TABLE in found.get_table_names()
    engine.dispose()


def test_a_newer_database_is_refused_in_one_sentence_and_left_alone(store_url: str, make_vote) -> None:
    with LabelStore(store_url) as store:
        store.add_vote(make_vote())
    engine = open_engine(store_url)
    with engine.begin() as connection:
        connection.execute(text(f"UPDATE {VERSION_TABLE} SET version_num = '9999'"))
    with pytest.raises(DataError, match=r"at schema 9999, newer than this gptsim-align.*pip install -U") as caught:
        LabelStore(store_url)
    assert "\n" not in str(caught.value)
    with engine.connect() as connection:
        assert connection.execute(text(f"SELECT version_num FROM {VERSION_TABLE}")).scalar() == "9999"
        assert connection.execute(text("SELECT count(*) FROM votes")).scalar() == 1
    engine.dispose()


def test_sqlite_is_set_to_lose_nothing(tmp_path: Path) -> None:
    engine = open_engine(f"sqlite:///{tmp_path / 'labels.db'}")
    with engine.connect() as connection:
        pragmas = {
            name: connection.execute(text(f"PRAGMA {name}")).scalar()
            for name in ("journal_mode", "synchronous", "foreign_keys")
        }
    engine.dispose()
    assert pragmas == {"journal_mode": "wal", "synchronous": 2, "foreign_keys": 1}  # 2 is FULL


def test_the_database_itself_refuses_orphans(store_url: str) -> None:
    from sqlalchemy.exc import IntegrityError

    LabelStore(store_url).close()
    engine = open_engine(store_url)
    row = {
        "vote_id": "v",
        "pair_id": "nowhere",
        "axis": "s",
        "vote": "a",
        "simulated": False,
        "guideline_version": "",
        "comment": "",
    }
    with pytest.raises(IntegrityError), engine.begin() as connection:
        connection.execute(VOTES.insert(), row)
    engine.dispose()


@pytest.mark.parametrize(
    ("url", "reason"),
    [
        ("labels.db", "not a database URL"),
        ("sqlite://", "in-memory database would lose"),
        ("sqlite:///{tmp}/no/such/labels.db", "folder of the label database .* does not exist"),
        ("mysql://host/labels", "can't be kept in 'mysql'"),
        ("sqlite:///{tmp}/text.db", "can't be opened: file is not a database"),
        ("sqlite:///{tmp}/other.db", "table pairs already exists"),
    ],
)
def test_a_bad_url_is_refused_with_the_reason(tmp_path: Path, url: str, reason: str) -> None:
    (tmp_path / "text.db").write_text("no database " * 100)
    other = sqlite3.connect(tmp_path / "other.db")
    other.execute("CREATE TABLE pairs (x)")
    other.close()
    with pytest.raises(DataError, match=reason):
        LabelStore(url.format(tmp=tmp_path))


def test_a_password_is_not_shown() -> None:
    pytest.importorskip("psycopg", reason="psycopg missing; run: pip install 'gptsim-align[test]'")
    with pytest.raises(DataError, match="postgresql") as caught:
        LabelStore("postgresql+psycopg://user:geheim@127.0.0.1:1/labels")
    assert "geheim" not in str(caught.value)


def test_a_missing_driver_names_the_extra(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "psycopg", None)
    with pytest.raises(MissingExtra, match=r"psycopg is not installed.*gptsim-align\[postgres\]"):
        LabelStore("postgresql://host/labels")


def test_votes_of_another_kind_can_not_be_built() -> None:
    with pytest.raises(ValueError, match="vote"):
        Vote(vote_id="v", pair_id="p", context_id="c", rollout_a="x", rollout_b="y", axis="s", vote="maybe")  # type: ignore[arg-type]
