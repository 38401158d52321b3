"""Reads a complete archive once, checks every member, and passes it to a sink."""

from collections import deque
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from hashlib import sha256
from itertools import chain
from typing import BinaryIO, Protocol

from refnet.catalog.artifact import MOST_LIST_BYTES, Progress, silent
from refnet.core.attributes import NONE
from refnet.core.member_names import ArchiveError, leads_inside, parent, show, some
from refnet.sources.folder.gzip_members import inflated
from refnet.sources.folder.listing import FileKind, FileList, Listed
from refnet.sources.folder.tar_members import TarReader


class NoSpaceError(ArchiveError):
    """An archive is, or claims to be, larger than the free space."""


@dataclass(frozen=True)
class Limits:
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


UNKNOWN = Limits()


def read_archive(
    archive: BinaryIO,
    sink: Sink,
    *,
    expected: FileList | None = None,
    limits: Limits = UNKNOWN,
    progress: Progress = silent,
) -> FileList:
    """Check every member of `archive` and pass it to `sink`; return the list of files.

    With `expected` each must match that list, content included, and none may be missing; the list's finer times are
    used. ArchiveError names the first member that is damaged, changed or not allowed.
    """
    with inflated(archive) as stream:
        contents = _Contents(sink, limits, expected)
        reader = TarReader(stream)
        for count, member in enumerate(reader, 1):
            if count > limits.members or len(contents.listed) >= limits.members:
                raise ArchiveError(f"the archive has more than {limits.members} members")
            contents.take(member, reader)
            if not count & 0xFFF:
                progress("reading", contents.raw_bytes, expected.raw_bytes if expected else None)
    if expected and len(contents.listed) < len(expected.files):
        missing = [path for path in expected.by_path if path not in contents.listed]
        raise ArchiveError(f"not in the archive: {some(missing)}")
    return FileList(tuple(contents.listed.values()))


def limits(expected: FileList | None, space: int | None = None) -> Limits:
    """Limits for an archive: a constantly changing file is in it up to nine times."""
    return Limits(9 * len(expected.files), MOST_LIST_BYTES, space) if expected else Limits(space=space)


class _Contents:
    def __init__(self, sink: Sink, limits: Limits, expected: FileList | None) -> None:
        self.listed: dict[str, Listed] = {}
        self.raw_bytes = 0
        self._names = self._attributes = 0
        self._expected = expected.by_path if expected else None
        self._sink = sink
        self._limits = limits

    def take(self, member: Listed, reader: TarReader) -> None:
        expected = self._expect(member)
        if expected:
            member = member._replace(mtime_ns=expected.mtime_ns)
            if expected.acl is None:  # its list is of a version that did not look
                member = member._replace(acl=None, xattrs=None)
        before = self.listed.get(member.path)
        if before and (before.kind is not member.kind or member.kind is FileKind.LINK):
            raise ArchiveError(
                f"{show(member.path)} is in the archive twice, as a {before.kind} and as a {member.kind}"
            )
        self._need_folder(parent(member.path), member)
        listed = self._pass_on(member, reader)
        if expected and expected.at == member.at and expected.sha256 != listed.sha256:
            raise ArchiveError(f"the content of {show(member.path)} differs from the list of files (SHA-256)")
        listed = listed._replace(kept=NONE)
        self._list(expected if expected == listed else listed)  # one entry in memory, not two

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
        if member.at == listed.at and (facts(member) != facts(listed) or member.same_as):
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


def facts(member: Listed) -> tuple[object, ...]:
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
