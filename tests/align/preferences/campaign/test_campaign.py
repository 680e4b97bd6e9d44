"""Settings, tasks, guidelines and secrets of a campaign, and the way from an older database."""

from __future__ import annotations

from pathlib import Path

import pytest
from alembic import command
from alembic.config import Config
from sqlalchemy import inspect, text

from align.errors import Conflict, DataError
from align.preferences.campaign import AxisSetting, Campaign, Settings, Task, parse
from align.preferences.pairing import candidate_pairs
from align.preferences.storage import campaign_tables, database
from align.preferences.storage.store import LabelStore
from align.preferences.votes.fields import pair_id_of


def test_settings_come_back_for_everybody(store_url: str) -> None:
    settings = Settings(axes=(AxisSetting(name="spill", question="Which spills less?"),), overlap=3, policy="hybrid", blur=True)
    with LabelStore(store_url) as first, LabelStore(store_url) as second:
        assert Campaign(first).settings() == Settings()
        Campaign(first).save_settings(settings)
        assert Campaign(second).settings() == settings
        Campaign(second).save_settings(Settings())
        assert Campaign(first).settings() == Settings()


@pytest.mark.parametrize(
    ("fields", "reason"),
    [
        ({"policy": "hybrid", "random_share": 0.1}, "random_share must be at least 0.2"),
        ({"policy": "active", "random_share": 0.1}, "random_share must be at least 0.2"),
        ({"catch_share": 0.6, "gold_share": 0.6}, "must not exceed 1"),
        ({"axes": [{"name": "a"}, {"name": "a"}]}, "different names"),
        ({"overlap": 0}, "overlap"),
        ({"clips_per_task": 5}, "clips_per_task"),
        ({"lease_s": float("inf")}, "lease_s"),
        ({"colour": "red"}, "colour"),
    ],
)
def test_settings_are_checked_in_one_sentence(fields: dict, reason: str) -> None:
    with pytest.raises(DataError, match=reason) as caught:
        parse(Settings, fields)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("fields", "reason"),
    [
        ({"rollouts": ["x", "x"]}, "different ones"),
        ({"rollouts": ["x", "y"], "selection": "catch"}, "same rollout twice"),
        ({"rollouts": []}, "rollouts"),
        ({"rollouts": list("abcde")}, "rollouts"),
        ({"selection": "gold"}, "a gold task needs known answers"),
        ({"gold": {"spill": "a"}}, "only a gold task has them"),
        ({"selection": "gold", "gold": {"spill": "left"}}, "allowed are a, b, tie, both_bad"),
        ({"selection": "gold", "gold": {"grace": "a"}, "axes": ["spill"]}, "doesn't fit"),
        ({"selection": "gold", "gold": {"spill": "a"}, "rollouts": ["x", "y", "z"]}, "allowed are none"),
        ({"axes": ["spill", "spill"]}, "axes must be different"),
        ({"priority": float("nan")}, "priority"),
    ],
)
def test_tasks_are_checked(fields: dict, reason: str) -> None:
    good = {"task_id": "t", "context_id": "c", "rollouts": ["x", "y"]}
    parse(Task, good)
    with pytest.raises(DataError, match=reason):
        parse(Task, {**good, **fields})


def test_tasks_are_stored_once(campaign, make_tasks, store) -> None:
    tasks = [*make_tasks(3, 3, axes=("spill",)), *make_tasks(1, prefix="g", selection="gold", gold={"spill": "tie"})]
    assert (campaign.add_tasks(tasks), campaign.add_tasks(tasks)) == (4, 0)
    assert campaign.tasks() == tasks
    assert len(store.pairs()) == 3 * 3 + 1
    changed = [*make_tasks(1, prefix="new"), tasks[1].model_copy(update={"axes": ("success",)})]
    with pytest.raises(Conflict, match=r"1 task_id\(s\) are taken by tasks of another content: 't1'"):
        campaign.add_tasks(changed)
    with pytest.raises(Conflict, match="'twice'"):
        campaign.add_tasks([task.model_copy(update={"task_id": "twice"}) for task in make_tasks(2)])
    assert campaign.tasks() == tasks


