"""Base backups of real servers: stock tools restore them, and every change of a byte is found."""

from __future__ import annotations

import gzip
import hashlib
import io
import subprocess
import tarfile
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import Any, NoReturn

import pytest
from benchmarks.throwaway import throwaway
from psycopg.conninfo import make_conninfo

from refnet.catalog.artifact import OpenArtifact, Proof
from refnet.catalog.cluster_base import facts_of
from refnet.catalog.manifest import Entry, Level, Manifest, Outcome
from refnet.catalog.source_name import Kind, SourceName
from refnet.catalog.wal import ServerFacts
from refnet.core.errors import RefnetError
from refnet.core.processes import until
from refnet.postgres.binaries import Binaries
from refnet.postgres.cluster import Cluster
from refnet.postgres.session import Target
from refnet.proof_run import ProofOptions
from refnet.sources.cluster.backup_manifest import BackupManifest
from refnet.sources.cluster.base_artifact import BaseArtifact
from refnet.sources.cluster.base_maker import BaseMaker
from refnet.sources.cluster.base_wal import KeepWal, fetched, kept, segments_of
from refnet.sources.cluster.wal_archive import WalArchive

NAME = SourceName("main-cluster", Kind.CLUSTER)
#: A server that can be backed up with increments.
SETTINGS = {"wal_level": "replica", "max_wal_senders": "10", "summarize_wal": "on"}


def _keep_no_wal(manifest: BackupManifest, _progress: object) -> None:
    assert manifest.end_lsn > manifest.start_lsn


@dataclass
class Bases:
    """Bases of a server in a folder."""

    cluster: Cluster
    programs: Binaries
    folder: Path
    target: Callable[[], Target]
    wal: Callable[[ServerFacts], AbstractContextManager[KeepWal]] | None = None
    made: dict[str, OpenArtifact] = field(default_factory=dict)
    warnings: tuple[str, ...] = ()

    def make(self, **options: Any) -> BaseArtifact:
        maker = BaseMaker(
            name=NAME,
            target=self.target,
            binaries=lambda _major: self.programs,
            jobs=2,
            entries=lambda: [one.entry for one in self.made.values() if one.entry],
            opened=lambda entry: self.made[entry.name],
            wal=self.wal or (lambda _facts: nullcontext(_keep_no_wal)),
            base=self.folder / "scratch",
            manifests=self.folder / "manifests",
            **options,
        )
        file = self.folder / f"main-cluster_20261122_12000{len(self.made)}.base.tar.gz"
        with file.open("wb") as out:
            made = maker.dump(out)
        self.warnings, sha = made.warnings, hashlib.sha256(file.read_bytes()).hexdigest()
        manifest = Manifest(
            NAME, file.name, made.created, file.stat().st_size, sha, 1.0, details=made.details
        )
        self.made[file.name] = OpenArtifact(
            NAME, file.name, lambda: file.open("rb"), manifest, lambda: made.files, file, Entry(manifest)
        )
        return BaseArtifact(self.made[file.name])

    def run(self, *statements: str) -> None:
        with self.cluster.target().connect() as session:
            for one in statements:
                session.execute(one)


@pytest.fixture(scope="module")
def source(wheel: Binaries, short_folder: Path) -> Iterator[Cluster]:
    with throwaway(wheel, base=short_folder / "bases", settings=SETTINGS) as cluster:
        yield cluster


@pytest.fixture
def bases(source: Cluster, wheel: Binaries, tmp_path: Path) -> Bases:
    return Bases(source, wheel, tmp_path, source.target)


@pytest.fixture(scope="module")
def full(source: Cluster, wheel: Binaries, tmp_path_factory: pytest.TempPathFactory) -> BaseArtifact:
    """A full base, which tests only read."""
    return Bases(source, wheel, tmp_path_factory.mktemp("full"), source.target).make(full=True)


def _proof(artifact: BaseArtifact, folder: Path) -> Proof:
    return artifact.prove(Level.INTACT, ProofOptions(folder, lambda *_a, **_b: None, 2))  # type: ignore[arg-type, return-value]


