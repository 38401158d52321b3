"""The commits in WAL, as recovery and cross-proof read them: segment by segment, and none is lost between two."""

from __future__ import annotations

import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest
from tests.wal_server import WalServer, wal_server

from refnet.catalog.wal import ServerFacts
from refnet.postgres.binaries import Binaries
from refnet.sources.cluster import wal_writer
from refnet.sources.cluster.recovery_facts import archived
from refnet.sources.cluster.wal_archive import WalArchive

_MANY = """
CREATE PROCEDURE many() LANGUAGE plpgsql AS $$
BEGIN FOR g IN 1..100000 LOOP INSERT INTO t VALUES (g); COMMIT; END LOOP; END $$
"""
_FACTS = "SELECT system_identifier::text FROM pg_control_system()"


@pytest.fixture
def server(wheel: Binaries, short_folder: Path) -> Iterator[WalServer]:
    with wal_server(wheel, short_folder / "many") as found:
        found.settings |= {"wal_keep_size": "200MB", "synchronous_commit": "off"}
        found.stop()
        found.start()
        yield found


def test_a_commit_whose_record_ends_in_the_next_segment_is_found(server: WalServer, tmp_path: Path) -> None:
    """Of a dozen boundaries, some are in the record of a commit."""
    server.sql(_MANY, "CALL many()", "SELECT pg_switch_wal()")
    ((identifier,),) = server.sql(_FACTS)
    archive = WalArchive(tmp_path / identifier, lambda _major: server.binaries)
    wal_writer.make(archive, ServerFacts(identifier, 1 << 20, server.binaries.major))
    there = server.data / "pg_wal"
    names = sorted(one.name for one in there.glob("0*") if len(one.name) == 24)[:-1]
    for name in names:
        (archive.live / name).write_bytes((there / name).read_bytes())
    command = [server.binaries.tool("pg_waldump"), "--rmgr=Transaction", "-p", there, names[0], names[-1]]
    whole = subprocess.run(command, capture_output=True, text=True, check=True).stdout

    commits = archived(archive, None).commits
    assert sum(len(commits(name)) for name in names) == whole.count(" COMMIT ") > 50_000
