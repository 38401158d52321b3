"""Reads the members of an archive that a list of files names: only the gzip members that hold them.

The list is the archive's own, or a reading of it: what is wanted is found by it, and by nothing in the archive.
Whoever unpacks compares what was unpacked with the list.
"""

from __future__ import annotations

import os
from collections.abc import Iterable
from contextlib import ExitStack
from typing import BinaryIO

from refnet.recovery.model.source import Progress, silent
from refnet.recovery.sources.files.contents import Sink
from refnet.recovery.sources.files.gzip_members import archive_errors, inflated, inflated_from
from refnet.recovery.sources.files.listing import FileList, Kind, Listed, Member
from refnet.recovery.sources.files.member_names import ArchiveError, show
from refnet.recovery.sources.files.tar_headers import header
from refnet.recovery.sources.files.tar_members import TarMember, TarReader

_SMALL = 1 << 20
_SECOND = 1_000_000_000


def extract(
    archive: BinaryIO,
    files: FileList,
    wanted: Iterable[Listed],
    prefix: str,
    sink: Sink,
    progress: Progress = silent,
) -> None:
    """Hand the `wanted` members of `archive` to `sink`, folders before what lies in them, without `prefix`.

    `files` says where each lies. ArchiveError names the first that does not lie there.
    """
    done, total = 0, sum(listed.size for listed in wanted)
    with ExitStack() as stack, archive_errors():
        place = _Place(archive, files, stack, ahead=total > files.raw_bytes // 2)
        for count, listed in enumerate(wanted):
            member = TarMember(listed.path.removeprefix(prefix), *listed[1:8], target=listed.target)
            if listed.kind is Kind.FOLDER:
                sink.folder(member)
            elif listed.kind is Kind.LINK:
                sink.link(member)
            else:
                reader = place.reader(listed.at)
                _check(reader, listed, exact=bool(files.members))
                sink.file(member, tuple(reader.content()) if listed.size <= _SMALL else reader.content())
                done += listed.size
            if not count & 0xFFF:
                progress("unpacking", done, total)


def _check(reader: TarReader, listed: Listed, *, exact: bool) -> None:
    """Whether the member of `listed` comes next; in RefNet's own archives its header is known to the last bit."""
    if exact:
        fits = reader.expect(_head(listed), listed.size)
    else:
        member = reader.next()
        fits = member is not None and member.kind is Kind.FILE and member.size == listed.size
    if not fits:
        raise ArchiveError(f"{show(listed.path)} does not lie where the list of files says")


def _head(listed: Listed) -> bytes:
    return header(
        os.fsencode(listed.path),
        listed.kind,
        size=listed.size,
        mode=listed.mode,
        mtime=listed.mtime_ns // _SECOND,
        uid=listed.uid,
        gid=listed.gid,
    )


class _Place:
    """The raw bytes of an archive wherever a member begins: read on, or inflated anew, whatever is less.

    ahead: inflate ahead in a thread, for who reads most of it.
    """

    def __init__(self, archive: BinaryIO, files: FileList, stack: ExitStack, *, ahead: bool) -> None:
        self._archive = archive
        self._files = files
        self._stack = stack
        self._ahead = ahead
        self._reader: TarReader | None = None

    def reader(self, at: int) -> TarReader:
        """A reader of the tar at its offset `at`."""
        reader = self._reader
        if reader is None or reader.at > at or (not self._ahead and self._files.start_of(at).raw > reader.at):
            start = Member(0, 0) if self._ahead else self._files.start_of(at)
            self._stack.close()
            opened = inflated if self._ahead else inflated_from
            reader = TarReader(self._stack.enter_context(opened(self._archive, start.offset)), start.raw)
            self._reader = reader
        reader.skip_to(at)
        return reader