def test_an_increment_follows_a_full_and_stock_tools_combine_them(bases: Bases, wheel: Binaries) -> None:
    bases.run("DROP TABLE IF EXISTS shop", "CREATE TABLE shop AS SELECT generate_series(1, 20000) AS id")
    full = bases.make()
    bases.run("UPDATE shop SET id = -id WHERE id % 100 = 0")
    increment = bases.make()
    assert full.facts.of_full
    assert increment.facts.parent == full.name
    assert increment.stored.manifest
    assert full.stored.manifest
    assert increment.stored.manifest.size < full.stored.manifest.size
    assert bases.warnings == ()

    folders = [bases.folder / "full", bases.folder / "increment"]
    for folder, one in zip(folders, bases.made.values(), strict=True):
        folder.mkdir()
        subprocess.run(["tar", "-xzf", one.path, "-C", folder], check=True)
        checked = [wheel.tool("pg_verifybackup"), "--no-parse-wal", folder]
        subprocess.run(checked, check=True, stdout=subprocess.DEVNULL)
    combined = bases.folder / "combined"
    subprocess.run([wheel.tool("pg_combinebackup"), "-o", combined, *folders], check=True)
    assert (combined / "backup_label").exists()


def test_each_file_is_compared_with_the_manifest_of_postgresql(bases: Bases) -> None:
    bases.make()
    for artifact in (bases.make(), bases.make(full=True)):
        proof = _proof(artifact, bases.folder)
        assert (proof.outcome, proof.level, proof.reasons) == (Outcome.PASSED, Level.INTACT, ())


def test_members_are_small_and_the_index_says_where_they_begin(full: BaseArtifact) -> None:
    assert full.index
    assert full.stored.path
    data = full.stored.path.read_bytes()
    tar = gzip.decompress(data)
    ends = [*full.index.members[1:], (len(tar), len(data))]
    for (raw, offset), (end, last) in zip(full.index.members, ends, strict=True):
        assert 0 < end - raw <= 1 << 20
        assert gzip.decompress(data[offset:last]) == tar[raw:end]
    assert full.manifest_text() == replaced(full, files=lambda: None).manifest_text()
    with tarfile.open(fileobj=io.BytesIO(tar)) as archive:
        assert archive.getnames()[-1] == "backup_manifest"


def replaced(artifact: BaseArtifact, **others: Any) -> BaseArtifact:
    return BaseArtifact(replace(artifact.stored, **others))


def _with(artifact: BaseArtifact, change: Callable[[bytes], bytes]) -> BaseArtifact:
    """The artifact with another tar."""
    with artifact.stored.open() as file:
        packed = gzip.compress(change(gzip.decompress(file.read())), 0)
    return replaced(artifact, open=lambda: io.BytesIO(packed))


def _flipped(tar: bytes) -> bytes:
    """`tar` with another byte in the middle of the largest file."""
    with tarfile.open(fileobj=io.BytesIO(tar)) as archive:
        largest = max((one for one in archive if one.isfile()), key=lambda one: one.size)
    at = largest.offset_data + largest.size // 2
    return tar[:at] + bytes([tar[at] ^ 1]) + tar[at + 1 :]


def _rewritten(tar: bytes, change: Callable[[tarfile.TarInfo], tarfile.TarInfo | None]) -> bytes:
    """`tar` with other members."""
    out = io.BytesIO()
    with (
        tarfile.open(fileobj=io.BytesIO(tar)) as archive,
        tarfile.open(fileobj=out, mode="w", format=tarfile.USTAR_FORMAT) as written,
    ):
        for one in archive:
            data = archive.extractfile(one) if one.isfile() else None
            if made := change(one):
                written.addfile(made, data)
    return out.getvalue()


def _link(one: tarfile.TarInfo) -> tarfile.TarInfo:
    if one.name == "PG_VERSION":
        one.type, one.linkname, one.size = tarfile.SYMTYPE, "/etc/passwd", 0
    return one


def _named(name: str, new: str) -> Callable[[bytes], bytes]:
    def change(one: tarfile.TarInfo) -> tarfile.TarInfo:
        one.name = new if one.name == name else one.name
        return one

    return lambda tar: _rewritten(tar, change)


def _without(name: str) -> Callable[[bytes], bytes]:
    return lambda tar: _rewritten(tar, lambda one: None if one.name == name else one)


