"""Foreign dumps: plain SQL (also gzipped), or pg_dump's custom, directory and tar formats.

A dump is code: it is loaded into a new database by programs that stop at the first error, read no other file and run no
psql command from it. Its content was not recorded, so it cannot be verified.
"""

from __future__ import annotations

import contextlib
import gzip
import os
import re
import tempfile
from collections.abc import Callable, Iterable, Iterator
from enum import StrEnum
from functools import cached_property
from itertools import chain, islice
from typing import IO, Any, BinaryIO, cast

from isal import igzip
from psycopg.conninfo import make_conninfo

from refnet.catalog.artifact import Finding, OpenArtifact, Progress, Proof
from refnet.catalog.manifest import Level, Outcome
from refnet.core.errors import Exit, RefnetError
from refnet.postgres.account import Account
from refnet.postgres.account import environment as bare
from refnet.postgres.binaries import Binaries
from refnet.postgres.session import Target, reader_settings, server_version
from refnet.proof_run import ProofOptions
from refnet.sources.contents import Artifact
from refnet.sources.database.artifact.dump_files import (
    DumpContents,
    DumpEntry,
    DumpPath,
    UnsupportedDumpError,
    file_contents,
    file_path,
    folder_contents,
    folder_path,
)
from refnet.sources.database.artifact.sqlgz import INFLATE_ERROR
from refnet.sources.database.dump.pgdump import for_server
from refnet.sources.database.plan.restore_facts import WantedBackup
from refnet.sources.database.proof import foreign_proof
from refnet.sources.database.restore.loader_settings import LOADER_SETTINGS, sorts
from refnet.sources.database.workers import Programs, Workers, restricted

_PIECE = 1 << 20
_HEAD = 1 << 16  # bytes at the beginning and the end of a plain dump that identify it
_LINE = 32  # bytes of a line that identify a statement
_PACKED = {b"\x28\xb5\x2f\xfd": "zstd", b"\xfd7zXZ": "xz", b"BZh": "bzip2", b"\x04\x22\x4d\x18": "lz4"}

_FROM = re.compile(rb"Dumped from database version:? (\d{1,4})(?!\d)(?:\.(\d{1,4})(?!\d))?")
_BY = re.compile(rb"Dumped by pg_dump version:? (\d{1,4})(?!\d)")
_VERSION = re.compile(r"([0-9]{1,4})(?:\.([0-9]{1,4}))?")
_BEGINS = b"-- PostgreSQL database dump\n"
_ENDS = b"-- PostgreSQL database dump complete"
_CLUSTER = b"-- PostgreSQL database cluster dump\n"
_CREATES = re.compile(rb"^(?:CREATE DATABASE |\\connect )", re.MULTILINE)
_RESTRICT = re.compile(rb"^\\restrict (\w+)\n", re.MULTILINE)
_ENCODING = re.compile(rb"^SET client_encoding = '(\w+)';", re.MULTILINE)
#: Foreign tables, and the refreshes that may read them from other servers: as SQL, and as kinds of an archive's entries.
_FOREIGN_TABLE = re.compile(rb"^CREATE FOREIGN TABLE ", re.MULTILINE)
_FOREIGN_ENTRY = "FOREIGN TABLE"
_REFRESH = b"REFRESH MATERIALIZED VIEW "
_REFRESH_ENTRY = "MATERIALIZED VIEW DATA"
#: Kinds of entries that pg_restore gives to their owner.
_OWNED = frozenset({"DOMAIN", "FUNCTION", "MATERIALIZED VIEW", "SEQUENCE", "TABLE", "TYPE", "VIEW"})
#: A plan names no more owners.
_MOST_OWNERS = 100


class Format(StrEnum):
    """The format of a dump."""

    PLAIN = "plain"
    GZIP = "plain, gzipped"
    CUSTOM = "custom"
    DIRECTORY = "directory"
    TAR = "tar"


