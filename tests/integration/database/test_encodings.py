"""Databases in other encodings and locales: restored by RefNet and by stock tools to the same text."""

from __future__ import annotations

import gzip
import os
from dataclasses import dataclass
from pathlib import Path

import pytest
from tests import oracle
from tests.command import Command, url_of
from tests.everything import drop

from refnet.postgres.cluster import Cluster
from refnet.postgres.session import Target
from refnet.sources.database.restore.server_facts import identity_of

_TABLES = """
CREATE SCHEMA "{n}";
CREATE TABLE "{n}"."{n}" ("{n}" text PRIMARY KEY, id serial);
INSERT INTO "{n}"."{n}" SELECT '{v}' || i FROM generate_series(1, 50) i;
CREATE TABLE "{n}".big ("{n}" text, id int);
INSERT INTO "{n}".big SELECT repeat('{v}', 40) || i, i FROM generate_series(1, 4000) i;
CREATE TYPE "{n}".mood AS ENUM ('{v}', 'other');
CREATE TABLE "{n}".moods (m "{n}".mood) PARTITION BY HASH (m);
CREATE TABLE "{n}".moods_0 PARTITION OF "{n}".moods FOR VALUES WITH (MODULUS 1, REMAINDER 0);
INSERT INTO "{n}".moods VALUES ('{v}'), ('other');
COMMENT ON TABLE "{n}".big IS '{v}';
CREATE FUNCTION "{n}"."{n}"() RETURNS text LANGUAGE sql AS $$ SELECT '{v}'::text $$;
"""


@dataclass(frozen=True)
class Case:
    """A database's encoding and locale, and a name and a value in its own bytes."""

    encoding: str
    name: bytes
    value: bytes
    locale: str = "LC_COLLATE 'C' LC_CTYPE 'C'"

    def text(self) -> bytes:
        return _TABLES.encode().replace(b"{n}", self.name).replace(b"{v}", self.value)


CASES = {
    "LATIN1": Case("LATIN1", "tablé ÿ".encode("latin-1"), "naïve ¿£\xa0".encode("latin-1")),
    "EUC_JP": Case("EUC_JP", "表 論文".encode("euc_jp"), "日本語の要約、ソ\\".encode("euc_jp")),
    "SQL_ASCII, UTF-8 inside": Case("SQL_ASCII", "表".encode(), "é日本".encode()),
    "SQL_ASCII, anything inside": Case("SQL_ASCII", b"t\xff\xe9", b"\xff\xfe\x80\xe9 \xc3"),
    "UTF8, builtin": Case(
        "UTF8", b"n", b"v", "LOCALE_PROVIDER builtin BUILTIN_LOCALE 'C.UTF-8' LC_COLLATE 'C' LC_CTYPE 'C'"
    ),
}


def _made(cluster: Cluster, case: Case) -> Target:
    drop(cluster, "encoded")
    with cluster.target().connect() as admin:
        create = f"CREATE DATABASE encoded TEMPLATE template0 ENCODING '{case.encoding}' {case.locale}"
        admin.execute(create.encode())
    target = cluster.target("encoded")
    psql = cluster.binaries.tool("psql")
    text = f"SET client_encoding = '{case.encoding}';\n".encode() + case.text()
    oracle.run(psql, "-Xq", "-v", "ON_ERROR_STOP=1", conninfo=target.conninfo, stdin=text)
    return target


def _text(cluster: Cluster, target: Target) -> list[bytes]:
    """Stock pg_dump's text of the database with what stands around it, in no order."""
    text = oracle.run(cluster.binaries.tool("pg_dump"), "--create", conninfo=target.conninfo)
    return sorted(line for line in text.split(b"\n") if not line.startswith((b"\\restrict", b"\\unrestrict")))


