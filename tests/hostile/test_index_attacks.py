"""What a forged index says never becomes a command of psql or a statement of SQL, on this machine or on the server."""

from __future__ import annotations

import dataclasses
import io
from collections.abc import Callable
from pathlib import Path
from typing import Any

import psycopg
import pytest
from tests.command import Command, url_of
from tests.hostile import forge

from refnet.catalog.artifact import Finding
from refnet.catalog.manifest import Outcome
from refnet.core.errors import RefnetError
from refnet.postgres.binaries import Binaries
from refnet.postgres.session import READER_SETTINGS, Target
from refnet.sources.database.artifact.index import Index
from refnet.sources.database.artifact.sqlgz import Reader
from refnet.sources.database.dump.psql_copy import Access, PsqlCopy, PsqlError
from refnet.sources.database.proof.compare import compare
from refnet.sources.database.proof.row_digests import digested
from refnet.sources.database.restore import create_database
from refnet.sources.database.rows import live_catalog
from refnet.sources.database.workers import Workers


def _index(artifact: bytes) -> Index:
    return digested(Reader("refnet_20261125_020000.sql.gz", lambda: io.BytesIO(artifact)), "", 1)


def _tables(target: Target) -> list[str]:
    with target.connect() as session:
        rows = session.execute(
            "SELECT relname::text FROM pg_class WHERE relkind = 'r' AND oid >= 16384 ORDER BY 1"
        )
        return [name for (name,) in rows.fetchall()]


def _failures(findings: tuple[Finding, ...]) -> dict[str, str]:
    return {one.what: one.reason for one in findings if one.outcome is Outcome.FAILED}


@pytest.fixture
def sign(tmp_path: Path) -> Path:
    """A file that an attack makes where it works."""
    return tmp_path / "owned"


def _shell(index: Index, encoding: str, sign: Path) -> Index:
    """A column that ends in a lone lead byte swallows the quote behind it; the next one is then a command of psql."""
    columns = ("id", "title\udc81", f' \\! touch {sign}\n"')
    tables = tuple(dataclasses.replace(table, columns=columns) for table in index.tables)
    return dataclasses.replace(index, encoding=encoding, tables=tables)


@pytest.mark.parametrize("encoding", ["SJIS", "GBK", "UTF8", "LATIN1"])
def test_a_column_of_an_index_is_no_command_of_psql(
    genuine: bytes, small_database: Target, wheel: Binaries, sign: Path, encoding: str
) -> None:
    """The index is given without its strict reading, which refuses some of this: the comparison stands by itself."""
    found = _failures(compare(small_database, _shell(_index(genuine), encoding, sign), Workers(wheel, 1)))
    assert not sign.exists()
    assert set(found) == (
        {"table public.papers", "table public.notes"} if encoding == "UTF8" else {"encoding"}
    )


def test_psql_runs_no_command_that_a_statement_brings_along(
    small_database: Target, wheel: Binaries, sign: Path
) -> None:
    with PsqlCopy(Access(wheel, small_database, READER_SETTINGS, "UTF8")) as psql:
        assert b"".join(psql.copy(b"COPY (SELECT 'a', 'b') TO STDOUT")) == b"a\tb\n"
        with pytest.raises(PsqlError, match="backslash commands are restricted"):
            b"".join(psql.copy(f"SELECT 1;\n\\! touch {sign}\n".encode()))
    assert not sign.exists()


def test_a_session_that_compares_changes_nothing(small_database: Target, wheel: Binaries) -> None:
    before = _tables(small_database)
    with (
        PsqlCopy(Access(wheel, small_database, READER_SETTINGS, "UTF8")) as psql,
        pytest.raises(PsqlError, match="read-only"),
    ):
        b"".join(psql.copy(b"CREATE TABLE owned ()"))
    with (
        live_catalog.reading(small_database) as (session, _, _),
        pytest.raises(psycopg.errors.ReadOnlySqlTransaction),
    ):
        session.execute("CREATE TABLE owned ()")
    assert _tables(small_database) == before


@pytest.mark.parametrize(
    "name",
    [
        "public.notes_id_seq; CREATE TABLE owned (); SELECT 1, true",
        '"public"."notes_id_seq" ; COPY (SELECT 1) TO PROGRAM \'touch {sign}\'; --',
        'public."a"".b',
        "notes_id_seq",
        "",
    ],
)
def test_a_sequence_of_an_index_is_no_statement(
    genuine: bytes, small_database: Target, wheel: Binaries, sign: Path, name: str
) -> None:
    before = _tables(small_database)
    lie = dataclasses.replace(_index(genuine), sequences=((name.format(sign=sign), 20, True),))
    assert "differ" in _failures(compare(small_database, lie, Workers(wheel, 1)))["1 sequences"]
    assert _tables(small_database) == before
    assert not sign.exists()


