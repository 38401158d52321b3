"""The journal of runs: `REFNET_HOME/runs/journal.jsonl`, a line a run that ended, and a file a run at work.

It lies in REFNET_HOME and not in the backup folder, because a backup folder that is full, read-only or not
mounted is just what it has to tell of. A run at work holds a kernel lock on `ID.running`: where the file stands
and nobody holds its lock, the run was lost with its process, and whoever comes next writes that down.

Appending: under the folder's lock, one write, fsync; a line that a crash cut short is skipped by the reader and
closed by the next writer. When the journal has grown, the oldest runs are added to the line of totals at its
head, so that counts never go back.
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import replace
from pathlib import Path

from refnet.files import explained, make_folder, replace_file, sync_folder
from refnet.locks import locked, take
from refnet.recovery.model.run import Ended, History, Reason, Run, Totals
from refnet.recovery.stores.disk import alive, append_lines, write_all

#: The journal is rewritten when it is larger, in bytes.
_LARGEST = 256 * 1024
#: Runs of each kind and source that then stay one by one.
_KEPT = 100
_RUNNING = ".running"


class Journal:
    """The runs of one REFNET_HOME, in `folder`. Every method raises RefnetError for what the disk refuses."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._file = folder / "journal.jsonl"
        self._held: dict[str, int] = {}

    def begin(self, run: Run) -> None:
        """Write down that `run` is at work; it stays so until `end`, or until this process is gone."""
        make_folder(self.folder)
        path = self._running(run)
        with self._locked(), explained(path):
            self._write_down_lost()
            handle = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW, 0o600)
            self._held[run.id] = handle
            take(handle, seconds=None)
            write_all(handle, run.to_json().encode())

    def end(self, run: Run) -> None:
        """Append `run`, which has ended."""
        make_folder(self.folder)
        with self._locked(), explained(self._file):
            self._append([run])
            self._running(run).unlink(missing_ok=True)
        if (handle := self._held.pop(run.id, None)) is not None:
            os.close(handle)

    def history(self) -> History:
        """What the journal tells; empty where there is none. Changes nothing."""
        at_work, lost = self._started()
        totals, runs = self._read()
        known = {run.id for run in runs}
        lost = [run for run in lost if run.id not in known]
        at_work = [run for run in at_work if run.id not in known]
        return History((*runs, *lost), tuple(at_work), totals.with_runs([*runs, *lost]))

    def _running(self, run: Run) -> Path:
        return self.folder / f"{run.id}{_RUNNING}"

    @contextmanager
    def _locked(self) -> Iterator[None]:
        """Alone among all writers; they hold it for milliseconds, so waiting is short."""
        with locked(self.folder / "lock"):
            yield

    def _read(self) -> tuple[Totals, list[Run]]:
        """The totals at the head, and the runs after it. A line that is neither is skipped."""
        with explained(self._file):
            try:
                lines = self._file.read_bytes().splitlines()
            except FileNotFoundError:
                return Totals(), []
        totals = Totals()
        runs: dict[str, Run] = {}
        for number, line in enumerate(lines):
            with suppress(ValueError):
                if number == 0 and line.startswith(b'{"totals"'):
                    totals = Totals.from_json(line)
                else:
                    run = Run.from_json(line)
                    runs.setdefault(run.id, run)
        return totals, list(runs.values())

    def _started(self) -> tuple[list[Run], list[Run]]:
        """The runs at work, and those that were lost with their process, oldest first."""
        at_work, lost = [], []
        for path in self.folder.glob(f"*{_RUNNING}"):
            with suppress(ValueError, FileNotFoundError):
                living = alive(path)
                run = Run.from_json(path.read_bytes())
                if living:
                    at_work.append(run)
                else:
                    lost.append(
                        replace(
                            run,
                            ended=Ended.FAILED,
                            reason=Reason.LOST,
                            message="the process that ran it is gone, and it had not ended",
                            hint="Was it killed, or the machine switched off? The next run works all the same.",
                        )
                    )
        return sorted(at_work, key=lambda r: r.started), sorted(lost, key=lambda r: r.started)

    def _write_down_lost(self) -> None:
        _, lost = self._started()
        if lost:
            self._append(lost)
        for run in lost:
            self._running(run).unlink(missing_ok=True)

    def _append(self, runs: Iterable[Run]) -> None:
        text = "".join(f"{run.to_json()}\n" for run in runs)
        if append_lines(self._file, text):
            sync_folder(self.folder)
        if self._file.stat().st_size > _LARGEST:
            self._shorten()

    def _shorten(self) -> None:
        """Add the oldest runs to the totals; a new file takes the old one's place in one step."""
        totals, runs = self._read()
        count: dict[tuple[str, str], int] = {}
        kept: list[Run] = []
        for run in reversed(runs):
            key = (run.kind, run.source)
            count[key] = count.get(key, 0) + 1
            if count[key] <= _KEPT:
                kept.append(run)
        kept.reverse()
        gone = {run.id for run in runs} - {run.id for run in kept}
        totals = totals.with_runs(run for run in runs if run.id in gone)
        lines = [totals.to_json(), *(run.to_json() for run in kept)]
        replace_file(self._file, "".join(f"{line}\n" for line in lines).encode())
