"""Dumps of other programs are adopted as artifacts of a source, whatever their format is, and restored by stock tools too."""

from __future__ import annotations

import bz2
import gzip
import lzma
import os
import shutil
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from tests.command import Command, url_of
from tests.integration.database.library import pg_dump

from refnet.postgres.binaries import Binaries
from refnet.postgres.cluster import Cluster
from refnet.postgres.session import Target

ROWS = 300


@pytest.fixture(scope="module")
def shop(server: Cluster) -> Iterator[Target]:
    """A database that every test leaves, or restores, as it is."""
    target = server.target("adopted shop")
    with server.target().connect() as admin:
        admin.execute('CREATE DATABASE "adopted shop" TEMPLATE template0')
    with target.connect() as session:
        session.execute(
            "CREATE TABLE items AS SELECT n, 'text\\\\connect '||n AS t FROM generate_series(1, 300) n"
        )
    yield target
    with server.target().connect() as admin:
        admin.execute('DROP DATABASE IF EXISTS "adopted shop" WITH (FORCE)')


@pytest.fixture
def refnet(tmp_path: Path, short_home: Path, shop: Target) -> Command:
    settings = tmp_path / "refnet.toml"
    settings.write_text(f'[databases.shop]\nurl = "{url_of(shop)}"\n')
    settings.chmod(0o600)
    return Command(short_home, tmp_path / "backups", "", {"REFNET_CONFIG": str(settings)})


@pytest.fixture(scope="module", params=["p", "c", "d", "t"])
def form_and_dump(
    request: pytest.FixtureRequest, shop: Target, wheel: Binaries, tmp_path_factory: pytest.TempPathFactory
) -> tuple[str, Path]:
    """A format of pg_dump, and a dump in it."""
    form: str = request.param
    return form, pg_dump(shop, wheel, tmp_path_factory.mktemp("dumps") / "old.dump", f"-F{form}")


def packed(program: str, folder: Path) -> Callable[[Path], Path]:
    def pack(path: Path) -> Path:
        out = folder / f"{path.name}.packed"
        with out.open("wb") as file:
            subprocess.run([program, "-c", str(path)], stdout=file, check=True)
        return out

    return pack


@pytest.mark.parametrize("program", ["", "gzip", "zstd", "xz", "bzip2"])
def test_a_dump_of_every_format_is_adopted_and_restored(
    shop: Target, form_and_dump: tuple[str, Path], refnet: Command, tmp_path: Path, program: str
) -> None:
    form, path = form_and_dump
    if program and (form == "d" or not shutil.which(program)):
        pytest.skip("a folder is not packed, or the program is not installed")
    path = packed(program, tmp_path)(path) if program else path

    done = refnet("adopt", path, "--source", "shop", "--at", "2026-01-02T03:04:05")

    assert (done.code, done.err) == (0, "")
    [name] = refnet.names()
    assert name == "shop_20260102_030405.sql.gz"
    text = gzip.decompress((refnet.backups / "shop" / name).read_bytes())
    assert text.count(b"connect ") == ROWS
    if (form, program) in {("p", ""), ("c", "zstd"), ("d", "")}:
        verified = refnet("verify", name, "--json")
        assert verified.code == 0, verified.out
        assert verified.json["results"][0]["level"] == "restored"
        with shop.connect() as session:
            session.execute("DELETE FROM items WHERE n > 7")
        restored = refnet("restore", "shop", name, "--force")
        assert restored.code == 0, restored.err
        with shop.connect() as session:
            assert session.execute("SELECT count(*) FROM items").fetchone() == (ROWS,)


def test_of_a_dump_by_pg_dumpall_the_database_of_the_source_is_adopted(
    shop: Target, server: Cluster, wheel: Binaries, refnet: Command, tmp_path: Path
) -> None:
    path = tmp_path / "all_20260203.sql"
    with path.open("wb") as file:
        subprocess.run(
            [str(wheel.tool("pg_dumpall"))], env=server.target().environment(), stdout=file, check=True
        )

    planned = refnet("adopt", path, "--source", "shop", "--plan")
    assert "a dump of another program (by pg_dumpall)" in planned.out
    assert refnet("adopt", path, "--source", "shop").code == 0

    [name] = refnet.names()
    assert name == "shop_20260203_000000.sql.gz"
    text = gzip.decompress((refnet.backups / "shop" / name).read_bytes())
    assert (
        text.count(b"\\connect ") == text.count(b"text\\\\connect ") or b"\nCREATE TABLE public.items" in text
    )
    assert b"CREATE DATABASE" not in text
    assert refnet("verify", name).code == 0


