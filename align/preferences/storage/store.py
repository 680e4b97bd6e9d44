"""Where labels live: a store that loses nothing.

A vote is durable when ``add_vote`` returns. Adding the same vote again does nothing, so a client may resend whatever was not
acknowledged; adding another vote under a used id is refused. Nothing is updated or deleted: a correction is a new row.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from sqlalchemy import Boolean, Column, Connection, Engine, Float, Integer, MetaData, Table, Text, select

from align.preferences.storage.database import open_engine, writing
from align.preferences.storage.inserting import add_rows, fetch_rows, insert_new
from align.preferences.votes.schema import Judgement, Pair, Vote, check_judgements, check_votes
from align.preferences.votes.tables import raise_problems

DEFAULT_URL = "sqlite:///labels.db"

# Mirrors of what the migrations create, for queries only; keys and constraints stand in migrations/versions.
_meta = MetaData()
_TYPES: dict[str, Any] = {"simulated": Boolean, "response_time_s": Float(53)}


def _table(name: str, columns: Iterable[str]) -> Table:
    typed = [Column(column, _TYPES.get(column, Text)) for column in columns]
    return Table(name, _meta, Column("row_id", Integer, primary_key=True), *typed)


PAIRS = _table("pairs", Pair.model_fields)
VOTES = _table("votes", [key for key in Vote.model_fields if key not in ("context_id", "rollout_a", "rollout_b")])
JUDGEMENTS = _table("judgements", Judgement.model_fields)
ANNOTATORS = Table("annotators", _meta, Column("annotator_id", Text), Column("simulated", Boolean))


class LabelStore:
    """Votes, judgements and pairs in one database.

    Args:
        url: SQLAlchemy URL; the schema is created or migrated on opening.

    Raises:
        DataError: The database can't be opened or is newer than this code.
    """

    def __init__(self, url: str = DEFAULT_URL) -> None:
        self._engine = open_engine(url)

    def __enter__(self) -> LabelStore:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    @property
    def engine(self) -> Engine:
        """The engine that everything else in the same database uses."""
        return self._engine

    def close(self) -> None:
        """Close every connection."""
        self._engine.dispose()

    def add_vote(self, vote: Vote) -> bool:
        """Store one vote; True if it is new, False if exactly this vote was stored before."""
        return self.add_votes([vote]) == 1

    def add_votes(self, votes: Sequence[Vote], places: Sequence[str] | None = None) -> int:
        """Store votes, all or none, and the pairs and annotators they name.

        Args:
            votes: What to store.
            places: How errors call each of them; None counts them, "row 1" first.

        Returns:
            How many of them were new.

        Raises:
            DataError: A vote_id is taken by another vote, a pair or annotator is known differently, or a correction doesn't
                fit what it corrects; lists every problem.
        """
        check_votes(votes, places=places)
        pairs = {vote.pair_id: _pair_of(vote) for vote in votes}
        with writing(self._engine, bulk=len(votes) > 1) as connection:
            raise_problems("pairs", insert_pairs(connection, list(pairs.values()))[1])
            raise_problems("annotators", _insert_annotators(connection, votes))
            return add_rows(connection, VOTES, votes, "vote_id", _vote_from_row, places, _votes_query())

    def add_judgements(self, judgements: Sequence[Judgement], places: Sequence[str] | None = None) -> int:
        """Store single-clip judgements, all or none; arguments, result and errors as with ``add_votes``."""
        check_judgements(judgements, places=places)
        with writing(self._engine, bulk=len(judgements) > 1) as connection:
            raise_problems("annotators", _insert_annotators(connection, judgements))
            return add_rows(connection, JUDGEMENTS, judgements, "judgement_id", _judgement_from_row, places)

    def add_pairs(self, pairs: Sequence[Pair]) -> int:
        """Store pairs to be labelled, all or none; returns how many were new."""
        with writing(self._engine, bulk=len(pairs) > 1) as connection:
            added, problems = insert_pairs(connection, pairs)
            raise_problems("pairs", problems)
        return added

    def votes(self, axis: str | None = None) -> list[Vote]:
        """All stored votes, raw, in the order in which they came in; of one axis if it is given."""
        query = _votes_query()
        return [_vote_from_row(row) for row in self._read(query if axis is None else query.where(VOTES.c.axis == axis))]

    def pairs(self) -> list[Pair]:
        """All pairs, in the order in which they came in."""
        return [_pair_from_row(row) for row in self._read(select(PAIRS).order_by(PAIRS.c.row_id))]

    def judgements(self) -> list[Judgement]:
        """All single-clip judgements, in the order in which they came in."""
        return [_judgement_from_row(row) for row in self._read(select(JUDGEMENTS).order_by(JUDGEMENTS.c.row_id))]

    def annotators(self) -> dict[str, bool]:
        """Annotator id to whether it is a simulated one; annotators without an id are not listed."""
        return {row["annotator_id"]: row["simulated"] for row in self._read(select(ANNOTATORS))}

    def _read(self, query: Any) -> list[Mapping[str, Any]]:
        with self._engine.connect() as connection:
            return [dict(row) for row in connection.execute(query).mappings()]


def _votes_query() -> Any:
    joined = VOTES.join(PAIRS, VOTES.c.pair_id == PAIRS.c.pair_id)
    columns = [*VOTES.c, PAIRS.c.context_id, PAIRS.c.rollout_a, PAIRS.c.rollout_b]
    return select(*columns).select_from(joined).order_by(VOTES.c.row_id)


def _pair_fields(row: Vote | Pair) -> dict[str, str]:
    return {key: getattr(row, key) for key in ("pair_id", "context_id", "rollout_a", "rollout_b")}


def _pair_of(vote: Vote) -> Pair:
    return Pair.model_validate({**_pair_fields(vote), "selection": vote.selection})


def _pair_from_row(row: Mapping[str, Any]) -> Pair:
    fields = {key: row[key] for key in Pair.model_fields if key != "axes"}
    return Pair(**fields, axes=tuple(json.loads(row["axes"])))


def _vote_from_row(row: Mapping[str, Any]) -> Vote:
    return Vote(**{key: row[key] for key in Vote.model_fields} | {"annotator_id": row["annotator_id"] or ""})


def _judgement_from_row(row: Mapping[str, Any]) -> Judgement:
    return Judgement(**{key: row[key] for key in Judgement.model_fields} | {"annotator_id": row["annotator_id"] or ""})


def insert_pairs(connection: Connection, pairs: Sequence[Pair]) -> tuple[int, list[str]]:
    """Insert the pairs that are new; returns how many were, and what is wrong with the others."""
    ids = [pair.pair_id for pair in pairs]
    before = fetch_rows(connection, PAIRS, "pair_id", ids)
    fresh = [
        pair.model_dump() | {"axes": json.dumps(pair.axes, ensure_ascii=False)} for pair in pairs if pair.pair_id not in before
    ]
    added = insert_new(connection, PAIRS, "pair_id", fresh)
    stored = fetch_rows(connection, PAIRS, "pair_id", ids)
    problems = [
        f"pair {pair.pair_id!r} is already stored with another context or other rollouts"
        for pair in pairs
        if _pair_fields(pair) != _pair_fields(_pair_from_row(stored[pair.pair_id]))
    ]
    return added, problems


def _insert_annotators(connection: Connection, rows: Sequence[Vote | Judgement]) -> list[str]:
    named = [row for row in rows if row.annotator_id]
    fresh = {row.annotator_id: row.simulated for row in named}
    ids = list(fresh)
    values = [{"annotator_id": name, "simulated": simulated} for name, simulated in fresh.items()]
    insert_new(connection, ANNOTATORS, "annotator_id", values)
    stored = fetch_rows(connection, ANNOTATORS, "annotator_id", ids)
    mixed = {row.annotator_id for row in named if stored[row.annotator_id]["simulated"] != row.simulated}
    return [f"annotator {name!r} appears both as a person and as simulated; use two ids" for name in sorted(mixed)]
