"""Unmodified pg_dump and pg_restore: the schema, and data that RefNet does not copy itself; and rows that are too large.

COPY cannot read a row with more than 1 GB of text, in which bytea takes two characters a byte.
"""

from __future__ import annotations

import contextlib
import os
import re
import secrets
import subprocess
import tempfile
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import IO, Any

import psycopg

from refnet.catalog.artifact import TransientError
from refnet.core.errors import Exit, RefnetError
from refnet.core.formatting import size, sql_name
from refnet.core.processes import QUICK_SECONDS, run
from refnet.postgres.binaries import Binaries
from refnet.postgres.preparing import not_in_force, question
from refnet.postgres.session import READER_SETTINGS
from refnet.sources.database import server_errors
from refnet.sources.database.artifact.sqlgz import CHUNK
from refnet.sources.database.dump.snapshot import DumpedRelation, OpenSnapshot

#: How long pg_dump may wait for a lock. Without a limit it would wait forever behind a statement that waits for our lock.
LOCK_WAIT = "2s"
#: Longer than a schema with a hundred thousand tables takes.
SCHEMA_SECONDS = 3600.0
#: Written by programs of 17 and newer at the head of every text; refused by servers before 17.
TIMEOUT_17 = b"SET transaction_timeout = 0;\n"
#: Ends the head.
_AFTER_HEAD = b"SELECT pg_catalog.set_config('search_path', "


class PgDump:
    """pg_dump's part of one artifact, in the open snapshot `snapshot`."""

    def __init__(
        self, binaries: Binaries, snapshot: OpenSnapshot, folder: Path, only: Sequence[DumpedRelation]
    ) -> None:
        """`folder`: private, for the schema's archive. `only`: the tables to take; none: everything."""
        self.binaries = binaries
        self.snapshot = snapshot
        self.only = only
        self.archive = folder / "schema.dump"
        #: The key of the `\\restrict` pair around its text.
        self.restrict_key = secrets.token_hex(24)

    def _arguments(self) -> list[str | bytes | Path]:
        codec = self.snapshot.codec
        only = [b"--table=" + codec.quoted(relation.schema, relation.name) for relation in self.only]
        return [
            self.binaries.tool("pg_dump"),
            f"--snapshot={self.snapshot.id}",
            f"--lock-wait-timeout={LOCK_WAIT}",
            f"--encoding={self.snapshot.encoding}",
            "--no-password",
            *only,
        ]

    def _environment(self) -> dict[str, str]:
        snapshot = self.snapshot
        return snapshot.target.environment(snapshot.reader_settings, encoding=snapshot.encoding)

    def check_settings(self) -> None:
        """Raise RefnetError (USAGE) if a pooler drops settings that pg_dump does not set itself.

        lc_monetary matters only if a column, domain or range has the type money.
        """
        names = [*_NOT_SET_BY_PG_DUMP, *(["lc_monetary"] if self.snapshot.rows(_MONEY) else [])]
        settings = {name: READER_SETTINGS[name] for name in names}
        command: list[str | bytes | Path] = [self.binaries.tool("psql"), "-XqAtc", question(settings)]
        ran = run([*command, "--no-password"], QUICK_SECONDS, env=self._environment(), capture_output=True)
        if ran.returncode:
            raise server_errors.of_program("psql", ran.stderr, "reading the settings of a session failed")
        if lost := not_in_force(settings, ran.stdout):
            target = self.snapshot.target
            fixes = "; ".join(f"ALTER ROLE {sql_name(target.user)} SET {n} = '{settings[n]}'" for n in lost)
            raise RefnetError(
                f"the connection pooler at {target.address} drops settings of pg_dump: {', '.join(lost)}",
                f"Run: {fixes}; and RECONNECT in the pooler. Or set {target.named} to the server's own address.",
                Exit.USAGE,
            )

    def dump_schema(self) -> None:
        """Write the schema's archive (custom format) to `archive`."""
        sections = ["--format=custom", "--section=pre-data", "--section=post-data", f"--file={self.archive}"]
        command = [*self._arguments(), *sections]
        ran = run(command, SCHEMA_SECONDS, env=self._environment(), stderr=subprocess.PIPE)
        if ran.returncode:
            raise self._failure(ran.stderr)

    def text(self, section: str) -> bytes:
        r"""Return the SQL of one section of the schema, without its `\restrict` pair."""
        text = schema_text(self.binaries, self.archive, section, self.restrict_key)
        return for_server(self.snapshot.major, text)

    def entries(self) -> str:
        """Return the archive's table of contents, as `pg_restore -l` prints it."""
        return _read(self.binaries, self.archive, "-l").decode(errors="replace")

    @contextlib.contextmanager
    def data(
        self, excluded: Sequence[DumpedRelation]
    ) -> Iterator[tuple[subprocess.Popen[bytes], Iterator[bytes]]]:
        """Run pg_dump for the data section without the rows of `excluded`; yield the child and its output.

        The output ends with a RefnetError if pg_dump fails.
        """
        codec = self.snapshot.codec
        patterns = [b"--exclude-table-data=" + codec.quoted(r.schema, r.name) for r in excluded]
        command = [*self._arguments(), "--section=data", f"--restrict-key={self.restrict_key}", *patterns]
        with (
            tempfile.TemporaryFile() as errors,
            subprocess.Popen(
                command, env=self._environment(), stdout=subprocess.PIPE, stderr=errors
            ) as child,
        ):
            try:
                yield child, self._output(child, errors)
            finally:
                child.kill()

    def _output(self, child: subprocess.Popen[bytes], errors: IO[bytes]) -> Iterator[bytes]:
        assert child.stdout is not None  # noqa: S101  # for the type checker
        while piece := os.read(child.stdout.fileno(), CHUNK):
            yield piece
        if child.wait():
            errors.seek(0)
            raise self._failure(errors.read())

    def _failure(self, stderr: bytes) -> RefnetError:
        waiting = self.snapshot.rows(_WAITING)
        if waiting:
            table, pid, query = waiting[0]
            return TransientError(
                f"{table} could not be locked: process {pid} waits to change it ({query})",
                "Let that statement finish, or end it with pg_terminate_backend, and retry.",
                transient=True,
            )
        if table := _TABLE.search(stderr):
            said, encode = stderr.decode(errors="replace"), self.snapshot.codec.encode
            for one in (r for r in self.snapshot.relations if encode(r.name) == table[1]):
                if error := too_large_row(said, self.snapshot, one):
                    return error
        at = f" on the table {table[1].decode(errors='replace')}" if table else ""
        error = server_errors.of_program("pg_dump", stderr, f"pg_dump failed{at}")
        if _GONE.search(stderr):
            return server_errors.SchemaChangedError(error.message, _DROPPED, server_errors.Cause.CHANGED)
        return error


