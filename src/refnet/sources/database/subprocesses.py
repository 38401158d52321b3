"""PostgreSQL's programs as child processes, which end when another task fails."""

from __future__ import annotations

import contextlib
import os
import secrets
import subprocess
import tempfile
import threading
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from typing import IO

from refnet.postgres.account import Account
from refnet.sources.database import server_errors
from refnet.sources.database.task_graph import Stopped

#: Bytes of stderr that are read: the last ones, or all of them.
_STDERR, _ALL = 1 << 20, 256 << 20


class Programs:
    """The child processes of one load, run as `account` (None: as this process)."""

    def __init__(self, environment: Mapping[str, str], account: Account | None = None) -> None:
        self._become = account.become if account else {}
        # English messages of the programs; the server's are in the server's language.
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
        """Run `command`, which inherits `handles`, and return its stdout.

        RefnetError contains its first error line; Stopped if `stop` ended it.
        """
        code, stdout, stderr = self._ran(command, feed, handles, _STDERR)
        if code:
            raise server_errors.of_program(command[0].rpartition("/")[2], stderr, doing)
        return stdout

    def attempt(self, command: Sequence[str], doing: str) -> bytes:
        """Run `command`, which may fail; return its stderr, "" on success. Stopped as in `run`."""
        code, _, stderr = self._ran(command, None, (), _ALL)
        if code and (not stderr or len(stderr) >= _ALL):
            raise server_errors.of_program(command[0].rpartition("/")[2], stderr, doing)
        return stderr if code else b""

    def _ran(
        self, command: Sequence[str], feed: Iterable[bytes] | None, handles: Collection[int], most: int
    ) -> tuple[int, bytes, bytes]:
        with tempfile.TemporaryFile() as stdout, tempfile.TemporaryFile() as stderr:
            child = self._start(command, stdout, stderr, handles, fed=feed is not None)
            try:
                if feed is not None:
                    _feed(child, feed)
                code = child.wait()
            finally:
                self._end(child)
            if code and self._stopped:
                raise Stopped
            stdout.seek(0)
            stderr.seek(max(0, stderr.seek(0, os.SEEK_END) - most))
            return code, stdout.read() if code == 0 else b"", stderr.read(most)

    def stop(self) -> None:
        """End the children that run and let no other start."""
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
    """Write `feed` to the child; if it ends early, its stderr has the reason."""
    with contextlib.suppress(BrokenPipeError), child.stdin or contextlib.nullcontext() as stdin:
        for piece in feed:
            view = memoryview(piece)
            while view and stdin:
                view = view[stdin.write(view) :]


def restricted(text: Iterable[bytes]) -> Iterator[bytes]:
    r"""Yield `text` in a `\restrict` pair with a secret key, so that psql runs no command from it."""
    key = secrets.token_hex(24).encode()
    yield b"\\restrict " + key + b"\n"
    yield from text
    yield b"\\unrestrict " + key + b"\n"
