"""pg_dump and pg_restore as they come: the schema, and the data that RefNet does not copy itself."""

from __future__ import annotations

import contextlib
import os
import re
import subprocess
import tempfile
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import psycopg

from refnet.errors import RefnetError
from refnet.postgres.binaries import Binaries
from refnet.processes import run
from refnet.recovery.model.source import TransientError
from refnet.recovery.sources.database.artifact.sqlgz import CHUNK
from refnet.recovery.sources.database.dump.snapshot import OpenSnapshot, Relation
from refnet.recovery.sources.database.server_errors import is_transient

#: How long pg_dump may wait for a lock. Something queued behind our own would make it wait for ever.
LOCK_WAIT = "2s"
#: Longer than a schema takes that has a hundred thousand tables.
SCHEMA_SECONDS = 3600.0
#: What programs of 17 and newer write at the head of every text, and servers before 17 refuse.
TIMEOUT_17 = b"SET transaction_timeout = 0;\n"


class Stock:
    """pg_dump's share of one artifact, in the snapshot that `held` holds."""

    def __init__(
        self,
        binaries: Binaries,
        held: OpenSnapshot,
        folder: Path,
        restrict_key: str,
        only: Sequence[Relation],
    ) -> None:
        """`folder`: private, for the schema's archive. `only`: the tables to take; none: everything."""
        self._binaries = binaries
        self._held = held
        self.archive = folder / "schema.dump"
        self._key = restrict_key
        self._only = only

    def _arguments(self) -> list[str | bytes | Path]:
        codec = self._held.codec
        only = [b"--table=" + codec.quoted(relation.schema, relation.name) for relation in self._only]
        return [
            self._binaries.tool("pg_dump"),
            f"--snapshot={self._held.id}",
            f"--lock-wait-timeout={LOCK_WAIT}",
            f"--encoding={self._held.encoding}",
            "--no-password",
            *only,
        ]

    def _environment(self) -> dict[str, str]:
        return self._held.target.environment(self._held.reader_settings, encoding=self._held.encoding)

    def dump_schema(self) -> None:
        """Write the schema's archive (custom format) to `archive`."""
        sections = ["--format=custom", "--section=pre-data", "--section=post-data", f"--file={self.archive}"]
        command = [*self._arguments(), *sections]
        ran = run(command, SCHEMA_SECONDS, env=self._environment(), stderr=subprocess.PIPE)
        if ran.returncode:
            raise self._failure(ran.stderr)

    def text(self, section: str) -> bytes:
        r"""The SQL of one section of the schema, without its `\restrict` pair."""
        text = schema_text(self._binaries, self.archive, section, self._key)
        return for_server(self._held.major, text)

    def entries(self) -> str:
        """The archive's table of contents, as `pg_restore -l` prints it."""
        tool = self._binaries.tool("pg_restore")
        listed = run([tool, "-l", self.archive], SCHEMA_SECONDS, capture_output=True)
        listed.check_returncode()
        return str(listed.stdout, errors="replace")

    @contextlib.contextmanager
    def data(self, excluded: Sequence[Relation]) -> Iterator[Iterator[bytes]]:
        """The data section without the rows of `excluded`, as pieces of text."""
        codec = self._held.codec
        patterns = [b"--exclude-table-data=" + codec.quoted(r.schema, r.name) for r in excluded]
        with tempfile.TemporaryFile() as errors:
            dump = subprocess.Popen(
                [*self._arguments(), "--section=data", f"--restrict-key={self._key}", *patterns],
                env=self._environment(),
                stdout=subprocess.PIPE,
                stderr=errors,
            )
            try:
                assert dump.stdout is not None  # noqa: S101  # for the type checker
                yield _pieces(dump.stdout.fileno())
                if dump.wait():
                    errors.seek(0)
                    raise self._failure(errors.read())
            finally:
                if dump.poll() is None:
                    dump.kill()
                    dump.wait()
                if dump.stdout:
                    dump.stdout.close()

    def _failure(self, said: bytes) -> RefnetError:
        waiting = self._held.rows(_WAITING)
        if waiting:
            table, pid, query = waiting[0]
            return TransientError(
                f"{table} could not be locked: process {pid} waits to change it ({query})",
                "Let that statement finish, or end it with pg_terminate_backend, and run the backup again.",
                transient=True,
            )
        lines = [line for line in said.decode(errors="replace").splitlines() if line.strip()]
        first = next(
            (line for line in lines if "error:" in line), lines[0] if lines else "it ended without a word"
        )
        return RefnetError(
            f"pg_dump failed: {first.split('error:', 1)[-1].strip()}",
            "See the server's log; nothing was published.",
            transient=is_transient(first),
        )


_WAITING = """
SELECT l.relation::regclass::text, l.pid, left(regexp_replace(a.query, '\\s+', ' ', 'g'), 100)
FROM pg_locks l JOIN pg_stat_activity a USING (pid)
WHERE NOT l.granted AND l.locktype = 'relation' AND l.mode = 'AccessExclusiveLock'
  AND pg_backend_pid() = ANY (pg_blocking_pids(l.pid)) LIMIT 1
"""


def for_server(major: int, text: bytes) -> bytes:
    """`text` of a program of any major as a server of `major` takes it."""
    return text if major >= 17 else text.replace(TIMEOUT_17, b"", 1)


#: How pg_dump says that a column's values are compressed by lz4. It is a statement of its own, on a line of its own.
_LZ4 = re.compile(rb"^ALTER TABLE [^\n]* SET COMPRESSION lz4;\n", re.MULTILINE)
_KNOWS_LZ4 = "SELECT 'lz4' = ANY (enumvals) FROM pg_settings WHERE name = 'default_toast_compression'"


def refuses_lz4(session: psycopg.Connection[tuple[Any, ...]], text: bytes) -> bool:
    """Whether the schema `text` asks for lz4 and the server was built without it."""
    return _LZ4.search(text) is not None and session.execute(_KNOWS_LZ4).fetchone() == (False,)


def without_lz4(text: bytes) -> bytes:
    """The schema `text` for a server without lz4: it compresses by its own default, which changes no value."""
    return _LZ4.sub(b"", text)


def schema_text(binaries: Binaries, archive: Path, section: str, key: str) -> bytes:
    r"""The SQL of one section of a schema archive, without its `\restrict` pair (of the key `key`)."""
    tool = binaries.tool("pg_restore")
    command: list[str | Path] = [tool, f"--section={section}", f"--restrict-key={key}", "--file=-", archive]
    ran = run(command, SCHEMA_SECONDS, capture_output=True)
    if ran.returncode:
        raise RefnetError(
            f"pg_restore cannot read the schema's archive: {ran.stderr.decode(errors='replace').strip()}",
            f"Is there room in {tempfile.gettempdir()}? Else install the client programs of the server's major version.",
        )
    text = bytes(ran.stdout)
    pair = (b"\\restrict " + key.encode() + b"\n", b"\\unrestrict " + key.encode() + b"\n")
    return text.replace(pair[0], b"", 1)[::-1].replace(pair[1][::-1], b"", 1)[::-1]


def _pieces(fd: int) -> Iterator[bytes]:
    while piece := os.read(fd, CHUNK):
        yield piece