#: What pg_dump writes depends on them.
_NOT_SET_BY_PG_DUMP = ("timezone", "bytea_output", "standard_conforming_strings")
_MONEY = """
SELECT FROM pg_attribute WHERE atttypid IN (790, 791) AND attrelid >= 16384
UNION ALL SELECT FROM pg_type WHERE typbasetype IN (790, 791)
UNION ALL SELECT FROM pg_range WHERE rngsubtype = 790 LIMIT 1
"""
_TABLE = re.compile(rb'Dumping the contents of table "(.*)" failed')
#: Whatever pg_dump looks up is in its snapshot; but views and sequences are not locked.
_GONE = re.compile(rb"(?:relation|view|sequence|schema|type|function|operator|collation) .*does not exist")
_DROPPED = "It was dropped meanwhile: retry when fewer schema changes are made."
_WAITING = """
SELECT l.relation::regclass::text, l.pid, left(regexp_replace(a.query, '\\s+', ' ', 'g'), 100)
FROM pg_locks l JOIN pg_stat_activity a USING (pid)
WHERE NOT l.granted AND l.locktype = 'relation' AND l.mode = 'AccessExclusiveLock'
  AND pg_backend_pid() = ANY (pg_blocking_pids(l.pid)) LIMIT 1
"""


def for_server(major: int, text: bytes) -> bytes:
    """Output of a program of any major version, adapted to a server of `major`."""
    head, end, rest = text.partition(_AFTER_HEAD)  # the body of a function may contain such a line
    return text if major >= 17 else head.replace(TIMEOUT_17, b"", 1) + end + rest


