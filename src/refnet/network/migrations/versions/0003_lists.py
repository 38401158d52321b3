"""Indexes for lists of papers, most cited first: all papers, a venue, a common word."""

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
CREATE INDEX papers_search_top_idx ON papers USING gin (
    to_tsvector('pg_catalog.english', coalesce(title, '') || ' ' || coalesce(abstract, ''))
) WHERE citation_count >= 50;
COMMENT ON INDEX papers_search_top_idx IS
    'Of a common word the most cited papers are enough, and this index finds them without all others';
"""


def upgrade() -> None:
    op.get_bind().exec_driver_sql(LISTS)


def downgrade() -> None:
    """Refused: a restore brings an older state back."""
    raise NotImplementedError("restore an artifact instead")
