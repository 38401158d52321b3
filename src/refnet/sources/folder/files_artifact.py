"""The content of an archive of files: its proof, its list, the versions of a path, and what differs from another.

The proof unpacks it into an empty private folder.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import datetime
from hashlib import sha256
from itertools import islice
from pathlib import Path
from typing import BinaryIO

from refnet.catalog.artifact import Finding, Made, OpenArtifact, Proof, most_listed, silent
from refnet.catalog.manifest import Level, Outcome
from refnet.catalog.source_name import SourceName
from refnet.core.errors import Exit, RefnetError
from refnet.core.glob import Glob, composed
from refnet.core.member_names import ArchiveError, checked, show
from refnet.proof_run import ProofOptions, ProofRun
from refnet.sources.contents import LIVE, MOST, Artifact, ArtifactDifference, Changed, ItemVersion
from refnet.sources.folder.archive_reader import NoSpaceError, NullSink, extract, limits, read_archive
from refnet.sources.folder.gzip_members import inflated_from
from refnet.sources.folder.listing import FileKind, FileList, Listed, matching, part_of
from refnet.sources.folder.scope import Unheld, unkept
from refnet.sources.folder.selection import NothingMatchesError, against_live
from refnet.sources.folder.tar_archive import TarReader
from refnet.sources.folder.target import FolderTarget
from refnet.sources.folder.tree import changed, changes, differences
from refnet.sources.folder.unpack import NamesMergeError, memory_folder, scratch_folder, unpack

_SHOWN = 20
#: What a file takes in memory besides its content: the rest of its last page, its inode and its name.
_OVERHEAD = 6 << 10
#: How much of an archive is searched for one file: bytes, and members.
_MAX_BYTES, _MAX_MEMBERS = 1 << 30, 500_000


class FilesArtifact(Artifact):
    """An archive of a folder. ArchiveError if the archive or its list of files is invalid."""

    def listed(self) -> FileList | None:
        """Return the checked list of files; None if the archive has none."""
        text = self.stored.files()
        return None if text is None else FileList.from_json(text, most_listed(self.stored.manifest))

    def files(self) -> tuple[FileList, bool]:
        """The list of files, and whether it was recorded; without one the archive is read."""
        if found := self.listed():
            return found, True
        with self.stored.open() as archive:
            return read_archive(archive, NullSink()), False

    def files_at(self, path: str) -> tuple[FileList, bool]:
        """As `files`; where `path` is recorded, only what is at, below and above it, which a search finds."""
        if path.isascii() and path.isprintable() and path != ".":
            text = self.stored.files()
            if text and (part := part_of(text, path)):
                return part, True
        return self.files()

    def file(self, path: str, limit: int) -> bytes | None:
        """Content of the file `path` (its last copy), or None.

        ArchiveError if the archive is damaged, not allowed or too large to search, or the file is larger than `limit`
        bytes.
        """
        found: bytes | None = None
        with self.stored.open() as archive, inflated_from(archive, 0) as stream:
            reader = TarReader(stream)
            for count, member in enumerate(reader, 1):
                if reader.at + member.size > _MAX_BYTES or count > _MAX_MEMBERS:
                    raise ArchiveError("the archive is too large to search")
                if member.path != path:
                    continue
                if member.kind is not FileKind.FILE or member.same_as:
                    raise ArchiveError(f"{path} is not a plain file")
                if member.size > limit:
                    raise ArchiveError(f"{path} is larger than {limit:,} bytes")
                found = b"".join(reader.content())
        return found

    def copy(self, listed: Listed, files: FileList, out: BinaryIO, *, compare: bool) -> None:
        """Write the content of the file `listed` of `files` to the empty `out`.

        `compare`: `files` is the archive's own list, whose offsets and digests are used; else the archive is read to
        its end. ArchiveError if it is damaged, or the content does not match the list.
        """
        # An archive of another program can have hard links: the first member of an offset has their content.
        first = listed.path if compare else next(one.path for one in files.files if one.at == listed.at)
        sink = _OneFile(first, out)
        with self.stored.open() as archive:
            if compare:
                extract(archive, files, [(listed.path, listed)], sink, silent)
            else:
                files = read_archive(archive, sink)
        if sink.sha256 != files.by_path[listed.path].sha256:
            raise ArchiveError(f"the content of {show(listed.path)} differs from the list of files (SHA-256)")

    def describe(self, created: datetime, /) -> Made | None:
        text = self.stored.files()
        try:
            return Made(created, FileList.from_json(text).totals, text) if text else None
        except ArchiveError:
            return None

    def prove(self, level: Level, options: ProofOptions) -> Proof:
        """Check the archive. Without a list of files, `intact` and `restored` can pass, `proven` cannot."""
        run = ProofRun(progress=options.progress)
        with _problems(run, options.base):
            with run.phases.phase("list of files"):
                expected = self.listed()
            if expected is None:
                why = "there is no list to compare the archive with"
                run.add(Finding("list of files", Outcome.UNVERIFIED, why))
            if level.rank <= Level.INTACT.rank:
                self._read(run, expected)
            elif expected and (passed := self._in_memory(run, level, expected, options.memory)):
                return passed.result(level)
            else:
                self._unpack(run, level, expected, options.base)
        return run.result(level)

    def _read(self, run: ProofRun, expected: FileList | None) -> None:
        with run.phases.phase("every member reads"), self.stored.open() as archive:
            files = read_archive(
                archive, NullSink(), expected=expected, limits=limits(expected), progress=run.progress
            )
        _passed(run, Level.INTACT, files)

    def _in_memory(self, run: ProofRun, level: Level, expected: FileList, most: int) -> ProofRun | None:
        """Continue `run` with the files in memory if they need at most `most` bytes of it.

        Return None if anything does not pass: memory may be full, or hold fewer attributes than the disk.
        """
        needed = expected.raw_bytes + _OVERHEAD * len(expected.files)
        place = memory_folder(needed) if needed <= most else None
        if place is None:
            return None
        trial = ProofRun(list(run.findings), progress=run.progress)
        trial.phases.seconds |= run.phases.seconds
        with _problems(trial, place):
            self._unpack(trial, level, expected, place, most=most)
        return trial if all(finding.outcome is Outcome.PASSED for finding in trial.findings) else None

    def _unpack(
        self,
        run: ProofRun,
        level: Level,
        expected: FileList | None,
        scratch: Path,
        *,
        most: int | None = None,
    ) -> None:
        with scratch_folder(scratch) as root:
            with run.phases.phase("unpacked into an empty folder"), self.stored.open() as archive:
                unheld = Unheld()
                files = unpack(archive, root, expected, unheld=unheld, most=most, progress=run.progress)
            _passed(run, Level.RESTORED, files)
            run.add(*(Finding("metadata", Outcome.UNVERIFIED, f"{scratch}: {one}") for one in unheld.told()))
            if level is Level.PROVEN:
                _compare(run, files, root, unheld if expected else None)


@contextmanager
def _problems(run: ProofRun, scratch: Path) -> Iterator[None]:
    """Add what stops the block to the findings of `run`."""
    try:
        yield
    except (NamesMergeError, NoSpaceError) as error:
        run.add(Finding(run.phases.last, Outcome.UNVERIFIED, f"in {scratch}: {error}"))
    except ArchiveError as error:
        run.add(Finding(run.phases.last, Outcome.FAILED, str(error)))
    except OSError as error:
        run.add(Finding(run.phases.last, Outcome.UNVERIFIED, f"in {scratch}: {error.strerror}"))


class _OneFile(NullSink):
    """A sink that writes the last content of the file `path` to `out`."""

    def __init__(self, path: str, out: BinaryIO) -> None:
        self.sha256 = ""
        self._path, self._out, self._first = path, out, ""

    def file(self, member: Listed, content: Iterable[bytes]) -> None:
        if member.path != self._path or member.same_as:
            super().file(member, content)
            return
        digest = sha256()
        self._out.seek(0)
        self._out.truncate()
        for block in content:
            digest.update(block)
            self._out.write(block)
        self.sha256 = digest.hexdigest()


def _compare(run: ProofRun, files: FileList, root: int, unheld: Unheld | None) -> None:
    """Compare the unpacked files. unheld: metadata that the file system could not store; None: no list of files."""
    what = "SHA-256, kind, mode, time, ACL and attributes of every file"
    with run.phases.phase(what):
        found = list(islice(differences(files, root, unheld), _SHOWN))
    if found:
        run.add(*(Finding(what, Outcome.FAILED, difference) for difference in found))
    elif unheld is not None:
        _passed(run, Level.PROVEN, files)


def _passed(run: ProofRun, level: Level, files: FileList) -> None:
    """Record that the last phase passed, and with it `level`."""
    run.level = level
    run.add(Finding(run.phases.last, Outcome.PASSED))
    run.rows = tuple(
        {
            "kind": str(kind),
            "count": files.count(kind),
            "bytes": sum(f.size for f in files.files if f.kind is kind),
        }
        for kind in FileKind
        if files.count(kind)
    )


@contextmanager
def archive_errors(name: str) -> Iterator[None]:
    """Turn errors of an archive or its list of files into RefnetErrors (DAMAGED)."""
    try:
        yield
    except ArchiveError as error:
        raise RefnetError(
            f"{name} cannot be read: {error}", "Choose another artifact (`refnet list`).", Exit.DAMAGED
        ) from error


@contextmanager
def restore_errors(name: str) -> Iterator[None]:
    """Turn errors of a restore's archive into RefnetErrors: damaged, or unsuitable for the file system."""
    try:
        yield
    except ArchiveError as error:
        hint, code = "Nothing live was touched. Choose another artifact (`refnet list`).", Exit.DAMAGED
        if isinstance(error, NoSpaceError):
            hint, code = "Free some space there; the live files were not touched.", Exit.FAILED
        elif isinstance(error, NamesMergeError):
            hint, code = (
                "Restore to a file system that keeps such names apart; the live files were not touched.",
                Exit.FAILED,
            )
        raise RefnetError(f"{name} is not restored: {error}", hint, code) from error
    except NothingMatchesError as error:
        raise RefnetError(f"{error.message} {name}", error.hint, error.code) from error


