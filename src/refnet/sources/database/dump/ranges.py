"""The ranges of pages in which workers copy a table: what did not change in one gives the same members of an artifact.

So a range depends on nothing that changes with the rows: not on the length of the table, nor on the number of workers.
"""

from __future__ import annotations

from dataclasses import dataclass
from math import log2

from refnet.sources.database.dump.snapshot import DumpedRelation
from refnet.sources.database.rows.live_catalog import PARTS, between

#: About how much of a table one worker copies at a time (bytes on disk). A change in it changes all its members; with half
#: of it, short rows take 2 % more CPU.
RANGE = 4 << 20
#: About how many ranges a table has at most: the index has an entry for the members of each.
_MOST = 4096
#: Bytes for each page of a table with long rows: a page has less than 300.
_LONG = 1 << 20


@dataclass(frozen=True)
class Range:
    """A part of a table: the rows that meet `where`, a condition on ctid."""

    relation: DumpedRelation
    where: bytes
    #: About how many bytes of the table it is.
    size: int

    @property
    def is_long(self) -> bool:
        """Whether its rows are long."""
        return self.relation.size >= _LONG * self.relation.pages


def ranges(relation: DumpedRelation) -> list[Range]:
    """Cut `relation` into ranges of about RANGE bytes, by pages or by parts of a page with long values.

    All but the last have the same number of pages, a power of 2: it stays the same as the table grows, until a very large
    one is twice as large.
    """
    pages = max(1, relation.pages)
    each = max(RANGE * pages / max(1, relation.size), pages / _MOST, 1 / PARTS)
    places = range(0, pages * PARTS, 1 << round(log2(each * PARTS)))
    size = relation.size // len(places)
    return [Range(relation, where, size) for where in between([divmod(place, PARTS) for place in places])]
