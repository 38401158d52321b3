"""A chain of base backups, unpacked, is what pg_combinebackup makes of it, byte for byte."""

from __future__ import annotations

import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest
from tests.clusters import Live, live

from refnet.postgres.account import Account
from refnet.postgres.binaries import Binaries
from refnet.sources.cluster.data_folder import FROM_BACKUP, unpack

US = Account("", 0, 0, other=False)
#: Written by RefNet, or by pg_combinebackup for itself.
OWN = {
    *("postgresql.conf", "postgresql.auto.conf", "pg_hba.conf", "pg_ident.conf"),
    *("backup_manifest", "tablespace_map"),
}


@pytest.fixture(scope="module")
def busy(wheel: Binaries, short_folder: Path) -> Iterator[Live]:
    """A server with a full and three increments: tables that grow, shrink, are dropped and made."""
    with live(wheel, short_folder / "busy") as found:
        found.sql("CREATE TABLE t (i int PRIMARY KEY, x text)", "CREATE TABLE gone (i int)")
        found.sql("INSERT INTO t SELECT g, repeat('x', 100) FROM generate_series(1, 20000) g")
        found.base()
        found.sql("UPDATE t SET x = 'y' WHERE i % 97 = 0", "DROP TABLE gone")
        found.base(increment=True)
        found.sql("DELETE FROM t WHERE i > 3000", "VACUUM t", "CREATE TABLE made AS SELECT 1 AS i")
        found.base(increment=True)
        found.sql("INSERT INTO t SELECT g, repeat('z', 100) FROM generate_series(3001, 9000) g")
        found.base(increment=True)
        yield found


def combined(live: Live, folder: Path) -> Path:
    """What pg_combinebackup makes of all base backups."""
    folders = list[str]()
    for one in live.bases:
        into = folder / one.name
        into.mkdir(parents=True)
        subprocess.run(["tar", "-xzf", live.folder / one.name, "-C", into], check=True)
        folders.append(str(into))
    made = folder / "combined"
    program = live.cluster.binaries.tool("pg_combinebackup")
    subprocess.run([program, *folders, "-o", made], check=True, capture_output=True)
    for each in folders:
        shutil.rmtree(each)
    return made


def tree(folder: Path) -> dict[str, bytes | None]:
    """All that is in a data folder: the content of a file, None for a folder."""
    found = {
        str(path.relative_to(folder)): path.read_bytes() if path.is_file() else None
        for path in folder.rglob("*")
    }
    return {
        name: data for name, data in found.items() if name not in OWN and not name.startswith(FROM_BACKUP)
    }


def test_increments_applied_in_place_give_what_pg_combinebackup_makes(busy: Live, tmp_path: Path) -> None:
    (tmp_path / "data").mkdir()
    unpack(busy.bases, tmp_path / "data", US)

    ours, theirs = tree(tmp_path / "data"), tree(combined(busy, tmp_path / "work"))
    assert [
        name for name in ours.keys() | theirs.keys() if ours.get(name, b"-") != theirs.get(name, b"-")
    ] == []
    assert len(ours) > 900
