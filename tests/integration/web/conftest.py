"""A network in a real database, and servers that read it."""

from __future__ import annotations

import os
import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import urlencode

import psycopg
import pytest
from tests.integration.network import crawling
from tests.memory import in_memory
from tests.serving import Served, serving

from refnet.postgres.cluster import Cluster
from refnet.postgres.session import Target

TOKEN = "a-token-of-the-tests"
_ROWS = """
INSERT INTO papers (title, abstract, year, venue, citation_count, provenance, details_fetched_at)
    SELECT 'Paper ' || g || ' on graphs', CASE WHEN g % 2 = 0 THEN 'Trees and everything.' END, 1990 + g % 30,
        CASE g % 3 WHEN 0 THEN 'Journal of Trees' WHEN 1 THEN 'Graphs' END, nullif(g % 7, 0) * 25,
        CASE WHEN g > 240 THEN 'openalex' ELSE 'semantic_scholar' END, now()
    FROM generate_series(1, 250) g;
INSERT INTO authors (name, provenance) VALUES ('Ada Lovelace', 'openalex'), ('文字 𝒳', 'openalex');
INSERT INTO paper_authors SELECT g, 1, 1 + g % 2 FROM generate_series(1, 250) g;
INSERT INTO external_ids VALUES ('doi', '10.1/a', 1), ('arxiv', '1706.03762', 1);
INSERT INTO citations (citing_id, cited_id, provenance)
    SELECT g, 1, 'openalex' FROM generate_series(2, 250) g UNION ALL SELECT 1, g, 'openalex' FROM generate_series(2, 4) g;
INSERT INTO summaries (paper_id, kind, model, content) VALUES (1, 'tldr', 'tldr@v2', 'It is short.');
INSERT INTO ranks (paper_id, position, pagerank, cited_by, cites) VALUES (1, 1, 0.5, 249, 3);
INSERT INTO related_papers VALUES (1, 'coupling', 2, 9), (1, 'co_citation', 3, 4);
ANALYZE;
"""


@pytest.fixture(scope="module")
def network(server: Cluster) -> Iterator[Target]:
    """A database with 250 papers; the first is cited by all others."""
    with crawling.network(server) as target:
        with target.connect({"search_path": "public"}) as connection:
            connection.execute(_ROWS)
        yield target


def url_of(target: Target) -> str:
    return f"postgresql://?{urlencode(psycopg.conninfo.conninfo_to_dict(target.conninfo))}"


@pytest.fixture(scope="module")
def environment(network: Target, quick: dict[str, str]) -> Iterator[dict[str, str]]:
    """A REFNET_HOME and its settings, without a token."""
    home = Path(tempfile.mkdtemp(prefix="web-", dir=in_memory()))
    kept = {n: v for n, v in os.environ.items() if not n.startswith(("REFNET_", "PG"))}
    yield kept | {
        "REFNET_HOME": str(home),
        "REFNET_BACKUP_DIR": str(home / "backups"),
        "REFNET_DATABASE_URL": url_of(network),
        "REFNET_LOG_FOLDER": "none",
        **quick,
    }
    shutil.rmtree(home)


@pytest.fixture(scope="module")
def served(environment: dict[str, str]) -> Iterator[Served]:
    with serving(environment) as found:
        yield found


@pytest.fixture(scope="module")
def guarded(environment: dict[str, str]) -> Iterator[Served]:
    """One that needs a token, on every address of this machine."""
    with serving(environment | {"REFNET_WEB_TOKEN": TOKEN}, "--host", "0.0.0.0") as found:  # noqa: S104
        yield found
