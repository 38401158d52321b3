"""A comparison that fails stops every worker at once, however much is left to compare."""

from __future__ import annotations

import signal
import threading
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from tests.integration.database.shelf import reader

from refnet.catalog.artifact import Finding
from refnet.core.signals import interruptible
from refnet.postgres.binaries import Binaries
from refnet.postgres.session import Target
from refnet.sources.database.dump.psql_copy import PsqlError
from refnet.sources.database.dump.row_copy import RowCopy
from refnet.sources.database.proof import compare
from refnet.sources.database.workers import Workers, run_checks

_BAIL_OUT = 20  # seconds until a worker that nobody stops goes on


def _server_goes_down() -> None:
    raise PsqlError("FATAL:  57P01: terminating connection due to administrator command")


def _interrupt() -> None:
    signal.pthread_kill(threading.main_thread().ident or 0, signal.SIGINT)


@pytest.mark.parametrize(
    ("failure", "raised"), [(_server_goes_down, PsqlError), (_interrupt, KeyboardInterrupt)]
)
def test_a_failure_stops_the_other_worker_and_no_further_table_is_read(
    library: Target,
    wheel: Binaries,
    monkeypatch: pytest.MonkeyPatch,
    failure: Callable[[], None],
    raised: type[BaseException],
) -> None:
    started: list[bytes] = []
    both = threading.Event()

    class FirstFails(RowCopy):
        """Once two tables are read, the first one fails; the other is read until it is stopped."""

        def __init__(self, *args: Any, **options: Any) -> None:
            super().__init__(*args, **options)
            self.stopped = threading.Event()

        def kill(self) -> None:
            self.stopped.set()
            super().kill()

        def copy(self, copy: bytes, *, lock: bytes = b"", long: bool = False) -> Iterator[bytes]:
            started.append(copy)
            if started[0] is copy:
                assert both.wait(_BAIL_OUT)
                failure()
            both.set()
            self.stopped.wait(_BAIL_OUT)
            yield from super().copy(copy, lock=lock, long=long)

    with library.connect() as session:
        session.execute("CREATE TABLE smallest (id int)")
    index = reader(library, wheel).index
    monkeypatch.setattr(compare, "RowCopy", FirstFails)
    found: list[Finding] = []
    with (
        pytest.raises(raised),
        interruptible(),
        compare.comparing(library, index, Workers(wheel, 2)) as checks,
    ):
        run_checks([checks], 2, found)
    assert not found  # a table that was not read to its end does not differ
    assert len(started) == 2 < len(index.tables)
