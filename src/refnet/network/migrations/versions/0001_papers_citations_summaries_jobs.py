"""Tables of papers, authors, external ids, citations, summaries and jobs.

Plain SQL, for PostgreSQL 14 and newer, without extensions. Values that a provider may leave out are nullable.
"""

from __future__ import annotations

from alembic import op

revision = "0001"
down_revision = None
branch_labels = None
depends_on = None

PAPERS = """
CREATE TABLE papers (
    id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    title text CHECK (title <> '' AND char_length(title) <= 4000),
    title_key text UNIQUE CHECK (title_key <> '' AND octet_length(title_key) <= 1024),
    abstract text,
    year smallint CHECK (year BETWEEN 1000 AND 2999),
    published_on date,
    venue text,
    publication_venue jsonb CHECK (jsonb_typeof(publication_venue) = 'object'),
    journal jsonb CHECK (jsonb_typeof(journal) = 'object'),
    publication_types text[] NOT NULL DEFAULT '{}',
    fields_of_study text[] NOT NULL DEFAULT '{}',
    open_access_url text,
    reference_count integer CHECK (reference_count >= 0),
    citation_count integer CHECK (citation_count >= 0),
    influential_citation_count integer CHECK (influential_citation_count >= 0),
    provenance text NOT NULL CHECK (provenance ~ '^[a-z][a-z0-9_]*$'),
    details_fetched_at timestamptz,
    references_fetched_at timestamptz,
    citations_fetched_at timestamptz,
    created_at timestamptz NOT NULL DEFAULT now(),
    updated_at timestamptz NOT NULL DEFAULT now()
);
COMMENT ON TABLE papers IS 'Every paper that is known, also those known only as somebody''s reference';
COMMENT ON COLUMN papers.title_key IS
    'Set where nothing but a title is known (the provider has no id for it): the normalized title, by which
     the entry is found again; null as soon as the paper has an external id';
COMMENT ON COLUMN papers.provenance IS
    'Who says so: semantic_scholar, openalex, cora ...; sample: made up by refnet network sample';
COMMENT ON COLUMN papers.citation_count IS 'As the provider counts, which is more than citations holds';

CREATE INDEX papers_year_idx ON papers (year DESC NULLS LAST, citation_count DESC NULLS LAST);
CREATE INDEX papers_citation_count_idx ON papers (citation_count DESC NULLS LAST);
CREATE INDEX papers_title_search_idx ON papers USING gin (to_tsvector('pg_catalog.english', title));
CREATE INDEX papers_details_wanted_idx ON papers (id) WHERE details_fetched_at IS NULL;
"""

EXTERNAL_IDS = """
CREATE TABLE external_ids (
    scheme text NOT NULL CHECK (scheme ~ '^[a-z][a-z0-9_]*$'),
    value text NOT NULL CHECK (value <> '' AND octet_length(value) <= 1024),
    paper_id bigint NOT NULL REFERENCES papers ON DELETE CASCADE,
    PRIMARY KEY (scheme, value),
    CHECK (scheme <> 'doi' OR value = lower(value)),
    CHECK (scheme <> 'corpus_id' OR value ~ '^[0-9]+$')
);
COMMENT ON TABLE external_ids IS
    'What others call a paper: semantic_scholar (its paperId), corpus_id, doi (in lower case), arxiv, mag, acl,
     pubmed, pmc, dblp, openalex, cora ...; a paper that a provider has merged has several of one scheme';
CREATE INDEX external_ids_paper_idx ON external_ids (paper_id);
"""

AUTHORS = """
CREATE TABLE authors (
    id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    semantic_scholar_id text UNIQUE CHECK (semantic_scholar_id <> ''),
    orcid text UNIQUE CHECK (orcid <> ''),
    name text NOT NULL CHECK (name <> '' AND char_length(name) <= 500),
    affiliations text[] NOT NULL DEFAULT '{}',
    homepage text,
    paper_count integer CHECK (paper_count >= 0),
    citation_count integer CHECK (citation_count >= 0),
    h_index integer CHECK (h_index >= 0),
    provenance text NOT NULL CHECK (provenance ~ '^[a-z][a-z0-9_]*$'),
    created_at timestamptz NOT NULL DEFAULT now(),
    updated_at timestamptz NOT NULL DEFAULT now()
);
COMMENT ON TABLE authors IS 'Who wrote; without a provider''s id where it gives a name alone';
CREATE INDEX authors_name_idx ON authors (lower(name) text_pattern_ops);

CREATE TABLE paper_authors (
    paper_id bigint NOT NULL REFERENCES papers ON DELETE CASCADE,
    position smallint NOT NULL CHECK (position >= 1),
    author_id bigint NOT NULL REFERENCES authors ON DELETE RESTRICT,
    PRIMARY KEY (paper_id, position)
);
COMMENT ON TABLE paper_authors IS 'The authors of a paper in their order, from 1';
CREATE INDEX paper_authors_author_idx ON paper_authors (author_id, paper_id);
"""

