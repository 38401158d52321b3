"""No row bounds the memory of a backup, of its proof or of a restore."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

from tests.command import Command, Run
from tests.faults.conftest import Live

_LIMIT = 160 << 20
_ROWS = """
CREATE TABLE wide (id int, b bytea);
ALTER TABLE wide ALTER b SET STORAGE EXTERNAL;
INSERT INTO wide SELECT i, decode(repeat(md5(i::text), 1 << 20), 'hex') FROM generate_series(1, 3) i;
"""


class Peak(threading.Thread):
    """The highest sum of the memory of a process and its children, the servers that it starts left out, in bytes."""

    def __init__(self, run: Run) -> None:
        super().__init__()
        self._pid, self._over = run.process.pid, threading.Event()
        self.bytes = 0

    def run(self) -> None:
        while not self._over.wait(0.05):
            self.bytes = max(self.bytes, sum(map(_memory, _family(self._pid))))

    def stop(self) -> int:
        self._over.set()
        self.join()
        return self.bytes


def _family(pid: int) -> Iterator[int]:
    with suppress(OSError):
        if Path(f"/proc/{pid}/comm").read_text() == "postgres\n":
            return
        yield pid
        for thread in Path(f"/proc/{pid}/task").iterdir():
            with suppress(OSError):
                for child in (thread / "children").read_text().split():
                    yield from _family(int(child))


def _memory(pid: int) -> int:
    with suppress(OSError):
        for line in Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines():
            if line.startswith("Pss:"):
                return int(line.split()[1]) << 10
    return 0


def _peak(refnet: Command, *arguments: str) -> int:
    run = refnet.start_alone(*arguments)
    peak = Peak(run)
    peak.start()
    ended = run.end()
    found = peak.stop()
    ended.succeeds()
    assert found > 20 << 20
    return found


def test_rows_of_16_megabytes_take_no_more_memory_than_there_is(refnet: Command, live: Live) -> None:
    live.run(_ROWS)
    assert _peak(refnet, "backup", "database") < _LIMIT
    assert _peak(refnet, "restore", "database", "--force") < _LIMIT
