"""A proof runs what a dump brings along, so it reaches no server but its own."""

from __future__ import annotations

from pathlib import Path

import pytest
from psycopg import sql
from tests import oracle
from tests.command import Command, url_of

from refnet.postgres.cluster import Cluster
from refnet.postgres.session import Target

_VIEWS = """
CREATE TABLE plain (id int);
INSERT INTO plain VALUES (1);
CREATE EXTENSION postgres_fdw;
CREATE SERVER itself FOREIGN DATA WRAPPER postgres_fdw OPTIONS (host {host}, port {port}, dbname {dbname});
CREATE USER MAPPING FOR PUBLIC SERVER itself OPTIONS (user {user}, password_required 'false');
CREATE SEQUENCE asked;
CREATE VIEW asks AS SELECT nextval('asked') AS n;
CREATE FOREIGN TABLE "far off" (n bigint) SERVER itself OPTIONS (table_name 'asks');
CREATE VIEW "between" AS SELECT n FROM "far off";
CREATE MATERIALIZED VIEW fetched AS SELECT n FROM "between";
CREATE MATERIALIZED VIEW "on top" AS SELECT n + 1 AS m FROM fetched;
CREATE TABLE parted (n bigint) PARTITION BY LIST (n);
CREATE FOREIGN TABLE leaf PARTITION OF parted DEFAULT SERVER itself OPTIONS (table_name 'plain_n');
CREATE VIEW plain_n AS SELECT id::bigint AS n FROM plain;
CREATE MATERIALIZED VIEW over_parted AS SELECT * FROM parted;
CREATE MATERIALIZED VIEW at_home AS SELECT * FROM plain;
"""


@pytest.fixture
def asking(server: Cluster, database: Target) -> Target:
    """A database whose materialized views log in to it."""
    parts = {key: sql.Literal(str(value)) for key, value in database.parts.items()}
    with database.connect() as session:
        names = ("host", "port", "dbname", "user")
        text = sql.SQL(_VIEWS).format(**{name: parts[name] for name in names}).as_string()
        for statement in text.strip().split(";\n"):
            session.execute(statement.encode())
    return database


def _asked(target: Target) -> int:
    with target.connect() as session:
        row = session.execute("SELECT last_value FROM asked").fetchone()
        assert row
        return int(row[0])


def test_a_proof_refreshes_no_view_that_would_log_in_to_a_live_server(
    asking: Target, tmp_path: Path, short_home: Path
) -> None:
    refnet = Command(short_home, tmp_path / "backups", url_of(asking))
    before = _asked(asking)
    assert before > 0
    made = refnet("backup", "database")
    made.succeeds()
    assert "proven" in made.out
    for view in ("public.fetched", "public.on top", "public.over_parted"):
        assert f"could not verify: materialized view {view}" in made.out
    assert "at_home" not in made.out
    refnet("drill").succeeds()
    assert _asked(asking) == before


def test_a_restore_refreshes_them_as_stock_tools_do(
    server: Cluster, asking: Target, tmp_path: Path, short_home: Path
) -> None:
    refnet = Command(short_home, tmp_path / "backups", url_of(asking))
    refnet("backup", "database", "--no-prove").succeeds()
    refnet("restore", "database", "--force").succeeds()
    found = oracle.portrait(asking.conninfo, server.binaries.folder).inside
    assert {"rows of 'public'.'fetched'", "rows of 'public'.'on top'", "rows of 'public'.'at_home'"} <= set(
        found
    )


def test_a_restore_does_without_the_views_of_a_server_that_is_down(
    server: Cluster, asking: Target, tmp_path: Path, short_home: Path
) -> None:
    refnet = Command(short_home, tmp_path / "backups", url_of(asking))
    with asking.connect() as session:
        session.execute("ALTER SERVER itself OPTIONS (SET host '/nowhere')")
    refnet("backup", "database", "--no-prove").succeeds()
    done = refnet("restore", "database", "--force")
    done.succeeds()
    for view in ("public.fetched", 'public."on top"', "public.over_parted"):
        assert f"REFRESH MATERIALIZED VIEW {view} when their server answers" in done.out
    assert "could not connect to server" in done.out
    assert "the statistics of public.parted could not be gathered" in done.out
    with asking.connect() as session:
        session.execute(
            sql.SQL("ALTER SERVER itself OPTIONS (SET host {})").format(sql.Literal(asking.parts["host"]))
        )
        for view in ("fetched", '"on top"', "over_parted"):
            session.execute(f"REFRESH MATERIALIZED VIEW public.{view}".encode())
        assert session.execute("SELECT * FROM at_home").fetchall() == [(1,)]
