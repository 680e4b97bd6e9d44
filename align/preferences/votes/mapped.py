"""Read other people's tables through a ``VoteMapping``: one vote or judgement an answer, or every problem with its row.

Two things are settled here that such tables leave open:

- **Which rollout is a.** Tables ask the same pair in both orders. Unless a table names its pairs *and* their a and b, a is the
  rollout whose id sorts first, and the answers turn with it; so both orders are one pair.
- **Ids.** Where the table has none they are digests: a pair's of its context and rollouts, a vote's of pair, axis, annotator
  and time. Reading the table again gives the same ids, and a store takes it as known. A named annotator who answers one
  question twice without a time would need a guess, so that is a problem; answers without a name are counted.
"""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import date
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from align.preferences.votes.fields import pair_id_of
from align.preferences.votes.mapping import ANSWERS, COLUMN, WORDS, Answers, VoteMapping, split_slots
from align.preferences.votes.schema import Judgement, Vote, check_judgements, check_votes
from align.preferences.votes.tables import describe, is_missing, raise_problems, read_rows

FREE_TEXT = ("comment", "guideline_version")
_NO_ID = "\x7fno id\x7f"  # nobody's id, but a valid one
_OTHER = {"a": "b", "b": "a"}
_NUMBER = re.compile(r"[+-]?(\d+\.?\d*|\.\d+)([eE][+-]?\d+)?")
_RULE = re.compile(rf"(<=|>=|<|>|)\s*({_NUMBER.pattern})")

Row = Vote | Judgement


@dataclass(frozen=True)
class MappedRows:
    """What a table held.

    Attributes:
        rows: Votes, or judgements.
        places: Where each of them stood, such as "row 3, column 'VQ'"; row 1 is the first below a header.
        num_table_rows: Rows of the table.
        num_unanswered: Cells that the mapping translates to null.
    """

    rows: list[Any]
    places: list[str]
    num_table_rows: int
    num_unanswered: int


def read_mapped(path: str | Path, mapping: VoteMapping) -> MappedRows:
    """Read a CSV, TSV, JSON, JSONL or parquet table; raises DataError with every bad row."""
    return map_rows(read_rows(path), mapping, str(path))


def map_rows(table: Sequence[Mapping[str, Any]], mapping: VoteMapping, name: str = "the table") -> MappedRows:
    """Turn the rows of a table into votes or judgements.

    Args:
        table: One mapping a row.
        mapping: What the columns mean.
        name: How messages call the table.

    Raises:
        DataError: Columns are missing, or rows can't be taken; every problem is listed with its row.
    """
    columns = {key for row in table for key in row}
    raise_problems(name, _column_problems(columns, mapping) if table else [])
    rows: list[Row] = []
    places: list[str] = []
    problems: list[str] = []
    num_unanswered = 0
    for place, block, column, cells in _cells(table, columns, mapping):
        try:
            row = _read_answer(mapping, block, column, cells)
        except ValidationError as error:
            problems += [f"{place}: {describe(detail)}" for detail in error.errors()]
        except ValueError as error:
            problems.append(f"{place}: {error}")
        else:
            num_unanswered += row is None
            rows += [] if row is None else [row]
            places += [] if row is None else [place]
    raise_problems(name, problems)
    rows = _number(rows, places, name)
    check: Any = check_votes if mapping.kind == "votes" else check_judgements
    check(rows, name, places)
    return MappedRows(rows, places, len(table), num_unanswered)


def _column_problems(columns: set[str], mapping: VoteMapping) -> list[str]:
    answers = [column for block in mapping.answers for column in block.columns]
    texts = [text for fields in (mapping.fields, *(block.fields for block in mapping.answers)) for text in fields.values()]
    needed = {column for text in texts for _, column, _ in split_slots(text) if column}
    problems = []
    if COLUMN in needed & columns:
        problems.append(
            "{column} stands for the name of the answer's column, but the table has a column of that name; rename it"
        )
    needed = (needed - {COLUMN}).union(*(block.columns for block in mapping.answers if not block.optional))
    has = f"it has {', '.join(sorted(map(str, columns)))}"
    problems += [f"the column {column!r} is missing; {has}" for column in sorted(needed - columns)]
    if not columns & set(answers):
        problems.append(f"it has none of the answers' columns {', '.join(answers)}")
    return problems


def _cells(
    table: Sequence[Mapping[str, Any]], columns: set[str], mapping: VoteMapping
) -> Iterator[tuple[str, Answers, str, dict[str, str]]]:
    """Every answer: where it stands, its block, its column, and the cells of its row as text."""
    for number, row in enumerate(table, start=1):
        cells = {column: _cell_text(row.get(column)) for column in columns}
        for block in mapping.answers:
            for column in (column for column in block.columns if column in columns):
                item = "" if block.item is None else f" item {block.item}"
                yield f"row {number}, column {column!r}{item}", block, column, cells


def _cell_text(value: Any) -> str:
    if is_missing(value):
        return ""
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, float) and value.is_integer():
        return str(int(value))
    if isinstance(value, date):
        return value.isoformat()
    return json.dumps(value, ensure_ascii=False) if isinstance(value, list | dict) else str(value)


