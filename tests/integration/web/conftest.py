"""A network in a real database, and `refnet serve` as a process."""

from __future__ import annotations

import http.client
import json
import os
import shutil
import subprocess
import sys
import tempfile
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import urlencode

import psycopg
import pytest
from tests.memory import in_memory

from refnet.network.migrate import migrate
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


@dataclass
class Answer:
    status: int
    headers: dict[str, str]
    body: bytes

    @property
    def json(self) -> Any:
        return json.loads(self.body)


@dataclass
class Served:
    """A running `refnet serve`."""

    process: subprocess.Popen[str]
    port: int

    def ask(
        self,
        path: str,
        method: str = "GET",
        body: bytes | None = None,
        host: str | None = None,
        **headers: str,
    ) -> Answer:
        """Send one request; an underscore in the name of a header is a hyphen."""
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=60)
        try:
            connection.putrequest(method, path, skip_host=True)
            for name, value in {"Host": host or f"127.0.0.1:{self.port}", **headers}.items():
                connection.putheader(name.replace("_", "-"), value)
            if body is not None:
                connection.putheader("Content-Length", str(len(body)))
            connection.endheaders(body)
            said = connection.getresponse()
            return Answer(said.status, {k.lower(): v for k, v in said.getheaders()}, said.read())
        finally:
            connection.close()

    def list(self, **asked: object) -> Answer:
        return self.ask(f"/api/papers?{urlencode(asked)}")


@contextmanager
def serving(environment: dict[str, str], *arguments: str) -> Iterator[Served]:
    """`refnet serve` on a free port; at the end it is stopped, and stderr must be empty."""
    process = subprocess.Popen(
        [sys.executable, "-m", "refnet", "serve", "--port", "0", *arguments],
        env=environment,
        cwd=environment["REFNET_HOME"],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    assert process.stdout
    try:
        first = process.stdout.readline()
        assert first.startswith("serving http://"), (process.kill(), process.communicate())
        yield Served(process, int(first.split("/")[2].rpartition(":")[2]))
    finally:
        process.terminate()
        _, wrong = process.communicate(timeout=60)
    assert (process.returncode, wrong) == (0, "")


@pytest.fixture(scope="module")
def network(server: Cluster) -> Iterator[Target]:
    """A database with 250 papers; the first is cited by all others."""
    name = f"web_{uuid.uuid4().hex[:12]}"
    with server.target().connect() as admin:
        admin.execute(f"CREATE DATABASE {name} TEMPLATE template0")
    target = server.target(name)
    migrate(target)
    with target.connect({"search_path": "public"}) as connection:
        connection.execute(_ROWS)
    yield target
    with server.target().connect() as admin:
        admin.execute(f"DROP DATABASE {name} WITH (FORCE)")


def url_of(target: Target) -> str:
    return f"postgresql://?{urlencode(psycopg.conninfo.conninfo_to_dict(target.conninfo))}"


@pytest.fixture(scope="module")
def environment(network: Target) -> Iterator[dict[str, str]]:
    """A REFNET_HOME and its settings, without a token."""
    home = Path(tempfile.mkdtemp(prefix="web-", dir=in_memory()))
    kept = {n: v for n, v in os.environ.items() if not n.startswith(("REFNET_", "PG"))}
    yield kept | {
        "REFNET_HOME": str(home),
        "REFNET_BACKUP_DIR": str(home / "backups"),
        "REFNET_DATABASE_URL": url_of(network),
        "REFNET_LOG_FOLDER": "none",
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
