"""The lineage: followed by content, drawn once, and safe to show."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from align.audit.ledger import Ledger, Lineage, Record
from align.audit.ledger.page import render_ledger
from align.io import atomic_write

HOSTILE = "<script>alert(1)</script>"


@pytest.fixture
def ledger(project: Path) -> Ledger:
    return Ledger(project / "runs" / "ledger.jsonl")


def test_the_tree_goes_from_the_report_down_to_the_clips(ledger: Ledger) -> None:
    records = ledger.read().records
    lineage = Lineage(records)
    assert [record.kind for record in lineage.ends()] == ["evaluate"]
    shown = [line.split(" (", 1)[0] + line.split(")", 1)[1] for line in lineage.text(records[4]).splitlines()[1:]]
    assert shown == [
        "└─ adapter: dpo-0/adapter, from record 3 (dpo, dpo-0)",
        "   ├─ rollouts: ../rollouts, from record 1 (rollout, rollout-0)",
        "   │  └─ contexts: ../clips, from record 0 (simulate, simulate-0)",
        "   └─ votes: ../votes.csv, from record 2 (votes)",
        "      └─ rollouts: ../rollouts, from record 1 (rollout, rollout-0), see above",
    ]


def test_a_copy_has_the_same_origin_and_an_unknown_file_is_a_source(ledger: Ledger, project: Path) -> None:
    atomic_write(project / "copy.csv", (project / "votes.csv").read_bytes())
    atomic_write(project / "found.csv", "1")
    inputs = {"copy": ledger.artefact(project / "copy.csv"), "found": ledger.artefact(project / "found.csv")}
    record = ledger.append("reward", inputs=inputs)
    text = Lineage(ledger.read().records).text(record)
    assert "copy: ../copy.csv" in text
    assert "from record 2 (votes)" in text
    assert "a source: no recorded step made it" in text


def test_what_was_made_later_is_no_origin(ledger: Ledger, project: Path) -> None:
    records = ledger.read().records
    early = Record(1, "", "early", inputs={"votes": ledger.artefact(project / "votes.csv")})
    assert Lineage(records).tree(early).inputs[0].record is None


def test_the_page_shows_every_record_and_runs_nothing(ledger: Ledger, tmp_path: Path, read_page: Callable[[Path], Any]) -> None:
    ledger.append(HOSTILE, HOSTILE, inputs={HOSTILE: ledger.read().records[0].outputs["out"]}, config={HOSTILE: HOSTILE})
    chain = ledger.read()
    lineage = Lineage(chain.records)
    atomic_write(tmp_path / "ledger.html", render_ledger(lineage, chain, lineage.ends()))
    seen = read_page(tmp_path / "ledger.html")
    assert not seen.named("script")
    assert len(seen.named("details")) == 6
    assert all(a["href"].startswith("#record-") for a in seen.named("a"))
    assert any(HOSTILE in text for _, text in seen.texts)
