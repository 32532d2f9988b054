"""The store's tables. Documents are kept as JSON text, exactly as they are written elsewhere."""

from __future__ import annotations

import sqlalchemy as sa

metadata = sa.MetaData()

experiments = sa.Table(
    "experiment",
    metadata,
    sa.Column("id", sa.String(200), primary_key=True),
    sa.Column("name", sa.String(200), nullable=False, index=True, unique=True),
    sa.Column("state", sa.String(16), nullable=False),
    sa.Column("created", sa.String(40), nullable=False),
    sa.Column("finished", sa.Integer, nullable=False, default=0),
    sa.Column("document", sa.Text, nullable=False),
)

trials = sa.Table(
    "trial",
    metadata,
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