def test_pairs_of_tasks_have_the_ids_that_pairing_gives(campaign, store, make_rollouts) -> None:
    pairs = candidate_pairs(make_rollouts(2, 3), ["spill"], seed=0)
    campaign.add_tasks([Task(task_id=p.pair_id, context_id=p.context_id, rollouts=(p.rollout_a, p.rollout_b)) for p in pairs])
    assert {pair.pair_id for pair in store.pairs()} == {pair.pair_id for pair in pairs}
    assert pair_id_of("c", "a", "b") != pair_id_of("c", "b", "a")


def test_more_tasks_than_one_query_holds(campaign, make_tasks, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(campaign_tables, "CHUNK", 4)
    tasks = make_tasks(11)
    assert (campaign.add_tasks(tasks), campaign.add_tasks(tasks)) == (11, 0)
    assert len(campaign.lease("ann", 20)) == 11


def test_guidelines_have_versions(campaign) -> None:
    assert campaign.guideline() is None
    assert campaign.publish_guideline("Look at the cup.", "root") == "1"
    assert campaign.publish_guideline("Look at the *cup*.", "root") == "2"
    assert campaign.publish_guideline("Look at the *cup*.", "root") == "2"
    newest, first = campaign.guideline(), campaign.guideline("1")
    assert (newest.version, newest.body) == ("2", "Look at the *cup*.")
    assert first.body == "Look at the cup."
    assert campaign.guideline("3") is None
    for bad in ("  ", "\x00", "x" * 200_001):
        with pytest.raises(DataError, match="a guideline needs"):
            campaign.publish_guideline(bad, "root")


def test_the_secret_is_drawn_once(store_url: str) -> None:
    with LabelStore(store_url) as store:
        secret = Campaign(store).secret()
        assert Campaign(store).secret() == secret
    with LabelStore(store_url) as store:
        assert Campaign(store).secret() == secret
    assert len(secret) == 32


def test_the_queries_see_the_tables_as_they_are(store) -> None:
    found = inspect(store.engine)
    for table in campaign_tables.ALL:
        columns = {column["name"]: column for column in found.get_columns(table.name)}
        assert set(columns) == set(table.c.keys())
        for column in table.c:
            assert isinstance(columns[column.name]["type"], type(column.type)), f"{table.name}.{column.name}"


def test_an_older_database_keeps_its_votes(store_url: str, make_vote, monkeypatch: pytest.MonkeyPatch) -> None:
    """A store that was made before campaigns existed, with votes in it, takes part in one."""
    upgrade = command.upgrade

    def only_first(config: Config, _revision: str) -> None:
        upgrade(config, "0001")

    with monkeypatch.context() as patch:
        patch.setattr(database.command, "upgrade", only_first)
        old = LabelStore(store_url)
    vote = make_vote("v1", annotator_id="ann", rollout_a="t0-r0", rollout_b="t0-r1")
    old.add_vote(vote)
    assert "tasks" not in inspect(old.engine).get_table_names()
    old.close()
    with LabelStore(store_url) as store:
        assert store.votes() == [vote]
        with store.engine.connect() as connection:
            assert connection.execute(text(f"SELECT version_num FROM {database.VERSION_TABLE}")).scalar() == "0003"
        campaign = Campaign(store)
        campaign.add_tasks([Task(task_id="t", context_id="c1", rollouts=("t0-r0", "t0-r1"), axes=("spill",))])
        assert len(campaign.lease("ann", 1)) == 1


def test_the_way_back_leaves_votes_alone(store_url: str, make_vote) -> None:
    with LabelStore(store_url) as store:
        store.add_vote(make_vote())
        config = Config()
        config.set_main_option("script_location", str(Path(database.__file__).parent / "migrations"))
        with store.engine.begin() as connection:
            config.attributes.update(connection=connection, version_table=database.VERSION_TABLE)
            command.downgrade(config, "0001")
        assert store.votes() == [make_vote()]
        assert "leases" not in inspect(store.engine).get_table_names()


@pytest.mark.parametrize("store_url", ["postgresql"], indirect=True)
def test_a_server_that_acknowledges_before_it_stores_is_refused(store_url: str) -> None:
    LabelStore(store_url).close()
    with pytest.raises(DataError, match="may lose what it has acknowledged; set synchronous_commit to on"):
        LabelStore(f"{store_url}%20-csynchronous_commit%3Doff")