def test_what_is_missing_or_wrong_is_said(
    shop: Target, wheel: Binaries, refnet: Command, tmp_path: Path
) -> None:
    path = pg_dump(shop, wheel, tmp_path / "old.sql")
    refnet("adopt", path, "--source", "shop").fails(2, "does not say when it was made", "--at")
    refnet("adopt", path, "--source", "obsidian", "--at", "2026-01-01").fails(2, "is not a database")
    refnet("adopt", path, "--at", "2026-01-01").fails(2, "--source")
    refnet("adopt", tmp_path / "no.sql", "--source", "shop", "--at", "2026-01-01").fails(2, "does not exist")
    (tmp_path / "x_20260101.sql.gz").write_bytes(gzip.compress(b"-- PostgreSQL database dump\n" * 9)[:-9])
    assert refnet("adopt", tmp_path / "x_20260101.sql.gz", "--source", "shop").code in {1, 4}
    (tmp_path / "y_20260101.zst").write_bytes(b"\x28\xb5\x2f\xfd" + os.urandom(50))
    refnet("adopt", tmp_path / "y_20260101.zst", "--source", "shop").fails(4, "damaged or cut short")
    other = tmp_path / "all_20260101.sql"
    other.write_text("--\n-- PostgreSQL database cluster dump\n--\n\\connect other\nSELECT 1;\n")
    refnet("adopt", other, "--source", "shop").fails(2, "has no database adopted shop", "It has: other")
    assert refnet.names() == []


@pytest.mark.parametrize("pack", [gzip.compress, bz2.compress, lzma.compress])
def test_a_damaged_or_truncated_packed_dump_is_named_and_leaves_no_file(
    refnet: Command, tmp_path: Path, pack: Callable[[bytes], bytes]
) -> None:
    packed = pack(b"PGDMP" + os.urandom(4000))
    changed = packed[:2000] + bytes([packed[2000] ^ 1]) + packed[2001:]
    path = tmp_path / "x_20260101.packed"
    for content in (packed[:30], packed[:-9], changed, packed[:12] + os.urandom(50)):
        path.write_bytes(content)
        refnet("adopt", path, "--source", "shop").fails(4, str(path), "damaged or cut short")
    assert not [one for one in refnet.home.iterdir() if "adopt" in one.name]


@pytest.mark.parametrize(
    ("sql", "code", "says"),
    [
        (b'CREATE TABLE public."t\xe9" (i int);', 0, "restored"),
        (
            b"CREATE TABLE public.t (i int); UPDATE pg_class SET relfilenode = 999999 WHERE relname = 't';",
            3,
            "could not open file",
        ),
    ],
)
def test_undecodable_names_and_unreadable_tables_cause_no_traceback(
    refnet: Command, tmp_path: Path, sql: bytes, code: int, says: str
) -> None:
    path = tmp_path / "odd_20260101.sql"
    lines = (
        b"--\n-- PostgreSQL database dump\n--\n",
        b"SET client_encoding = 'SQL_ASCII';",
        sql,
        b"--\n-- PostgreSQL database dump complete\n--\n",
    )
    path.write_bytes(b"\n".join(lines))
    assert refnet("adopt", path, "--source", "shop").code == 0
    verified = refnet("verify", *refnet.names())
    assert verified.code == code, verified.out + verified.err
    assert says in verified.out


@pytest.mark.parametrize("form", ["p", "d"])
def test_an_old_dump_is_restored_as_the_source_that_is_named(
    shop: Target, wheel: Binaries, refnet: Command, tmp_path: Path, form: str
) -> None:
    path = pg_dump(shop, wheel, tmp_path / "refnet_20260101_020000.sql", f"-F{form}")
    if form == "p":
        path = packed("gzip", tmp_path)(path).rename(tmp_path / "refnet_20260101_020000.sql.gz")

    assert refnet("restore", "shop", path, "--plan").code == 0
    done = refnet("restore", "shop", path, "--force")
    assert (done.code, done.err) == (0, "")
