"""PostgreSQL's own programs as children: fed, listened to, and ended when another task fails."""

from __future__ import annotations

import contextlib
import secrets
import subprocess
import tempfile
import threading
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from typing import IO

from refnet.postgres.account import Account
from refnet.recovery.sources.database import server_errors
from refnet.recovery.sources.database.task_graph import Stopped

_SAID = 1 << 20  # bytes of stderr that are kept


class Programs:
    """The children of one load, run as `account` (None: as this process).

    `stop` ends those that run and lets no other begin.
    """

    def __init__(self, environment: Mapping[str, str], account: Account | None = None) -> None:
        self._become = account.become if account else {}
        # The C locale for the programs' own words; the server's are in the server's language.
        self._environment = {**environment, "LC_ALL": "C"}
        self._running: set[subprocess.Popen[bytes]] = set()
        self._lock = threading.Lock()
        self._stopped = False

    def run(
        self,
        command: Sequence[str],
        doing: str,
        feed: Iterable[bytes] | None = None,
        handles: Collection[int] = (),
    ) -> bytes:
        """Run `command`, which inherits `handles`, and give its stdout; RefnetError with its first error line.

        Raises Stopped where it was ended by `stop`.
        """
        with tempfile.TemporaryFile() as stdout, tempfile.TemporaryFile() as stderr:
            child = self._start(command, stdout, stderr, handles, fed=feed is not None)
            try:
                if feed is not None:
                    _feed(child, feed)
                code = child.wait()
            finally:
                self._end(child)
            if code == 0:
                stdout.seek(0)
                return stdout.read()
            if self._stopped:
                raise Stopped
            stderr.seek(0)
            raise server_errors.of_program(command[0].rpartition("/")[2], stderr.read(_SAID), doing)

    def stop(self) -> None:
        with self._lock:
            self._stopped = True
            for child in self._running:
                child.kill()

    def _start(
        self,
        command: Sequence[str],
        stdout: IO[bytes],
        stderr: IO[bytes],
        handles: Collection[int],
        *,
        fed: bool,
    ) -> subprocess.Popen[bytes]:
        with self._lock:
            if self._stopped:
                raise Stopped
            child = subprocess.Popen(
                command,
                stdin=subprocess.PIPE if fed else subprocess.DEVNULL,
                stdout=stdout,
                stderr=stderr,
                env=self._environment,
                bufsize=0,
                pass_fds=tuple(handles),
                **self._become,
            )
            self._running.add(child)
            return child

    def _end(self, child: subprocess.Popen[bytes]) -> None:
        with self._lock:
            self._running.discard(child)
            if child.poll() is None:
                child.kill()
        child.wait()


def _feed(child: subprocess.Popen[bytes], feed: Iterable[bytes]) -> None:
    """Write `feed` to the child; a child that ended early says why on its stderr."""
    with contextlib.suppress(BrokenPipeError), child.stdin or contextlib.nullcontext() as stdin:
        for piece in feed:
            view = memoryview(piece)
            while view and stdin:
                view = view[stdin.write(view) :]


def restricted(text: Iterable[bytes]) -> Iterator[bytes]:
    r"""`text` in a `\restrict` pair with a key that nobody knows, so that psql runs no command from it."""
    key = secrets.token_hex(24).encode()
    yield b"\\restrict " + key + b"\n"
    yield from text
    yield b"\\unrestrict " + key + b"\n"
