"""Makes base backups: the tar of pg_basebackup as it comes, deflated in gzip members of at most 1 MiB of text.

A member begins with the content of each larger file, so the same content gives the same members, which copies share.
"""

from __future__ import annotations

import contextlib
import json
import re
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass, field, replace
from datetime import datetime
from pathlib import Path
from typing import BinaryIO

from refnet.catalog.artifact import MOST_LIST_BYTES, Made, OpenArtifact, Progress, Turn, at_once, silent
from refnet.catalog.cluster_base import INCREMENTS, BaseFacts, BaseKind, NextBase, facts_of, next_base
from refnet.catalog.manifest import Entry
from refnet.catalog.source_name import SourceName
from refnet.catalog.wal import ServerFacts, lsn_text
from refnet.core.errors import RefnetError
from refnet.core.files import explained, make_folder, read_regular, replace_file
from refnet.core.member_names import ArchiveError
from refnet.core.memory import share_one_heap
from refnet.postgres.binaries import Binaries
from refnet.postgres.session import Target
from refnet.postgres.tempdirs import private_folder
from refnet.sources.cluster import backup_manifest, wal_server
from refnet.sources.cluster.backup_manifest import BackupManifest
from refnet.sources.cluster.base_artifact import BaseArtifact
from refnet.sources.cluster.base_wal import KeepWal
from refnet.sources.cluster.pg_basebackup import BaseBackup, NoIncrementError, Stream
from refnet.sources.folder.gzip_members import MEMBER_BYTES, MemberWriter
from refnet.sources.folder.listing import FileKind
from refnet.sources.folder.tar_archive import TarReader

#: A file of at least so many bytes begins a member.
_LARGE = 64 << 10
#: Of ISA-L's levels 0 to 3. Measured on the files of a server: 3 takes twice as long as 1, and is 3 % smaller.
_LEVEL = 1
#: The major since which a database has a version of its collation.
_WITH_COLLATIONS = 15
#: The most manifests of a server that are kept.
_MOST_KEPT = 10
_ASKED = """
    SELECT now(), pg_catalog.current_setting('server_version'),
        (SELECT count(*) FROM pg_catalog.pg_tablespace WHERE spcname NOT IN ('pg_default', 'pg_global')),
        pg_catalog.version()
"""
#: What the databases sort by, for a restore on another machine; since PostgreSQL 15.
_COLLATIONS = """
    SELECT DISTINCT CASE datlocprovider WHEN 'c' THEN 'libc ' ELSE 'icu ' END
        || pg_catalog.pg_database_collation_actual_version(oid)
    FROM pg_catalog.pg_database WHERE datallowconn AND datlocprovider IN ('c', 'i')
        AND pg_catalog.pg_database_collation_actual_version(oid) IS NOT NULL ORDER BY 1 LIMIT 10
"""
_ARCHITECTURE = re.compile(r" on ([a-z0-9_]+)-")


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
    #: Of the machine: `x86_64`; "": unknown.
    architecture: str = ""
    #: `libc 2.41`, `icu 153.121`; None: unknown.
    collations: tuple[str, ...] | None = None


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
        share_one_heap()
        turn()
        planned = self._planned(server)
        warnings = list[str]()
        with self.wal(server.facts) as keep_wal:
            try:
                tar = self._streamed(server, planned.parent, out, progress)
            except NoIncrementError as error:
                planned = NextBase(None, error.message)
                warnings.append(f"a full backup was made instead of an increment: {error.message}")
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
            row, major = session.execute(_ASKED).fetchone(), wal.facts.major
            sorts = (
                [str(one) for (one,) in session.execute(_COLLATIONS)] if major >= _WITH_COLLATIONS else None
            )
        assert row is not None  # noqa: S101  # for the type checker
        now, version, tablespaces, whole = row
        machine = _ARCHITECTURE.search(whole)
        there = wal_server.identify(target)
        before = f"PostgreSQL {major} makes no increments; {INCREMENTS} does"
        off = "summarize_wal is off: ALTER SYSTEM SET summarize_wal = on; SELECT pg_reload_conf();"
        no_increments = before if major < INCREMENTS else "" if wal.summarize == "on" else off
        facts = _Server(now, version, wal.facts, there.timeline, tablespaces, no_increments)
        return replace(
            facts,
            architecture=machine[1] if machine else "",
            collations=None if sorts is None else tuple(sorts),
        )

    def _planned(self, server: _Server) -> NextBase:
        if server.no_increments:
            return NextBase(None, server.no_increments)
        lineage = (server.facts.system_identifier, server.timeline)
        return next_base(self.entries(), lineage, server.now, full=self.full)

    def _streamed(
        self, server: _Server, parent: Entry | None, out: BinaryIO, progress: Progress
    ) -> _WrittenTar:
        """Run pg_basebackup, and write what it makes to `out` as one tar; NoIncrementError, before anything is written."""
        tool = self.binaries(server.facts.major).tool("pg_basebackup")
        command = [str(tool), "--format=tar", "--no-sync", "--wal-method=none", "--checkpoint=fast"]
        command += ["--no-password", "--label=refnet", f"--manifest-checksums={backup_manifest.ALGORITHM}"]
        make_folder(self.base)
        with private_folder(self.base) as folder:
            if parent:
                own = folder / backup_manifest.NAME
                own.write_bytes(self._manifest_of(parent))
                command.append(f"--incremental={own}")
            backup = BaseBackup(tuple(command), self.target(), is_increment=parent is not None)
            made = backup.staged(folder / "tars", progress) if server.tablespaces else backup.streamed()
            with made as stream:
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


@dataclass
class _Tee:
    """Passes on what is read from pg_basebackup, and writes it to the artifact."""

    stream: Stream
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


def _write(stream: Stream, out: BinaryIO, jobs: int, progress: Progress) -> _WrittenTar:
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
        **({"architecture": server.architecture} if server.architecture else {}),
        **({"collations": ", ".join(server.collations)} if server.collations is not None else {}),
        **({"why_full": planned.why} if planned.why else {}),
    }