#: How pg_dump writes that lz4 compresses a column's values: a statement of its own, on a line of its own.
_LZ4 = re.compile(rb"^ALTER TABLE [^\n]* SET COMPRESSION lz4;\n", re.MULTILINE)
_KNOWS_LZ4 = "SELECT 'lz4' = ANY (enumvals) FROM pg_settings WHERE name = 'default_toast_compression'"


def refuses_lz4(session: psycopg.Connection[tuple[Any, ...]], text: bytes) -> bool:
    """Return True if the schema `text` asks for lz4 and the server was built without it."""
    return _LZ4.search(text) is not None and session.execute(_KNOWS_LZ4).fetchone() == (False,)


def without_lz4(text: bytes) -> bytes:
    """Schema `text` for a server without lz4, with its default compression; values stay the same."""
    return _LZ4.sub(b"", text)


def schema_text(binaries: Binaries, archive: Path, section: str, key: str) -> bytes:
    r"""Return the SQL of one section of a schema archive, without its `\restrict` pair (of the key `key`)."""
    text = _read(binaries, archive, f"--section={section}", f"--restrict-key={key}", "--file=-")
    pair = (b"\\restrict " + key.encode() + b"\n", b"\\unrestrict " + key.encode() + b"\n")
    return text.replace(pair[0], b"", 1)[::-1].replace(pair[1][::-1], b"", 1)[::-1]


def _read(binaries: Binaries, archive: Path, *options: str) -> bytes:
    """Return what pg_restore prints about a schema archive. RefnetError if it cannot read it."""
    ran = run([binaries.tool("pg_restore"), *options, archive], SCHEMA_SECONDS, capture_output=True)
    if ran.returncode:
        raise RefnetError(
            f"pg_restore cannot read the schema's archive: {ran.stderr.decode(errors='replace').strip()}",
            f"Check the free space in {tempfile.gettempdir()}, and install the client programs of the server's major version.",
        )
    return bytes(ran.stdout)


#: What the server says of such a row.
_TOO_LARGE = re.compile(r"invalid memory alloc request size|[Cc]annot enlarge string buffer|out of memory")
#: Bytes of the longest text of a row.
_LONGEST = 1 << 30
#: Characters of a row's text for each byte at most: where the length is known, and where a value may be compressed.
_PLAIN, _COMPRESSED = 2, 1024
#: Columns of any length; true: with a length in bytes, which is known without reading the value.
_COLUMNS = """
SELECT a.attname::text, a.atttypid IN ('bytea'::regtype, 'text'::regtype, 'varchar'::regtype), a.atttypid = 'bytea'::regtype
FROM pg_attribute a
WHERE attrelid = %s AND attnum > 0 AND NOT attisdropped AND attgenerated = '' AND attlen = -1 ORDER BY attnum
"""


def too_large_row(said: str, snapshot: OpenSnapshot, table: DumpedRelation) -> RefnetError | None:
    """Error that names the column with the largest value.

    None for other errors, or if memory is short for rows below the limit.
    """
    if not _TOO_LARGE.search(said):
        return None
    codec = snapshot.codec
    columns = snapshot.rows(_COLUMNS, table.oid)
    if not columns:
        return None
    measures = b", ".join(
        b"max(%b(%b))" % (b"octet_length" if measured else b"pg_column_size", codec.quoted(column))
        for column, measured, _ in columns
    )
    query = b"SELECT %b FROM ONLY %b" % (measures, codec.quoted(table.schema, table.name))
    sizes = [most or 0 for most in codec.rows(snapshot.control, query)[0]]
    found = list(zip(sizes, columns, strict=True))
    if sum(most * (_PLAIN if measured else _COMPRESSED) for most, (_, measured, _) in found) < _LONGEST:
        return None
    _, most, column = max(
        (most * (2 if is_bytea else 1), most, column) for most, (column, _, is_bytea) in found
    )
    return RefnetError(
        f"{table.schema}.{table.name} cannot be copied: a row has more than 1 GB as text; {column} has a value of {size(most)}",
        "Split such values into several rows, or store them as large objects (lo_from_bytea): no dump can contain them.",
    )