def _read_answer(mapping: VoteMapping, block: Answers, column: str, cells: Mapping[str, str]) -> Row | None:
    cell = cells[column] if block.item is None else _item(cells[column], block.item)
    answer_field = ANSWERS[mapping.kind]
    answer = _translate(mapping, answer_field, cell)
    if answer is None:
        return None
    if answer not in WORDS[answer_field]:
        raise ValueError(f"the answer is {answer!r}, not one of {', '.join(WORDS[answer_field])}; add translate.{answer_field}")
    texts = {**mapping.fields, **block.fields}
    filled = {field: _translate(mapping, field, _fill(field, text, column, cells)) for field, text in texts.items()}
    values = {field: value for field, value in filled.items() if value}
    if mapping.kind == "judgements":
        return Judgement.model_validate({"judgement_id": _NO_ID, **values, "verdict": answer})
    turned = _settle_sides(values, answer, keeps_order={"pair_id", "rollout_a"} <= set(values))
    vote = Vote.model_validate({"vote_id": _NO_ID, "pair_id": _NO_ID, **turned})
    pair_id = pair_id_of(vote.context_id, vote.rollout_a, vote.rollout_b)
    return vote if vote.pair_id != _NO_ID else vote.model_copy(update={"pair_id": pair_id})


def _item(cell: str, index: int) -> str:
    if not cell:
        return ""
    try:
        items = json.loads(cell)
    except (json.JSONDecodeError, RecursionError):
        items = None
    if not isinstance(items, list) or len(items) <= index:
        raise ValueError(f"the cell {cell!r} is not a list with an item {index}, counted from 0")
    return _cell_text(items[index])


def _fill(field: str, text: str, column: str, cells: Mapping[str, str]) -> str:
    slots = split_slots(text)
    alone = len(slots) == 2 and not slots[0][0] and not slots[1][0]
    parts = []
    for literal, name, hashed in slots:
        cell = column if name == COLUMN else cells.get(name, "")
        cell = cell if field in FREE_TEXT else cell.strip()
        if name and not (cell or alone or hashed or field in FREE_TEXT):
            raise ValueError(f"{field} needs the column {name!r}, which is empty here")
        # A missing prompt is no prompt to be grouped by; but an empty half of one has a digest like any other.
        parts += [literal, _digest(cell) if hashed and (cell or not alone) else cell if name else ""]
    return "".join(parts)


def _digest(*parts: str) -> str:
    return hashlib.sha256("\n".join(parts).encode()).hexdigest()[:20]


def _translate(mapping: VoteMapping, field: str, cell: str) -> str | None:
    """The value that a cell stands for: by the text itself, else by number (1 = 1.0) and the rules with <, <=, > and >=."""
    table = mapping.translate.get(field)
    text = cell.strip()
    if table is None or text in table:
        return cell if table is None else table[text]
    if _NUMBER.fullmatch(text):
        rules = [(rule[1], float(rule[2]), value) for key, value in table.items() if (rule := _RULE.fullmatch(key.strip()))]
        fitting = {value for sign, bound, value in rules if _holds(float(text), sign, bound)}
        if len(fitting) > 1:
            raise ValueError(f"{text!r} fits rules of translate.{field} that differ")
        if fitting:
            return fitting.pop()
    raise ValueError(f"{text!r} is not in translate.{field}, which knows {', '.join(map(repr, table))}")


def _holds(number: float, sign: str, bound: float) -> bool:
    return (
        (sign in ("", "<=", ">=") and number == bound)
        or (sign.startswith("<") and number < bound)
        or (sign.startswith(">") and number > bound)
    )


def _settle_sides(values: dict[str, str], answer: str, keeps_order: bool) -> dict[str, str]:
    """Say which rollout is a, and turn the answer and the side shown with it."""
    if ("left" in values) != ("right" in values):
        raise ValueError(f"{'right' if 'left' in values else 'left'} is empty")
    if "left" in values:
        values = {**values, "rollout_a": values["left"], "rollout_b": values["right"], "shown_left": "a"}
    values = {field: value for field, value in values.items() if field not in ("left", "right")}
    first, second = values.get("rollout_a"), values.get("rollout_b")
    side = values.get("shown_left")
    if side is not None and side not in _OTHER:
        if side not in (first, second):
            raise ValueError(f"shown_left is {side!r}; it must be a, b or one of the two rollouts")
        side = "a" if side == first else "b"
    if answer in ("left", "right"):
        if side is None:
            raise ValueError(f"the answer is {answer}, but nothing says which rollout stood on the left")
        answer = side if answer == "left" else _OTHER[side]
    if first is not None and first == second:
        values.setdefault("selection", "catch")
    if first and second and first > second and not keeps_order:
        values = {**values, "rollout_a": second, "rollout_b": first}
        answer, side = _OTHER.get(answer, answer), _OTHER.get(side or "")
    return {**values, "vote": answer} | ({"shown_left": side} if side else {})


def _number(rows: Sequence[Row], places: Sequence[str], name: str) -> list[Row]:
    """Give rows without an id one that comes from what they are about."""
    seen: dict[tuple[str, ...], list[str]] = {}
    problems = []
    numbered: list[Row] = []
    for row, place in zip(rows, places, strict=True):
        key, subject = ("vote_id", row.pair_id) if isinstance(row, Vote) else ("judgement_id", row.rollout_id)
        if getattr(row, key) != _NO_ID:
            numbered.append(row)
            continue
        about = (subject, row.axis, row.annotator_id, row.created_at or "")
        earlier = seen.setdefault(about, [])
        if earlier and row.annotator_id:
            problems.append(
                f"{place}: annotator {row.annotator_id!r} answers what {earlier[0]} answers already (axis {row.axis!r}); "
                f"remove one, or give the mapping a {key} or created_at that tells them apart"
            )
        numbered.append(row.model_copy(update={key: f"{key[:-3]}-{_digest(*about, str(len(earlier)))}"}))
        earlier.append(place)
    raise_problems(name, problems)
    return numbered