class ForeignDump(Artifact):
    """A foreign dump. It is identified when it is first read: RefnetError if it cannot be restored."""

    def __init__(self, stored: OpenArtifact) -> None:
        super().__init__(stored)
        self._folder = stored.path if stored.path and stored.path.is_dir() else None
        self._foreign_tables = False  # `check` has found some

    def prove(self, level: Level, options: ProofOptions) -> Proof:
        return foreign_proof.prove(self, level, options)

    @property
    def roles(self) -> tuple[dict[str, Any], ...]:
        return ()

    def wanted(self) -> WantedBackup:
        found = self._made_by[0]
        version = int(found[1]) * 10_000 + int(found[2] or 0) if found else None
        owners = self._owners()
        return WantedBackup(self.name, version, None, None, 0, roles=owners, owners=owners)

    def _owners(self) -> tuple[str, ...]:
        """Owners that pg_restore assigns; names in an unknown encoding are omitted."""
        owners = dict.fromkeys(
            one.owner for one in self._entries if one.kind in _OWNED and one.owner.isascii()
        )
        return tuple(islice(filter(None, owners), _MOST_OWNERS))

    def tools_major(self, server: int) -> int:
        return server

    @property
    def proof_major(self) -> int | None:
        """Oldest major version that can load it, or None if unknown."""
        return max((int(found[1]) for found in self._made_by if found), default=None)

    @property
    def _made_by(self) -> tuple[re.Match[Any] | None, re.Match[Any] | None]:
        """Versions of the server and of pg_dump."""
        if self._contents is None:
            return _FROM.search(self._head), _BY.search(self._head)
        return _VERSION.match(self._contents.server), _VERSION.match(self._contents.program)

    def check(self) -> None:
        """Read a plain dump to its end; RefnetError if it is cut short, damaged, or not of one database."""
        if self.is_archive:
            return
        if self.is_of_cluster or _CREATES.search(self._head):
            raise UnsupportedDumpError(
                f"{self.name} creates databases itself (made with -C or by pg_dumpall)",
                "RefNet restores into a new database of its own: dump it without -C, or run it with psql.",
            )
        tail = b""
        for piece in self._pieces():
            self._foreign_tables |= bool(_FOREIGN_TABLE.search(tail[-_LINE:] + piece))
            tail = (tail + piece)[-_HEAD:]
        if _BEGINS in self._head and _ENDS not in tail:
            raise self._cut("its last line is missing")

    def state(self, live: Callable[[], dict[str, Any] | None]) -> dict[str, Any]:
        """Return the state of the live database, or the server's defaults in the dump's encoding."""
        encoding = _ENCODING.search(self._head)
        return live() or {
            "owner": None,
            "encoding": encoding[1].decode() if encoding else "UTF8",
            "provider": None,
            "collate": None,
            "ctype": None,
            "locale": None,
            "connection_limit": -1,
            "comment": None,
            "acl": None,
            "settings": [],
        }

    #: `after_swap` has nothing to do.
    is_late = False

    def after_swap(self, _target: Target, _workers: Workers) -> tuple[str, ...]:
        """Do nothing: everything is loaded already."""
        return ()

    def load(
        self,
        target: Target,
        workers: Workers,
        again: Callable[[], None] | None = None,  # noqa: ARG002  # an artifact's
        *,
        alone: bool = False,
        account: Account | None = None,
    ) -> tuple[str, ...]:
        """Fill the empty database `target`; RefnetError with the server's first error line.

        `check` comes first. `account`: the user that pg_restore runs as. `alone`: do not refresh materialized views
        if the dump contains foreign tables, because they may read other servers.
        """
        alone = alone and self.has_foreign_tables
        with target.connect() as session:
            server = server_version(session)
            memory = {} if account else sorts(session, workers.jobs)
        environment = target.environment({**_settings(server), **memory})
        if self.is_archive:
            command = [str(workers.binaries.tool("pg_restore")), "--no-password", "--exit-on-error"]
            command += [] if self.format is Format.TAR else [f"--jobs={workers.jobs}"]
            command += ["-d", make_conninfo(dbname=target.name)]
            self._restore(command, environment, account, alone=alone)
        else:
            command = [str(workers.binaries.tool("psql")), "--no-password", "-X", "-q", "-o", "/dev/null"]
            text = self._text(server, workers.progress)
            text = restricted(_without_lines(text, _REFRESH) if alone else text)
            Programs(environment).run([*command, "-v", "ON_ERROR_STOP=1"], f"loading {self.name}", text)
        return ()

    def _restore(
        self, command: list[str], environment: dict[str, str], account: Account | None, *, alone: bool
    ) -> None:
        if account and account.other:
            environment = {**bare(), **{k: v for k, v in environment.items() if k.startswith("PG")}}
        programs = Programs(environment, account)
        with self._path_for(account) as dump, tempfile.TemporaryFile() as listing:
            handles = [*dump.handles]
            if alone:
                listing.writelines(self._without_refresh())
                listing.flush()
                os.fchmod(listing.fileno(), 0o444)  # it contains only numbers, and `account` reads it
                command += ["-L", f"/dev/fd/{listing.fileno()}"]
                handles.append(listing.fileno())
            programs.run([*command, str(dump.path)], f"loading {self.name}", handles=handles)

    def read_to_end(self, binaries: Binaries, account: Account | None = None) -> None:
        """Read an archive to its end by pg_restore, as `account`; RefnetError if it fails."""
        if self.is_archive:
            tool = str(binaries.tool("pg_restore"))
            with self._path_for(account) as dump:
                command = [tool, "--file=/dev/null", str(dump.path)]
                Programs(bare(), account).run(command, f"reading {self.name}", handles=dump.handles)

    def write_sql(self, out: IO[bytes], binaries: Binaries, account: Account | None = None) -> None:
        """Write the SQL of an archive to the open file `out`, by pg_restore as `account`."""
        os.fchmod(out.fileno(), 0o666)  # it has no name
        with self._path_for(account) as dump:
            command = [str(binaries.tool("pg_restore")), f"--file=/dev/fd/{out.fileno()}", str(dump.path)]
            handles = [*dump.handles, out.fileno()]
            Programs(bare(), account).run(command, f"reading {self.name}", handles=handles)

    @property
    def has_foreign_tables(self) -> bool:
        """Whether it has foreign tables; for SQL known only after `check`."""
        return self._foreign_tables or any(entry.kind == _FOREIGN_ENTRY for entry in self._entries)

    @property
    def is_of_cluster(self) -> bool:
        """Whether pg_dumpall made it."""
        return _CLUSTER in self._head

    def text(self) -> Iterator[bytes]:
        """Yield the text of a dump that is SQL; RefnetError (DAMAGED) if gzip finds it changed or cut short."""
        return self._pieces()

    @contextlib.contextmanager
    def _path_for(self, account: Account | None) -> Iterator[DumpPath]:
        """Yield the path of the archive for a program that runs as `account`."""
        other = account if account and account.other else None
        if self._folder:
            with folder_path(self._folder, other) as dump:
                yield dump
            return
        with self.stored.open() as file, file_path(file, other) as dump:
            yield dump

    @cached_property
    def _contents(self) -> DumpContents | None:
        """The contents of an archive; None for SQL."""
        if self._folder:
            return folder_contents(self._folder)
        if not self.is_archive:
            return None
        with self.stored.open() as file:
            return file_contents(self.name, file, tar=self.format is Format.TAR)

    def _without_refresh(self) -> Iterator[bytes]:
        """Yield the lines of `pg_restore -L`, without the entries that refresh materialized views."""
        for entry in self._entries:
            if entry.kind != _REFRESH_ENTRY:
                yield b"%d;\n" % entry.number

    def compare(self, *_: Any, **_options: Any) -> tuple[Finding, ...]:
        """Return one finding: the content cannot be verified."""
        why = "a foreign dump records nothing to compare it with"
        return (Finding("content", Outcome.UNVERIFIED, why),)

    @property
    def is_archive(self) -> bool:
        """Whether it has pg_dump's custom, directory or tar format, not SQL."""
        return self.format in {Format.CUSTOM, Format.DIRECTORY, Format.TAR}

    @cached_property
    def format(self) -> Format:
        if self._folder:
            return Format.DIRECTORY
        with self.stored.open() as file:
            head = file.read(_HEAD)
        if head.startswith(b"\x1f\x8b"):
            inner = _head_of(self._pieces(packed=True))[:_HEAD]
            if inner.startswith(b"PGDMP"):
                raise self._refused("is a gzipped dump in the custom format: gunzip it", UnsupportedDumpError)
            if inner[257:262] == b"ustar":
                what = "is a gzipped tar archive; one of a folder needs a name such as vault_20261125.tar.gz"
                raise self._refused(what, UnsupportedDumpError)
            if not _is_text(inner):
                raise self._refused("is not a dump: it is gzipped, but not SQL")
            return Format.GZIP
        if head.startswith(b"PGDMP"):
            return Format.CUSTOM
        if head[257:262] == b"ustar":
            return Format.TAR
        for magic, name in _PACKED.items():
            if head.startswith(magic):
                raise self._refused(f"is compressed with {name}", UnsupportedDumpError)
        if not _is_text(head):
            raise self._refused("is not a dump: neither SQL nor an archive of pg_dump")
        return Format.PLAIN

    def _refused(self, what: str, kind: type[RefnetError] = RefnetError) -> RefnetError:
        return kind(
            f"{self.name} {what}",
            "Give an artifact of RefNet, SQL (plain or gzipped), or pg_dump's custom, directory or tar format.",
        )

    def _cut(self, why: str) -> RefnetError:
        return RefnetError(
            f"{self.name} is damaged or cut short: {why}", "Get another copy of the dump.", Exit.DAMAGED
        )

    @property
    def _entries(self) -> tuple[DumpEntry, ...]:
        return self._contents.entries if self._contents else ()

    @cached_property
    def _head(self) -> bytes:
        """First bytes of the SQL text; empty for an archive."""
        return b"" if self.is_archive else _head_of(self._pieces())[:_HEAD]

    def _pieces(self, *, packed: bool | None = None) -> Iterator[bytes]:
        """Yield the SQL text; RefnetError (DAMAGED) if gzip finds it changed or cut short."""
        packed = self.format is Format.GZIP if packed is None else packed
        with self.stored.open() as file:
            text = cast("BinaryIO", igzip.open(file)) if packed else file  # type: ignore[no-untyped-call]
            try:
                while piece := text.read(_PIECE):
                    yield piece
            except (EOFError, gzip.BadGzipFile, INFLATE_ERROR) as error:
                raise self._cut(str(error)) from error

    def _text(self, server: int, progress: Progress) -> Iterator[bytes]:
        r"""Yield the SQL without its `\restrict` pair, which is replaced, and without settings that the server rejects."""
        pieces = self._pieces()
        head = _head_of(pieces)
        own = _RESTRICT.search(head)
        if own:
            head = head[: own.start()] + head[own.end() :]
        head = for_server(server, head)
        done, total = 0, None
        if self.format is Format.PLAIN:
            with self.stored.open() as file:
                total = file.seek(0, os.SEEK_END)
        for piece in _without(chain([head], pieces), b"\\unrestrict " + own[1] if own else None):
            yield piece
            done += len(piece)
            progress("data", done, total)


