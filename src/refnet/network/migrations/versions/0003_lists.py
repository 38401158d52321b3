"""Indexes for lists of papers: the most cited first, of all and of a venue."""

from __future__ import annotations

from alembic import op

revision = "0003"
down_revision = "0002"
branch_labels = None
depends_on = None

# A venue has any length, and an index takes 2,700 bytes at most.
LISTS = """
CREATE INDEX papers_listed_idx ON papers (coalesce(citation_count, -1) DESC, id DESC);
CREATE INDEX papers_venue_idx ON papers (left(lower(venue), 200), coalesce(citation_count, -1) DESC, id DESC);
DROP INDEX papers_citation_count_idx;
"""


def upgrade() -> None:
    op.get_bind().exec_driver_sql(LISTS)


def downgrade() -> None:
    """Refused: a restore brings an older state back."""
    raise NotImplementedError("restore an artifact instead")
