from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import text

from align.errors import Conflict, DataError, Forbidden, NotFound
from align.io import sha256_folder
from align.preferences.accounts import Accounts, passwords
from align.preferences.campaign import Break
from align.preferences.campaign.withdrawal import AffectedModel, affected_models
from align.preferences.storage.store import JUDGEMENTS
from align.preferences.votes.schema import Judgement

PERSONAL = ("votes", "judgements", "flags", "breakpoints", "submissions", "leases", "sessions", "accounts", "annotators")


@pytest.fixture(autouse=True)
def cheap_hashes(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(passwords, "LOG2_N", 4)
    monkeypatch.setattr(passwords, "P", 1)


@pytest.fixture
def two_people(campaign, store, make_tasks, answer) -> Accounts:
    """Ann and Bob have each left something in every table; a third is the admin."""
    accounts = Accounts(store)
    accounts.redeem(accounts.invite("admin", ""), "root", "password of root")
    campaign.save_settings(campaign.settings().model_copy(update={"overlap": 2}))
    campaign.add_tasks(make_tasks(4))
    for name in ("ann", "bob"):
        accounts.redeem(accounts.invite("labeler", "root"), name, "password of " + name)
        accounts.sign_in(name, "password of " + name)
        with pytest.raises(Forbidden):
            accounts.sign_in(name, "wrong")
        accounts.invite("labeler", "root", annotator_id=name)
        accounts.invite("labeler", name)
        campaign.publish_guideline(f"text of {name[0].upper()}", name)
        leases = campaign.lease(name, 3)
        for number, lease in enumerate(leases[:2]):
            breaks = [Break(position=0, none=True)]
            campaign.submit(answer(lease, f"{name}-{number}", breaks=breaks, comment="said by " + name), name)
        campaign.submit(answer(leases[0], f"{name}-corrected", "tie"), name)
        campaign.flag("flag of " + name, leases[0].lease_id, 0, "harm", True, name)
        verdict = {"rollout_id": "r", "axis": "spill", "verdict": "fail", "annotator_id": name}
        store.add_judgements([Judgement.model_validate({"judgement_id": f"{name}-j", **verdict})])
    return accounts


def rows_of(store, name: str) -> dict[str, Any]:
    with store.engine.connect() as connection:
        return {
            table: sorted(
                map(str, connection.execute(text(f"SELECT * FROM {table} WHERE annotator_id = :name"), {"name": name}))
            )
            for table in PERSONAL
        }


def test_a_withdrawal_deletes_everything_of_one_and_nothing_of_others(campaign, store, two_people) -> None:
    others, mine = rows_of(store, "bob"), [vote.vote_id for vote in store.votes() if vote.annotator_id == "ann"]
    counts = campaign.withdraw("ann")
    assert counts.pop("vote_ids") == sorted(mine)
    assert counts == {
        "num_votes": 6,
        "num_judgements": 1,
        "num_breakpoints": 3,  # one of them says that the first is taken back
        "num_flags": 1,
        "num_submissions": 3,
        "num_leases": 3,
        "num_sessions": 1,
        "num_invitations": 1,
        "num_accounts": 1,
        "num_annotators": 1,
    }
    assert rows_of(store, "ann") == {table: [] for table in PERSONAL}
    assert rows_of(store, "bob") == others
    with store.engine.connect() as connection:
        for table in (*PERSONAL, "invitations", "guidelines", "sign_in_failures"):
            cells = str(connection.execute(text(f"SELECT * FROM {table}")).all())
            assert "ann" not in cells
    assert campaign.guideline("1").body == "text of A"  # stays, but not who wrote it
    assert two_people.accounts()[0].annotator_id == "root"
    with pytest.raises(Forbidden):
        two_people.sign_in("ann", "password of ann")


def test_a_withdrawn_admin_has_left_no_link_to_come_back_by(campaign, two_people) -> None:
    two_people.redeem(two_people.invite("admin", "root"), "eve")
    back_door, other = two_people.invite("admin", "eve"), two_people.invite("labeler", "root")
    two_people.redeem(two_people.invite("labeler", "eve"), "guest")
    campaign.withdraw("eve")
    assert two_people.invitation(back_door) is None
    assert two_people.invitation(other) is not None
    assert "guest" in {account.annotator_id for account in two_people.accounts()}


@pytest.mark.parametrize("store_url", ["sqlite"], indirect=True)  # PostgreSQL's files are the server's business
def test_the_file_forgets_as_well(campaign, store, two_people) -> None:
    folder = Path(store.engine.url.database).parent
    assert b"said by ann" in b"".join(file.read_bytes() for file in folder.iterdir())
    campaign.withdraw("ann")
    content = b"".join(file.read_bytes() for file in folder.iterdir())
    assert b"said by ann" not in content
    assert b"said by bob" in content


def test_withdrawn_work_is_open_again(campaign, two_people) -> None:
    assert len(campaign.lease("cay", 10)) == 4 - 3  # the other three have two annotators each
    campaign.withdraw("ann")
    assert len(campaign.lease("cay", 10)) == 4


def test_corrections_of_others_stay_and_correct_nothing(campaign, store) -> None:
    """Such a judgement is refused today; older imports let it in."""
    fields = {"rollout_id": "r", "axis": "spill", "verdict": "fail"}
    first = Judgement.model_validate({"judgement_id": "j1", "annotator_id": "ann", **fields})
    other = first.model_copy(update={"judgement_id": "j2", "annotator_id": "", "supersedes": "j1"})
    with pytest.raises(DataError, match="which has another annotator_id"):
        store.add_judgements([first, other])
    store.add_judgements([first])
    with store.engine.begin() as connection:
        connection.execute(JUDGEMENTS.insert(), other.model_dump() | {"annotator_id": None})
    campaign.withdraw("ann")
    assert [(row.judgement_id, row.supersedes) for row in store.judgements()] == [("j2", None)]


def test_who_may_not_go(campaign, store, two_people) -> None:
    with pytest.raises(NotFound, match="no annotator 'cay'"):
        campaign.withdraw("cay")
    with pytest.raises(Conflict, match="'root' is the last admin"):
        campaign.withdraw("root")
    assert len(store.votes()) == 12


def make_model(folder: Path, votes: list[str] | None, kind: str = "reward_model", **inputs: Path) -> Path:
    folder.mkdir(parents=True)
    if kind == "reward_model":
        (folder / "config.json").write_text(json.dumps({"format": "gptsim-reward-model", "name": folder.name}))
    else:
        (folder / "adapter_config.json").write_text("{}")
        if inputs:
            entries = {name: {"path": str(path), "sha256": sha256_folder(path)} for name, path in inputs.items()}
            (folder / "provenance.json").write_text(json.dumps({"inputs": entries}))
    if votes is not None:
        (folder / "votes_used.json").write_text(json.dumps(votes))
    return folder


def test_models_that_learned_from_withdrawn_votes_are_named(tmp_path: Path) -> None:
    reward = make_model(tmp_path / "runs" / "reward" / "model", ["v1", "v2", "v3"])
    clean = make_model(tmp_path / "runs" / "clean" / "model", ["v4"])
    unknown = make_model(tmp_path / "runs" / "old" / "model", None)
    tuned = make_model(tmp_path / "runs" / "dpo" / "adapter", None, "adapter", reward_model=reward)
    make_model(tmp_path / "runs" / "fine" / "adapter", None, "adapter", reward_model=clean)
    direct = make_model(tmp_path / "runs" / "votes" / "adapter", ["v2"], "adapter", rollouts=clean)
    second = make_model(tmp_path / "runs" / "again" / "adapter", None, "adapter", reward_model=clean, start=tuned)
    found = affected_models(["v1", "v2", "v9"], tmp_path / "runs")
    assert found == sorted(
        [
            AffectedModel(reward, "reward_model", 2, "it was trained on 2 of these votes"),
            AffectedModel(unknown, "reward_model", None, "its folder doesn't say which votes it was trained on"),
            AffectedModel(tuned, "adapter", 0, f"it was trained through {reward}"),
            AffectedModel(direct, "adapter", 1, "it was trained on 1 of these votes"),
            AffectedModel(second, "adapter", 0, f"it was trained through {tuned}"),
        ],
        key=lambda model: model.path,
    )


def test_a_model_is_known_by_its_hash_after_a_move_and_a_checkpoint_by_its_run(tmp_path: Path) -> None:
    reward = make_model(tmp_path / "elsewhere", ["v1"])
    adapter = make_model(tmp_path / "runs" / "dpo" / "adapter", None, "adapter", reward_model=reward)
    checkpoint = make_model(tmp_path / "runs" / "dpo" / "checkpoints" / "checkpoint-5", None, "adapter")
    inputs = json.loads((adapter / "provenance.json").read_text())["inputs"]
    (tmp_path / "runs" / "dpo" / "inputs.json").write_text(json.dumps(inputs))
    reward.rename(tmp_path / "runs" / "moved")
    found = affected_models(["v1"], tmp_path / "runs")
    assert [model.path for model in found] == [adapter, checkpoint, tmp_path / "runs" / "moved"]


def test_what_can_not_be_read_is_said(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="not a folder; give the one that holds your runs"):
        affected_models(["v1"], tmp_path / "none")
    model = make_model(tmp_path / "runs" / "model", ["v1"])
    (model / "votes_used.json").write_text("{}")
    with pytest.raises(DataError, match="not a list of vote ids; restore it"):
        affected_models(["v1"], tmp_path / "runs")
    (model / "votes_used.json").unlink()
    adapter = make_model(tmp_path / "runs" / "adapter", None, "adapter")
    (adapter / "provenance.json").write_text('{"inputs": [1]}')
    with pytest.raises(DataError, match=r"provenance.json is broken; restore it"):
        affected_models(["v1"], tmp_path / "runs")
