"""What the tests of crawls share: databases, settings, and a graph in a form that does not depend on row ids."""

from __future__ import annotations

import dataclasses
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache
from typing import Any

from refnet.demo.fake_scholar import Running
from refnet.network.crawl import CrawlReports, run, start
from refnet.network.crawls import CrawlOrder, CrawlResult
from refnet.network.migrate import migrate
from refnet.postgres.cluster import Cluster
from refnet.postgres.session import Target
from refnet.settings import Settings

#: The database that is copied on each server.
_MIGRATED = "migrated_network"
#: Waits between retries take a hundredth.
FAST = 0.01


@contextmanager
def network(server: Cluster) -> Iterator[Target]:
    """A migrated database."""
    target = migrated_on(server, f"crawl_{uuid.uuid4().hex[:12]}")
    yield target
    with server.target().connect() as admin:
        admin.execute(f"DROP DATABASE {target.name} WITH (FORCE)")


def migrated_on(server: Cluster, name: str) -> Target:
    """A new database `name` without rows; its tables are made once a server."""
    _migrate(server)
    with server.target().connect() as admin:
        admin.execute(f"CREATE DATABASE {name} TEMPLATE {_MIGRATED}")
    return server.target(name)


@cache
def _migrate(server: Cluster) -> None:
    with server.target().connect() as admin:
        admin.execute(f"CREATE DATABASE {_MIGRATED} TEMPLATE template0")
        migrate(server.target(_MIGRATED))
        admin.execute(f"ALTER DATABASE {_MIGRATED} IS_TEMPLATE true")


def settings_of(fake: Running, base: Settings, **changes: Any) -> Settings:
    return dataclasses.replace(
        base,
        **{
            "crawl_semantic_scholar_url": fake.url,
            "crawl_openalex_url": fake.openalex_url,
            "crawl_requests_per_second": 0.0,
            **changes,
        },
    )


def crawled(
    target: Target, settings: Settings, order: CrawlOrder, said: list[str] | None = None
) -> CrawlResult:
    reports = CrawlReports(say=(said if said is not None else []).append, pace=FAST)
    return run(target, settings, start(target, order), reports)


def graph(target: Target) -> tuple[list[Any], list[Any]]:
    """Papers and citations, by external ids and titles."""
    with target.connect() as session:
        return session.execute(_PAPERS).fetchall(), session.execute(_EDGES).fetchall()


_NAMED = """
WITH named AS (
    SELECT papers.id, coalesce(
        (SELECT string_agg(scheme || ':' || value, ' ' ORDER BY scheme, value) FROM external_ids WHERE paper_id = papers.id),
        title_key
    ) AS name
    FROM papers
)
"""
_PAPERS = f"""{_NAMED}
SELECT name, title, abstract, year, venue, provenance, field_provenance, details_fetched_at IS NULL,
    references_fetched_at IS NULL, citations_fetched_at IS NULL,
    ARRAY(SELECT authors.name FROM paper_authors JOIN authors ON authors.id = author_id
          WHERE paper_id = papers.id ORDER BY position),
    (SELECT min(level) FROM crawl_papers WHERE paper_id = papers.id),
    ARRAY(SELECT content FROM summaries WHERE paper_id = papers.id ORDER BY 1)
FROM papers JOIN named USING (id) ORDER BY name
"""
_EDGES = f"""{_NAMED}
SELECT citing.name, cited.name, is_influential, intents, contexts, provenance FROM citations
JOIN named AS citing ON citing.id = citing_id JOIN named AS cited ON cited.id = cited_id ORDER BY 1, 2
"""
