"""The network's schema on real servers: what it refuses, what it answers by index, what a delete takes along."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import psycopg
import pytest
from psycopg import sql
from tests.integration.network.crawling import network

from refnet.core.errors import RefnetError
from refnet.network import REVISIONS, VERSION_TABLE, known, migrations
from refnet.network.merging import merge
from refnet.network.migrate import Migrated, migrate
from refnet.network.search import DOCUMENT, NAME
from refnet.postgres.cluster import Cluster
from refnet.postgres.session import Target

TABLES = {
    "papers",
    "citations",
    "summaries",
    "jobs",
    "authors",
    "paper_authors",
    "external_ids",
    "crawls",
    "crawl_papers",
    "rate_limits",
    "ranks",
    "related_papers",
    "citation_counts",
    VERSION_TABLE,
}


@pytest.fixture
def migrated(server: Cluster) -> Iterator[Target]:
    with network(server) as target:
        yield target


@pytest.fixture(scope="module")
def unchanged(server: Cluster) -> Iterator[Target]:
    """A migrated database in which no test leaves a row."""
    with network(server) as target:
        yield target


def rows(target: Target, query: str) -> list[tuple[Any, ...]]:
    with target.connect() as connection:
        return connection.execute(query).fetchall()


def tables(target: Target) -> dict[str, int]:
    """Each table of `public` and its relfilenode."""
    return dict(
        rows(
            target,
            "SELECT relname, relfilenode FROM pg_class WHERE relkind = 'r' AND relnamespace = 'public'::regnamespace",
        )
    )


def test_migrating_twice_makes_the_tables_once(database: Target) -> None:
    assert migrate(database) == Migrated(None, "0005")
    before = tables(database)
    assert set(before) == TABLES
    assert migrate(database) == Migrated("0005", "0005")
    assert tables(database) == before


def test_the_schema_is_made_on_the_systems_postgresql_too(system_database: Target) -> None:
    migrate(system_database)
    assert set(tables(system_database)) == TABLES


def test_a_database_without_unicode_is_refused(database: Target) -> None:
    with database.connect() as session:
        session.execute("DROP DATABASE IF EXISTS ascii")
        session.execute("CREATE DATABASE ascii ENCODING 'SQL_ASCII' LOCALE 'C' TEMPLATE template0")
    ascii_target = database.database("ascii")
    with pytest.raises(RefnetError, match="the database ascii has the encoding SQL_ASCII") as raised:
        migrate(ascii_target)
    assert "ENCODING 'UTF8'" in raised.value.hint
    with database.connect() as session:
        session.execute("DROP DATABASE ascii")


def test_two_migrations_at_once_wait_for_each_other(database: Target) -> None:
    done: list[Migrated] = []
    threads = [threading.Thread(target=lambda: done.append(migrate(database))) for _ in range(3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(one.before or "" for one in done) == ["", "0005", "0005"]


def test_a_strange_search_path_does_not_move_the_tables(database: Target) -> None:
    with database.connect() as connection:
        connection.execute("CREATE SCHEMA elsewhere")
        connection.execute(
            sql.SQL("ALTER DATABASE {} SET search_path = elsewhere").format(sql.Identifier(database.name))
        )
    migrate(database)
    assert set(tables(database)) == TABLES


def test_a_table_of_somebody_elses_is_left_alone_and_nothing_is_made(database: Target) -> None:
    with database.connect() as connection:
        connection.execute("CREATE TABLE summaries (mine int)")
    with pytest.raises(RefnetError, match='relation "summaries" already exists'):
        migrate(database)
    assert set(tables(database)) == {"summaries"}


def test_counts_that_are_known_begin_the_history_and_a_merge_keeps_both(migrated: Target) -> None:
    with migrated.connect() as session:
        session.execute("DROP TABLE citation_counts")
        session.execute("ALTER TABLE crawls DROP COLUMN is_update")
        session.execute(
            "DROP INDEX papers_words_idx, papers_words_top_idx, authors_words_idx, papers_by_year_idx"
        )
        for old in ("papers_search_idx", "papers_search_top_idx", "authors_name_idx"):
            session.execute(f"CREATE INDEX {old} ON authors (id)")
        session.execute(f"UPDATE {VERSION_TABLE} SET version_num = '0003'")
        session.execute(
            "INSERT INTO papers (title, provenance, citation_count, details_fetched_at) VALUES"
            " ('a', 'x', 7, '2026-11-01 23:00+00'), ('b', 'x', NULL, now()), ('c', 'x', 9, NULL)"
        )
    assert migrate(migrated) == Migrated("0003", "0005")
    assert rows(migrated, "SELECT day::text, citation_count FROM citation_counts") == [("2026-11-01", 7)]
    with migrated.connect() as session:
        session.execute(
            "INSERT INTO citation_counts SELECT id, '2026-11-09', 8 FROM papers WHERE title = 'b'"
        )
        ids = [
            number for (number,) in session.execute("SELECT id FROM papers WHERE title < 'c' ORDER BY title")
        ]
        with session.transaction(), session.cursor() as cursor:
            merge(cursor, [ids])
    found = rows(
        migrated,
        "SELECT title, day::text, n.citation_count FROM citation_counts n JOIN papers ON id = paper_id ORDER BY day",
    )
    assert found == [("a", "2026-11-01", 7), ("a", "2026-11-09", 8)]


def test_the_schema_of_a_newer_refnet_is_refused(migrated: Target) -> None:
    with migrated.connect() as connection:
        connection.execute(f"UPDATE {VERSION_TABLE} SET version_num = '9999'")
    with pytest.raises(RefnetError, match="9999") as caught:
        migrate(migrated)
    assert "newer version" in caught.value.hint
    with pytest.raises(RefnetError, match="9999"):
        known(migrated)


def test_the_revisions_that_are_known_are_those_of_the_migrations(database: Target) -> None:
    folder = Path(migrations.__file__).parent / "versions"
    assert sorted(path.name[:4] for path in folder.glob("[0-9]*.py")) == [*REVISIONS]
    assert known(database) is database


def test_a_role_that_may_not_create_tables_is_told_so(database: Target) -> None:
    with database.connect() as connection:
        connection.execute("REVOKE CREATE ON SCHEMA public FROM public")
        connection.execute("DROP ROLE IF EXISTS network_reader")
        connection.execute("CREATE ROLE network_reader LOGIN")
    reader = Target(f"{database.conninfo} user=network_reader", own=True)
    with pytest.raises(RefnetError, match="permission denied for schema public"):
        migrate(reader)
    with database.connect() as connection:
        connection.execute("DROP ROLE network_reader")


PAPER = "INSERT INTO papers (title, provenance) VALUES ('Title', 'cora')"


@pytest.mark.parametrize(
    ("statement", "constraint"),
    [
        ("INSERT INTO papers (title, provenance) VALUES ('', 'cora')", "papers_title_check"),
        ("INSERT INTO papers (year, provenance) VALUES (19, 'cora')", "papers_year_check"),
        ("INSERT INTO papers (provenance) VALUES ('Semantic Scholar')", "papers_provenance_check"),
        ("INSERT INTO papers (journal, provenance) VALUES ('[]', 'cora')", "papers_journal_check"),
        (
            "INSERT INTO papers (citation_count, provenance) VALUES (-1, 'cora')",
            "papers_citation_count_check",
        ),
        (
            "INSERT INTO papers (title_key, provenance) VALUES ('a', 'cora'), ('a', 'cora')",
            "papers_title_key_key",
        ),
        ("INSERT INTO external_ids VALUES ('doi', '10.1/a', 1), ('doi', '10.1/a', 1)", "external_ids_pkey"),
        ("INSERT INTO external_ids VALUES ('doi', '10.1/ABC', 1)", "external_ids_check"),
        ("INSERT INTO external_ids VALUES ('corpus_id', 'CorpusId:7', 1)", "external_ids_check1"),
        ("INSERT INTO external_ids VALUES ('doi', '10.1/a', 99)", "external_ids_paper_id_fkey"),
        ("INSERT INTO citations (citing_id, cited_id, provenance) VALUES (1, 1, 'cora')", "citations_check"),
        (
            "INSERT INTO citations (citing_id, cited_id, provenance) VALUES (1, 99, 'cora')",
            "citations_cited_id_fkey",
        ),
        (
            "INSERT INTO citations (citing_id, cited_id, contexts, provenance) VALUES (1, 2, '{}', 'cora')",
            "citations_contexts_check",
        ),
        (
            "INSERT INTO summaries (paper_id, kind, model, content) VALUES (1, 'tldr', 'm', '')",
            "summaries_content_check",
        ),
        ("INSERT INTO jobs (kind, state) VALUES ('crawl', 'waiting')", "jobs_state_check"),
        ("INSERT INTO jobs (kind, state) VALUES ('crawl', 'running')", "jobs_check"),
        ("INSERT INTO jobs (kind, finished_at) VALUES ('crawl', now())", "jobs_check1"),
        ("INSERT INTO jobs (kind, dedupe_key) VALUES ('crawl', 'a'), ('crawl', 'a')", "jobs_dedupe_idx"),
        ("INSERT INTO paper_authors VALUES (1, 0, 1)", "paper_authors_position_check"),
    ],
)
def test_a_row_that_makes_no_sense_is_refused(unchanged: Target, statement: str, constraint: str) -> None:
    with unchanged.connect(autocommit=False) as connection:
        connection.execute("ALTER SEQUENCE papers_id_seq RESTART")
        connection.execute(PAPER)
        connection.execute(PAPER)
        with pytest.raises(psycopg.errors.IntegrityError) as caught:
            connection.execute(statement)
        connection.rollback()
    assert caught.value.diag.constraint_name == constraint


def test_a_finished_job_does_not_bar_its_like(migrated: Target) -> None:
    with migrated.connect() as connection:
        connection.execute(
            "INSERT INTO jobs (kind, dedupe_key, state, finished_at) VALUES ('crawl', 'a', 'succeeded', now())"
        )
        connection.execute("INSERT INTO jobs (kind, dedupe_key) VALUES ('crawl', 'a')")
        assert connection.execute("SELECT count(*) FROM jobs").fetchone() == (2,)


def test_a_deleted_paper_takes_its_edges_along_but_never_a_summary(migrated: Target) -> None:
    with migrated.connect() as connection:
        connection.execute(PAPER)
        connection.execute(PAPER)
        connection.execute("INSERT INTO external_ids VALUES ('cora', 'a', 1)")
        connection.execute("INSERT INTO citations (citing_id, cited_id, provenance) VALUES (1, 2, 'cora')")
        connection.execute(
            "INSERT INTO summaries (paper_id, kind, model, content) VALUES (2, 'abstract', 'm', 'c')"
        )
        connection.execute("DELETE FROM papers WHERE id = 1")
        left = connection.execute(
            "SELECT (SELECT count(*) FROM external_ids), (SELECT count(*) FROM citations)"
        )
        assert left.fetchone() == (0, 0)
        with pytest.raises(psycopg.errors.IntegrityError, match="summaries_paper_id_fkey"):
            connection.execute("DELETE FROM papers WHERE id = 2")


@pytest.mark.parametrize(
    ("query", "index"),
    [
        ("SELECT citing_id FROM citations WHERE cited_id = 7", "citations_cited_idx"),
        ("SELECT cited_id FROM citations WHERE citing_id = 7", "citations_pkey"),
        ("SELECT paper_id FROM external_ids WHERE scheme = 'doi' AND value = '10.1/a'", "external_ids_pkey"),
        ("SELECT value FROM external_ids WHERE paper_id = 7", "external_ids_paper_idx"),
        (
            "SELECT id FROM papers ORDER BY coalesce(citation_count, -1) DESC, id DESC LIMIT 9",
            "papers_listed_idx",
        ),
        (
            """SELECT id FROM papers WHERE left(lower(venue), 200) = 'x' AND (coalesce(citation_count, -1), id) < (5, 7)
            ORDER BY coalesce(citation_count, -1) DESC, id DESC LIMIT 9""",
            "papers_venue_idx",
        ),
        (
            "SELECT id FROM papers WHERE year = 1999 ORDER BY citation_count DESC NULLS LAST LIMIT 9",
            "papers_year_idx",
        ),
        (
            f"SELECT id FROM papers p WHERE {DOCUMENT} @@ to_tsquery('simple', 'a:* & graph:*')",
            "papers_words_idx",
        ),
        (
            "SELECT id FROM papers ORDER BY coalesce(year, -1) DESC, id DESC LIMIT 9",
            "papers_by_year_idx",
        ),
        (
            "SELECT id FROM papers WHERE details_fetched_at IS NULL ORDER BY id LIMIT 500",
            "papers_details_wanted_idx",
        ),
        ("SELECT paper_id FROM paper_authors WHERE author_id = 7", "paper_authors_author_idx"),
        (f"SELECT id FROM authors a WHERE {NAME} @@ to_tsquery('simple', 'turi:*')", "authors_words_idx"),
        (
            "SELECT content FROM summaries WHERE paper_id = 7",
            "summaries_paper_id_kind_language_model_prompt_version_key",
        ),
        ("SELECT id FROM jobs WHERE state = 'running' AND claimed_until < now()", "jobs_lost_claim_idx"),
        (
            """SELECT id FROM jobs WHERE kind = 'crawl' AND state = 'queued' AND run_after <= now()
            ORDER BY priority DESC, run_after, id FOR UPDATE SKIP LOCKED LIMIT 1""",
            "jobs_claim_idx",
        ),
    ],
)
def test_what_an_application_reads_is_answered_by_an_index(unchanged: Target, query: str, index: str) -> None:
    with unchanged.connect({"enable_seqscan": "off"}) as connection:
        plan = "\n".join(line for (line,) in connection.execute(f"EXPLAIN {query}"))
    assert f" {index} " in plan, plan
    assert "Sort" not in plan


def test_two_workers_claim_two_jobs_the_highest_priority_first(migrated: Target) -> None:
    claim = """
        UPDATE jobs SET state = 'running', claimed_by = %s, claimed_until = now() + interval '5 minutes',
            attempts = attempts + 1, started_at = now()
        WHERE id = (
            SELECT id FROM jobs WHERE kind = 'crawl' AND state = 'queued' AND run_after <= now()
            ORDER BY priority DESC, run_after, id FOR UPDATE SKIP LOCKED LIMIT 1
        ) RETURNING priority"""
    with migrated.connect(autocommit=False) as first, migrated.connect(autocommit=False) as second:
        with migrated.connect() as connection:
            connection.execute(
                "INSERT INTO jobs (kind, priority) VALUES ('crawl', 1), ('crawl', 9), ('other', 10)"
            )
        assert first.execute(claim, ["first"]).fetchall() == [(9,)]
        assert second.execute(claim, ["second"]).fetchall() == [(1,)]
        assert second.execute(claim, ["second"]).fetchall() == []
