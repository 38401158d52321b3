"""Dumps that RefNet did not make are loaded into a scratch server: that far they are verified, and no further."""

from __future__ import annotations

import gzip
import io
import tarfile
from collections.abc import Callable
from pathlib import Path

import pytest
from psycopg import sql
from tests.command import Command
from tests.integration.database.library import pg_dump, role

from refnet.postgres.binaries import Binaries
from refnet.postgres.cluster import Cluster
from refnet.postgres.session import Target

_HEAD = "-- PostgreSQL database dump\n-- Dumped from database version 18.1\n"
_END = "-- PostgreSQL database dump complete\n"


@pytest.fixture
def refnet(tmp_path: Path, short_home: Path) -> Command:
    """The command without a server: a proof asks none."""
    return Command(short_home, tmp_path / "backups", "postgresql://nobody@/nothing?host=/nowhere")


@pytest.fixture
def library(small_library: Target) -> Target:
    return small_library


@pytest.mark.parametrize("form", ["p", "c", "d", "t"])
def test_a_dump_of_every_format_is_restored_and_what_was_loaded_is_said(
    library: Target, wheel: Binaries, refnet: Command, tmp_path: Path, form: str
) -> None:
    path = pg_dump(library, wheel, tmp_path / "old.dump", f"-F{form}")
    told = refnet("verify", path, "--json")
    assert (told.code, told.err) == (0, "")
    (result,) = told.json["results"]
    assert result["level"] == "restored"
    assert {row["name"]: row["rows"] for row in result["rows"]} == {
        "public.papers": 50,
        "public.citations": 50,
        "public.jobs": 20,
    }
    assert refnet("verify", path, "--level", "intact").code == 0
    if form == "c":
        found = refnet("verify", path, "--level", "restored")
        assert (found.code, found.err) == (0, "")
        assert "old.dump: restored (3 tables, 120 rows)" in found.out
    assert list(refnet.home.rglob("scratch-*")) == []


def test_roles_that_the_dump_names_are_no_hindrance(
    busy_server: Cluster, library: Target, wheel: Binaries, refnet: Command, tmp_path: Path
) -> None:
    with (
        role(busy_server, 'the "owner"', "NOLOGIN") as owner,
        role(busy_server, "visitor", "NOLOGIN") as reader,
        library.connect() as session,
    ):
        session.execute(sql.SQL("ALTER TABLE jobs OWNER TO {}").format(owner))
        session.execute(sql.SQL("GRANT SELECT ON papers TO {}").format(reader))
        path = pg_dump(library, wheel, tmp_path / "owned.dump", "-Fc")
        session.execute(sql.SQL("DROP OWNED BY {}, {}").format(owner, reader))
    found = refnet("verify", path)
    assert (found.code, found.err) == (0, "")
    assert "owned.dump: restored, but content could not be verified (3 tables" in found.out
    assert "3 tables with 120 rows" in found.out


@pytest.mark.parametrize("form", ["p", "c"])
def test_views_that_would_ask_other_servers_are_not_filled(
    make_database: Callable[..., Target], wheel: Binaries, refnet: Command, tmp_path: Path, form: str
) -> None:
    asks = make_database(
        "CREATE EXTENSION file_fdw; CREATE SERVER file FOREIGN DATA WRAPPER file_fdw;"
        "CREATE FOREIGN TABLE far (v text) SERVER file OPTIONS (filename '/etc/hostname');"
        "CREATE MATERIALIZED VIEW fetched AS SELECT v FROM far;"
        "CREATE TABLE lines (v text);"
        "INSERT INTO lines SELECT repeat('x', 1000) FROM generate_series(1, 3000)"
    )
    path = pg_dump(asks, wheel, tmp_path / "asks.dump", f"-F{form}")
    with_view = path.read_bytes().replace(b"/etc/hostname", b"/nowhere/else")
    path.write_bytes(with_view)
    found = refnet("verify", path)
    assert found.code == 3
    assert "1 table with 3,000 rows" in found.out


@pytest.mark.parametrize(
    ("text", "code", "says"),
    [
        ("SELECT 1 / 0;\n", 4, "division by zero"),
        ("\\! touch owned\n", 3, "backslash commands"),
        ("CREATE EXTENSION from_far_away;\n", 3, "from_far_away"),
        ("CREATE TABLE t (v text COMPRESSION lz4);\n", 3, "lz4"),
        ("CREATE DATABASE other;\n", 3, "creates databases itself"),
    ],
)
def test_an_unloadable_dump_is_damaged_unless_the_server_lacks_something(
    refnet: Command, tmp_path: Path, text: str, code: int, says: str
) -> None:
    path = tmp_path / "dump.sql.gz"
    path.write_bytes(gzip.compress(f"{_HEAD}{text}{_END}".encode()))
    found = refnet("verify", path)
    assert (found.code, found.err) == (code, "")
    assert says in found.out


def test_an_archive_that_was_cut_short_is_damaged(
    library: Target, wheel: Binaries, refnet: Command, tmp_path: Path
) -> None:
    path = pg_dump(library, wheel, tmp_path / "cut.dump", "-Fc")
    path.write_bytes(path.read_bytes()[:-20_000])
    for level in ("intact", "restored"):
        assert refnet("verify", path, "--level", level).code == 4


def test_plain_sql_by_any_name_is_loaded(refnet: Command, tmp_path: Path) -> None:
    path = tmp_path / "dump.sql.gz"
    path.write_text("CREATE TABLE t ();\nCREATE TABLE u (v) AS SELECT 1;\n")
    assert "2 tables with 1 row " in refnet("verify", path).out


def test_the_archive_of_a_folder_by_another_name_is_not_called_damaged(
    refnet: Command, tmp_path: Path
) -> None:
    packed = io.BytesIO()
    with tarfile.open(fileobj=packed, mode="w:gz") as tar:
        tar.add(__file__, "note.md")
    (path := tmp_path / "renamed.bin").write_bytes(packed.getvalue())
    ran = refnet("verify", path)
    assert (ran.code, "DAMAGED" in ran.out) == (3, False), ran.out
    assert "is a gzipped tar archive; one of a folder needs a name such as" in ran.out