def files_of(chosen: OpenArtifact) -> tuple[FilesArtifact, FileList, bool]:
    """The archive, its list of files, and whether that was recorded; RefnetError (DAMAGED) if unreadable."""
    artifact = FilesArtifact(chosen)
    with archive_errors(chosen.name):
        return artifact, *artifact.files()


def archive_differences(before: OpenArtifact, after: OpenArtifact) -> ArtifactDifference:
    """Differences between two archives of one folder; RefnetError if one is unreadable."""
    old, old_files, _ = files_of(before)
    new, new_files, _ = files_of(after)
    notes = tuple(f"{one.name}: {note}" for one in (before, after) for note in _unkept(one))
    return _files(before.source, (old.name, new.name), old_files, new_files, notes)


def live_differences(before: OpenArtifact, target: FolderTarget) -> ArtifactDifference:
    """Differences between an archive and the live files in `target`."""
    artifact = FilesArtifact(before)
    with archive_errors(artifact.name):
        files, _ = artifact.files()
        selection, live = against_live(files, target)
    notes = [*selection.notes, *(f"live, and not compared: {name}" for name in live.other), *_unkept(before)]
    return _files(target.source, (before.name, LIVE), selection.files, live.files, tuple(notes))


def _unkept(artifact: OpenArtifact) -> tuple[str, ...]:
    """Sentences about metadata that the artifact does not keep and that is not compared."""
    return unkept(artifact.manifest.details) if artifact.manifest else ()


