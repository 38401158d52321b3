"""Reads archives and passes their members to a sink: a complete one, each member checked; or single members.

`extract` decompresses only the gzip members that contain what it reads. They are located by the list of files; the
caller compares the result with that list.
"""

from collections import deque
from collections.abc import Iterable, Iterator, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from hashlib import sha256
from itertools import chain
from typing import BinaryIO, Protocol

from refnet.catalog.artifact import MOST_LIST_BYTES, Progress, silent
from refnet.core.attributes import NONE, Attributes
from refnet.core.member_names import ArchiveError, leads_inside, parent, show, some
from refnet.sources.folder.gzip_members import gzip_errors, inflated, inflated_from
from refnet.sources.folder.listing import FileKind, FileList, GzipMember, Listed
from refnet.sources.folder.tar_archive import BLOCK, TarReader, header

#: The most bytes of a file that is passed on in one piece.
_SMALL = 1 << 20
#: Progress is reported after so many bytes, or so many members.
_REPORTED = 8 << 20


class NoSpaceError(ArchiveError):
    """An archive is, or claims to be, larger than the free space."""


@dataclass(frozen=True)
class ArchiveLimits:
    """Limits of an archive."""

    #: Members, with the folders that the archive does not name itself.
    members: int = 500_000
    #: Bytes of all paths and link targets, which stay in memory.
    names: int = 128 << 20
    #: Bytes when unpacked; None: no limit.
    space: int | None = None


class Sink(Protocol):
    """The receiver of members. A folder comes before its entries; a file may come again and replaces the first."""

    def folder(self, member: Listed) -> None: ...

    def file(self, member: Listed, content: Iterable[bytes]) -> None: ...

    def link(self, member: Listed) -> None: ...


class NullSink:
    """A sink that discards everything, for checks."""

    def folder(self, member: Listed) -> None:
        """Do nothing."""

    def file(self, member: Listed, content: Iterable[bytes]) -> None:  # noqa: ARG002
        """Read the content to its end."""
        deque(content, maxlen=0)

    def link(self, member: Listed) -> None:
        """Do nothing."""


UNKNOWN = ArchiveLimits()


def read_archive(
    archive: BinaryIO,
    sink: Sink,
    *,
    expected: FileList | None = None,
    limits: ArchiveLimits = UNKNOWN,
    progress: Progress = silent,
) -> FileList:
    """Check every member of `archive` and pass it to `sink`; return the list of files.

    With `expected` each must match that list, content included, and none may be missing; the list's finer times are
    used. ArchiveError names the first member that is damaged, changed or not allowed.
    """
    with inflated(archive) as stream:
        contents = _MemberChecks(sink, limits, expected)
        reader = TarReader(stream)
        for count, (member, is_exact) in enumerate(_members(reader, expected), 1):
            if count > limits.members or len(contents.listed) >= limits.members:
                raise ArchiveError(f"the archive has more than {limits.members} members")
            if is_exact:
                contents.take_exact(member, reader)
            else:
                contents.take(member, reader)
            if not count & 0xFFF:
                progress("reading", contents.raw_bytes, expected.raw_bytes if expected else None)
    if expected and len(contents.listed) < len(expected.files):
        missing = [path for path in expected.by_path if path not in contents.listed]
        raise ArchiveError(f"not in the archive: {some(missing)}")
    return FileList(tuple(contents.listed.values()))


def limits(expected: FileList | None, space: int | None = None) -> ArchiveLimits:
    """Limits for an archive: a constantly changing file is in it up to nine times."""
    return (
        ArchiveLimits(9 * len(expected.files), MOST_LIST_BYTES, space)
        if expected
        else ArchiveLimits(space=space)
    )


def _members(reader: TarReader, expected: FileList | None) -> Iterator[tuple[Listed, bool]]:
    """Yield every member, and True if its header is, byte for byte, that of its entry in `expected`, which is yielded.

    Most files of RefNet's own archives are: a comparison takes a fraction of the time of parsing.
    """
    for listed in expected.files if expected and expected.members else ():
        is_plain = listed.kind is FileKind.FILE and not (listed.acl or listed.xattrs)
        if is_plain and reader.skip() == listed.at and reader.expect(header(listed), listed.size):
            yield listed, True
            continue
        while (member := reader.next()) is not None:
            yield member, False
            if member.at >= listed.at:
                break
        else:
            reader.check_end()
            return
    for member in reader:
        yield member, False


