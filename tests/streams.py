"""A home with a cluster whose WAL was received, made up: no server and no PostgreSQL; a window, and a gap before it."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from datetime import UTC, datetime, timedelta
from pathlib import Path

from tests import wal_segments

from refnet.catalog.artifact import Made
from refnet.catalog.manifest import Entry, Evidence, Level, Outcome
from refnet.catalog.source_name import Kind, SourceName
from refnet.catalog.wal import KnownServer, lsn_text, segment_of
from refnet.catalog.wal_stream import StreamReport, StreamState
from refnet.core import locks
from refnet.sources.cluster.wal_archive import REPORT
from refnet.store.backup_folder import LOCK_NAME
from refnet.store.local import LocalStore
from refnet.store.source_records import ClusterRecord, SeenDatabases
from refnet.store.wal_sending import Sent

CLUSTER = SourceName("main-cluster", Kind.CLUSTER)
#: The window ends then: when this was imported, which can be long before a test.
NOW = datetime.now(UTC).replace(microsecond=0)
_SIZE, _SERVER = wal_segments.SIZE, wal_segments.SERVER.system_identifier
_SETTINGS = """
[clusters.main]
url = "postgresql://refnet@127.0.0.1:1/postgres"
wal = true
[schedule]
timezone = "Asia/Tokyo"
[stores.nas]
url = "{nas}"
[encryption]
recipients = ["age1675kezqnaagjg9g3rhv5gra575val5q3e6l87xn3zqetrh9ylcqqc4m2kd"]
"""


@contextmanager
def streamed(folder: Path, *, base: bool = True, received: bool = True) -> Iterator[dict[str, str]]:
    """The environment of a RefNet; of the last three hours any second can be restored.

    base: there is a base backup. received: a receiver runs until the end of the block.
    """
    home, backups, nas = (folder / name for name in ("home", "backups", "nas"))
    for each in (home, backups, nas, home / "wal"):
        each.mkdir(mode=0o700)
    (home / "refnet.toml").touch(0o600)
    (home / "refnet.toml").write_text(_SETTINGS.format(nas=nas.as_uri()))
    ClusterRecord.at(home, "main").write(SeenDatabases(("shop",)))
    (home / "wal" / "main.json").write_text(KnownServer(_SERVER).to_json())
    archive = wal_segments.archive(backups, *(segment_of(one * _SIZE, 1, _SIZE) for one in (3, 5, 6, 7)))
    report = StreamReport(
        StreamState.STREAMING, NOW, 7, 1, 9 * _SIZE, 8 * _SIZE, NOW, slot="refnet_main", slot_status="reserved", slot_left=50 << 30
    )  # fmt: skip
    (archive.folder / REPORT).write_text(report.to_json())
    if base:
        _base(backups, NOW - timedelta(hours=3))
    remote = home / "remote" / "nas"
    remote.mkdir(parents=True)
    sent = Sent("0" * 64, at=NOW, covered_until=NOW - timedelta(minutes=2))
    (remote / f"wal-{_SERVER}.json").touch(0o600)
    (remote / f"wal-{_SERVER}.json").write_text(sent.to_json())
    environment = {"REFNET_HOME": str(home), "REFNET_BACKUP_DIR": str(backups), "REFNET_LOG_FOLDER": "none"}
    with locks.locked(archive.folder / LOCK_NAME) if received else nullcontext():
        yield {**environment, "PATH": "/usr/bin:/bin"}


def _base(backups: Path, created: datetime) -> None:
    """Publish a proven full base backup, after the gap."""
    details = {
        "system_identifier": _SERVER,
        "server_version": "17.1",
        "base": "full",
        "timeline": 1,
        "start_lsn": lsn_text(5 * _SIZE + 40),
        "end_lsn": lsn_text(5 * _SIZE + 400),
        "raw_bytes": 5 << 20,
        "tablespaces": 0,
    }
    store = LocalStore(backups)
    with store.draft(CLUSTER) as draft:
        draft.out.write(bytes(2048))
        made = draft.publish(Made(created=created, details=details), created, 2.0)
    store.record(Entry(made), Evidence(created, Level.PROVEN, Outcome.PASSED, 3.0))
