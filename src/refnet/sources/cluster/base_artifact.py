"""Base backups of clusters: the tar of pg_basebackup, checked against PostgreSQL's own manifest in it."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cached_property
from pathlib import PurePosixPath

from refnet.catalog.artifact import MOST_FILES, MOST_LIST_BYTES, Finding, Progress, Proof, stopped_by
from refnet.catalog.cluster_base import BaseFacts
from refnet.catalog.manifest import Level, Outcome
from refnet.core.errors import RefnetError
from refnet.core.member_names import ArchiveError, show
from refnet.proof_run import ProofOptions, ProofRun
from refnet.sources.cluster import backup_manifest, increments
from refnet.sources.cluster.backup_manifest import BackupManifest, ManifestFile
from refnet.sources.cluster.base_index import BaseIndex
from refnet.sources.contents import Artifact
from refnet.sources.folder.gzip_members import inflated, inflated_from
from refnet.sources.folder.listing import FileKind, Listed
from refnet.sources.folder.tar_archive import TarReader

_SHOWN = 5


class BaseArtifact(Artifact):
    """A full base backup, or an increment."""

    @cached_property
    def facts(self) -> BaseFacts:
        """What its manifest says; RefnetError (DAMAGED) if that is malformed."""
        found = BaseFacts.read(self.stored.manifest.details) if self.stored.manifest else None
        if found is None:
            raise self.damaged("its manifest does not describe a base backup")
        return found

    @cached_property
    def index(self) -> BaseIndex | None:
        """Where its members begin; None: it has no index."""
        text = self.stored.files()
        try:
            return None if text is None else BaseIndex.read(text)
        except ValueError as error:
            raise self.damaged(f"its index: {error}") from None

    def manifest_text(self) -> bytes:
        """PostgreSQL's manifest in it, as it was written; its own checksum is verified."""
        try:
            text = self._indexed() if self.index else self._searched()
            BackupManifest.read(text)
        except (ArchiveError, ValueError) as error:
            raise self.damaged(f"its {backup_manifest.NAME}: {error}") from None
        return text

    def _indexed(self) -> bytes:
        assert self.index is not None  # noqa: S101  # the caller asked
        begin, size = self.index.manifest
        raw, offset = self.index.member_at(begin)
        with self.stored.open() as file, inflated_from(file, offset) as stream:
            stream.read(begin - raw)
            text = stream.read(size)
        if len(text) != size:
            raise ArchiveError("it is cut short")
        return text

    def _searched(self) -> bytes:
        with self.tar() as reader:
            for member in reader:
                if member.path == backup_manifest.NAME:
                    return _text(member, reader)
        raise ArchiveError("it is missing")

    @contextmanager
    def tar(self) -> Iterator[TarReader]:
        """Its members, inflated ahead in a thread. ArchiveError if it is damaged."""
        with self.stored.open() as file, inflated(file) as stream:
            yield TarReader(stream)

    def prove(self, level: Level, options: ProofOptions) -> Proof:
        """Check each file against PostgreSQL's manifest; beyond `intact`, recover it: see base_proof.py."""
        from refnet.sources.cluster import base_proof

        run = ProofRun(progress=options.progress)
        try:
            with run.phases.phase("every file"):
                self._intact(run)
            if not run.failed:
                run.level = Level.INTACT
        except ArchiveError as error:
            run.add(Finding("every file", Outcome.FAILED, str(error)))
        except (RefnetError, OSError) as error:
            run.add(stopped_by("every file", error))
        if run.level is Level.INTACT and level.rank > Level.INTACT.rank:
            level = base_proof.prove(run, self.stored, level, options)
        return run.result(level)

    def _intact(self, run: ProofRun) -> None:
        """Read the whole tar, and compare it with the manifests."""
        facts = self.facts
        with self.tar() as reader:
            found = _read(reader, facts, run.progress, facts.raw_bytes)
        try:
            manifest = BackupManifest.read(found.manifest)
        except ValueError as error:
            raise ArchiveError(f"its {backup_manifest.NAME}: {error}") from None
        wrong = [*_differences(found.files, manifest.files)]
        more = f" and {len(wrong) - _SHOWN:,} more" if len(wrong) > _SHOWN else ""
        reason = "; ".join(wrong[:_SHOWN]) + more
        run.add(Finding("every file", Outcome.FAILED if wrong else Outcome.PASSED, reason))
        run.add(_as_recorded(facts, manifest))
        run.rows = ({"kind": "files", "count": len(found.files), "bytes": facts.raw_bytes},)


@dataclass(frozen=True)
class _Contents:
    files: dict[str, ManifestFile]
    manifest: bytes


def _read(reader: TarReader, facts: BaseFacts, progress: Progress, total: int) -> _Contents:
    """Read every member; ArchiveError for what pg_basebackup does not write."""
    files: dict[str, ManifestFile] = {}
    others, text = set[str](), b""
    for member in reader:
        if text:
            raise ArchiveError(f"{show(member.path)} follows {backup_manifest.NAME}")
        if member.path in files or member.path in others:
            raise ArchiveError(f"{show(member.path)} is there twice")
        if len(files) + len(others) >= MOST_FILES:
            raise ArchiveError("it has too many members")
        if member.kind is FileKind.FOLDER:
            others.add(member.path)
            continue
        if member.kind is not FileKind.FILE or member.same_as:
            raise ArchiveError(f"{show(member.path)} is a link")
        if PurePosixPath(member.path).name.startswith(increments.PREFIX) and facts.of_full:
            raise ArchiveError(f"{show(member.path)} belongs to an increment, and this is a full backup")
        if member.path == backup_manifest.NAME:
            text = _text(member, reader)
            continue
        sha = hashlib.sha256()
        for block in reader.content():
            sha.update(block)
        files[member.path] = ManifestFile(member.size, sha.hexdigest())
        progress("every file", reader.at, total)
        if reader.at > total:
            raise ArchiveError("it is longer than its manifest says")
    if not text:
        raise ArchiveError(f"it has no {backup_manifest.NAME}")
    return _Contents(files, text)


def _text(member: Listed, reader: TarReader) -> bytes:
    if not 0 < member.size <= MOST_LIST_BYTES:
        raise ArchiveError(f"{backup_manifest.NAME} has {member.size} bytes")
    return b"".join(reader.content())


def _differences(found: dict[str, ManifestFile], recorded: dict[str, ManifestFile]) -> Iterator[str]:
    for path, one in recorded.items():
        there = found.get(path)
        if there is None:
            yield f"{show(path)} is missing"
        elif not one.sha256:
            yield f"{show(path)} has no SHA-256 in {backup_manifest.NAME}"
        elif there != one:
            yield f"{show(path)} differs from {backup_manifest.NAME}"
    for path in found.keys() - recorded.keys():
        yield f"{show(path)} is not in {backup_manifest.NAME}"


def _as_recorded(facts: BaseFacts, manifest: BackupManifest) -> Finding:
    """Compare what both manifests say."""
    pairs = {
        "system identifier": (facts.system_identifier, manifest.system_identifier or facts.system_identifier),
        "start": (facts.start_lsn, manifest.start_lsn),
        "end": (facts.end_lsn, manifest.end_lsn),
        "timeline": (facts.timeline, manifest.timeline),
    }
    wrong = [what for what, (one, other) in pairs.items() if one != other]
    reason = f"the {', '.join(wrong)} in its manifest differ from {backup_manifest.NAME}" if wrong else ""
    return Finding("position in the WAL", Outcome.FAILED if wrong else Outcome.PASSED, reason)