class _MemberChecks:
    def __init__(self, sink: Sink, limits: ArchiveLimits, expected: FileList | None) -> None:
        self.listed: dict[str, Listed] = {}
        self.raw_bytes = 0
        self._names = self._attributes = 0
        self._expected = expected.by_path if expected else None
        self._sink = sink
        self._limits = limits

    def take(self, member: Listed, reader: TarReader) -> None:
        expected = self._expect(member)
        if expected:
            member = member._replace(mtime_ns=expected.mtime_ns, sparse=expected.sparse)
            if expected.acl is None:  # its list is of a version that did not look
                member = member._replace(acl=None, xattrs=None)
        before = self.listed.get(member.path)
        if before and (before.kind is not member.kind or member.kind is FileKind.LINK):
            raise _twice(before, member)
        self._need_folder(parent(member.path), member)
        listed = self._pass_on(member, reader)
        if expected and expected.at == member.at and expected.sha256 != listed.sha256:
            raise _changed(member)
        listed = listed._replace(kept=NONE)
        self._list(expected if expected == listed else listed)  # one entry in memory, not two

    def take_exact(self, member: Listed, reader: TarReader) -> None:
        """Take a file whose header is that of its entry `member` in the list."""
        before = self.listed.get(member.path)
        if before and before.kind is not FileKind.FILE:
            raise _twice(before, member)
        self._need_folder(parent(member.path), member)
        self._reserve(member.path, member.size)
        if member.size <= _SMALL:
            data = reader.whole()
            self._sink.file(member, (data,))
            digest = sha256(data)
        else:
            content = _Hashed(reader.content())
            self._sink.file(member, content)
            digest = content.digest
        if digest.hexdigest() != member.sha256:
            raise _changed(member)
        self._list(member)

    def _list(self, listed: Listed) -> None:
        self.listed[listed.path] = listed
        self._names += len(listed.path) + len(listed.target)
        if self._names > self._limits.names:
            raise ArchiveError(f"the archive's names are longer than {self._limits.names} bytes in total")

    def _pass_on(self, member: Listed, reader: TarReader) -> Listed:
        """Pass `member` to the sink; return its entry for the list."""
        self._attributes += sum(map(len, chain.from_iterable(member.kept.user)))
        self._reserve(member.path, 0)
        if member.kind is FileKind.FOLDER:
            self._sink.folder(member)
        elif member.kind is FileKind.LINK:
            if not leads_inside(member.path, member.target):
                raise ArchiveError(
                    f"{show(member.path)} is a link that leads outside ({show(member.target)})"
                )
            self._sink.link(member)
        elif member.same_as:
            first = self._shared(member)
            self._reserve(member.path, first.size)
            # One file; with an ACL, the header of the link has its mask and no ACL.
            member = member._replace(mode=first.mode, acl=first.acl, xattrs=first.xattrs)
            self._sink.file(member, ())
            return member._replace(size=first.size, sha256=first.sha256, at=first.at, same_as="")
        else:
            self._reserve(member.path, member.size)
            content = _Hashed(reader.content())
            self._sink.file(member, content)
            return member._replace(sha256=content.digest.hexdigest())
        return member

    def _reserve(self, path: str, size: int) -> None:
        self.raw_bytes += size
        space = self._limits.space
        if space is not None and self.raw_bytes + self._attributes > space:
            raise NoSpaceError(f"{show(path)} does not fit: {space} bytes were free at the start")

    def _expect(self, member: Listed) -> Listed | None:
        """The list's entry for `member`; superseded copies of a changing file may differ."""
        if self._expected is None:
            return None
        listed = self._expected.get(member.path)
        if listed is None:
            raise ArchiveError(f"{show(member.path)} is in the archive and not in the list of files")
        if member.at != listed.at and not (
            member.at < listed.at and member.kind is FileKind.FILE is listed.kind
        ):
            raise ArchiveError(f"{show(member.path)} is not at the offset that the list of files gives")
        if member.at == listed.at and (_facts(member) != _facts(listed) or member.same_as):
            raise ArchiveError(
                f"{show(member.path)} differs from the list of files (kind, size, mode, ACL, attributes)"
            )
        return listed

    def _need_folder(self, path: str, member: Listed) -> None:
        """Check that every parent is a folder; create parents that the archive omits."""
        listed = self.listed.get(path)
        if (listed and listed.kind is FileKind.FOLDER) or path in (".", member.path):
            return
        if listed:
            raise ArchiveError(f"{show(member.path)} is below {show(path)}, which is not a folder")
        self._need_folder(parent(path), member)
        made = Listed(path, FileKind.FOLDER, 0, 0o755, member.mtime_ns, member.uid, member.gid, member.at)
        self._sink.folder(made)
        self._list(made)

    def _shared(self, member: Listed) -> Listed:
        """The earlier file with the content of the hard link `member`, which becomes a separate file."""
        first = self.listed.get(member.same_as)
        if not first or first.kind is not FileKind.FILE or first.path == member.path:
            raise ArchiveError(
                f"{show(member.path)} is a hard link to {show(member.same_as)}, which is not an earlier file"
            )
        return first


