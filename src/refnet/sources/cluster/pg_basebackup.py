"""Runs pg_basebackup, and gives what it makes as one tar: as it comes, or joined from one tar for each tablespace.

pg_basebackup writes to its output only what is one tar. With tablespaces it fills a folder: base.tar, OID.tar for each of
them, and its manifest. Their files become members pg_tblspc/OID/…, as the manifest names them: plain folders, which PostgreSQL
calls in-place tablespaces. The links to the folders of the server are left out.
"""

from __future__ import annotations

import contextlib
import fcntl
import io
import math
import re
import subprocess
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO, Any, Protocol, Self

from refnet.catalog.artifact import Progress
from refnet.core.errors import RefnetError
from refnet.core.formatting import plain
from refnet.core.member_names import ArchiveError, parent
from refnet.core.processes import buffered, child
from refnet.postgres.session import Target
from refnet.sources.cluster import backup_manifest
from refnet.sources.cluster.wal_index import sizes_in
from refnet.sources.database import server_errors
from refnet.sources.folder.listing import FileKind, Listed
from refnet.sources.folder.tar_archive import END, Pieces, TarReader, header, padding

#: The folder of tablespaces in a data folder.
TABLESPACES = "pg_tblspc"
#: Bytes of the pipe, and of the buffer before it: what is read at once and is longer goes past the buffer.
_PIPE, _BUFFER = 1 << 20, 64 << 10
#: How long the server may send nothing, in seconds: at the end it waits for archive_command, which may fail for ever.
_SILENT = 900.0
#: Seconds between two looks at what pg_basebackup has written to a folder.
_LOOK = 0.2
#: The server has no increment to give: the summaries are off, or not of all WAL since the parent.
_NO_INCREMENT = re.compile(rb"(?:error|ERROR|DETAIL|FATAL): .*(?:summar|incremental|manifest)")
_OF_TABLESPACE = re.compile(r"([0-9]{1,10})\.tar", re.ASCII)


class NoIncrementError(RefnetError):
    """The server cannot make an increment from that parent; a full it can."""


class Stream(Protocol):
    """What the tar of a base backup is read from."""

    def read(self, size: int, /) -> bytes:
        """Return `size` bytes, fewer at the end."""


@dataclass(frozen=True)
class BaseBackup:
    """A call of pg_basebackup."""

    #: Without the place that it writes to.
    command: tuple[str, ...]
    target: Target
    is_increment: bool

    @contextlib.contextmanager
    def streamed(self) -> Iterator[Stream]:
        """Its output, as it comes; RefnetError if it fails, with the reason that it gives, or hangs."""
        with self._started("-", stdout=subprocess.PIPE, bufsize=_BUFFER) as (process, errors):
            assert process.stdout is not None  # noqa: S101  # for the type checker
            with contextlib.suppress(OSError):  # an unprivileged user may have too many large pipes
                fcntl.fcntl(process.stdout, fcntl.F_SETPIPE_SZ, _PIPE)
            with _Watched(process, process.stdout) as watched:
                try:
                    if watched.peek() or not process.wait():
                        yield watched
                except ArchiveError as error:
                    if watched.peek() or not process.wait():
                        raise _no_tar(error) from None
                if process.wait():
                    raise self._failed(errors, was_silent=watched.was_silent)

    @contextlib.contextmanager
    def staged(self, folder: Path, progress: Progress) -> Iterator[Stream]:
        """The tar that its files make, which it first writes to the new `folder`; RefnetError as `streamed`."""
        with self._started(str(folder), stdout=subprocess.DEVNULL) as (process, errors):
            size, since = 0, time.monotonic()
            while process.poll() is None:
                if (now := sum(sizes_in(folder).values())) != size:
                    size, since = now, time.monotonic()
                    progress("base backup", size, None)
                elif time.monotonic() > since + _SILENT:
                    raise self._failed(errors, was_silent=True)
                with contextlib.suppress(subprocess.TimeoutExpired):
                    process.wait(_LOOK)
            if process.returncode:
                raise self._failed(errors, was_silent=False)
        try:
            yield io.BufferedReader(Pieces(_joined(folder)), _PIPE)
        except ArchiveError as error:
            raise _no_tar(error) from None

    @contextlib.contextmanager
    def _started(self, place: str, **streams: Any) -> Iterator[tuple[subprocess.Popen[bytes], IO[bytes]]]:
        """Run it until the end of the block; yield it, and what it says."""
        command = [*buffered(), *self.command, f"--pgdata={place}"]
        with (
            tempfile.TemporaryFile() as errors,
            child(command, errors, env=self.target.environment(), **streams) as process,
        ):
            yield process, errors

    def _failed(self, errors: IO[bytes], *, was_silent: bool) -> RefnetError:
        errors.seek(0)
        said = errors.read(1 << 16)
        if was_silent:
            return _silent(said)
        found = server_errors.of_program("pg_basebackup", said, "base backup")
        if self.is_increment and _NO_INCREMENT.search(said):
            return NoIncrementError(found.message, found.hint)
        return found


