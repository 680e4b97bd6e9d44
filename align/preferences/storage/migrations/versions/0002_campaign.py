"""Accounts, tasks, leases, submissions, flags and break-points: what a labelling campaign needs beside the votes.

The columns are written out here, not imported: a migration must go on doing what it did when it was released.
"""

import sqlalchemy as sa
from alembic import op

revision = "0002"
down_revision = "0001"


def upgrade() -> None:
    _create_people()
    _create_campaign()
    _create_work()
    _create_marks()
    # Without them, deleting one person's judgements would look through everybody's.
    op.create_index("ix_judgements_annotator_id", "judgements", ["annotator_id"])
    op.create_index("ix_judgements_supersedes", "judgements", ["supersedes"])


def _create_people() -> None:
    op.create_table(
        "accounts",
        sa.Column("annotator_id", sa.Text, sa.ForeignKey("annotators.annotator_id"), primary_key=True),
        sa.Column("role", sa.Text, sa.CheckConstraint("role IN ('labeler', 'admin')"), nullable=False),
        sa.Column("password_hash", sa.Text),
        sa.Column("disabled", sa.Boolean, nullable=False),
        sa.Column("created_at", sa.Text, nullable=False),
    )
    op.create_table(
        "invitations",
        sa.Column("token_hash", sa.Text, primary_key=True),
        sa.Column("role", sa.Text, sa.CheckConstraint("role IN ('labeler', 'admin')"), nullable=False),
        sa.Column("annotator_id", sa.Text),
        sa.Column("created_by", sa.Text, nullable=False),
        sa.Column("created_at", sa.Text, nullable=False),
        sa.Column("expires_at", sa.Text, nullable=False),
        sa.Column("used_at", sa.Text),
    )
    op.create_table(
        "sessions",
        sa.Column("token_hash", sa.Text, primary_key=True),
        sa.Column("annotator_id", sa.Text, sa.ForeignKey("accounts.annotator_id"), nullable=False, index=True),
        sa.Column("created_at", sa.Text, nullable=False),
        sa.Column("expires_at", sa.Text, nullable=False, index=True),
    )
    op.create_table(
        "sign_in_failures",
        sa.Column("row_id", sa.Integer, primary_key=True),
        sa.Column("name", sa.Text, nullable=False, index=True),
        sa.Column("address", sa.Text, nullable=False, index=True),
        sa.Column("at", sa.Text, nullable=False, index=True),
    )


def _create_campaign() -> None:
    op.create_table(
        "settings",
        sa.Column("key", sa.Text, primary_key=True),
        sa.Column("value", sa.Text, nullable=False),
        sa.Column("updated_at", sa.Text, nullable=False),
    )
    op.create_table(
        "guidelines",
        sa.Column("row_id", sa.Integer, primary_key=True),
        sa.Column("version", sa.Text, nullable=False, unique=True),
        sa.Column("body", sa.Text, nullable=False),
        sa.Column("created_at", sa.Text, nullable=False),
        sa.Column("created_by", sa.Text, nullable=False),
    )
    op.create_table(
        "tasks",
        sa.Column("row_id", sa.Integer, primary_key=True),
        sa.Column("task_id", sa.Text, nullable=False, unique=True),
        sa.Column("context_id", sa.Text, nullable=False),
        sa.Column("rollouts", sa.Text, nullable=False),
        sa.Column("axes", sa.Text, nullable=False),
        sa.Column("selection", sa.Text, nullable=False),
        sa.Column("priority", sa.Float(53)),
        sa.Column("gold", sa.Text),
        sa.Column("created_at", sa.Text, nullable=False),
        # Which pairs of the table "pairs" its clips make, as [[pair_id, index of a, index of b], ...].
        sa.Column("pairs", sa.Text, nullable=False),
        sa.Column("num_clips", sa.Integer, nullable=False),
        # The place in the random order, uniform in [0, 1).
        sa.Column("sort_key", sa.Float(53), nullable=False),
        # Derived from the settings and the leases, so that the next task is found by an index.
        sa.Column("queue", sa.Text, nullable=False),
        sa.Column("is_full", sa.Boolean, nullable=False),
        # As what the task was first asked: a random one that was picked for its priority is an active one.
        sa.Column("drawn", sa.Text),
    )
    op.create_index("ix_tasks_random", "tasks", ["queue", "is_full", "sort_key"])
    postgres = op.get_bind().dialect.name == "postgresql"
    by_priority = sa.text("priority DESC NULLS LAST" if postgres else "priority DESC")  # SQLite puts NULL last by itself
    op.create_index("ix_tasks_active", "tasks", ["queue", "is_full", by_priority, "sort_key"])