def _twice(before: Listed, member: Listed) -> ArchiveError:
    return ArchiveError(
        f"{show(member.path)} is in the archive twice, as a {before.kind} and as a {member.kind}"
    )


def _changed(member: Listed) -> ArchiveError:
    return ArchiveError(f"the content of {show(member.path)} differs from the list of files (SHA-256)")


def _facts(member: Listed) -> tuple[object, ...]:
    """Facts of a member's header in the form of a list entry."""
    acl, xattrs = member.acl or "", member.xattrs or ""
    return (member.kind, member.mode, member.size, member.target, acl, xattrs)


class _Hashed:
    """Blocks of a content, digested while they are read."""

    def __init__(self, blocks: Iterator[bytes]) -> None:
        self.digest = sha256()
        self._blocks = blocks

    def __iter__(self) -> Iterator[bytes]:
        for block in self._blocks:
            self.digest.update(block)
            yield block


def extract(
    archive: BinaryIO, files: FileList, members: Sequence[tuple[str, Listed]], sink: Sink, progress: Progress
) -> None:
    """Pass `members` of `archive`, each with its new path, to `sink`, folders before their entries.

    `files` has their offsets. ArchiveError names the first missing member.
    """
    done, reported, total = 0, 0, sum(listed.size for _, listed in members)
    with ExitStack() as stack, gzip_errors():
        end = files.members[-1].raw if len(files.members) > 1 else files.raw_bytes
        source = _RandomAccess(archive, files, stack, ahead=total + BLOCK * len(members) > end // 2)
        for count, (path, listed) in enumerate(members):
            member = listed if path == listed.path else listed._replace(path=path)
            has_attributes = bool(listed.acl or listed.xattrs)
            if listed.kind is FileKind.LINK:
                sink.link(member)
            elif listed.kind is FileKind.FOLDER and not has_attributes:
                sink.folder(member)
            else:
                reader = source.reader(listed.at)
                if has_attributes:
                    member = member._replace(kept=_attributes(reader, listed, exact=bool(files.members)))
                else:
                    _check(reader, listed, exact=bool(files.members))
                if listed.kind is FileKind.FOLDER:
                    sink.folder(member)
                    continue
                sink.file(member, (reader.whole(),) if listed.size <= _SMALL else reader.content())
                done += listed.size
            if not count & 0xFFF or done - reported >= _REPORTED:
                reported = done
                progress("unpacking", done, total)


def _check(reader: TarReader, listed: Listed, *, exact: bool) -> None:
    """Check that the member of `listed` comes next, with its `exact` header in RefNet's own archives."""
    if exact:
        fits = reader.expect(header(listed), listed.size)
    else:
        member = reader.next()
        fits = member is not None and member.kind is FileKind.FILE and member.size == listed.size
    if not fits:
        raise _other(listed)


def _attributes(reader: TarReader, listed: Listed, *, exact: bool) -> Attributes:
    """Attributes of the next member, that of `listed`; unless `exact`, a hard link to it is accepted."""
    member = reader.next()
    if member is None or (exact and member.path != listed.path) or _facts(member) != _facts(listed):
        raise _other(listed)
    return member.kept


def _other(listed: Listed) -> ArchiveError:
    return ArchiveError(f"{show(listed.path)} is not at the offset that the list of files gives")


class _RandomAccess:
    """Random access to an archive: reads on, or restarts at a gzip member, whichever is cheaper.

    ahead: decompress ahead in a thread, for reading most of the archive.
    """

    def __init__(self, archive: BinaryIO, files: FileList, stack: ExitStack, *, ahead: bool) -> None:
        self._archive = archive
        self._files = files
        self._stack = stack
        self._ahead = ahead
        self._reader: TarReader | None = None

    def reader(self, at: int) -> TarReader:
        """Return a reader of the tar at its offset `at`."""
        reader = self._reader
        if reader is None or reader.at > at or (not self._ahead and self._files.start_of(at).raw > reader.at):
            start = GzipMember(0, 0) if self._ahead else self._files.start_of(at)
            self._stack.close()
            opened = inflated if self._ahead else inflated_from
            reader = TarReader(self._stack.enter_context(opened(self._archive, start.offset)), start.raw)
            self._reader = reader
        reader.skip_to(at)
        return reader
