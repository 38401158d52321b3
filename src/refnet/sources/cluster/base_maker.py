"""Makes base backups: the tar of pg_basebackup as it comes, deflated in gzip members of at most 1 MiB of text.

A member begins with the content of each larger file, so the same content gives the same members, which copies share.
"""

from __future__ import annotations

import contextlib
import fcntl
import json
import math
import re
import signal
import subprocess
import tempfile
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from datetime import datetime
from functools import partial
from pathlib import Path
from typing import IO, BinaryIO, Self

from refnet.catalog.artifact import MOST_LIST_BYTES, Made, OpenArtifact, Progress, Turn, at_once, silent
from refnet.catalog.cluster_base import BaseFacts, BaseKind, NextBase, facts_of, next_base
from refnet.catalog.manifest import Entry
from refnet.catalog.source_name import SourceName
from refnet.catalog.wal import lsn_text
from refnet.core.errors import Exit, RefnetError
from refnet.core.files import explained, make_folder, read_regular, replace_file
from refnet.core.formatting import plain, plural
from refnet.core.member_names import ArchiveError
from refnet.core.processes import end_with_parent
from refnet.postgres.binaries import Binaries
from refnet.postgres.session import Target
from refnet.postgres.tempdirs import private_folder
from refnet.sources.cluster import backup_manifest, wal_server
from refnet.sources.cluster.backup_manifest import BackupManifest
from refnet.sources.cluster.base_artifact import BaseArtifact
from refnet.sources.cluster.base_wal import KeepWal
from refnet.sources.cluster.wal_archive import ServerFacts
from refnet.sources.database import server_errors
from refnet.sources.folder.gzip_members import MEMBER_BYTES, MemberWriter
from refnet.sources.folder.listing import FileKind
from refnet.sources.folder.tar_archive import TarReader

#: A file of at least so many bytes begins a member.
_LARGE = 64 << 10
#: The first major that makes increments.
INCREMENTS = 17
#: Bytes of the pipe, and of the buffer before it: what is read at once and is longer goes past the buffer.
_PIPE, _BUFFER = 1 << 20, 64 << 10
#: How long the server may send nothing, in seconds: at the end it waits for archive_command, which may fail for ever.
_SILENT = 900.0
#: Of ISA-L's levels 0 to 3. Measured on the files of a server: 3 takes twice as long as 1, and is 3 % smaller.
_LEVEL = 1
#: The most manifests of a server that are kept.
_MOST_KEPT = 10
_ASKED = """
    SELECT now(), pg_catalog.current_setting('server_version'),
        (SELECT count(*) FROM pg_catalog.pg_tablespace WHERE spcname NOT IN ('pg_default', 'pg_global'))
"""
#: The server has no increment to give: the summaries are off, or not of all WAL since the parent.
_NO_INCREMENT = re.compile(rb"(?:error|ERROR|DETAIL|FATAL): .*(?:summar|incremental|manifest)")


class NoIncrementError(RefnetError):
    """The server cannot make an increment from that parent; a full it can."""


@dataclass(frozen=True)
class _Server:
    """What the server says before the backup."""

    now: datetime
    version: str
    facts: ServerFacts
    timeline: int
    tablespaces: int
    #: Why it can make no increments; "": it can.
    no_increments: str


