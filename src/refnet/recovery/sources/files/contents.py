"""Goes through a whole archive once, checks every member, and hands it to a sink: nowhere, or a fresh folder."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from hashlib import sha256
from typing import BinaryIO, Protocol

from refnet.recovery.model.source import MOST_LIST_BYTES, Progress, silent
from refnet.recovery.sources.files.gzip_members import inflated
from refnet.recovery.sources.files.listing import FileList, Kind, Listed
from refnet.recovery.sources.files.member_names import ArchiveError, leads_inside, parent, show, some
from refnet.recovery.sources.files.tar_members import TarMember, TarReader


class NoRoomError(ArchiveError):
    """An archive that is, or says that it is, larger than what is free."""


@dataclass(frozen=True)
class Limits:
    """How much an archive may hold.

    `members`: how many, the folders between them that it does not name included; `names`: bytes of all their paths and
    targets, which are held in memory; `room`: bytes when unpacked (None: any number).
    """

    members: int = 500_000
    names: int = 128 << 20
    room: int | None = None


class Sink(Protocol):
    """Where members go. A folder comes before what lies in it; a file may come again and then replaces itself."""

    def folder(self, member: TarMember) -> None: ...

    def file(self, member: TarMember, content: Iterable[bytes]) -> None: ...

    def link(self, member: TarMember) -> None: ...


class Nowhere:
    """The sink of a reading that only looks."""

    def folder(self, member: TarMember) -> None:
        """Look."""

    def file(self, member: TarMember, content: Iterable[bytes]) -> None:  # noqa: ARG002
        """Read the content to its end."""
        for _block in content:
            pass

    def link(self, member: TarMember) -> None:
        """Look."""


UNKNOWN = Limits()


def read_archive(
    archive: BinaryIO,
    sink: Sink,
    *,
    expected: FileList | None = None,
    limits: Limits = UNKNOWN,
    progress: Progress = silent,
) -> FileList:
    """Every member of `archive`, checked and handed to `sink`.

    With `expected` each must be what that list says, content included, and none may be missing; its times, which
    are finer, are used. ArchiveError names the first member that is damaged, differs or is not allowed.
    """
    with inflated(archive) as stream:
        contents = _Contents(sink, limits, expected)
        reader = TarReader(stream)
        for count, member in enumerate(reader, 1):
            if count > limits.members or len(contents.listed) >= limits.members:
                raise ArchiveError(f"the archive holds more than {limits.members} members")
            contents.take(member, reader)
            if not count & 0xFFF:
                progress("reading", contents.raw_bytes, expected.raw_bytes if expected else None)
    if expected and len(contents.listed) < len(expected.files):
        missing = [path for path in expected.by_path if path not in contents.listed]
        raise ArchiveError(f"the archive lacks {some(missing)}")
    return FileList(tuple(contents.listed.values()))


def limits(expected: FileList | None, room: int | None = None) -> Limits:
    """A file that changed while it was read may stand up to three times in an archive that RefNet made."""
    return Limits(3 * len(expected.files), MOST_LIST_BYTES, room) if expected else Limits(room=room)


class _Contents:
    def __init__(self, sink: Sink, limits: Limits, expected: FileList | None) -> None:
        self.listed: dict[str, Listed] = {}
        self.raw_bytes = 0
        self._names = 0
        self._expected = expected.by_path if expected else None
        self._sink = sink
        self._limits = limits

    def take(self, member: TarMember, reader: TarReader) -> None:
        expected = self._expect(member)
        if expected:
            member = member._replace(mtime_ns=expected.mtime_ns)
        before = self.listed.get(member.path)
        if before and (before.kind is not member.kind or member.kind is Kind.LINK):
            raise ArchiveError(
                f"{show(member.path)} stands twice in the archive, as a {before.kind} and a {member.kind}"
            )
        self._need_folder(parent(member.path), member)
        listed = self._hand_on(member, reader)
        if expected and expected.at == member.at and expected.sha256 != listed.sha256:
            raise ArchiveError(
                f"the content of {show(member.path)} is not what the list of files says (SHA-256)"
            )
        self._list(listed)

    def _list(self, listed: Listed) -> None:
        self.listed[listed.path] = listed
        self._names += len(listed.path) + len(listed.target)
        if self._names > self._limits.names:
            raise ArchiveError(f"the archive's names are longer than {self._limits.names} bytes in all")

    def _hand_on(self, member: TarMember, reader: TarReader) -> Listed:
        """Give `member` to the sink; how it stands in the list."""
        listed = Listed(*member[:8], target=member.target)
        if member.kind is Kind.FOLDER:
            self._sink.folder(member)
        elif member.kind is Kind.LINK:
            if not leads_inside(member.path, member.target):
                raise ArchiveError(
                    f"{show(member.path)} is a link that leads outside ({show(member.target)})"
                )
            self._sink.link(member)
        elif member.same_as:
            first = self._shared(member)
            self._make_room(member.path, first.size)
            self._sink.file(member, ())
            return listed._replace(size=first.size, sha256=first.sha256, at=first.at)
        else:
            self._make_room(member.path, member.size)
            content = _Hashed(reader.content())
            self._sink.file(member, content)
            return listed._replace(sha256=content.digest.hexdigest())
        return listed

    def _make_room(self, path: str, size: int) -> None:
        self.raw_bytes += size
        room = self._limits.room
        if room is not None and self.raw_bytes > room:
            raise NoRoomError(f"{show(path)} does not fit any more: {room} bytes were free")

    def _expect(self, member: TarMember) -> Listed | None:
        """The list's entry of `member`; an earlier copy of a file that changed while it was read may differ."""
        if self._expected is None:
            return None
        listed = self._expected.get(member.path)
        if listed is None:
            raise ArchiveError(f"{show(member.path)} is in the archive and not in the list of files")
        if member.at != listed.at and not (member.at < listed.at and member.kind is Kind.FILE is listed.kind):
            raise ArchiveError(f"{show(member.path)} does not lie where the list of files says")
        same = (member.kind, member.mode, member.target) == (listed.kind, listed.mode, listed.target)
        if member.at == listed.at and not (same and member.size == listed.size and not member.same_as):
            raise ArchiveError(f"{show(member.path)} is not what the list of files says (kind, size, mode)")
        return listed

    def _need_folder(self, path: str, member: TarMember) -> None:
        """Every folder on the way is one, or is made: tar archives need not name them."""
        listed = self.listed.get(path)
        if (listed and listed.kind is Kind.FOLDER) or path in (".", member.path):
            return
        if listed:
            raise ArchiveError(f"{show(member.path)} lies below {show(path)}, which is no folder")
        self._need_folder(parent(path), member)
        made = TarMember(path, Kind.FOLDER, 0, 0o755, member.mtime_ns, member.uid, member.gid, member.at)
        self._sink.folder(made)
        self._list(Listed(*made[:8]))

    def _shared(self, member: TarMember) -> Listed:
        """The earlier file whose content the hard link `member` has; it becomes a file of its own."""
        first = self.listed.get(member.same_as)
        if not first or first.kind is not Kind.FILE or first.path == member.path:
            raise ArchiveError(
                f"{show(member.path)} is a hard link to {show(member.same_as)}, which is no file before it"
            )
        return first


class _Hashed:
    """The blocks of a content, digested as they pass."""

    def __init__(self, blocks: Iterator[bytes]) -> None:
        self.digest = sha256()
        self._blocks = blocks

    def __iter__(self) -> Iterator[bytes]:
        for block in self._blocks:
            self.digest.update(block)
            yield block