def test_a_privilege_of_an_index_is_no_statement(small_database: Target) -> None:
    lie = "CONNECT ON DATABASE postgres TO PUBLIC; CREATE TABLE owned (); GRANT CONNECT"
    state = {
        "connection_limit": -1,
        "owner": "refnet",
        "acl": [{"grantor": "refnet", "grantee": "", "privilege": lie, "grantable": False}],
    }
    with small_database.connect() as admin, pytest.raises(RefnetError, match="no database has"):
        create_database.finish(admin, small_database.name, state)
    assert "owned" not in _tables(small_database)


def test_a_table_or_column_on_one_side_alone_is_found(
    genuine: bytes, small_database: Target, wheel: Binaries
) -> None:
    index = _index(genuine)
    papers, notes = sorted(index.tables, key=lambda table: -table.raw)
    lies = {
        "a table too many": ((papers, notes, dataclasses.replace(notes, name="gone")), {"public.gone": "it does not exist"}),
        "one of the system's": ((papers, notes, dataclasses.replace(notes, schema="pg_catalog", name="pg_authid")),
                                {"pg_catalog.pg_authid": "it does not exist"}),
        "a table too few": ((papers,), {"public.notes": "it was not recorded"}),
        "a column too many": ((papers, dataclasses.replace(notes, columns=(*notes.columns, "more"))),
                              {"public.notes": "columns are missing: more"}),
        "a column too few": ((papers, dataclasses.replace(notes, columns=("id", "note"))),
                             {"public.notes": "columns were not recorded: paper"}),
    }  # fmt: skip
    for what, (tables, expected) in lies.items():
        found = _failures(
            compare(small_database, dataclasses.replace(index, tables=tables), Workers(wheel, 1))
        )
        assert found == {f"table {name}": why for name, why in expected.items()}, what


# By the commands.


@pytest.fixture
def refnet(small_database: Target, tmp_path: Path, short_home: Path) -> Command:
    return Command(short_home, tmp_path / "backups", url_of(small_database))


def _encoding(index: dict[str, Any], sign: Path) -> None:
    index["encoding"] = "SJIS"
    for table in index["tables"]:
        table["columns"] = ["id", "title\udc81", f' \\! touch {sign}\n"']


def _sequence(index: dict[str, Any], sign: Path) -> None:
    index["sequences"][0][0] = f"public.a; COPY (SELECT 1) TO PROGRAM 'touch {sign}'; --"


def _privilege(index: dict[str, Any], sign: Path) -> None:
    lie = "CONNECT ON DATABASE postgres TO PUBLIC; ALTER DATABASE template1 RENAME TO owned; --"
    index["database"]["acl"] = [{"grantor": "refnet", "grantee": "", "privilege": lie, "grantable": False}]


@pytest.mark.parametrize("lie", [_encoding, _sequence, _privilege])
def test_no_command_takes_a_forged_index_for_more_than_damage(
    refnet: Command, small_database: Target, sign: Path, lie: Callable[[dict[str, Any], Path], None]
) -> None:
    refnet("backup", "database", "--no-prove").succeeds()
    forge.forge(refnet.artifact(), lambda index: lie(index, sign))
    name, before = refnet.artifact().name, _tables(small_database)
    for arguments in (["diff", "database", name], ["restore", "database", name, "--force"], ["verify", name]):
        ended = refnet(*arguments)
        assert ended.code == 4, arguments
        assert "Traceback" not in ended.out + ended.err
    assert not sign.exists()
    assert _tables(small_database) == before
    with small_database.connect() as session:
        rows = session.execute("SELECT datname FROM pg_database WHERE datname = 'owned'").fetchall()
    assert rows == []


def test_names_that_are_not_text_or_steer_a_terminal_are_shown_safely(refnet: Command) -> None:
    refnet("backup", "database", "--no-prove").succeeds()

    def lie(index: dict[str, Any]) -> None:
        for number, table in enumerate(index["tables"]):
            table["name"] = f"\x1b]0;owned\x07\x1b[2J\udcff\n{number}"
        index["roles"][0]["name"] = "\udcff"
        index["unchecked"] = ["\x1b[2Jsaid\udcff"]
        index["extensions"] = [{"name": "\udcff\x1b[2J", "version": "1", "schema": "s"}]

    forge.forge(refnet.artifact(), lie)
    name = refnet.artifact().name
    commands = (
        ["list"], ["show", name], ["diff", "database", name], ["restore", "database", name, "--plan"],
        ["restore", "database", name, "--table", "papers", "--mode", "missing", "--plan"],
        ["verify", name, "--level", "intact"], ["verify", name], ["list", "--json"],
    )  # fmt: skip
    for arguments in commands:
        ended = refnet(*arguments)
        assert "Traceback" not in ended.out + ended.err, ended.err[-900:]
        assert "\x1b" not in ended.out + ended.err, arguments
