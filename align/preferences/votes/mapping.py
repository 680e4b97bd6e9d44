"""How other people's tables become votes or judgements: a small file says which columns mean what.

    kind: votes                                # or judgements
    fields:                                    # {column} stands for that column's cell, {column:hash} for a short digest of it
      context_id: "{prompt:hash}"
      rollout_a: "{path_A}"
      rollout_b: "{path_B}"
    answers:                                   # every cell of these columns is one answer; {column} is the column's name
      - columns: [VQ, MQ, TA]
        fields: {axis: "{column}"}
    translate:                                 # field to (cell to value); "<0" and the like are rules; null is no answer
      vote: {A: a, B: b, same: tie}

Everything is checked before a row is read, and all problems are reported at once. ``mapped`` applies it.
"""

from __future__ import annotations

import difflib
import functools
import re
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, get_args

from align.errors import ConfigError
from align.preferences.votes.plain_yaml import read_plain
from align.preferences.votes.schema import Judgement, Verdict, Vote, VoteChoice

ANSWERS = {"votes": "vote", "judgements": "verdict"}
"""Kind of a mapping to the field that an answer becomes."""
WORDS = {"vote": (*get_args(VoteChoice), "left", "right"), "verdict": get_args(Verdict)}
FIELDS = {
    "votes": (*(key for key in Vote.model_fields if key != "vote"), "left", "right"),
    "judgements": tuple(key for key in Judgement.model_fields if key != "verdict"),
}
COLUMN = "column"
"""In braces, the name of the answer's column."""
BUILT_IN: dict[str, dict[str, Any]] = {
    # github.com/KwaiVGI/VideoAlign, datasets/train/README.md. Its loader takes "invalid" and empty labels as well, and the
    # table of its benchmark has the axis Overall.
    "videoalign": {
        "fields": {"context_id": "{prompt:hash}", "rollout_a": "{path_A}", "rollout_b": "{path_B}"},
        "answers": [{"columns": ["VQ", "MQ", "TA", "Overall"], "optional": "true", "fields": {"axis": "{column}"}}],
        "translate": {"vote": {"A": "a", "B": "b", "same": "tie", "invalid": "skip", "": "null"}},
    }
}
_SLOT = re.compile(r"\{([^{}]+?)(:hash)?\}")


@dataclass(frozen=True)
class Answers:
    """Columns whose cells are answers.

    Attributes:
        columns: Their names.
        fields: Fields of these answers only; they win over the mapping's.
        item: Which item of the cell, counted from 0, where cells hold lists such as ``[0.5, 1]``.
        optional: Whether a table may lack some of them.
    """

    columns: tuple[str, ...]
    fields: Mapping[str, str] = field(default_factory=dict)
    item: int | None = None
    optional: bool = False


@dataclass(frozen=True)
class VoteMapping:
    """What the columns of a table mean; the module's text shows the file that holds it.

    Attributes:
        answers: The columns that hold answers.
        fields: Field of ``Vote`` or ``Judgement`` to its text with ``{column}`` slots. ``left`` and ``right`` stand for
            ``rollout_a`` and ``rollout_b`` where a table tells who stood where.
        translate: Field to (cell to value); None means that nobody answered.
        kind: ``votes`` or ``judgements``.
    """

    answers: tuple[Answers, ...]
    fields: Mapping[str, str] = field(default_factory=dict)
    translate: Mapping[str, Mapping[str, str | None]] = field(default_factory=dict)
    kind: str = "votes"


@functools.cache
def split_slots(text: str) -> tuple[tuple[str, str, bool], ...]:
    """A field's text as (literal, column, hashed) in their order; the last one is a literal alone.

    Raises:
        ValueError: A brace has no partner.
    """
    parts, end = [], 0
    for slot in _SLOT.finditer(text):
        parts.append((text[end : slot.start()], slot[1], slot[2] is not None))
        end = slot.end()
    parts.append((text[end:], "", False))
    if any(set("{}") & set(literal) for literal, _, _ in parts):
        raise ValueError(f"{text!r} has a brace without its partner; write {{name}} for the cell of the column called name")
    return tuple(parts)


def read_mapping(source: str | Path, overrides: Mapping[str, str] | None = None) -> VoteMapping:
    """Read a mapping from a YAML or JSON file, or take a built-in one by its name.

    Args:
        source: A path, or a key of ``BUILT_IN``.
        overrides: Fields that are set beside those of the file, or instead of them.

    Raises:
        ConfigError: The file can't be read, or the mapping has problems; all of them are listed.
    """
    try:
        raw = BUILT_IN[source] if isinstance(source, str) and source in BUILT_IN else read_plain(Path(source))
    except (OSError, ValueError) as error:
        raise ConfigError(f"the mapping {source} can't be read: {getattr(error, 'strerror', None) or error}") from error
    if overrides and isinstance(raw, dict) and isinstance(raw.get("fields", {}), dict):
        raw = {**raw, "fields": {**raw.get("fields", {}), **overrides}}
    return make_mapping(raw, f"the mapping {source}")


