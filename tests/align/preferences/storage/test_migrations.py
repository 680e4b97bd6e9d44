"""A database of an older version opens with everything that was in it."""

from __future__ import annotations

from typing import Any

import pytest
from alembic import command
from alembic.config import Config
from sqlalchemy import Engine, inspect, text

from align.preferences.campaign import Break, Campaign
from align.preferences.storage.campaign_tables import ALL
from align.preferences.storage.database import MIGRATIONS, VERSION_TABLE, open_engine, writing
from align.preferences.storage.store import LabelStore


def downgrade(engine: Engine, revision: str) -> None:
    config = Config()
    config.set_main_option("script_location", str(MIGRATIONS))
    with writing(engine, bulk=True) as connection:
        config.attributes.update(connection=connection, version_table=VERSION_TABLE)
        command.downgrade(config, revision)


def shape(engine: Engine) -> dict[str, Any]:
    """Columns, indexes and foreign keys of every table."""
    found = inspect(engine)
    return {
        name: (
            sorted((column["name"], str(column["type"]), column["nullable"]) for column in found.get_columns(name)),
            sorted(str((index["name"], index["unique"])) for index in found.get_indexes(name)),
            sorted(str(key["constrained_columns"]) for key in found.get_foreign_keys(name)),
            sorted(str(check["sqltext"]).strip("()") for check in found.get_check_constraints(name)),
        )
        for name in found.get_table_names()
    }


def test_the_tables_are_those_that_the_queries_use(store: LabelStore) -> None:
    found = inspect(store.engine)
    for table in ALL:
        assert {column["name"] for column in found.get_columns(table.name)} == set(table.c.keys()), table.name


@pytest.mark.parametrize("revision", ["0001", "0002"])
def test_upgrading_again_gives_the_same_tables(store_url: str, revision: str) -> None:
    engine = open_engine(store_url)
    before = shape(engine)
    downgrade(engine, revision)
    assert shape(engine) != before
    engine.dispose()
    again = open_engine(store_url)
    assert shape(again) == before
    again.dispose()


def test_labels_of_the_second_version_are_kept(store: LabelStore, campaign: Campaign, make_tasks, answer) -> None:
    campaign.add_tasks(make_tasks(2))
    first, second = campaign.lease("ann", 2)
    marks = [Break(position=0, time_s=time_s, severity=1) for time_s in (0.1, 0.3)]
    campaign.submit(answer(first, "s1", breaks=marks), "ann")
    campaign.submit(answer(second, "s2", breaks=[Break(position=1, none=True)]), "ann")
    campaign.flag("f1", first.lease_id, 0, "harm", True, "ann", "blood")
    campaign.submit(answer(first, "s3", breaks=[Break(position=0, time_s=0.2, severity=3)]), "ann")
    kept = store.votes(), campaign.flags(), campaign.breakpoints(), campaign.tasks()
    assert [row.time_s for row in kept[2]] == [None, 0.2]
    downgrade(store.engine, "0002")
    with store.engine.connect() as connection:
        assert connection.execute(text("SELECT count(*) FROM breakpoints")).scalar() == 4
    with LabelStore(store.engine.url.render_as_string(hide_password=False)) as upgraded:
        campaign = Campaign(upgraded)
        assert (upgraded.votes(), campaign.flags(), campaign.breakpoints(), campaign.tasks()) == kept
        assert [row.taken_back for row in campaign.breakpoints(effective=False)] == [False] * 4 + [True]
