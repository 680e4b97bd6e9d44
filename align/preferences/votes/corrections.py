"""What no single row of a table can show: repeated ids, and corrections that don't fit what they correct."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

SUBJECT = {
    "vote_id": ("pair_id", "axis", "annotator_id"),
    "judgement_id": ("rollout_id", "axis", "annotator_id"),
    "breakpoint_id": ("rollout_id", "annotator_id"),
}
"""The id of rows that can be corrected, to the fields in which a correction must be like what it corrects."""


def number_rows(rows: Sequence[object], places: Sequence[str] | None = None) -> Sequence[str]:
    """How messages call each row: as ``places`` says, or "row 1" first."""
    return places if places is not None else [f"row {number}" for number in range(1, len(rows) + 1)]


def table_problems(rows: Sequence[Any], key: str, places: Sequence[str]) -> list[str]:
    """What is wrong with the rows of one table, taken together.

    Args:
        rows: Models with an id and, where ``SUBJECT`` has it, ``supersedes``. Corrections of rows outside aren't judged.
        key: Name of the id.
        places: How messages call each row.
    """
    problems = _repeats(rows, key, places)
    if key in SUBJECT:
        by_id = {getattr(row, key): row for row in rows}
        for place, row in zip(places, rows, strict=True):
            if row.supersedes in by_id:
                problems += [f"{place}: {problem}" for problem in supersede_problems(row, by_id[row.supersedes], key)]
        problems += _circles(by_id)
    return problems


def supersede_problems(row: Any, target: Any, key: str) -> list[str]:
    """What is wrong with ``row`` as a correction of ``target``."""
    differing = [field for field in SUBJECT[key] if getattr(row, field) != getattr(target, field)]
    return [f"it supersedes {getattr(target, key)!r}, which has another {field}" for field in differing]


def _repeats(rows: Sequence[Any], key: str, places: Sequence[str]) -> list[str]:
    first: dict[str, str] = {}
    problems = []
    for place, row in zip(places, rows, strict=True):
        name = getattr(row, key)
        if first.setdefault(name, place) != place:
            problems.append(f"{place}: {key} {name!r} repeats that of {first[name]}")
    return problems


def _circles(by_id: Mapping[str, Any]) -> list[str]:
    done: set[str] = set()
    problems = []
    for start in by_id:
        chain: list[str] = []
        current: str | None = start
        while current is not None and current in by_id and current not in done and current not in chain:
            chain.append(current)
            current = by_id[current].supersedes
        if current is not None and current in chain:
            circle = [*chain[chain.index(current) :], current]
            problems.append(f"the corrections {' -> '.join(circle)} go in a circle")
        done.update(chain)
    return problems
