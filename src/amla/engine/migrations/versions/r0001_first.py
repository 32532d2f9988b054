"""Experiments and trials."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0001"
down_revision = None
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.create_table(
        "experiment",
        sa.Column("id", sa.String(200), primary_key=True),
        sa.Column("name", sa.String(200), nullable=False),
        sa.Column("state", sa.String(16), nullable=False),
        sa.Column("created", sa.String(40), nullable=False),
        sa.Column("finished", sa.Integer, nullable=False),
        sa.Column("document", sa.Text, nullable=False),
    )
    op.create_index("ix_experiment_name", "experiment", ["name"], unique=True)
    op.create_table(
        "trial",
        sa.Column("experiment", sa.String(200), sa.ForeignKey("experiment.id", ondelete="CASCADE"), primary_key=True),
        sa.Column("number", sa.Integer, primary_key=True),
        sa.Column("seed", sa.BigInteger, nullable=False),
        sa.Column("state", sa.String(16), nullable=False),
        sa.Column("attempt", sa.Integer, nullable=False),
        sa.Column("finished_seq", sa.Integer, nullable=True),
        sa.Column("handle", sa.Text, nullable=True),
        sa.Column("spec", sa.Text, nullable=False),
        sa.Column("result", sa.Text, nullable=True),
        sa.UniqueConstraint("experiment", "finished_seq", name="one_place_in_the_order"),
    )


def downgrade() -> None:
    op.drop_table("trial")
    op.drop_table("experiment")
