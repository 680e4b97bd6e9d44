"""A small project: clips, rollouts and votes on disk, and a ledger that says how an adapter came from them."""

from __future__ import annotations

from pathlib import Path

import pytest

from align.audit.ledger import Ledger
from align.io import atomic_write


@pytest.fixture
def project(tmp_path: Path) -> Path:
    """``clips/``, ``votes.csv``, ``runs/ledger.jsonl`` with five records, and what they name."""
    ledger = Ledger(tmp_path / "runs" / "ledger.jsonl")
    clips, rollouts, votes, adapter = (tmp_path / name for name in ("clips", "rollouts", "votes.csv", "runs/dpo-0/adapter"))
    for name in ("a.mp4", "b.mp4", "sub/c.mp4"):
        atomic_write(clips / name, f"film {name}")
        atomic_write(rollouts / name, f"dream {name}")
    atomic_write(votes, "vote_id,vote\n1,a\n")
    atomic_write(adapter / "adapter_model.safetensors", "weights")
    atomic_write(tmp_path / "runs" / "evaluate-0" / "report.json", "{}")
    film, dream, vote, tuned = (ledger.artefact(path) for path in (clips, rollouts, votes, adapter))
    ledger.append("simulate", "simulate-0", outputs={"out": film}, config={"seed": 0})
    ledger.append("rollout", "rollout-0", inputs={"contexts": film}, outputs={"out": dream}, config={"temperature": 0.7})
    ledger.append("votes", inputs={"rollouts": dream}, outputs={"votes": vote}, config={"note": "Zoë & 漢字\u2028"})
    ledger.append("dpo", "dpo-0", inputs={"rollouts": dream, "votes": vote}, outputs={"out": tuned}, versions={"torch": "2"})
    report = ledger.artefact(tmp_path / "runs" / "evaluate-0" / "report.json")
    ledger.append("evaluate", "evaluate-0", inputs={"adapter": tuned}, outputs={"report": report})
    return tmp_path
