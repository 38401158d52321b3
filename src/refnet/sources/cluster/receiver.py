"""The receiver of a server's WAL: pg_receivewal, kept running; what it finished goes into the archive.

pg_receivewal flushes each piece of WAL that the server sends, and tells the server so; the replication slot keeps what was
not flushed here. Each second the receiver asks the server how far it is, and reports until when nothing can be lost.
"""

from __future__ import annotations

import os
import re
import signal
import subprocess
import threading
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path
from tempfile import TemporaryFile
from typing import IO

from refnet import wiring
from refnet.catalog.wal import KnownServer
from refnet.catalog.wal_stream import Course, StreamReport, StreamState
from refnet.core.clock import Clock
from refnet.core.errors import Exit, RefnetError
from refnet.core.files import explained, make_folder, replace_file
from refnet.core.processes import ending_with_parent
from refnet.local_postgres import binaries_for
from refnet.postgres.session import Target
from refnet.settings import Settings
from refnet.sources.cluster import live_folder, wal_server, wal_writer
from refnet.sources.cluster.wal_archive import REPORT, WalArchive, known_file
from refnet.sources.cluster.wal_server import Identified, Position, Session, WalSettings
from refnet.store.backup_folder import locked

#: Seconds between two questions to the server.
PERIOD = 1.0
#: Seconds before the next attempt, one after another; the last one repeats.
_PAUSES = (0.2, 0.5, 1.0, 2.0, 5.0, 10.0)
#: A stream that lasted so long begins the pauses again, in seconds.
_LASTED = 30.0
#: How long pg_receivewal may take to end, in seconds.
_TO_END = 10.0
#: How long the pg_receivewal of a receiver that was killed may take to end, in seconds.
_TO_END_AFTER_A_KILL = 1.0
_MESSAGES = 4000
#: The server removed WAL that was asked for: words of pg_receivewal, which are in English, and the segment that the server
#: names in any language.
_REMOVED = re.compile(r"replication (?:command|stream)\b.*\b[0-9A-F]{24}\b", re.DOTALL)
#: Reports have one length, so that one can be written over another.
_REPORT_BYTES = 4096
#: The most questions whose answer was not received yet.
_MOST_SAMPLES = 4096


@dataclass
class Receiver:
    """Receives the WAL of one cluster of the settings until `stop` is set."""

    settings: Settings
    cluster: str
    #: Called with a sentence where something changes.
    note: Callable[[str], None]
    clock: Clock = field(default_factory=Clock)
    stop: threading.Event = field(default_factory=threading.Event)

    def __post_init__(self) -> None:
        url = self.settings.of(self.cluster).url or ""
        self.target = Target.from_url(url, f"clusters.{self.cluster}.url")
        self._said = ""
        #: The server removed WAL that was asked for: the slot is made again.
        self.removed = False
        self._lock = ExitStack()
        #: The handle of the lock on the archive; pg_receivewal inherits it, so it is locked until that has ended too.
        self.lock = -1
        #: The archive that is locked.
        self._held: Path | None = None

    def say(self, sentence: str) -> None:
        self.note(f"{self.cluster}: {sentence}")

    def run(self) -> None:
        """Receive; try again after an error, until `stop`. RefnetError only for what no attempt can change."""
        with self._lock:
            if known := WalArchive.known(self.settings, self.cluster):
                self._hold(known)
            self._run()

    def _run(self) -> None:
        failures = 0
        while not self.stop.is_set():
            began = self.clock.monotonic()
            try:
                self._attempt()
            except RefnetError as error:
                if error.code in {Exit.USAGE, Exit.LOCKED}:
                    raise
                self._waits(error)
            failures = 0 if self.clock.monotonic() - began > _LASTED else failures + 1
            self.stop.wait(_PAUSES[min(failures, len(_PAUSES)) - 1])

    def _waits(self, error: RefnetError) -> None:
        """Report why nothing is received, in the archive that was known last."""
        if self._said != error.message:
            self._said = error.message
            self.say(f"{error.message}; {error.hint}")
        archive = WalArchive.known(self.settings, self.cluster)
        if archive and (last := archive.report()):
            _write(archive, last.waiting(self.clock.now(), error))

    def _attempt(self) -> None:
        """Connect, and receive until the stream ends."""
        if trouble := wiring.store(self.settings).trouble():
            raise trouble
        with wal_server.session(self.target) as session:
            found = wal_server.settings_of(session, self.target)
        who = wal_server.identify(self.target)
        if who.system_identifier != found.facts.system_identifier:
            raise RefnetError(
                f"two servers answer at {self.target.address}",
                f"Name one server in clusters.{self.cluster}.url.",
                transient=True,
            )
        archive = WalArchive.of(self.settings, who.system_identifier)
        wal_writer.make(archive, found.facts)
        self._hold(archive)
        self._remember(who.system_identifier)
        _Stream(self, archive, found, who).receive()

    def _hold(self, archive: WalArchive) -> None:
        """Lock `archive` until another one is received; RefnetError (LOCKED) if another receiver has it."""
        if self._held != archive.folder:
            self._lock.close()
            self._held = None
            what = f"the WAL of {self.cluster}"
            self.lock = self._lock.enter_context(locked(archive.folder, what, _TO_END_AFTER_A_KILL))
            self._held = archive.folder

    def _remember(self, system_identifier: str) -> None:
        before = WalArchive.known(self.settings, self.cluster)
        if before and before.folder.name != system_identifier:
            self.say(
                f"a different server answers (system identifier {system_identifier}, before: {before.folder.name}):"
                " its WAL goes to a new folder; `refnet backup` makes a full base backup"
            )
        path = known_file(self.settings, self.cluster)
        make_folder(path.parent)
        with explained(path):
            replace_file(path, KnownServer(system_identifier).to_json().encode())


