"""The content of an archive of files. Its proof unpacks it into an empty private folder."""

from collections.abc import Iterable
from datetime import datetime
from hashlib import sha256
from itertools import islice
from pathlib import Path
from typing import BinaryIO

from refnet.catalog.artifact import Finding, Made, Progress, Proof, most_listed, silent
from refnet.catalog.manifest import Level, Outcome
from refnet.core.member_names import ArchiveError, show
from refnet.proof_run import ProofOptions, ProofRun
from refnet.sources.artifact import Artifact
from refnet.sources.folder.contents import NoSpaceError, NullSink, limits, read_archive
from refnet.sources.folder.extract import extract
from refnet.sources.folder.gzip_members import inflated_from
from refnet.sources.folder.kept import Unheld
from refnet.sources.folder.listing import FileKind, FileList, Listed
from refnet.sources.folder.tar_members import TarReader
from refnet.sources.folder.tree import differences
from refnet.sources.folder.unpack import NamesMergeError, scratch_folder, unpack

_SHOWN = 20
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
        run, place = ProofRun(progress=options.progress), f"in {options.base}"
        try:
            self._prove(run, level, options.base, options.progress)
        except (NamesMergeError, NoSpaceError) as error:
            run.add(Finding(run.phases.last, Outcome.UNVERIFIED, f"{place}: {error}"))
        except ArchiveError as error:
            run.add(Finding(run.phases.last, Outcome.FAILED, str(error)))
        except OSError as error:
            run.add(Finding(run.phases.last, Outcome.UNVERIFIED, f"{place}: {error.strerror}"))
        return run.result(level)

    def _prove(self, run: ProofRun, level: Level, scratch: Path, progress: Progress) -> None:
        with run.phases.phase("list of files"):
            expected = self.listed()
        if expected is None:
            why = "the archive has none to be compared with"
            run.add(Finding("list of files", Outcome.UNVERIFIED, why))
        if level.rank <= Level.INTACT.rank:
            with run.phases.phase("every member reads"), self.stored.open() as archive:
                files = read_archive(
                    archive, NullSink(), expected=expected, limits=limits(expected), progress=progress
                )
            _passed(run, Level.INTACT, files)
            return
        with scratch_folder(scratch) as root:
            with run.phases.phase("unpacked into an empty folder"), self.stored.open() as archive:
                unheld = Unheld()
                files = unpack(archive, root, expected, unheld=unheld, progress=progress)
            _passed(run, Level.RESTORED, files)
            run.add(*(Finding("metadata", Outcome.UNVERIFIED, f"{scratch}: {one}") for one in unheld.told()))
            if level is Level.PROVEN:
                _compare(run, files, root, unheld if expected else None)


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