def _create_work() -> None:
    op.create_table(
        "leases",
        sa.Column("lease_id", sa.Text, primary_key=True),
        sa.Column("task_id", sa.Text, sa.ForeignKey("tasks.task_id"), nullable=False),
        sa.Column("annotator_id", sa.Text, sa.ForeignKey("annotators.annotator_id"), nullable=False),
        sa.Column("shown", sa.Text, nullable=False),
        sa.Column("issued_at", sa.Text, nullable=False),
        sa.Column("expires_at", sa.Text, nullable=False),
        sa.Column("state", sa.Text, sa.CheckConstraint("state IN ('open', 'done', 'returned')"), nullable=False),
        sa.Column("done_at", sa.Text),
        # Done by skipping everything, which leaves the work to somebody else.
        sa.Column("skipped", sa.Boolean, nullable=False),
        # From when on its task must be counted anew: the expiry of an open lease, '' for at once, NULL for settled.
        sa.Column("settle_at", sa.Text, index=True),
        sa.UniqueConstraint("annotator_id", "task_id", name="uq_leases_annotator_task"),
    )
    op.create_index("ix_leases_task", "leases", ["task_id", "state", "skipped"])
    op.create_index("ix_leases_annotator", "leases", ["annotator_id", "state", "done_at"])
    op.create_table(
        "submissions",
        sa.Column("row_id", sa.Integer, primary_key=True),
        sa.Column("submission_id", sa.Text, nullable=False, unique=True),
        sa.Column("lease_id", sa.Text, sa.ForeignKey("leases.lease_id"), nullable=False, index=True),
        sa.Column("annotator_id", sa.Text, sa.ForeignKey("annotators.annotator_id"), nullable=False, index=True),
        sa.Column("digest", sa.Text, nullable=False),
        sa.Column("created_at", sa.Text, nullable=False),
    )


def _create_marks() -> None:
    op.create_table(
        "flags",
        sa.Column("row_id", sa.Integer, primary_key=True),
        sa.Column("flag_id", sa.Text, nullable=False, unique=True),
        sa.Column("rollout_id", sa.Text, nullable=False, index=True),
        sa.Column("annotator_id", sa.Text, sa.ForeignKey("annotators.annotator_id"), nullable=False, index=True),
        sa.Column("kind", sa.Text, sa.CheckConstraint("kind IN ('harm', 'broken')"), nullable=False),
        sa.Column("raised", sa.Boolean, nullable=False),
        sa.Column("created_at", sa.Text, nullable=False),
        sa.Column("comment", sa.Text, nullable=False),
    )
    op.create_table(
        "breakpoints",
        sa.Column("row_id", sa.Integer, primary_key=True),
        sa.Column("breakpoint_id", sa.Text, nullable=False, unique=True),
        sa.Column("submission_id", sa.Text, sa.ForeignKey("submissions.submission_id"), nullable=False, index=True),
        sa.Column("rollout_id", sa.Text, nullable=False, index=True),
        sa.Column("annotator_id", sa.Text, sa.ForeignKey("annotators.annotator_id"), nullable=False, index=True),
        sa.Column("time_s", sa.Float(53)),
        sa.Column("frame_idx", sa.Integer),
        sa.Column("category", sa.Text, nullable=False),
        sa.Column("severity", sa.Integer, sa.CheckConstraint("severity BETWEEN 1 AND 3")),
        sa.Column("none", sa.Boolean, nullable=False),
        sa.Column("supersedes", sa.Text),
        sa.Column("created_at", sa.Text, nullable=False),
        sa.Column("guideline_version", sa.Text, nullable=False),
    )


def downgrade() -> None:
    for index in ("ix_judgements_supersedes", "ix_judgements_annotator_id"):
        op.drop_index(index, "judgements")
    for name in ("breakpoints", "flags", "submissions", "leases", "tasks", "guidelines", "settings"):
        op.drop_table(name)
    for name in ("sign_in_failures", "sessions", "invitations", "accounts"):
        op.drop_table(name)