@pytest.mark.parametrize(
    ("change", "why"),
    [
        (_flipped, "differs from backup_manifest"),
        (_without("PG_VERSION"), "PG_VERSION is missing"),
        (_without("backup_manifest"), "it has no backup_manifest"),
        (_named("PG_VERSION", "PG_OTHER"), "PG_OTHER is not in backup_manifest"),
        (_named("PG_VERSION", "../PG_VERSION"), "leads out of its folder"),
        (_named("PG_VERSION", "base/1/INCREMENTAL.1"), "belongs to an increment"),
        (_named("pg_ident.conf", "PG_VERSION"), "is there twice"),
        (lambda tar: _rewritten(tar, _link), "is a link"),
        (lambda tar: tar[: len(tar) // 2], "cut short"),
        (lambda tar: tar + b"more", "after the end"),
        (lambda tar: tar.replace(b'"Timeline": 1', b'"Timeline": 2'), "its own checksum is wrong"),
    ],
)
def test_a_change_of_the_archive_is_damage(
    full: BaseArtifact, tmp_path: Path, change: Callable[[bytes], bytes], why: str
) -> None:
    proof = _proof(_with(full, change), tmp_path)
    assert proof.outcome is Outcome.FAILED
    assert why in "; ".join(proof.reasons)


def test_a_flipped_byte_in_the_file_is_damage(full: BaseArtifact, tmp_path: Path) -> None:
    assert full.stored.path
    data = bytearray(full.stored.path.read_bytes())
    data[len(data) // 2] ^= 1
    proof = _proof(replaced(full, open=lambda: io.BytesIO(data)), tmp_path)
    assert proof.outcome is Outcome.FAILED


def test_a_manifest_that_lies_is_damage(full: BaseArtifact, tmp_path: Path) -> None:
    assert full.stored.manifest
    for key, value in (("timeline", 9), ("end_lsn", "FF/0"), ("system_identifier", "7")):
        details = {**full.stored.manifest.details, key: value}
        proof = _proof(replaced(full, manifest=replace(full.stored.manifest, details=details)), tmp_path)
        assert "in its manifest differ" in "; ".join(proof.reasons)


def test_a_full_is_made_and_said_where_the_summaries_are_gone(bases: Bases, source: Cluster) -> None:
    bases.make()
    del bases.made[bases.make().name]  # the server has summaries up to it
    for file in (source.data / "pg_wal" / "summaries").iterdir():
        file.unlink()
    again = bases.make()
    assert again.facts.of_full
    assert len(bases.warnings) == 1
    assert "full backup was made instead of an increment" in bases.warnings[0]


def test_a_role_is_told_the_right_that_it_lacks(bases: Bases) -> None:
    bases.run("DROP ROLE IF EXISTS reader", "CREATE ROLE reader LOGIN IN ROLE pg_monitor")
    target = bases.cluster.target()
    reader = replace(target, conninfo=make_conninfo(target.conninfo, user="reader"))
    with pytest.raises(RefnetError) as error:
        replace(bases, target=lambda: reader).make()
    assert "ALTER ROLE" in error.value.hint
    bases.run("ALTER ROLE reader REPLICATION")
    assert replace(bases, target=lambda: reader).make().facts.of_full


def test_the_details_are_facts(full: BaseArtifact) -> None:
    assert full.stored.entry
    assert facts_of(full.stored.entry) == full.facts


def _fetching(bases: Bases, archive: WalArchive, *, receives: bool = False) -> None:
    """Have `bases` bring their WAL into `archive`."""
    programs = partial(bases.programs.tool, "pg_receivewal")
    fetch = partial(fetched, programs, bases.target(), bases.folder / "scratch")
    bases.wal = lambda facts: kept(archive, facts, lambda: receives, fetch)


def test_the_wal_of_a_base_is_fetched_where_no_receiver_runs(bases: Bases) -> None:
    archive = WalArchive(bases.folder / "wal")
    _fetching(bases, archive)
    artifact = bases.make(full=True)
    manifest = BackupManifest.read(artifact.manifest_text())
    assert archive.present(live=False) >= {*segments_of(archive, manifest)}
    assert not archive.gaps(manifest.start_lsn, manifest.timeline, manifest.end_lsn)


def test_a_base_waits_for_the_receiver(bases: Bases, monkeypatch: pytest.MonkeyPatch) -> None:
    archive = WalArchive(bases.folder / "wal")
    _fetching(bases, archive, receives=True)
    monkeypatch.setattr("refnet.sources.cluster.base_wal._SECONDS", 0.2)
    with pytest.raises(RefnetError, match="the receiver is behind"):
        bases.make(full=True)
    monkeypatch.setattr("refnet.sources.cluster.base_wal._SECONDS", 60.0)
    bases.run("SELECT pg_create_physical_replication_slot('receiver', true)")
    command = [bases.programs.tool("pg_receivewal"), "-D", archive.live, "--slot=receiver", "--no-loop"]
    with subprocess.Popen(command, env=bases.target().environment(), stderr=subprocess.DEVNULL) as receiver:
        try:
            assert until(lambda: any(archive.live.iterdir()), 20)
            assert bases.make(full=True).facts.of_full
        finally:
            receiver.kill()
            receiver.wait()
            bases.run("SELECT pg_drop_replication_slot('receiver')")
    assert archive.in_live()


def test_a_base_without_its_wal_is_not_made(bases: Bases) -> None:
    _fetching(bases, WalArchive(bases.folder / "wal"))
    bases.run("DROP ROLE IF EXISTS nobody", "CREATE ROLE nobody LOGIN IN ROLE pg_monitor")
    target = bases.target()
    other = replace(target, conninfo=make_conninfo(target.conninfo, user="nobody"))
    with (
        pytest.raises(RefnetError, match="temporary replication slot"),
        fetched(partial(bases.programs.tool, "pg_receivewal"), other, bases.folder, WalArchive(bases.folder)),
    ):
        pass


@pytest.mark.parametrize(
    "statements", [(), ("CREATE TABLESPACE fast LOCATION ''",)], ids=["plain", "tablespace"]
)
def test_a_server_whose_archive_command_fails_is_not_waited_for_without_a_bound(
    wheel: Binaries,
    short_folder: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    statements: tuple[str],
) -> None:
    monkeypatch.setattr("refnet.sources.cluster.pg_basebackup._SILENT", 1.5)
    broken = {**SETTINGS, "archive_mode": "on", "archive_command": "false"}
    with throwaway(wheel, base=short_folder / "archiving", settings=broken) as cluster:
        made = Bases(cluster, wheel, tmp_path, cluster.target)
        made.run("SET allow_in_place_tablespaces = on", *statements)
        with pytest.raises(RefnetError, match="got nothing from the server for") as error:
            made.make()
    assert "archive_command" in error.value.hint
    assert error.value.transient


def test_an_increment_needs_no_artifact_that_can_be_read(bases: Bases) -> None:
    full = bases.make()
    closed = RefnetError("it is encrypted", "Give the recovery key.")

    def refuse() -> NoReturn:
        raise closed

    bases.made[full.name] = replace(full.stored, open=refuse)
    assert bases.make().facts.parent == full.name
    for file in (bases.folder / "manifests").iterdir():
        file.write_bytes(b"torn")
    del bases.made[[*bases.made][-1]]
    assert bases.make().facts.of_full
    assert "it is encrypted" in bases.warnings[0]
    assert len([*(bases.folder / "manifests").iterdir()]) == 3


def test_a_role_that_may_only_replicate_backs_up_an_idle_server(
    bases: Bases, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("refnet.sources.cluster.base_wal._SECONDS", 10.0)
    bases.run("DROP ROLE IF EXISTS replica", "CREATE ROLE replica LOGIN REPLICATION")
    target = bases.target()
    replica = replace(target, conninfo=make_conninfo(target.conninfo, user="replica"))
    mine = replace(bases, target=lambda: replica)
    archive = WalArchive(bases.folder / "wal")
    _fetching(mine, archive)
    for _ in range(
        2
    ):  # the second one begins where the server has written nothing since a switch of segments
        artifact = mine.make(full=True)
        manifest = BackupManifest.read(artifact.manifest_text())
        assert archive.present(live=False) >= {*segments_of(archive, manifest)}
