"""Indexes for the search: words without accents of papers and of names, and papers by year."""

from __future__ import annotations

from alembic import op

from refnet.network.search import DOCUMENT, NAME

revision = "0005"
down_revision = "0004"
branch_labels = None
depends_on = None

INDEXES = f"""
CREATE INDEX papers_words_idx ON papers USING gin ({DOCUMENT.replace("p.", "")});
CREATE INDEX papers_words_top_idx ON papers USING gin ({DOCUMENT.replace("p.", "")}) WHERE citation_count >= 50;
COMMENT ON INDEX papers_words_top_idx IS
    'Of a common word the most cited papers are enough, and this index finds them without all others';
DROP INDEX papers_search_idx;
DROP INDEX papers_search_top_idx;
CREATE INDEX authors_words_idx ON authors USING gin ({NAME.replace("a.", "")});
DROP INDEX authors_name_idx;
CREATE INDEX papers_by_year_idx ON papers (coalesce(year, -1) DESC, id DESC);
"""


def upgrade() -> None:
    op.get_bind().exec_driver_sql(INDEXES)


def downgrade() -> None:
    """Refused: a restore brings an older state back."""
    raise NotImplementedError("restore an artifact instead")
