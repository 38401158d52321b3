"""Digests of an artifact's tables: recorded by its proof (older versions: its dump), else computed."""

from __future__ import annotations

import threading
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field

from refnet.catalog.artifact import Progress, silent
from refnet.core.errors import RefnetError
from refnet.sources.database.artifact.index import DIGEST, Index, Member
from refnet.sources.database.artifact.sqlgz import Reader, damaged
from refnet.sources.database.dump.copy_members import Lines
from refnet.sources.database.rows.digest import Digest, complete_lines
from refnet.sources.database.sql_names import COPY


def digested(reader: Reader, recorded: str, jobs: int, progress: Progress = silent) -> Index:
    """Return the index of `reader` with the content digest of every table.

    Args:
        recorded: the digests that a proof recorded, or "".
        jobs: threads for reading members, if necessary.
        progress: gets the bytes that were read.
    """
    index = reader.index
    if index.digests:
        return index
    if len(recorded) == len(index.tables) * DIGEST:
        return index.with_digests(recorded)
    rows = MemberRows(reader)
    members = [member for member in index.members if member.table is not None]
    done, total = 0, sum(member.raw for member in members)
    with ThreadPoolExecutor(jobs) as pool:
        for member, _ in zip(members, pool.map(rows.read, members), strict=True):
            done += member.raw
            progress("reading the rows of the artifact", done, total)
    return rows.index()


def cut_short(reader: Reader, member: Member) -> RefnetError:
    """Error: the last row of a member has no end."""
    return damaged(reader.name, f"the member at byte {member.offset} ends within a row")


@dataclass
class MemberRows:
    """Sums the digests of tables over members read by several threads."""

    reader: Reader
    #: Of the tables of the index, in its order.
    digests: list[Digest] = field(init=False)
    lock: threading.Lock = field(default_factory=threading.Lock)

    def __post_init__(self) -> None:
        self.clear()

    def clear(self) -> None:
        """Forget all rows."""
        self.digests = [Digest() for _ in self.reader.index.tables]

    def read(self, member: Member) -> None:
        """Read `member`, of a table, to its end and add its rows; RefnetError (DAMAGED) if it changed."""
        digest = Digest()
        lines = Lines(complete_lines(self.reader.raw(member)))
        try:
            for statement in lines.statements():
                if COPY.fullmatch(statement):
                    for _ in digest.through(lines.rows()):
                        pass
        except ValueError as error:
            raise cut_short(self.reader, member) from error
        self.add(member, digest)

    def add(self, member: Member, digest: Digest) -> None:
        """Add all rows of `member`; RefnetError (DAMAGED) if it contains another number of rows than was written."""
        if digest.rows != member.rows:
            what = (
                f"the member at byte {member.offset} contains {digest.rows} rows, {member.rows} were written"
            )
            raise damaged(self.reader.name, what)
        if member.table is not None:
            with self.lock:
                self.digests[member.table].add(digest)

    def index(self) -> Index:
        """The index with digests; all members must have been read."""
        index = self.reader.index
        return index if index.digests else index.with_digests("".join(one.hex for one in self.digests))
