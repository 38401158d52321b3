"""A small live database and the command `refnet` on it, for breaking things."""

from __future__ import annotations

import shutil
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

import pytest
from psycopg import sql
from tests import oracle
from tests.command import Command, url_of

from refnet.postgres.cluster import Cluster
from refnet.postgres.session import Target

_SMALL = """
CREATE TABLE papers (id int PRIMARY KEY, title text NOT NULL);
INSERT INTO papers SELECT i, (SELECT string_agg(md5((i * 7 + n)::text), '') FROM generate_series(1, 7) n) || repeat(' of a paper', 20)
    FROM generate_series(1, 3000) i;
CREATE TABLE citations (citing int REFERENCES papers, cited int REFERENCES papers, PRIMARY KEY (citing, cited));
INSERT INTO citations SELECT i, i / 2 FROM generate_series(2, 2999) i;
CREATE TABLE summaries (id serial PRIMARY KEY, paper int REFERENCES papers, v text);
INSERT INTO summaries (paper, v) SELECT i, 'summary ' || i FROM generate_series(1, 100) i;
CREATE MATERIALIZED VIEW counted AS SELECT count(*) FROM papers;
SELECT lo_from_bytea(4000000001, 'large');
"""


@dataclass(frozen=True)
class Live:
    """A database that must not change, whatever is done with its backups."""

    cluster: Cluster
    target: Target

    def portrait(self) -> oracle.Portrait:
        return oracle.portrait(self.target.conninfo, self.cluster.binaries.folder)

    def run(self, statement: str) -> None:
        """Run `statement` in the database."""
        with self.target.connect({"statement_timeout": "0"}) as session:
            session.execute(statement.encode())


@pytest.fixture(scope="session")
def _template(server: Cluster) -> str:
    with server.target().connect() as admin:
        admin.execute("CREATE DATABASE small_template TEMPLATE template0")
    with server.target("small_template").connect() as session:
        session.execute(_SMALL)
    return "small_template"


@pytest.fixture
def live(server: Cluster, _template: str) -> Iterator[Live]:
    """A small database of its own for one test; that it is as it was is checked by `unchanged`."""
    with made(server, _template) as found:
        yield found


@contextmanager
def made(server: Cluster, template: str) -> Iterator[Live]:
    """A small database."""
    with server.target().connect() as admin:
        admin.execute("DROP DATABASE IF EXISTS live WITH (FORCE)")
        admin.execute(
            sql.SQL("CREATE DATABASE live TEMPLATE {} STRATEGY FILE_COPY").format(sql.Identifier(template))
        )
    yield Live(server, server.target("live"))
    with server.target().connect() as admin:
        admin.execute("DROP DATABASE IF EXISTS live WITH (FORCE)")


@pytest.fixture
def guarded(server: Cluster) -> Iterator[str]:
    """A role that must give a password."""
    hba = server.data / "pg_hba.conf"
    before = hba.read_text()
    hba.write_text("local all guarded scram-sha-256\n" + before)
    with server.target().connect() as admin:
        admin.execute("CREATE ROLE guarded LOGIN SUPERUSER PASSWORD 'the right one'")
        admin.execute("SELECT pg_reload_conf()")
    yield "guarded"
    hba.write_text(before)
    with server.target().connect() as admin:
        admin.execute("DROP ROLE guarded")
        admin.execute("SELECT pg_reload_conf()")


@pytest.fixture(scope="session")
def _portraits() -> list[oracle.Portrait]:
    """That of the small database, once one was made."""
    return []


@pytest.fixture
def unchanged(live: Live, _portraits: list[oracle.Portrait]) -> Iterator[None]:
    """The live database is at the end what each is at the beginning."""
    with kept(live, _portraits):
        yield


@contextmanager
def kept(live: Live, portraits: list[oracle.Portrait]) -> Iterator[None]:
    """`live` is at the end of the block what each is at the beginning."""
    if not portraits:
        portraits.append(live.portrait())
    (before,) = portraits
    yield
    after = live.portrait()
    assert oracle.differences(before.inside, after.inside) == []
    assert oracle.differences(before.around, after.around) == []


@pytest.fixture
def refnet(live: Live, tmp_path: Path, short_home: Path) -> Command:
    """The command on the live database, with a home and a backup folder of its own."""
    return Command(short_home, tmp_path / "backups", url_of(live.target))


@pytest.fixture(scope="session")
def _kept(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Where the backups of the small database are, once they were made."""
    return tmp_path_factory.mktemp("kept")


def _backed_up(refnet: Command, kept: Path, *options: str) -> Path:
    """Make a backup of the small database, or a copy of the one that was made in `kept`; return the artifact."""
    if not kept.exists():
        refnet("backup", "database", *options).succeeds()
        shutil.copytree(refnet.backups, kept / "backups")
        shutil.copytree(refnet.home, kept / "home")
        return refnet.artifact()
    shutil.copytree(kept / "backups", refnet.backups)
    shutil.copytree(kept / "home", refnet.home, dirs_exist_ok=True)
    return refnet.artifact()


@pytest.fixture
def written(refnet: Command, _kept: Path) -> Path:
    """The artifact of a backup of the small database, without a proof."""
    return _backed_up(refnet, _kept / "written", "--no-prove")


@pytest.fixture
def proven(refnet: Command, _kept: Path) -> Path:
    """The artifact of a backup of the small database, proven."""
    return _backed_up(refnet, _kept / "proven")


@pytest.fixture
def small_disk(short_folder: Path) -> Iterator[Path]:
    """A file system of 1.1 MB, which every system user can enter."""
    folder = short_folder / "disk"
    folder.mkdir(exist_ok=True)
    mount = ["mount", "-t", "tmpfs", "-o", "size=1100k,mode=0755", "tmpfs", folder]
    if subprocess.run(mount, capture_output=True, check=False).returncode != 0:
        pytest.skip("this user may not mount a small disk")
    yield folder
    subprocess.run(["umount", "--lazy", folder], check=True)


def fill(folder: Path, *, free: int = 0) -> None:
    """Leave `free` bytes on the file system of `folder`."""
    with (folder / "filler").open("wb", buffering=0) as filler:
        with suppress(OSError):
            while True:
                filler.write(bytes(4096))
        filler.truncate(filler.tell() - free)