@dataclass(frozen=True)
class BaseMaker:
    """The base backups of a cluster."""

    name: SourceName
    target: Callable[[], Target]
    #: Return the programs for a server's major.
    binaries: Callable[..., Binaries]
    #: Threads that deflate.
    jobs: int
    #: Return the artifacts of this source.
    entries: Callable[[], Sequence[Entry]]
    opened: Callable[[Entry], OpenArtifact]
    #: Brings the WAL of a server into its archive while a base is made.
    wal: Callable[[ServerFacts], AbstractContextManager[KeepWal]]
    #: A private folder for the parent's manifest.
    base: Path
    #: Where the manifests of the last bases stay: of an encrypted artifact they cannot be read.
    manifests: Path
    #: The user wants a full.
    full: bool = False

    def digesting(self, up_to: int) -> None:  # noqa: ARG002  # the interface's
        return None

    def dump(self, out: BinaryIO, progress: Progress = silent, turn: Turn = at_once) -> Made:
        server = self._asked()
        turn()
        planned = self._planned(server)
        warnings = list[str]()
        with self.wal(server.facts) as keep_wal:
            try:
                tar = self._streamed(server, planned.parent, out, progress)
            except NoIncrementError as error:
                planned = NextBase(None, error.message)
                warnings.append(f"a full was made instead of an increment: {error.message}")
                tar = self._streamed(server, None, out, progress)
            keep_wal(tar.manifest, progress)
        self._remember(tar)
        return Made(
            created=server.now,
            details=_details(server, planned, tar),
            files=tar.index,
            warnings=tuple(warnings),
        )

    def _asked(self) -> _Server:
        """Ask the server; RefnetError if it cannot be backed up like this."""
        target = self.target()
        with wal_server.session(target) as session:
            wal = wal_server.settings_of(session, target)
            row = session.execute(_ASKED).fetchone()
        assert row is not None  # noqa: S101  # for the type checker
        (now, version, tablespaces), major = row, wal.facts.major
        there = wal_server.identify(target)
        if tablespaces:
            raise RefnetError(
                f"{self.name} is not backed up: its server has {plural(tablespaces, 'tablespace')}, and pg_basebackup"
                " streams only the default one",
                "Move them to pg_default, or set wal = false. Its databases are backed up in either case.",
                Exit.USAGE,
            )
        before = f"PostgreSQL {major} makes no increments; {INCREMENTS} does"
        off = "summarize_wal is off: ALTER SYSTEM SET summarize_wal = on; SELECT pg_reload_conf();"
        no_increments = before if major < INCREMENTS else "" if wal.summarize == "on" else off
        return _Server(now, version, wal.facts, there.timeline, tablespaces, no_increments)

    def _planned(self, server: _Server) -> NextBase:
        if server.no_increments:
            return NextBase(None, server.no_increments)
        lineage = (server.facts.system_identifier, server.timeline)
        return next_base(self.entries(), lineage, server.now, full=self.full)

    def _streamed(
        self, server: _Server, parent: Entry | None, out: BinaryIO, progress: Progress
    ) -> _WrittenTar:
        """Run pg_basebackup, and write its tar to `out`; NoIncrementError, before anything is written."""
        tool = self.binaries(server.facts.major).tool("pg_basebackup")
        command = [
            str(tool),
            "--pgdata=-",
            "--format=tar",
            "--wal-method=none",
            "--checkpoint=fast",
            "--no-password",
            "--label=refnet",
            f"--manifest-checksums={backup_manifest.ALGORITHM}",
        ]
        make_folder(self.base)
        with private_folder(self.base) as folder:
            if parent:
                own = folder / backup_manifest.NAME
                own.write_bytes(self._manifest_of(parent))
                command.append(f"--incremental={own}")
            with _running(command, self.target(), is_increment=parent is not None) as stream:
                return _write(stream, out, self.jobs, progress)

    def _manifest_of(self, parent: Entry) -> bytes:
        """PostgreSQL's manifest in `parent`; NoIncrementError if it cannot be read."""
        facts = facts_of(parent)
        with contextlib.suppress(RefnetError, OSError, ValueError):
            text = read_regular(self.manifests / _kept_name(facts), MOST_LIST_BYTES) if facts else b""
            backup_manifest.check(text)  # pg_basebackup reads it
            return text
        try:
            return BaseArtifact(self.opened(parent)).manifest_text()
        except RefnetError as error:
            raise NoIncrementError(f"{parent.name} cannot be read: {error.message}", error.hint) from error

    def _remember(self, tar: _WrittenTar) -> None:
        """Keep PostgreSQL's manifest of the new base, and of some before it of its server, if it makes increments."""
        if not (server := tar.manifest.system_identifier):
            return
        make_folder(self.manifests)
        with explained(self.manifests):
            replace_file(self.manifests / _kept_name(tar.manifest), tar.text)
            # Those of other servers are left alone: their backups run at the same time.
            own = self.manifests.glob(f"{server}-*")
            for one in sorted(own, key=lambda one: one.stat().st_mtime_ns)[:-_MOST_KEPT]:
                one.unlink()


def _kept_name(of: BaseFacts | BackupManifest) -> str:
    return f"{of.system_identifier}-{of.timeline:08X}-{of.start_lsn:016X}"


