"""The index of a base backup: where its gzip members begin. It is beside the artifact, and only saves reading and time."""

from __future__ import annotations

from bisect import bisect_right
from dataclasses import dataclass
from itertools import pairwise

from refnet.catalog.artifact import MOST_LIST_BYTES, OpenArtifact
from refnet.core import checked
from refnet.core.errors import RefnetError

_MOST_MEMBERS = 1 << 24


@dataclass(frozen=True)
class BaseIndex:
    """Where the members of a base begin."""

    #: Offset and size of PostgreSQL's manifest in the tar.
    manifest: tuple[int, int]
    #: Offset in the tar, and in the file, of each gzip member.
    members: tuple[tuple[int, int], ...]

    @classmethod
    def read(cls, text: bytes) -> BaseIndex:
        """ValueError if malformed."""
        values = _INDEX(checked.document(text, MOST_LIST_BYTES))
        members = tuple(values["members"])
        if members[:1] != ((0, 0),) or any(a >= b or c >= d for (a, c), (b, d) in pairwise(members)):
            raise ValueError("its members are not in order")
        return cls(values["manifest"], members)

    def member_at(self, raw: int) -> tuple[int, int]:
        """The member with the byte `raw` of the tar."""
        return self.members[bisect_right(self.members, (raw, 1 << 63)) - 1]


_AT = checked.integer(0, (1 << 63) - 1)
_INDEX = checked.record(
    {
        "format": checked.integer(1, 1),
        "manifest": checked.row(_AT, checked.integer(1, MOST_LIST_BYTES)),
        "members": checked.each(checked.row(_AT, _AT), _MOST_MEMBERS),
    }
)


def members_of(stored: OpenArtifact) -> tuple[tuple[int, int], ...]:
    """Where the members of the base `stored` begin, in the tar and in the file; (): its index is missing or damaged."""
    try:
        text = stored.files()
        return BaseIndex.read(text).members if text else ()
    except (RefnetError, ValueError):
        return ()
