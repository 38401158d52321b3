"""Updates: crawls that look for new papers, and the citation counts of each paper by date."""

from __future__ import annotations

from alembic import op

revision = "0004"
down_revision = "0003"
branch_labels = None
depends_on = None

UPDATES = """
ALTER TABLE crawls ADD COLUMN is_update boolean NOT NULL DEFAULT false;
COMMENT ON COLUMN crawls.is_update IS
    'It looks for new papers that cite the seeds of the other crawls, and renews what is known';

CREATE TABLE citation_counts (
    paper_id bigint NOT NULL REFERENCES papers ON DELETE CASCADE,
    day date NOT NULL,
    citation_count integer NOT NULL CHECK (citation_count >= 0),
    PRIMARY KEY (paper_id, day)
);
COMMENT ON TABLE citation_counts IS
    'The citations of a paper as its provider counted them; a day (UTC) without a row has the count of the row before';
INSERT INTO citation_counts (paper_id, day, citation_count)
SELECT id, (details_fetched_at AT TIME ZONE 'UTC')::date, citation_count FROM papers
WHERE details_fetched_at IS NOT NULL AND citation_count IS NOT NULL;
"""


def upgrade() -> None:
    op.get_bind().exec_driver_sql(UPDATES)


def downgrade() -> None:
    """Refused, as it would drop collected data. A restore brings an older state back."""
    raise NotImplementedError("restore an artifact instead")
