"""Reads some of an archive's members: only the gzip members that hold them."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from contextlib import ExitStack
from hashlib import sha256
from typing import BinaryIO

from refnet.recovery.sources.files.chain import archive_errors, inflated_from
from refnet.recovery.sources.files.contents import Sink
from refnet.recovery.sources.files.listing import FileList, Kind, Listed
from refnet.recovery.sources.files.members import TarMember, TarReader
from refnet.recovery.sources.files.names import ArchiveError, show


def extract(archive: BinaryIO, files: FileList, wanted: Iterable[Listed], prefix: str, sink: Sink) -> None:
    """Hand the `wanted` members of `archive` to `sink`, folders before what lies in them, without `prefix`.

    `files` says where each lies and what it holds. ArchiveError names the first that is not as it says.
    """
    with ExitStack() as stack, archive_errors():
        place = _Place(archive, files, stack)
        for listed in wanted:
            member = TarMember(listed.path.removeprefix(prefix), *listed[1:8], target=listed.target)
            if listed.kind is Kind.FOLDER:
                sink.folder(member)
            elif listed.kind is Kind.LINK:
                sink.link(member)
            else:
                sink.file(member, _content(place.reader(listed.at), listed))


def _content(reader: TarReader, listed: Listed) -> Iterator[bytes]:
    member = reader.next()
    if member is None or member.kind is not Kind.FILE or member.size != listed.size or member.same_as:
        raise ArchiveError(f"{show(listed.path)} does not lie where the list of files says")
    digest = sha256()
    for block in reader.content():
        digest.update(block)
        yield block
    if digest.hexdigest() != listed.sha256:
        raise ArchiveError(f"the content of {show(listed.path)} is not what the list of files says (SHA-256)")


class _Place:
    """The raw bytes of an archive wherever a member begins: read on, or inflated anew, whatever is less."""

    def __init__(self, archive: BinaryIO, files: FileList, stack: ExitStack) -> None:
        self._archive = archive
        self._files = files
        self._stack = stack
        self._reader: TarReader | None = None

    def reader(self, at: int) -> TarReader:
        """A reader of the tar at its offset `at`."""
        start = self._files.start_of(at)
        if self._reader is None or not start.raw <= self._reader.at <= at:
            self._stack.close()
            stream = self._stack.enter_context(inflated_from(self._archive, start.offset))
            self._reader = TarReader(stream, start.raw)
        self._reader.skip_to(at)
        return self._reader
