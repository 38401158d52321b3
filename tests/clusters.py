"""A server with its WAL in an archive, and base backups of it, made by PostgreSQL's own programs."""

from __future__ import annotations

import gzip
import hashlib
import io
import re
import shlex
import shutil
import signal
import subprocess
import tarfile
import tempfile
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

from benchmarks.throwaway import throwaway
from tests.command import Command, url_of

from refnet.catalog.cluster_base import BaseFacts, BaseKind
from refnet.catalog.manifest import Manifest
from refnet.catalog.recovery_target import Candidate
from refnet.catalog.source_name import Kind, SourceName
from refnet.catalog.wal import ServerFacts, lsn_text, parse_lsn
from refnet.core.processes import until
from refnet.postgres.binaries import Binaries
from refnet.postgres.cluster import Cluster
from refnet.sources.cluster import wal_writer
from refnet.sources.cluster.data_folder import Piece
from refnet.sources.cluster.wal_archive import WalArchive

#: Of a server whose WAL is streamed; the segments of a throwaway server have 4 MiB.
SETTINGS = {
    "wal_level": "replica",
    "max_wal_senders": "5",
    "summarize_wal": "on",
    "fsync": "off",
    "full_page_writes": "on",
    "synchronous_commit": "on",
    "track_commit_timestamp": "on",
}


@dataclass
class Live:
    """A live server, its archive, and its base backups."""

    cluster: Cluster
    archive: WalArchive
    folder: Path
    receiver: subprocess.Popen[bytes] | None = None
    bases: list[Piece] = field(default_factory=list)
    manifests: list[Path] = field(default_factory=list)
    began: datetime = field(default_factory=lambda: datetime.now(UTC).replace(microsecond=0))
    #: A moment that a test remembers, and the names of the published base backups.
    before: str = ""
    names: list[str] = field(default_factory=list)

    def sql(self, *statements: str, database: str = "postgres") -> list[tuple[object, ...]]:
        """Run statements, each in its transaction; the rows of the last one."""
        with self.cluster.target(database).connect() as session:
            for statement in statements:
                found = session.execute(statement)
            return found.fetchall() if found.description else []

    def now(self) -> datetime:
        """The server's time, after which the next commit is later."""
        ((moment,),) = self.sql("SELECT clock_timestamp()")
        assert isinstance(moment, datetime)
        return moment

    def begin_stream(self) -> None:
        """Start the receiver of WAL into the archive's live folder."""
        self.receiver = subprocess.Popen(
            [
                *(self.cluster.binaries.tool("pg_receivewal"), "-D", self.archive.live, "-S", "stream"),
                *("--synchronous", "-s", "1", "--no-loop"),
            ],
            env=self.cluster.target().environment(),
            stderr=subprocess.DEVNULL,
        )

    def arrived(self) -> int:
        """Wait until all WAL of the server has arrived; where it ends."""
        ((text,),) = self.sql("SELECT pg_current_wal_insert_lsn()::text")
        wanted = parse_lsn(str(text))

        def is_here() -> bool:
            ((flushed,),) = self.sql("SELECT coalesce(max(flush_lsn), '0/0')::text FROM pg_stat_replication")
            return parse_lsn(str(flushed)) >= wanted

        self.sql("SELECT pg_log_standby_snapshot()")
        assert until(is_here, 30)
        return wanted

    def end_stream(self) -> None:
        if self.receiver:
            self.receiver.send_signal(signal.SIGINT)
            self.receiver.wait(30)
            self.receiver = None

    def end_timeline(self) -> None:
        """End the stream, and archive all of it, as the receiver does when the server went on as another timeline."""
        self.end_stream()
        for file in sorted(self.archive.live.iterdir()):
            wal_writer.add(self.archive, file)
            file.unlink()

    def base(self, *, increment: bool = False) -> Piece:
        """Make a base backup, as pg_basebackup writes it, deflated."""
        number, before = len(self.bases), self.bases[-1] if increment else None
        options = [f"--incremental={self.manifests[-1]}"] if before else []
        program = str(self.cluster.binaries.tool("pg_basebackup"))
        command = [program, "-D", "-", "-Ft", "-X", "none", "-c", "fast", "--manifest-checksums=SHA256"]
        done = subprocess.run(
            [*command, *options], env=self.cluster.target().environment(), capture_output=True, check=True
        )
        path = self.folder / f"base{number}.tar.gz"
        path.write_bytes(gzip.compress(done.stdout, 1))
        manifest = self.folder / f"base{number}.manifest"
        with tarfile.open(fileobj=io.BytesIO(done.stdout)) as tar:
            manifest.write_bytes(_content(tar, "backup_manifest"))
        self.manifests.append(manifest)
        text = manifest.read_text()
        wal = re.search(r'"Timeline": (\d+), "Start-LSN": "(\S+)", "End-LSN": "(\S+)"', text)
        assert wal
        facts = BaseFacts(
            system_identifier=self.archive.server.system_identifier,
            server_version=str(self.cluster.binaries.version),
            kind=BaseKind.INCREMENT if before else BaseKind.FULL,
            parent=before.name if before else "",
            start_lsn=parse_lsn(wal[2]),
            end_lsn=parse_lsn(wal[3]),
            timeline=int(wal[1]),
            raw_bytes=len(done.stdout),
            tablespaces=0,
        )
        return self.keep(path, facts)

    def keep(self, path: Path, facts: BaseFacts) -> Piece:
        digest = hashlib.sha256(path.read_bytes()).hexdigest()
        self.bases.append(Piece(path.name, lambda: path.open("rb"), digest, facts))
        return self.bases[-1]

    @property
    def backups(self) -> Path:
        """The backup folder."""
        return self.archive.folder.parent.parent

    def publish(self, source: str = "main-cluster") -> list[str]:
        """Publish the base backups as artifacts of `source` in the backup folder of the archive; their names."""
        backups, names = self.backups, dict[str, str]()
        (backups / source).mkdir(mode=0o700, exist_ok=True)
        for number, piece in enumerate(self.bases):
            at = self.began - timedelta(minutes=5) + timedelta(seconds=number)
            names[piece.name] = f"{source}_{at.astimezone():%Y%m%d_%H%M%S}.base.tar.gz"
            path, facts = backups / source / names[piece.name], piece.facts
            shutil.copy(self.folder / piece.name, path)
            details = {
                **{
                    name: getattr(facts, name) for name in ("system_identifier", "server_version", "timeline")
                },
                "raw_bytes": facts.raw_bytes,
                "tablespaces": 0,
                "base": facts.kind,
                "start_lsn": lsn_text(facts.start_lsn),
                "end_lsn": lsn_text(facts.end_lsn),
                **({"parent": names[facts.parent]} if facts.parent else {}),
            }
            name = SourceName(source, Kind.CLUSTER)
            manifest = Manifest(name, path.name, at, path.stat().st_size, piece.sha256, 1.0, details=details)
            path.with_name(f"{path.name}.json").write_text(manifest.to_json())
        return [*names.values()]

    @property
    def candidates(self) -> list[Candidate]:
        """All base backups; each is of the time of its file."""
        return [
            Candidate(
                one.name,
                one.facts,
                datetime.fromtimestamp((self.folder / one.name).stat().st_mtime).astimezone(),
            )
            for one in self.bases
        ]

    def chain(self, name: str) -> list[Piece]:
        """The full, and the increments up to the base `name`."""
        there = {one.name: one for one in self.bases}
        found = [there[name]]
        while found[0].facts.parent:
            found.insert(0, there[found[0].facts.parent])
        return found


