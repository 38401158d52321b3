"""The journal of runs: `REFNET_HOME/runs/journal.jsonl`, a line per ended run, and a file per active run.

It is in REFNET_HOME, not in the backup folder, because it must report a backup folder that is full, read-only or not
mounted. An active run locks `ID.running`; if that file exists and is not locked, the run's process was lost, and the
next run records that.

A line is appended under the folder's lock, with one write and fsync. The reader skips a line that a crash cut short;
the next writer ends it. When the journal has grown, the oldest runs are added to the line of totals at its head, so
that counters never decrease.
"""

import os
from collections.abc import Iterable
from contextlib import suppress
from dataclasses import replace
from pathlib import Path

from refnet.catalog.run import Ended, History, Reason, Run, Totals
from refnet.core.files import (
    NotRegularError,
    TooLargeError,
    explained,
    make_folder,
    read_regular,
    replace_file,
    sync_folder,
    write_all,
)
from refnet.core.locks import locked, take
from refnet.store.disk import append_lines, in_use

#: A larger journal is rewritten, in bytes.
_LARGEST = 256 * 1024
#: The largest journal that is read, in bytes: that of a thousand sources is half as large.
_MOST = 256 << 20
#: Runs of each kind and source that stay when it is rewritten.
_KEPT = 100
_RUNNING = ".running"


class RunJournal:
    """The runs of one REFNET_HOME, in `folder`. Every method raises RefnetError for errors of the disk."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.file = folder / "journal.jsonl"
        self._lock = folder / "lock"  # against other writers, which need it for milliseconds
        self._open: dict[str, int] = {}
        #: Inode, size and mtime of the journal that was read last, and its content.
        self._last: tuple[tuple[int, int, int], tuple[Totals, tuple[Run, ...]]] | None = None

    def begin(self, run: Run) -> None:
        """Record `run` as active, until `end`, or until this process is gone."""
        make_folder(self.folder)
        path = self._running(run)
        with locked(self._lock), explained(path):
            self._record_lost()
            handle = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW, 0o600)
            self._open[run.id] = handle
            take(handle, seconds=None)
            write_all(handle, run.to_json().encode())

    def end(self, run: Run) -> None:
        """Append the ended `run`."""
        make_folder(self.folder)
        with locked(self._lock), explained(self.file):
            self._append([run])
            self._running(run).unlink(missing_ok=True)
        if (handle := self._open.pop(run.id, None)) is not None:
            os.close(handle)

    def history(self) -> History:
        """Read the journal; change nothing."""
        active, lost = self._started()
        totals, runs = self._read()
        known = {run.id for run in runs}
        lost = [run for run in lost if run.id not in known]
        active = [run for run in active if run.id not in known]
        return History((*runs, *lost), tuple(active), totals.with_runs([*runs, *lost]))

    def _running(self, run: Run) -> Path:
        return self.folder / f"{run.id}{_RUNNING}"

    def _read(self) -> tuple[Totals, tuple[Run, ...]]:
        """Totals from the head, and the runs after it; malformed lines are skipped. An unchanged file is parsed once."""
        with explained(self.file):
            try:
                status = self.file.lstat()
                now = status.st_ino, status.st_size, status.st_mtime_ns
                if (last := self._last) and last[0] == now:
                    return last[1]
                lines = read_regular(self.file, _MOST).splitlines()
            except FileNotFoundError:
                return Totals(), ()
        totals = Totals()
        runs: dict[str, Run] = {}
        for number, line in enumerate(lines):
            with suppress(ValueError):
                if number == 0 and line.startswith(b'{"totals"'):
                    totals = Totals.from_json(line)
                else:
                    run = Run.from_json(line)
                    runs.setdefault(run.id, run)
        self._last = now, (totals, tuple(runs.values()))
        return self._last[1]

    def _started(self) -> tuple[list[Run], list[Run]]:
        """Return the active runs, and those whose process was lost, oldest first."""
        active, lost = [], []
        for path in self.folder.glob(f"*{_RUNNING}"):
            with (
                explained(path),
                suppress(ValueError, FileNotFoundError, NotRegularError, TooLargeError),
            ):
                running = in_use(path)
                run = Run.from_json(read_regular(path, Run.LAYOUT.longest))
                if running:
                    active.append(run)
                else:
                    lost.append(
                        replace(
                            run,
                            ended=Ended.FAILED,
                            reason=Reason.LOST,
                            message="its process ended before the run did",
                            hint="Was it killed, or the machine switched off? The next run is not affected.",
                        )
                    )
        return sorted(active, key=lambda r: r.started), sorted(lost, key=lambda r: r.started)

    def _record_lost(self) -> None:
        _, lost = self._started()
        if lost:
            self._append(lost)
        for run in lost:
            self._running(run).unlink(missing_ok=True)

    def _append(self, runs: Iterable[Run]) -> None:
        text = "".join(f"{run.to_json()}\n" for run in runs)
        if append_lines(self.file, text):
            sync_folder(self.folder)
        if self.file.stat().st_size > _LARGEST:
            self._shorten()

    def _shorten(self) -> None:
        """Add the oldest runs to the totals, and replace the file atomically."""
        totals, runs = self._read()
        count: dict[tuple[str, str], int] = {}
        kept: list[Run] = []
        for run in reversed(runs):
            key = (run.kind, run.source)
            count[key] = count.get(key, 0) + 1
            if count[key] <= _KEPT:
                kept.insert(0, run)
        gone = {run.id for run in runs} - {run.id for run in kept}
        totals = totals.with_runs(run for run in runs if run.id in gone)
        lines = [totals.to_json(), *(run.to_json() for run in kept)]
        replace_file(self.file, "".join(f"{line}\n" for line in lines).encode())
