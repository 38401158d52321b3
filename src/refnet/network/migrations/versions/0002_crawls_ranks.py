"""Tables of crawls, their papers, rate limits, ranks and related papers; the provider of each field."""

from __future__ import annotations

from alembic import op

revision = "0002"
down_revision = "0001"
branch_labels = None
depends_on = None

PAPERS = """
ALTER TABLE papers ADD COLUMN field_provenance jsonb NOT NULL DEFAULT '{}'
    CHECK (jsonb_typeof(field_provenance) = 'object');
COMMENT ON COLUMN papers.field_provenance IS
    'Column → who says so, for the columns that come from another provider than provenance names';
DROP INDEX papers_title_search_idx;
CREATE INDEX papers_search_idx ON papers USING gin (
    to_tsvector('pg_catalog.english', coalesce(title, '') || ' ' || coalesce(abstract, ''))
);
"""

CRAWLS = """
CREATE TABLE crawls (
    id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    seeds text[] NOT NULL CHECK (cardinality(seeds) BETWEEN 1 AND 10000),
    direction text NOT NULL CHECK (direction IN ('references', 'citations', 'both')),
    depth smallint NOT NULL CHECK (depth BETWEEN 0 AND 10),
    paper_limit integer NOT NULL CHECK (paper_limit >= 1),
    level smallint NOT NULL DEFAULT 0 CHECK (level >= 0),
    state text NOT NULL DEFAULT 'running' CHECK (state IN ('running', 'succeeded', 'cancelled')),
    created_at timestamptz NOT NULL DEFAULT now(),
    finished_at timestamptz,
    CHECK ((state = 'running') = (finished_at IS NULL))
);
COMMENT ON TABLE crawls IS 'What was asked to be collected; its work is in jobs, level by level from the seeds';
COMMENT ON COLUMN crawls.seeds IS 'The ids as the provider accepts them: DOI:..., ARXIV:..., a paperId';

CREATE TABLE crawl_papers (
    crawl_id bigint NOT NULL REFERENCES crawls ON DELETE CASCADE,
    paper_id bigint NOT NULL REFERENCES papers ON DELETE CASCADE,
    level smallint NOT NULL CHECK (level >= 0),
    PRIMARY KEY (crawl_id, paper_id)
);
COMMENT ON TABLE crawl_papers IS 'The papers that a crawl chose; those of level 0 are its seeds';
CREATE INDEX crawl_papers_paper_idx ON crawl_papers (paper_id);

ALTER TABLE jobs ADD COLUMN crawl_id bigint REFERENCES crawls ON DELETE CASCADE;
CREATE INDEX jobs_crawl_idx ON jobs (crawl_id, kind, state) WHERE crawl_id IS NOT NULL;

CREATE TABLE rate_limits (
    name text PRIMARY KEY CHECK (name ~ '^[a-z][a-z0-9_]*$'),
    next_at timestamptz NOT NULL
);
COMMENT ON TABLE rate_limits IS 'When the next request to a provider may be sent, by any worker';
"""

RANKS = """
CREATE TABLE ranks (
    paper_id bigint PRIMARY KEY REFERENCES papers ON DELETE CASCADE,
    position integer NOT NULL CHECK (position >= 1),
    pagerank double precision NOT NULL CHECK (pagerank >= 0),
    cited_by integer NOT NULL CHECK (cited_by >= 0),
    cites integer NOT NULL CHECK (cites >= 0),
    computed_at timestamptz NOT NULL DEFAULT now()
);
COMMENT ON TABLE ranks IS 'Every paper of the graph by PageRank; cited_by and cites count the citations that are stored';
CREATE INDEX ranks_position_idx ON ranks (position);

CREATE TABLE related_papers (
    paper_id bigint NOT NULL REFERENCES papers ON DELETE CASCADE,
    kind text NOT NULL CHECK (kind IN ('co_citation', 'coupling')),
    other_id bigint NOT NULL REFERENCES papers ON DELETE CASCADE,
    strength integer NOT NULL CHECK (strength >= 1),
    PRIMARY KEY (paper_id, kind, other_id),
    CHECK (paper_id <> other_id)
);
COMMENT ON TABLE related_papers IS
    'The closest papers of each: co_citation counts the papers that cite both, coupling the references of both';
CREATE INDEX related_papers_other_idx ON related_papers (other_id);
"""


def upgrade() -> None:
    for part in (PAPERS, CRAWLS, RANKS):
        op.get_bind().exec_driver_sql(part)


def downgrade() -> None:
    """Refused, as it would drop collected data. A restore brings an older state back."""
    raise NotImplementedError("restore an artifact instead")
