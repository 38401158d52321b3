"""The command through a real pgbouncer: what it shares is refused, and what it keeps is proven."""

from __future__ import annotations

import gzip
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import psycopg
import pytest
from tests.command import Command
from tests.faults.conftest import Live
from tests.pooler import pooler

pytestmark = pytest.mark.skipif(not Path("/usr/sbin/pgbouncer").exists(), reason="pgbouncer is not installed")

#: Values that only a session with the right settings writes in full, or as the proof reads them.
_VALUES = """
CREATE TABLE measured (id int PRIMARY KEY, f float8, t timestamptz, b bytea, i interval);
INSERT INTO measured SELECT i, sqrt(2) + i, '2026-11-29 02:00+00', '\\x00ff', '1 day 02:03' FROM generate_series(1, 20) i;
CREATE TABLE long (id int, f float8, pad text);
INSERT INTO long SELECT i, sqrt(i), repeat('x', 400) FROM generate_series(1, 5000) i;
"""


@pytest.fixture
def shop(live: Live) -> Iterator[Live]:
    """A database whose own settings would round, and a role that only reads and creates."""
    live.run(_VALUES)
    for setting in ("extra_float_digits = 0", "timezone = 'Asia/Tokyo'", "datestyle = 'German'"):
        live.run(f"ALTER DATABASE {live.target.name} SET {setting}")
    live.run("CREATE ROLE clerk LOGIN")
    live.run("GRANT pg_read_all_data TO clerk; GRANT SELECT ON LARGE OBJECT 4000000001 TO clerk")
    yield live
    live.run("DROP OWNED BY clerk; DROP ROLE clerk")


@pytest.mark.parametrize("ignored", ["extra_float_digits,options", ""])
def test_a_backup_through_a_session_pooler_is_proven_and_exact(
    ignored: str, refnet: Command, shop: Live, folder: Path
) -> None:
    with pooler(
        shop.cluster, folder / "pooler", "session", users=["clerk"], ignore_startup_parameters=ignored
    ) as found:
        made = replace(refnet, url=found.url(shop.target.name, "clerk"))("backup", "database")
    made.succeeds()
    assert "proven" in made.out
    text = gzip.decompress(refnet.artifact().read_bytes())
    assert b"\n1\t2.414213562373095\t2026-11-29 02:00:00+00\t" in text
    assert b"\n2\t1.4142135623730951\t" in text


@pytest.mark.parametrize("mode", ["transaction", "statement"])
def test_a_pooler_that_shares_sessions_is_refused_by_name(
    mode: str, refnet: Command, shop: Live, folder: Path
) -> None:
    with pooler(shop.cluster, folder / "pooler", mode, users=["clerk"]) as found:
        through = replace(refnet, url=found.url(shop.target.name, "clerk"))
        words = (f"pooler at {folder}/pooler:6432", f"pool_mode = {mode}", "REFNET_DATABASE_URL")
        through("backup", "database").fails(2, *words)
        checked = through("check")

        assert checked.code != 0
        assert all(word in checked.out for word in words)
        assert checked.out.count("to a pool with pool_mode = session") == 1
        through("init", "--yes").fails(2, *words[:2], "Set --database-url to the server's own address")
        assert refnet.names() == []


def test_a_pooler_that_drops_lc_monetary_is_refused_with_an_alter_role(
    refnet: Command, shop: Live, folder: Path
) -> None:
    shop.run("CREATE TABLE paid (id int, price money); INSERT INTO paid VALUES (1, '1234.5')")
    shop.run(f"ALTER DATABASE {shop.target.name} SET lc_monetary = 'C.UTF-8'")
    with pooler(shop.cluster, folder / "pooler", "session", users=["clerk"]) as found:
        through = replace(refnet, url=found.url(shop.target.name, "clerk"))
        refused = through("backup", "database")
        refused.fails(2, "drops settings of pg_dump: lc_monetary")
        statement = refused.err.split("Run: ")[1].split(";")[0]
        assert statement == "ALTER ROLE clerk SET lc_monetary = 'C'"
        shop.run(statement)
    with pooler(shop.cluster, folder / "again", "session", users=["clerk"]) as found:
        through = replace(refnet, url=found.url(shop.target.name, "clerk"))
        assert "proven" in through("backup", "database").out


def test_a_comparison_and_a_restore_go_through_a_session_pooler(
    refnet: Command, shop: Live, folder: Path
) -> None:
    with pooler(shop.cluster, folder / "pooler", "session") as found:
        through = replace(refnet, url=found.url(shop.target.name))
        through("backup", "database", "--no-prove").succeeds()
        through("diff", "database").succeeds()
        through("restore", "database", "--as", "other_one").succeeds()
        with psycopg.connect(found.url("other_one")) as session:
            rounded = session.execute("SELECT count(*) FROM measured WHERE f <> sqrt(2) + id").fetchone()
        assert rounded == (0,)
    with shop.cluster.target().connect() as admin:
        admin.execute("DROP DATABASE other_one WITH (FORCE)")
