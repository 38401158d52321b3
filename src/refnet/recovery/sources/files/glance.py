"""One small file out of an archive, for a look before anything is restored."""

from __future__ import annotations

from refnet.recovery.model.source import OpenArtifact
from refnet.recovery.sources.files.gzip_members import inflated_from
from refnet.recovery.sources.files.listing import Kind
from refnet.recovery.sources.files.member_names import ArchiveError
from refnet.recovery.sources.files.tar_members import TarReader

#: How far an archive is read for it, in bytes and in members.
_FAR, _MANY = 1 << 30, 500_000


def content_of(held: OpenArtifact, path: str, limit: int) -> bytes | None:
    """The content of the file `path` in `held`, the last of that name; None where it holds none.

    ArchiveError where the archive is damaged or not allowed, where it is too large to be looked through, and where
    the file is larger than `limit` bytes.
    """
    found: bytes | None = None
    with held.open() as archive, inflated_from(archive, 0) as stream:
        reader = TarReader(stream)
        for count, member in enumerate(reader, 1):
            if reader.at + member.size > _FAR or count > _MANY:
                raise ArchiveError("the archive is too large to be looked through")
            if member.path != path:
                continue
            if member.kind is not Kind.FILE or member.same_as:
                raise ArchiveError(f"{path} is not a plain file")
            if member.size > limit:
                raise ArchiveError(f"{path} is larger than {limit:,} bytes")
            found = b"".join(reader.content())
    return found
