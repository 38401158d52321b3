"""Rows that are lost or changed between the server and RefNet: no such artifact is ever proven."""

from __future__ import annotations

import io
from pathlib import Path

import pytest
from tests.command import Command, url_of
from tests.faults.conftest import Live
from tests.row_proxy import RowFault, row_proxy

from refnet.errors import Exit, RefnetError
from refnet.postgres.binaries import Binaries
from refnet.recovery.sources.database.dump import parallel_dump
from refnet.recovery.sources.database.rows.page_ranges import page_ranges
from refnet.recovery.sources.database.workers import Workers

#: In each row of `papers`, which workers copy, and of `summaries`, which pg_dump copies.
_MARKERS = {"public.papers": (b" of a paper", 20_000, 5000), "public.summaries": (b"summary ", 100, 25)}


def _through(refnet: Command, live: Live, folder: Path) -> Command:
    """The command, connected through the socket in `folder`."""
    return Command(refnet.home, refnet.backups, url_of(live.target, host=str(folder)))


def _socket(live: Live) -> Path:
    return Path(live.target.parts["host"]) / f".s.PGSQL.{live.target.parts['port']}"


@pytest.mark.parametrize("table", _MARKERS)
@pytest.mark.parametrize(("fault", "sign"), [(RowFault.LOST, -1), (RowFault.DOUBLED, 1)])
def test_a_backup_with_other_row_counts_than_the_server_is_made_once_more_and_never_published(
    refnet: Command, live: Live, short_folder: Path, table: str, fault: RowFault, sign: int
) -> None:
    marker, rows, every = _MARKERS[table]
    folder = short_folder / f"wire-{fault.value}-{table[-9:]}"
    folder.mkdir(exist_ok=True)
    with row_proxy(folder, _socket(live), fault, marker, every) as proxy:
        made = _through(refnet, live, folder)("backup", "database")
    made.fails(4, table, f"{rows:,} rows on the server", f"{rows + sign * 4:,} in the backup")
    assert proxy.damaged == 2 * 4
    assert refnet.files() == []
    refnet("backup", "database").succeeds()


def test_a_reader_that_skips_pages_publishes_nothing(
    live: Live, wheel: Binaries, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(parallel_dump, "RANGE", 100_000)
    monkeypatch.setattr(parallel_dump, "page_ranges", lambda pages, count: page_ranges(pages, count)[::2])
    with pytest.raises(RefnetError, match=r"public\.papers has 20,000 rows on the server") as failed:
        parallel_dump.dump(live.target, io.BytesIO(), Workers(wheel, 2))
    assert failed.value.code is Exit.DAMAGED