def answer(restored: Any, data: Path, query: str, database: str) -> str:
    """Start the server that was restored into `data` by the command that was printed, and ask it `query`."""
    subprocess.run(["/bin/sh", "-c", restored["start"]], check=True, stdout=subprocess.DEVNULL)
    try:
        ask = restored["psql"].removesuffix(" -l")
        words = ["-U", "refnet", "-d", database, "-Atc", query]
        done = subprocess.run([*shlex.split(ask), *words], check=False, capture_output=True, text=True)
        return done.stdout.strip() or done.stderr
    finally:
        stop = [*shlex.split(restored["start"])[:-3], "-m", "immediate", "stop"]
        subprocess.run(stop, check=True, stdout=subprocess.DEVNULL)


@contextmanager
def commands(
    cluster: Cluster, short_folder: Path, backups: Path | None = None, *more: str
) -> Iterator[Command]:
    """A command with a new home, whose settings name `cluster`; `more`: lines of its table. None: new backups too."""
    place = Path(tempfile.mkdtemp(prefix="new-", dir=short_folder))
    place.chmod(0o711)
    table = ("[clusters.main]", f'url = "{url_of(cluster.target())}"', "wal = true", *more)
    settings = place / "refnet.toml"
    settings.write_text("\n".join((*table, "[postgres]", f'bin_dir = "{cluster.binaries.folder}"', "")))
    settings.chmod(0o600)
    yield Command(place / "home", backups or place / "backups", "")
    shutil.rmtree(place, ignore_errors=True)


def _content(tar: tarfile.TarFile, name: str) -> bytes:
    file = tar.extractfile(name)
    assert file
    return file.read()


@contextmanager
def live(binaries: Binaries, folder: Path) -> Iterator[Live]:
    """A live server whose WAL is streamed to an archive, all in a new `folder`."""
    folder.mkdir(parents=True)
    folder.chmod(0o711)
    with ExitStack() as stack:
        stack.callback(shutil.rmtree, folder, ignore_errors=True)
        cluster = stack.enter_context(throwaway(binaries, base=folder / "server", settings=SETTINGS))
        with cluster.target().connect() as session:
            (sysid, size) = session.execute(
                "SELECT system_identifier::text, setting::bigint FROM pg_control_system(), pg_settings WHERE name = 'wal_segment_size'"
            ).fetchone() or ("", 0)
            session.execute("SELECT pg_create_physical_replication_slot('stream', true)")
        archive = WalArchive(folder / "backups" / "cluster" / sysid, lambda _major: binaries)
        wal_writer.make(archive, ServerFacts(sysid, size, binaries.major))
        found = Live(cluster, archive, folder)
        found.begin_stream()
        stack.callback(found.end_stream)
        yield found
