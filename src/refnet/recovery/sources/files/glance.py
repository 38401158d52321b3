"""Read one small file out of an archive, before anything is restored."""

from refnet.recovery.model.source import OpenArtifact
from refnet.recovery.sources.files.gzip_members import inflated_from
from refnet.recovery.sources.files.listing import Kind
from refnet.recovery.sources.files.member_names import ArchiveError
from refnet.recovery.sources.files.tar_members import TarReader

#: How much of an archive is searched: bytes, and members.
_MAX_BYTES, _MAX_MEMBERS = 1 << 30, 500_000


def content_of(artifact: OpenArtifact, path: str, limit: int) -> bytes | None:
    """Return the content of the file `path` in `artifact`, the last of that name; None if there is none.

    ArchiveError if the archive is damaged, not allowed or too large to search, or the file is larger than `limit`
    bytes.
    """
    found: bytes | None = None
    with artifact.open() as archive, inflated_from(archive, 0) as stream:
        reader = TarReader(stream)
        for count, member in enumerate(reader, 1):
            if reader.at + member.size > _MAX_BYTES or count > _MAX_MEMBERS:
                raise ArchiveError("the archive is too large to search")
            if member.path != path:
                continue
            if member.kind is not Kind.FILE or member.same_as:
                raise ArchiveError(f"{path} is not a plain file")
            if member.size > limit:
                raise ArchiveError(f"{path} is larger than {limit:,} bytes")
            found = b"".join(reader.content())
    return found
