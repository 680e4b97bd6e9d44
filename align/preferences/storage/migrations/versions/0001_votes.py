"""Pairs, annotators, votes and judgements.

The columns are written out here, not imported: a migration must go on doing what it did when it was released.
"""

import sqlalchemy as sa
from alembic import op

revision = "0001"
down_revision = None


def upgrade() -> None:
    op.create_table(
        "pairs",
        sa.Column("row_id", sa.Integer, primary_key=True),
        sa.Column("pair_id", sa.Text, nullable=False, unique=True),
        sa.Column("context_id", sa.Text, nullable=False, index=True),
        sa.Column("rollout_a", sa.Text, nullable=False),
        sa.Column("rollout_b", sa.Text, nullable=False),
        sa.Column("selection", sa.Text),
        sa.Column("axes", sa.Text, nullable=False),
    )
    op.create_table(
        "annotators",
        sa.Column("annotator_id", sa.Text, primary_key=True),
        sa.Column("simulated", sa.Boolean, nullable=False),
    )
    op.create_table(
        "votes",
        sa.Column("row_id", sa.Integer, primary_key=True),
        sa.Column("vote_id", sa.Text, nullable=False, unique=True),
        sa.Column("pair_id", sa.Text, sa.ForeignKey("pairs.pair_id"), nullable=False, index=True),
        sa.Column("axis", sa.Text, nullable=False, index=True),
        sa.Column("vote", sa.Text, sa.CheckConstraint("vote IN ('a', 'b', 'tie', 'both_bad', 'skip')"), nullable=False),
        sa.Column("annotator_id", sa.Text, sa.ForeignKey("annotators.annotator_id"), nullable=True, index=True),
        sa.Column("shown_left", sa.Text),
        sa.Column("selection", sa.Text),
        sa.Column("simulated", sa.Boolean, nullable=False),
        # Deferred, because a bulk import may bring a correction before the vote that it corrects.
        sa.Column("supersedes", sa.Text, sa.ForeignKey("votes.vote_id", deferrable=True, initially="DEFERRED"), index=True),
        sa.Column("response_time_s", sa.Float(53)),
        sa.Column("created_at", sa.Text),
        sa.Column("guideline_version", sa.Text, nullable=False),
        sa.Column("comment", sa.Text, nullable=False),
        sa.Column("ranking_id", sa.Text),
    )
    op.create_table(
        "judgements",
        sa.Column("row_id", sa.Integer, primary_key=True),
        sa.Column("judgement_id", sa.Text, nullable=False, unique=True),
        sa.Column("rollout_id", sa.Text, nullable=False, index=True),
        sa.Column("axis", sa.Text, nullable=False),
        sa.Column("verdict", sa.Text, sa.CheckConstraint("verdict IN ('pass', 'fail', 'unsure')"), nullable=False),
        sa.Column("annotator_id", sa.Text, sa.ForeignKey("annotators.annotator_id"), nullable=True),
        sa.Column("simulated", sa.Boolean, nullable=False),
        sa.Column("supersedes", sa.Text, sa.ForeignKey("judgements.judgement_id", deferrable=True, initially="DEFERRED")),
        sa.Column("response_time_s", sa.Float(53)),
        sa.Column("created_at", sa.Text),
        sa.Column("guideline_version", sa.Text, nullable=False),
        sa.Column("comment", sa.Text, nullable=False),
    )


def downgrade() -> None:
    for name in ("judgements", "votes", "annotators", "pairs"):
        op.drop_table(name)