def make_mapping(raw: Any, name: str = "the mapping") -> VoteMapping:
    """A mapping from dicts, lists and texts, as the file holds them; raises ConfigError with every problem."""
    problems: list[str] = []
    parts = _known_keys(raw, ("kind", "fields", "answers", "translate"), "the mapping", problems)
    kind = _choose(parts.get("kind", "votes"), tuple(ANSWERS), "kind", problems)
    blocks = parts.get("answers")
    if not isinstance(blocks, list) or not blocks:
        problems.append("answers must be a list of blocks such as {columns: [VQ], fields: {axis: quality}}")
        blocks = []
    mapping = VoteMapping(
        tuple(_answers(block, kind, f"answers[{number}]", problems) for number, block in enumerate(blocks)),
        _fields(parts.get("fields", {}), kind, "fields", problems),
        _translate(parts.get("translate", {}), problems),
        kind,
    )
    problems += _field_problems(mapping) + _translate_problems(mapping)
    if problems:
        raise ConfigError(f"{name} has {len(problems)} problem(s): {'; '.join(problems)}")
    return mapping


def _known_keys(raw: Any, known: Sequence[str], place: str, problems: list[str]) -> dict[str, Any]:
    if not isinstance(raw, dict):
        problems.append(f"{place} must hold names and values, got {raw!r}; the names are {', '.join(known)}")
        return {}
    for key in (key for key in raw if key not in known):
        match = difflib.get_close_matches(str(key), known, n=1)
        problems.append(f"{place} has the unknown name {key!r} ({f'did you mean {match[0]}?' if match else ', '.join(known)})")
    return {key: value for key, value in raw.items() if key in known}


def _choose(value: Any, allowed: Sequence[str], place: str, problems: list[str]) -> str:
    if value not in allowed:
        problems.append(f"{place} is {value!r}; allowed are {', '.join(allowed)}")
        return allowed[0]
    return str(value)


def _fields(raw: Any, kind: str, place: str, problems: list[str]) -> dict[str, str]:
    fields = _known_keys(raw, FIELDS[kind], place, problems)
    for key, value in fields.items():
        if not isinstance(value, str):
            problems.append(f"{place}.{key} must be one text, got {value!r}")
            continue
        try:
            split_slots(value)
        except ValueError as error:
            problems.append(f"{place}.{key}: {error}")
    return fields


def _answers(raw: Any, kind: str, place: str, problems: list[str]) -> Answers:
    parts = _known_keys(raw, ("columns", "fields", "item", "optional"), place, problems)
    columns = parts.get("columns")
    if not isinstance(columns, list) or not columns or not all(isinstance(column, str) for column in columns):
        problems.append(f"{place}.columns must be a list of column names, got {columns!r}")
        columns = []
    item = parts.get("item")
    if item is not None and not (isinstance(item, str) and item.isdecimal()):
        problems.append(f"{place}.item must be a whole number from 0 on, got {item!r}")
        item = None
    optional = _choose(parts.get("optional", "false"), ("false", "true"), f"{place}.optional", problems)
    fields = _fields(parts.get("fields", {}), kind, f"{place}.fields", problems)
    return Answers(tuple(columns), fields, None if item is None else int(item), optional == "true")


def _translate(raw: Any, problems: list[str]) -> dict[str, dict[str, str | None]]:
    if not isinstance(raw, dict):
        problems.append(f"translate must hold fields, each with its cells and their values, got {raw!r}")
        return {}
    tables = {}
    for name, table in raw.items():
        if not isinstance(table, dict) or not all(isinstance(value, str) for value in table.values()):
            problems.append(f"translate.{name} must hold cells and their values such as {{A: a, B: b}}, got {table!r}")
            table = {}
        tables[name] = {cell: None if value in ("null", "~", "") else value for cell, value in table.items()}
    return tables


def _field_problems(mapping: VoteMapping) -> list[str]:
    problems: list[str] = []
    for number, block in enumerate(mapping.answers):
        place, has = f"answers[{number}]", {*mapping.fields, *block.fields}
        needed = {"axis", "context_id" if mapping.kind == "votes" else "rollout_id"}
        problems += [f"{place}: no field says what {key} is" for key in sorted(needed - has)]
        clips = has & {"left", "right", "rollout_a", "rollout_b"}
        if mapping.kind == "votes" and clips not in ({"left", "right"}, {"rollout_a", "rollout_b"}):
            problems.append(f"{place}: give the fields rollout_a and rollout_b, or left and right, and nothing mixed")
        if {"left", "shown_left"} <= has:
            problems.append(f"{place}: left and right say already what shown_left would say; leave shown_left out")
    listed = Counter((column, block.item) for block in mapping.answers for column in block.columns)
    return problems + [f"answers list the column {column!r} twice" for (column, _), count in listed.items() if count > 1]


def _translate_problems(mapping: VoteMapping) -> list[str]:
    answer = ANSWERS[mapping.kind]
    mapped = set(mapping.fields).union(*(block.fields for block in mapping.answers))
    idle = [name for name in mapping.translate if name != answer and name not in mapped]
    problems = [f"translate.{name} has nothing to translate: no field has that name (answers are {answer})" for name in idle]
    values = {value for value in mapping.translate.get(answer, {}).values() if value is not None}
    bad = sorted(values - set(WORDS[answer]))
    problems += [f"translate.{answer} gives {value!r}; allowed are {', '.join(WORDS[answer])} and null" for value in bad]
    if values & {"left", "right"} and not mapped & {"left", "shown_left"}:
        problems.append("the answers left and right need the fields left and right, or shown_left, to say who stood where")
    if values & {"a", "b"} and "left" in mapped:
        problems.append("with the fields left and right the answers must be left and right as well, not a and b")
    return problems