class _Stream:
    """One connection of a receiver."""

    def __init__(self, receiver: Receiver, archive: WalArchive, server: WalSettings, who: Identified) -> None:
        self._receiver, self._archive, self._server, self._who = receiver, archive, server, who
        self._slot, self._target = wal_server.slot_of(receiver.cluster), receiver.target
        self._known = live_folder.Known()
        last = archive.report()
        self._until: datetime | None = last.received_until if last else None
        #: The server's clock and position, of questions whose answer is not received yet.
        self._samples: list[tuple[datetime, int]] = []
        self._ahead = 0.0
        #: Where WAL on this disk ended before: the server hears it only when it was sent again.
        self._floor = 0

    def receive(self) -> None:
        """Receive until the stream ends, or the receiver stops; RefnetError with the reason."""
        for sentence in live_folder.repair(self._archive, self._receiver.clock.now()):
            self._receiver.say(sentence)
        with wal_server.session(self._target) as session:
            self._prepare(session)
            with self._running() as (process, messages):
                self._receiver.say(f"receiving from {self._target.address}, timeline {self._who.timeline}")
                self._follow(session, process)
                self._end(process, messages)

    def _prepare(self, session: Session) -> None:
        """Decide how to go on, and see that the slot is there."""
        now = wal_server.position(session, self._slot, self._target)
        have, how = live_folder.newest(self._archive), Course.CONTINUE
        if have:
            how = live_folder.checked(have, self._who, now.lsn, self._receiver.cluster, self._target)
        if how is Course.BRANCH or (now.has_slot and (now.status == "lost" or self._receiver.removed)):
            self._begin_again(session, now, how)
        elif not now.has_slot:
            wal_server.make_slot(session, self._slot, self._target)
            if have:
                self._receiver.say(f"the slot {self._slot} was gone; it was made again")
        there = live_folder.newest(self._archive, streamed=True)
        self._known.set_aside(self._archive, there)
        self._floor = there.received if there and there.timeline == self._who.timeline else 0

    def _begin_again(self, session: Session, now: Position, how: Course) -> None:
        """Keep what is here as it is, and receive from what the server still has."""
        live_folder.clear(self._archive)
        if now.has_slot:
            wal_server.drop_slot(session, self._slot, self._target)
        wal_server.make_slot(session, self._slot, self._target)
        self._receiver.removed = False
        why = (
            f"timeline {self._who.timeline} of the server forked before the end of the received WAL"
            if how is Course.BRANCH
            else f"the slot {self._slot} was lost: the server dropped WAL that was not received"
        )
        self._receiver.say(f"{why}; `refnet backup` makes later moments restorable")

    @contextmanager
    def _running(self) -> Iterator[tuple[subprocess.Popen[bytes], IO[bytes]]]:
        program = binaries_for(self._receiver.settings, self._server.facts.major).tool("pg_receivewal")
        command = [
            *ending_with_parent(signal.SIGTERM),
            *(str(program), f"--directory={self._archive.live}", "--no-loop", "--no-password"),
            *("--synchronous", "--status-interval=1", f"--slot={self._slot}"),
        ]
        environment = self._target.environment() | {"PGAPPNAME": self._slot}
        environment.pop("PGDATABASE", None)
        with TemporaryFile() as messages:
            process = subprocess.Popen(
                command,
                stdin=subprocess.DEVNULL,
                stdout=subprocess.DEVNULL,
                stderr=messages,
                env=environment,
                pass_fds=(self._receiver.lock,),
                start_new_session=True,
            )
            try:
                yield process, messages
            finally:
                process.send_signal(signal.SIGCONT)
                process.send_signal(signal.SIGINT)
                try:
                    process.wait(_TO_END)
                except subprocess.TimeoutExpired:
                    process.kill()
                    process.wait()
                self._known.put_back(self._archive)

    def _follow(self, session: Session, process: subprocess.Popen[bytes]) -> None:
        """Collect and report, until the stream ends or the receiver stops."""
        while not self._receiver.stop.is_set():
            now = wal_server.position(session, self._slot, self._target)
            trouble = self._collect()
            if self._known.began is not None:  # the slot may say what another stream has received
                now = now._replace(received=min(now.received or 0, self._floor))
            self._covered(now)
            self._report(now, trouble)
            with suppress(subprocess.TimeoutExpired):
                process.wait(PERIOD)
                return

    def _collect(self) -> RefnetError | None:
        """Put what is finished into the archive. Return why that failed: the stream goes on meanwhile."""
        try:
            self._known.compare(self._archive)
            if self._known.before is None and self._known.continues(self._archive):
                live_folder.collect(self._archive, self._known)
        except RefnetError as error:
            if error.code is Exit.DAMAGED:
                raise
            return error
        return None

    def _covered(self, now: Position) -> None:
        """Move the moment until which everything is here."""
        clock = self._receiver.clock.now()
        self._ahead = (now.at - clock).total_seconds()
        self._samples.append((now.at, now.lsn))
        if now.is_active and now.received is not None:
            while self._samples and self._samples[0][1] <= now.received:
                self._until = self._samples.pop(0)[0]
        if len(self._samples) > _MOST_SAMPLES:
            self._samples = self._samples[::2]

    def _report(self, now: Position, trouble: RefnetError | None) -> None:
        report = StreamReport(
            state=StreamState.STREAMING,
            at=self._receiver.clock.now(),
            pid=os.getpid(),
            timeline=max(self._who.timeline, self._known.timeline),
            server_lsn=now.lsn,
            received_lsn=max(now.received or 0, self._floor),
            received_until=self._until,
            ahead=round(self._ahead, 3),
            slot=self._slot,
            slot_status=now.status,
            slot_left=now.left,
            message=trouble.message if trouble else "",
            hint=trouble.hint if trouble else "",
        )
        _write(self._archive, report)

    def _end(self, process: subprocess.Popen[bytes], messages: IO[bytes]) -> None:
        """RefnetError with the reason why pg_receivewal ended, unless the receiver stops."""
        if self._receiver.stop.is_set():
            return
        messages.seek(max(0, messages.seek(0, os.SEEK_END) - _MESSAGES))
        said = messages.read().decode(errors="replace").strip()
        last = said.splitlines()[-1].removeprefix("pg_receivewal: error: ") if said else "no message"
        if process.returncode and _REMOVED.search(said):
            live_folder.clear(self._archive)
            # Asking for it may have set the slot back to it: then the server would be asked for it for ever.
            self._receiver.removed = True
            raise RefnetError(
                f"the server at {self._target.address} removed WAL that was not received: {last}",
                "`refnet backup` makes later moments restorable; raise max_slot_wal_keep_size.",
            )
        raise RefnetError(
            f"the stream of WAL from {self._target.address} ended: {last}",
            "The receiver connects again.",
            transient=True,
        )


def _write(archive: WalArchive, report: StreamReport) -> None:
    """Write the report without waiting for the disk; on a full one, over the older report."""
    draft, path = archive.folder / f".{REPORT}.{os.getpid()}", archive.folder / REPORT
    data = report.to_json().encode().ljust(_REPORT_BYTES)
    try:
        draft.write_bytes(data)
        draft.replace(path)
    except OSError:
        with suppress(OSError):
            draft.unlink()
        with suppress(OSError), path.open("r+b", buffering=0) as old:
            old.write(data)
