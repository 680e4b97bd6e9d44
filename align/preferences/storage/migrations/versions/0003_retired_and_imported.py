"""Gold tasks can be retired; flags and break-points can come from a file, without a submission or a time.

``taken_back`` marks a break-point that only says that an earlier one no longer holds, so that an exported table shows by itself
what counts.
"""

from contextlib import AbstractContextManager

import sqlalchemy as sa
from alembic import op
from alembic.operations import BatchOperations

revision = "0003"
down_revision = "0002"
_CHECKS = {"flags": "kind IN ('harm', 'broken')", "breakpoints": "severity BETWEEN 1 AND 3"}
# So far a corrected submission with fewer break-points replaced all of the one before without saying so in any row.
_TAKE_BACK = """
INSERT INTO breakpoints (breakpoint_id, submission_id, rollout_id, annotator_id, category, none, supersedes, created_at,
                         guideline_version, taken_back)
SELECT 'back-' || old.breakpoint_id, last.submission_id, old.rollout_id, old.annotator_id, '', false, old.breakpoint_id,
       last.created_at, '', true
FROM breakpoints AS old
JOIN submissions AS own ON own.submission_id = old.submission_id
JOIN submissions AS last
  ON last.row_id = (SELECT max(row_id) FROM submissions WHERE lease_id = own.lease_id) AND last.row_id > own.row_id
WHERE NOT EXISTS (SELECT 1 FROM breakpoints AS new WHERE new.supersedes = old.breakpoint_id)
"""


def upgrade() -> None:
    op.add_column("tasks", sa.Column("retired", sa.Boolean, nullable=False, server_default=sa.false()))
    with _altering("breakpoints") as table:
        table.add_column(sa.Column("taken_back", sa.Boolean, nullable=False, server_default=sa.false()))
        table.alter_column("submission_id", existing_type=sa.Text, nullable=True)
        table.alter_column("created_at", existing_type=sa.Text, nullable=True)
    with _altering("flags") as table:
        table.alter_column("created_at", existing_type=sa.Text, nullable=True)
    op.execute(_TAKE_BACK)


def downgrade() -> None:
    # Rows that the older schema can't hold.
    op.execute("DELETE FROM breakpoints WHERE submission_id IS NULL OR created_at IS NULL OR taken_back")
    op.execute("DELETE FROM flags WHERE created_at IS NULL")
    with _altering("flags") as table:
        table.alter_column("created_at", existing_type=sa.Text, nullable=False)
    with _altering("breakpoints") as table:
        table.alter_column("created_at", existing_type=sa.Text, nullable=False)
        table.alter_column("submission_id", existing_type=sa.Text, nullable=False)
        table.drop_column("taken_back")
    op.drop_column("tasks", "retired")


def _altering(table: str) -> AbstractContextManager[BatchOperations]:
    """SQLite alters a table by copying it, and the copy would lose constraints without a name."""
    on_sqlite = op.get_bind().dialect.name == "sqlite"
    return op.batch_alter_table(table, table_args=(sa.CheckConstraint(_CHECKS[table]),) if on_sqlite else ())
