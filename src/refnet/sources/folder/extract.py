"""Reads single members of an archive: decompresses only the gzip members that contain them.

Members are located only by the list of files; the caller compares the result with that list.
"""

from collections.abc import Sequence
from contextlib import ExitStack
from typing import BinaryIO

from refnet.catalog.artifact import Progress
from refnet.core.attributes import Attributes
from refnet.core.member_names import ArchiveError, show
from refnet.sources.folder.contents import Sink, facts
from refnet.sources.folder.gzip_members import archive_errors, inflated, inflated_from
from refnet.sources.folder.listing import FileKind, FileList, Listed, Member
from refnet.sources.folder.tar_headers import header
from refnet.sources.folder.tar_members import TarReader

_SMALL = 1 << 20
#: Progress is reported after so many bytes, or so many members.
_REPORTED = 8 << 20


def extract(
    archive: BinaryIO, files: FileList, members: Sequence[tuple[str, Listed]], sink: Sink, progress: Progress
) -> None:
    """Pass `members` of `archive`, each with its new path, to `sink`, folders before their entries.

    `files` has their offsets. ArchiveError names the first missing member.
    """
    done, reported, total = 0, 0, sum(listed.size for _, listed in members)
    with ExitStack() as stack, archive_errors():
        source = _RandomAccess(archive, files, stack, ahead=total > files.raw_bytes // 2)
        for count, (path, listed) in enumerate(members):
            member, has_attributes = listed._replace(path=path), bool(listed.acl or listed.xattrs)
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
                sink.file(member, tuple(reader.content()) if listed.size <= _SMALL else reader.content())
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
    if member is None or (exact and member.path != listed.path) or facts(member) != facts(listed):
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
            start = Member(0, 0) if self._ahead else self._files.start_of(at)
            self._stack.close()
            opened = inflated if self._ahead else inflated_from
            reader = TarReader(self._stack.enter_context(opened(self._archive, start.offset)), start.raw)
            self._reader = reader
        reader.skip_to(at)
        return reader