def _head_of(pieces: Iterator[bytes]) -> bytes:
    """Take at least _HEAD bytes from `pieces`, or all."""
    head = b""
    while len(head) < _HEAD and (piece := next(pieces, b"")):
        head += piece
    return head


def _without(pieces: Iterable[bytes], line: bytes | None) -> Iterator[bytes]:
    """Yield `pieces` without the line `line`, which may span two pieces."""
    if line is None:
        yield from pieces
        return
    full, pending = b"\n" + line + b"\n", b""
    for piece in pieces:
        text = (pending + piece).replace(full, b"\n")
        pending = text[-len(full) :]
        yield text[: -len(full)]
    yield pending


def _without_lines(pieces: Iterable[bytes], beginning: bytes) -> Iterator[bytes]:
    """Yield `pieces` without lines that start with `beginning`."""
    pending = b""
    for piece in pieces:
        complete, newline, pending = (pending + piece).rpartition(b"\n")
        lines = (complete + newline).splitlines(keepends=True)
        yield b"".join(line for line in lines if not line.startswith(beginning))
    yield b"" if pending.startswith(beginning) else pending


def _is_text(head: bytes) -> bool:
    return head.lstrip()[:1] >= b" " and b"\0" not in head


def _settings(server: int) -> dict[str, str]:
    """Session settings without timeouts and read-only mode; the dump sets what its text depends on."""
    limits = {n: value for n, value in reader_settings(server).items() if n.endswith("_timeout")}
    return {**limits, **{name: LOADER_SETTINGS[name] for name in _LOADING}}


_LOADING = (
    "default_transaction_read_only",
    "synchronous_commit",
    "client_min_messages",
)