@pytest.mark.parametrize("name", CASES)
def test_a_database_comes_back_in_its_own_encoding_and_locale(
    server: Cluster, tmp_path: Path, short_home: Path, name: str
) -> None:
    target = _made(server, CASES[name])
    refnet = Command(short_home, tmp_path / "backups", url_of(target))
    before = _text(server, target)
    made = refnet("backup", "database")
    made.succeeds()
    assert "proven" in made.out
    refnet("database", "sizes").succeeds()
    assert str(identity_of(target).system).isdecimal()
    by_stock = _restored_by_stock(server, CASES[name], refnet.artifact())
    drop(server, target.name)
    refnet("restore", "database").succeeds()
    assert _text(server, target) == before
    assert _without_name(by_stock) == _without_name(before)
    drop(server, target.name)


_LOSS = 'SET client_encoding = \'{e}\'; DELETE FROM "{n}".big WHERE id % 2 = 0; DROP TABLE "{n}"."{n}"; DROP TABLE "{n}".moods;'


@pytest.mark.parametrize("name", ["EUC_JP", "SQL_ASCII, anything inside"])
def test_tables_with_names_in_any_encoding_come_back_alone(
    server: Cluster, tmp_path: Path, short_home: Path, name: str
) -> None:
    case, target = CASES[name], _made(server, CASES[name])
    refnet = Command(short_home, tmp_path / "backups", url_of(target))
    before = _text(server, target)
    refnet("backup", "database").succeeds()
    refnet("drill", "database").succeeds()
    plan = refnet("restore", "database", "--plan")
    plan.succeeds()
    assert "only in the live database" not in plan.out
    if case.encoding == "SQL_ASCII":
        names = "SELECT relname FROM pg_class WHERE oid > 16384 AND relkind = 'r'"
        refnet("query", refnet.artifact(), names).fails(1, "invalid byte sequence", "convert_to(")
        refnet(
            "query", refnet.artifact(), names.replace("relname", "convert_to(relname, 'SQL_ASCII')")
        ).succeeds()
    loss = _LOSS.replace("{e}", case.encoding).encode().replace(b"{n}", case.name)
    psql = server.binaries.tool("psql")
    oracle.run(psql, "-Xq", "-v", "ON_ERROR_STOP=1", conninfo=target.conninfo, stdin=loss)
    schema = os.fsdecode(case.name if case.encoding == "SQL_ASCII" else case.name.decode("euc_jp").encode())
    refnet("restore", "database", "--schema", schema, "--mode", "replace", "--force").succeeds()
    assert _text(server, target) == before
    drop(server, target.name)


def _restored_by_stock(cluster: Cluster, case: Case, artifact: Path) -> list[bytes]:
    with cluster.target().connect() as admin:
        create = f"CREATE DATABASE stock TEMPLATE template0 ENCODING '{case.encoding}' {case.locale}"
        admin.execute(create.encode())
    copy = cluster.target("stock")
    plain = gzip.decompress(artifact.read_bytes())
    oracle.run(
        cluster.binaries.tool("psql"), "-Xq", "-v", "ON_ERROR_STOP=1", conninfo=copy.conninfo, stdin=plain
    )
    text = _text(cluster, copy)
    drop(cluster, "stock")
    return text


def _without_name(lines: list[bytes]) -> list[bytes]:
    return sorted(line.replace(b"encoded", b"*").replace(b"stock", b"*") for line in lines)


def test_an_icu_locale_comes_back(system_server: Cluster, tmp_path: Path, short_home: Path) -> None:
    with system_server.target().connect() as admin:
        if not admin.execute("SELECT 1 FROM pg_collation WHERE collname = 'en-x-icu'").fetchone():
            pytest.skip("this PostgreSQL was built without ICU")
    case = Case(
        "UTF8",
        "é".encode(),
        "日本".encode(),
        "LOCALE_PROVIDER icu ICU_LOCALE 'en-u-kn-true' LC_COLLATE 'C' LC_CTYPE 'C'",
    )
    target = _made(system_server, case)
    refnet = Command(short_home, tmp_path / "backups", url_of(target))
    before = _text(system_server, target)
    refnet("backup", "database").succeeds()
    drop(system_server, target.name)
    refnet("restore", "database").succeeds()
    assert _text(system_server, target) == before
    drop(system_server, target.name)