def _no_tar(error: ArchiveError) -> RefnetError:
    return RefnetError(
        f"pg_basebackup wrote no valid tar: {error}", "Retry; check the version of pg_basebackup."
    )


def _silent(said: bytes) -> RefnetError:
    """The error of a pg_basebackup that was killed because nothing came any more; `said`: its messages."""
    lines = said.decode(errors="replace").strip().splitlines()
    why = f": {plain(lines[-1])}" if lines else ""
    return RefnetError(
        f"pg_basebackup got nothing from the server for {_SILENT:.0f} s{why}",
        "With archive_mode on, the server waits for its archive_command: repair it; SELECT * FROM pg_stat_archiver;",
        transient=True,
    )


@dataclass
class _Watched:
    """The output of a program that is killed when a reader waits for it for `_SILENT` seconds."""

    child: subprocess.Popen[bytes]
    stream: IO[bytes]
    #: It was killed for that.
    was_silent: bool = False
    #: Since when a reader waits; infinite: none does.
    _since: float = math.inf
    _over: threading.Event = field(default_factory=threading.Event)

    def __enter__(self) -> Self:
        threading.Thread(target=self._watch, daemon=True).start()
        return self

    def __exit__(self, *_error: object) -> None:
        self._over.set()

    def _watch(self) -> None:
        while not self._over.wait(_SILENT / 10):
            if time.monotonic() >= self._since + _SILENT:
                self.was_silent = True
                self.child.kill()
                return

    def peek(self) -> bytes:
        return self._waiting(lambda: self.stream.peek(1))  # type: ignore[attr-defined]

    def read(self, size: int) -> bytes:
        return self._waiting(lambda: self.stream.read(size))

    def _waiting(self, read: Callable[[], bytes]) -> bytes:
        self._since = time.monotonic()
        data = read()
        self._since = math.inf
        return data


def _joined(folder: Path) -> Iterator[bytes]:
    """Yield the one tar that the files of pg_basebackup in `folder` make; each of them is removed when it was read."""
    names = [name for name in sizes_in(folder) if _OF_TABLESPACE.fullmatch(name)]
    for name in ("base.tar", *names):
        prefix = f"{TABLESPACES}/{name.removesuffix('.tar')}" if name != "base.tar" else ""
        if prefix:
            yield header(Listed(prefix, FileKind.FOLDER, 0, 0o700, 0, 0, 0, -1))
        with (folder / name).open("rb") as file:
            reader = TarReader(file)
            for member in reader:
                if prefix or member.kind is FileKind.FILE or parent(member.path) != TABLESPACES:
                    yield header(member._replace(path=f"{prefix}/{member.path}" if prefix else member.path))
                    yield from reader.content()
                    yield padding(member.size)
        (folder / name).unlink()
    text = (folder / backup_manifest.NAME).read_bytes()
    yield header(Listed(backup_manifest.NAME, FileKind.FILE, len(text), 0o600, 0, 0, 0, -1))
    yield text + padding(len(text)) + END
