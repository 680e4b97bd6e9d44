"""The ledger as one web page: the lineage as a tree, and every record in full."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import asdict
from typing import Any

from align.audit.ledger.chain import Chain
from align.audit.ledger.lineage import Branch, Lineage, describe_branch
from align.audit.ledger.records import Record
from align.audit.pages import make_environment


def render_ledger(lineage: Lineage, chain: Chain, roots: Sequence[Record]) -> str:
    """The page as text; it asks no server for anything."""
    return (
        make_environment()
        .get_template("ledger.html.jinja")
        .render(
            trees=[_branch(lineage.tree(root)) for root in roots],
            records=[{"name": record.describe(), "hash": record.hash, "text": _pretty(record)} for record in chain.records],
            head=chain.head,
            fault=chain.fault,
        )
    )


def _branch(branch: Branch) -> dict[str, Any]:
    anchor = branch.record.index if branch.record is not None else None
    return {"text": describe_branch(branch), "record": anchor, "inputs": [_branch(part) for part in branch.inputs]}


def _pretty(record: Record) -> str:
    return json.dumps(asdict(record), indent=2, sort_keys=True, ensure_ascii=False)
