"""A psql child that copies tables out of one snapshot: C reads the rows, Python gets them in large pieces.

The transaction is read-only, and `\\restrict` keeps psql from running commands that a statement contains.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import re
import secrets
import subprocess
import tempfile
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Self

import psycopg

from refnet.core.errors import RefnetError
from refnet.core.processes import buffered
from refnet.postgres.binaries import Binaries
from refnet.postgres.preparing import not_in_force, not_kept, question, statements
from refnet.postgres.session import Target
from refnet.sources.database import server_errors
from refnet.sources.database.artifact.sqlgz import CHUNK

_PIPE = 1 << 20
_ERROR = re.compile(r"^\S+:\s+(?P<state>[0-9A-Z]{5}): (?P<text>.*)$", re.MULTILINE)
LOCK_NOT_AVAILABLE = "55P03"


class PsqlError(RefnetError):
    """psql ended with an error; `sqlstate` is the server's, empty if psql itself failed."""

    def __init__(self, stderr: str) -> None:
        found = _ERROR.search(stderr)
        self.sqlstate = found["state"] if found else ""
        lines = [line for line in stderr.splitlines() if line.strip()] or ["psql ended early"]
        said = found["text"] if found else lines[0]
        super().__init__(
            f"cannot read rows from the server: {said}",
            server_errors.hint(said),
            transient=server_errors.is_transient(said, self.sqlstate),
        )

    @classmethod
    def of(cls, error: psycopg.Error) -> Self:
        """Return the same for a session instead of psql."""
        said = error.diag.message_primary or str(error)
        return cls(f"ERROR: {error.sqlstate}: {said}" if error.sqlstate else said)


@dataclass(frozen=True)
class Access:
    """How the sessions that copy rows reach a database."""

    binaries: Binaries
    target: Target
    settings: Mapping[str, str]
    encoding: str
    #: The exported snapshot that they read; None: each has one of its own.
    snapshot: str | None = None


class PsqlCopy:
    """One session of psql that runs `COPY … TO STDOUT` statements."""

    def __init__(self, access: Access) -> None:
        self._errors = tempfile.TemporaryFile()  # noqa: SIM115  # closed with the child
        self._psql = subprocess.Popen(
            [
                *buffered(),
                access.binaries.tool("psql"),
                "-XqAt",
                "-v",
                "ON_ERROR_STOP=1",
                "-v",
                "VERBOSITY=verbose",
            ],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=self._errors,
            bufsize=0,
            env=access.target.environment(access.settings, encoding=access.encoding),
        )
        assert self._psql.stdin is not None  # noqa: S101  # for the type checker
        assert self._psql.stdout is not None  # noqa: S101
        self._stdin, self._stdout = self._psql.stdin, self._psql.stdout
        if hasattr(fcntl, "F_SETPIPE_SZ"):
            with contextlib.suppress(OSError):
                fcntl.fcntl(self._stdout, fcntl.F_SETPIPE_SZ, _PIPE)
        end = secrets.token_hex(16)
        self._marker = f"\\.{end}\n".encode()
        self._mark = f"SELECT E'\\\\.{end}';\n".encode()
        # Nobody can guess the key, so nothing that follows can make psql run a command.
        self._say(f"\\restrict {secrets.token_hex(24)}\n".encode())
        self._say(statements(access.settings))
        snapshot = f"SET TRANSACTION SNAPSHOT '{access.snapshot}';\n" if access.snapshot else ""
        self._say(f"BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY;\n{snapshot}".encode())
        self._access, self._is_checked = access, False

    def copy(self, copy: bytes, *, lock: bytes = b"") -> Iterator[bytes]:
        r"""Run `lock`, then `copy`; yield its output in pieces. PsqlError if a statement fails.

        A line of `\.` and a random key marks the end: no line of COPY text begins so.
        """
        if not self._is_checked:
            settings = self._access.settings
            if lost := not_in_force(settings, b"".join(self._output(question(settings)))):
                raise not_kept(self._access.target.address, lost)
            self._is_checked = True
        yield from self._output(lock + copy)

    def _output(self, statements: bytes) -> Iterator[bytes]:
        self._say(statements + b";\n" + self._mark)
        pending = b""
        while True:
            chunk = os.read(self._stdout.fileno(), CHUNK)
            if not chunk:
                raise self._failure()
            data = pending + chunk if pending else chunk
            if data.endswith(self._marker):
                if len(data) > len(self._marker):
                    yield data[: -len(self._marker)]
                return
            pending = self._begun_marker(data)
            data = data[: -len(pending)] if pending else data
            if data:
                yield data

    def _begun_marker(self, data: bytes) -> bytes:
        """Return the beginning of the marker at the end of `data`, or b"" if `data` does not end within one."""
        tail = data[-len(self._marker) :]
        last = tail[tail.rfind(b"\n") + 1 :]
        return last if last and len(last) < len(self._marker) and self._marker.startswith(last) else b""

    def _say(self, text: bytes) -> None:
        try:
            self._stdin.write(text)
        except BrokenPipeError:
            raise self._failure() from None

    def _failure(self) -> PsqlError:
        self._psql.wait()
        self._errors.seek(0)
        return PsqlError(self._errors.read().decode(errors="replace"))

    def kill(self) -> None:
        """End the child from another thread; `copy` then raises PsqlError."""
        if self._psql.poll() is None:
            self._psql.kill()

    def close(self) -> None:
        """End the child and release its files."""
        self.kill()
        with contextlib.suppress(BrokenPipeError):
            self._stdin.close()
        self._stdout.close()
        self._psql.wait()
        self._errors.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()
