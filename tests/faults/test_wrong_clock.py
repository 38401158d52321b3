"""A server whose clock disagrees with this machine's: the backup says so, and its age is not the server's."""

from __future__ import annotations

import io
from datetime import UTC, datetime, timedelta

from tests.faults.conftest import Live

from refnet.catalog.source_name import SourceName
from refnet.sources.database.dump.parallel_dump import DatabaseMaker


def _dumped(live: Live, off: timedelta) -> tuple[str, ...]:
    """The warnings of a dump on a machine whose clock is `off` from the server's."""
    source = DatabaseMaker(
        SourceName.DATABASE,
        target=lambda: live.target,
        binaries=lambda *_, **__: live.cluster.binaries,
        jobs=1,
        now=lambda: datetime.now(UTC) + off,
    )
    return source.dump(io.BytesIO()).warnings


def test_a_backup_reports_a_server_clock_that_disagrees_with_the_machine(live: Live) -> None:
    assert _dumped(live, timedelta(0)) == ()
    assert "2 h behind this machine's" in _dumped(live, timedelta(hours=2, seconds=5))[0]
    assert "2159 d ahead of this machine's" in _dumped(live, -timedelta(days=2159, minutes=1))[0]
