"""A psql child that copies tables out of one snapshot: C reads the rows, Python gets them in large pieces.

It reads in a transaction that changes nothing, and runs no command of its own that a statement could bring along.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import re
import secrets
import shutil
import subprocess
import tempfile
from collections.abc import Iterator, Mapping
from functools import cache
from types import TracebackType
from typing import Self

from refnet.errors import RefnetError
from refnet.postgres.binaries import Binaries
from refnet.postgres.session import Target
from refnet.recovery.sources.database import server_errors
from refnet.recovery.sources.database.artifact.sqlgz import CHUNK

_PIPE = 1 << 20
_BUFFER = 256 << 10
_ERROR = re.compile(r"^\S+:\s+(?P<state>[0-9A-Z]{5}): (?P<text>.*)$", re.MULTILINE)
LOCK_NOT_AVAILABLE = "55P03"


class PsqlError(RefnetError):
    """psql ended with an error; `sqlstate` is the server's, empty where psql itself failed."""

    def __init__(self, text: str) -> None:
        found = _ERROR.search(text)
        self.sqlstate = found["state"] if found else ""
        said = (
            found["text"]
            if found
            else next((line for line in text.splitlines() if line.strip()), "psql ended early")
        )
        super().__init__(
            f"The server refused to hand out rows: {said}",
            "See the server's log; then run it again.",
            transient=server_errors.is_transient(said, self.sqlstate),
        )


@cache
def _buffered() -> tuple[str, ...]:
    """What gives psql a larger buffer than the 4 KiB that the C library takes for a pipe, where it is to be had.

    Measured: reading 1.3 GB takes a tenth less, as three processes wake each other less often.
    """
    program = shutil.which("stdbuf")
    return (program, f"-o{_BUFFER}") if program else ()


class Copier:
    """One session that runs `COPY … TO STDOUT` statements, in the snapshot `snapshot` where one is given."""

    def __init__(
        self,
        binaries: Binaries,
        target: Target,
        settings: Mapping[str, str],
        *,
        encoding: str,
        snapshot: str | None = None,
    ) -> None:
        self._errors = tempfile.TemporaryFile()  # noqa: SIM115  # closed with the child
        self._psql = subprocess.Popen(
            [
                *_buffered(),
                binaries.tool("psql"),
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
            env=target.environment({**settings, "default_transaction_read_only": "on"}, encoding=encoding),
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
        # The key is known to nobody, so no text that follows can give psql a command.
        self._say(f"\\restrict {secrets.token_hex(24)}\n".encode())
        begin = "BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY;\n"
        self._say((begin + (f"SET TRANSACTION SNAPSHOT '{snapshot}';\n" if snapshot else "")).encode())

    def copy(self, copy: bytes, *, lock: bytes = b"") -> Iterator[bytes]:
        r"""The output of the statement `copy`, in pieces, after the statement `lock`; PsqlError where one fails.

        No line of COPY text begins with `\.` and a secret, so that line marks the end.
        """
        self._say(lock + copy + b";\n" + self._mark)
        held = b""
        while True:
            chunk = os.read(self._stdout.fileno(), CHUNK)
            if not chunk:
                raise self._failure()
            data = held + chunk if held else chunk
            if data.endswith(self._marker):
                if len(data) > len(self._marker):
                    yield data[: -len(self._marker)]
                return
            held = self._begun_marker(data)
            data = data[: -len(held)] if held else data
            if data:
                yield data

    def _begun_marker(self, data: bytes) -> bytes:
        """The marker's beginning at the end of `data`, where a read has cut it."""
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
        """End the child from another thread, so that `copy` raises there."""
        if self._psql.poll() is None:
            self._psql.kill()

    def close(self) -> None:
        """End the child, whatever it is doing."""
        self.kill()
        with contextlib.suppress(BrokenPipeError):
            self._stdin.close()
        self._stdout.close()
        self._psql.wait()
        self._errors.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()