def _files(
    source: SourceName, names: tuple[str, str], old: FileList, new: FileList, notes: tuple[str, ...] = ()
) -> ArtifactDifference:
    owners = names[1] != LIVE or os.geteuid() == 0  # only root can restore an owner
    found = changes(old, new, owners=owners)
    differing = (Changed(path, _why(old.by_path[path], new.by_path[path])) for path in found.changed)
    return ArtifactDifference(source, *names, found.added, tuple(differing), found.removed, notes)


def _why(old: Listed, new: Listed) -> str:
    what = changed(old, new)
    if what == "kind":
        return f"a {old.kind}, then a {new.kind}"
    if what == "mode":
        return f"mode {old.mode:04o}, then {new.mode:04o}"
    if what == "owner":
        return f"owner {old.uid}:{old.gid}, then {new.uid}:{new.gid}"
    if what != "content":
        return f"other {what}"
    if old.kind is FileKind.LINK:
        return f"leads to {old.target}, then to {new.target}"
    return (
        f"{old.size:,} bytes, then {new.size:,}" if old.size != new.size else "other content of the same size"
    )


@dataclass
class PathFinder:
    """Finds paths in the archives of a folder; equal lists of files are read once."""

    wanted: Callable[[str], bool]
    #: See listing.matching.
    literal: str
    #: The digest of a list of files → what matches in it.
    _known: dict[str, tuple[ItemVersion, ...]] = field(default_factory=dict)

    def versions(self, artifact: OpenArtifact) -> tuple[ItemVersion, ...]:
        digest = artifact.manifest.files_sha256 if artifact.manifest else None
        if digest in self._known:
            return self._known[digest]
        versions = self._matching(artifact)
        if digest:
            if sum(map(len, self._known.values())) > MOST:
                self._known.clear()
            self._known[digest] = versions
        return versions

    def _matching(self, artifact: OpenArtifact) -> tuple[ItemVersion, ...]:
        with archive_errors(artifact.name):
            if text := artifact.files():
                return tuple(map(_version, matching(text, self.wanted, self.literal)))
            listed, _ = FilesArtifact(artifact).files()  # the archive itself is read
        return tuple(_version(one) for one in listed.files if self.wanted(one.path))


def exactly(source: SourceName, name: str) -> PathFinder:
    """Finder of the path `name`; RefnetError (USAGE) for an invalid path."""
    try:
        path = composed(checked(os.fsencode(name)))
    except (ArchiveError, UnicodeEncodeError) as error:
        raise RefnetError(
            f"'{name}' is not a path in {source}: {error}", "Give a path relative to the folder.", Exit.USAGE
        ) from error
    return PathFinder(lambda other: composed(other) == path, literal_of(path))


def literal_of(path: str) -> str:
    """ASCII text that every spelling of `path` contains."""
    return Glob("".join("?" if one in "*?[" else one for one in path[-500:])).literal


def like(pattern: str) -> PathFinder:
    """Finder of paths that match `pattern`."""
    glob = Glob(pattern)
    return PathFinder(glob.matches, glob.literal)


def _version(one: Listed) -> ItemVersion:
    more = (one.target,) if one.kind is FileKind.LINK else (f"mode {one.mode:04o}",)
    return ItemVersion(one.path, one.kind, one.size, one.sha256, more=more)