@contextlib.contextmanager
def _running(command: list[str], target: Target, *, is_increment: bool) -> Iterator[_Watched]:
    """Run pg_basebackup; yield its output. RefnetError if it fails, with the reason that it gives, or hangs."""
    with (
        tempfile.TemporaryFile() as errors,
        subprocess.Popen(
            command,
            env=target.environment(),
            stdout=subprocess.PIPE,
            stderr=errors,
            bufsize=_BUFFER,
            preexec_fn=partial(end_with_parent, signal.SIGTERM),  # noqa: PLW1509  # one call of prctl
        ) as child,
    ):
        assert child.stdout is not None  # noqa: S101  # for the type checker
        with contextlib.suppress(OSError):  # an unprivileged user may have too many large pipes
            fcntl.fcntl(child.stdout, fcntl.F_SETPIPE_SZ, _PIPE)

        def failed() -> RefnetError:
            errors.seek(0)
            said = errors.read(1 << 16)
            if watched.was_silent:
                return _silent(said)
            found = server_errors.of_program("pg_basebackup", said, "base backup")
            if is_increment and _NO_INCREMENT.search(said):
                return NoIncrementError(found.message, found.hint)
            return found

        try:
            with _Watched(child, child.stdout) as watched:
                if not watched.peek() and child.wait():
                    raise failed()
                yield watched
                if child.wait():
                    raise failed()
        except ArchiveError as error:
            if not watched.peek() and child.wait():
                raise failed() from None
            raise RefnetError(
                f"pg_basebackup wrote no valid tar: {error}", "Retry; check the version of pg_basebackup."
            ) from None
        finally:
            child.kill()


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


@dataclass
class _Tee:
    """Passes on what is read from pg_basebackup, and writes it to the artifact."""

    stream: _Watched
    writer: MemberWriter

    def read(self, size: int) -> bytes:
        data = self.stream.read(size)
        if self.writer.open_bytes + len(data) > MEMBER_BYTES:
            self.writer.end_member()
        self.writer.write(data)
        return data


@dataclass(frozen=True)
class _WrittenTar:
    """A tar in an artifact."""

    manifest: BackupManifest
    raw_bytes: int
    #: PostgreSQL's manifest.
    text: bytes = field(repr=False)
    #: Where members begin, see `BaseIndex`, as JSON.
    index: bytes = field(repr=False)


def _write(stream: _Watched, out: BinaryIO, jobs: int, progress: Progress) -> _WrittenTar:
    """Write the tar from `stream` to `out`; ArchiveError if it is none, or not of a complete base backup."""
    text, at = None, 0
    with MemberWriter(out, jobs, _LEVEL) as writer:
        reader = TarReader(_Tee(stream, writer))  # type: ignore[arg-type]  # of a stream it uses only read
        for member in reader:
            if member.kind is not FileKind.FILE:
                continue
            if own := member.path == backup_manifest.NAME:
                writer.end_member()
                text, at = b"".join(reader.content()), writer.raw
            elif member.size >= _LARGE:
                writer.end_member()
                for _block in reader.content():
                    progress("base backup", writer.raw, None)
            reader.skip()
            if own or member.size >= _LARGE:
                writer.end_member()
            else:
                writer.end_entry(member.path, member.size)
        writer.finish()
        if text is None:
            raise ArchiveError("it has no backup_manifest")
        try:
            manifest = BackupManifest.read(text)
        except ValueError as error:
            raise ArchiveError(f"its backup_manifest is malformed: {error}") from None
        begin = at - len(text)
        index = {
            "format": 1,
            "manifest": [begin, len(text)],
            "members": [[one.raw, one.offset] for one in writer.members],
        }
        return _WrittenTar(manifest, writer.raw, text, json.dumps(index, separators=(",", ":")).encode())


def _details(server: _Server, planned: NextBase, tar: _WrittenTar) -> dict[str, object]:
    kind = BaseKind.INCREMENT if planned.parent else BaseKind.FULL
    manifest = tar.manifest
    return {
        "system_identifier": manifest.system_identifier or server.facts.system_identifier,
        "server_version": server.version,
        "base": kind.value,
        "parent": planned.parent.name if planned.parent else None,
        "start_lsn": lsn_text(manifest.start_lsn),
        "end_lsn": lsn_text(manifest.end_lsn),
        "timeline": manifest.timeline,
        "raw_bytes": tar.raw_bytes,
        "files": len(manifest.files),
        "tablespaces": server.tablespaces,
        **({"why_full": planned.why} if planned.why else {}),
    }