CITATIONS = """
CREATE TABLE citations (
    citing_id bigint NOT NULL REFERENCES papers ON DELETE CASCADE,
    cited_id bigint NOT NULL REFERENCES papers ON DELETE CASCADE,
    is_influential boolean,
    intents text[] NOT NULL DEFAULT '{}',
    contexts jsonb NOT NULL DEFAULT '[]' CHECK (jsonb_typeof(contexts) = 'array'),
    provenance text NOT NULL CHECK (provenance ~ '^[a-z][a-z0-9_]*$'),
    created_at timestamptz NOT NULL DEFAULT now(),
    PRIMARY KEY (citing_id, cited_id),
    CHECK (citing_id <> cited_id)
);
COMMENT ON TABLE citations IS 'An edge for each reference: the paper citing_id cites the paper cited_id';
COMMENT ON COLUMN citations.contexts IS
    'Where the citation is made: [{"context": text, "intents": [text]}]; intents holds them all';
CREATE INDEX citations_cited_idx ON citations (cited_id, citing_id);
"""

# A summary cost time and money: papers with summaries are not deleted as a side effect.
SUMMARIES = """
CREATE TABLE summaries (
    id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    paper_id bigint NOT NULL REFERENCES papers ON DELETE RESTRICT,
    kind text NOT NULL CHECK (kind ~ '^[a-z][a-z0-9_]*$'),
    language text NOT NULL DEFAULT 'en' CHECK (language ~ '^[a-z]{2,3}(-[A-Za-z0-9]+)*$'),
    model text NOT NULL CHECK (model <> ''),
    prompt_version text NOT NULL DEFAULT '',
    content text NOT NULL CHECK (content <> ''),
    keywords text[] NOT NULL DEFAULT '{}',
    input_tokens integer CHECK (input_tokens >= 0),
    output_tokens integer CHECK (output_tokens >= 0),
    created_at timestamptz NOT NULL DEFAULT now(),
    UNIQUE (paper_id, kind, language, model, prompt_version)
);
COMMENT ON TABLE summaries IS
    'What a model says of a paper; made from what kind names (abstract, full_text; tldr: the provider''s own)';
"""

JOBS = """
CREATE TABLE jobs (
    id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    kind text NOT NULL CHECK (kind ~ '^[a-z][a-z0-9_]*$'),
    paper_id bigint REFERENCES papers ON DELETE CASCADE,
    payload jsonb NOT NULL DEFAULT '{}' CHECK (jsonb_typeof(payload) = 'object'),
    state text NOT NULL DEFAULT 'queued'
        CHECK (state IN ('queued', 'running', 'succeeded', 'failed', 'cancelled')),
    priority smallint NOT NULL DEFAULT 0,
    run_after timestamptz NOT NULL DEFAULT now(),
    attempts smallint NOT NULL DEFAULT 0 CHECK (attempts >= 0),
    max_attempts smallint NOT NULL DEFAULT 3 CHECK (max_attempts >= 1),
    claimed_by text,
    claimed_until timestamptz,
    error text,
    dedupe_key text CHECK (dedupe_key <> '' AND octet_length(dedupe_key) <= 1024),
    created_at timestamptz NOT NULL DEFAULT now(),
    started_at timestamptz,
    finished_at timestamptz,
    CHECK ((state = 'running') = (claimed_by IS NOT NULL AND claimed_until IS NOT NULL)),
    CHECK ((state IN ('succeeded', 'failed', 'cancelled')) = (finished_at IS NOT NULL))
);
COMMENT ON TABLE jobs IS 'Work to be done: claimed by FOR UPDATE SKIP LOCKED, the highest priority first';
COMMENT ON COLUMN jobs.claimed_until IS 'A worker that is still alive moves this on; past it, the job is free again';
COMMENT ON COLUMN jobs.dedupe_key IS 'At most one waiting or running job has it';

CREATE INDEX jobs_claim_idx ON jobs (kind, priority DESC, run_after, id) WHERE state = 'queued';
CREATE INDEX jobs_lost_claim_idx ON jobs (claimed_until) WHERE state = 'running';
CREATE UNIQUE INDEX jobs_dedupe_idx ON jobs (dedupe_key) WHERE state IN ('queued', 'running');
CREATE INDEX jobs_paper_idx ON jobs (paper_id) WHERE paper_id IS NOT NULL;
CREATE INDEX jobs_finished_idx ON jobs (finished_at) WHERE finished_at IS NOT NULL;
"""


def upgrade() -> None:
    """Create the tables; referenced tables come first."""
    for part in (PAPERS, EXTERNAL_IDS, AUTHORS, CITATIONS, SUMMARIES, JOBS):
        op.get_bind().exec_driver_sql(part)


def downgrade() -> None:
    """Refused, as it would drop collected data. A restore brings an older state back."""
    raise NotImplementedError("restore an artifact instead")
