"""The content digests of an artifact's tables: recorded by its proof (older versions: by its dump), or else computed."""

from __future__ import annotations

import threading
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field

from refnet.recovery.model.source import Progress, silent
from refnet.recovery.sources.database.artifact.index import DIGEST, Index, Member
from refnet.recovery.sources.database.artifact.sqlgz import Reader, damaged
from refnet.recovery.sources.database.dump.copy_members import Lines
from refnet.recovery.sources.database.rows.digest import Digest, complete_lines
from refnet.recovery.sources.database.sql_names import COPY


def digested(reader: Reader, recorded: str, jobs: int, progress: Progress = silent) -> Index:
    """Return the index of `reader` with the content digest of every table.

    Args:
        recorded: the digests that a proof recorded, or "".
        jobs: how many threads read the members, if they must be read.
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


@dataclass
class MemberRows:
    """Reads members in several threads, and adds up the digests of their tables."""

    reader: Reader
    #: Of the tables of the index, in its order.
    digests: list[Digest] = field(init=False)
    lock: threading.Lock = field(default_factory=threading.Lock)

    def __post_init__(self) -> None:
        self.digests = [Digest() for _ in self.reader.index.tables]

    def read(self, member: Member) -> None:
        """Read `member` to its end and add its rows; RefnetError (DAMAGED) if it is not what was written."""
        digest, pieces = Digest(), self.reader.raw(member)
        if member.table is None or self.reader.index.tables[member.table].digest:
            for _ in pieces:
                pass
            return
        lines = Lines(complete_lines(pieces))
        try:
            for statement in lines.statements():
                if COPY.fullmatch(statement):
                    for rows, ends in lines.rows():
                        digest.feed(rows, ends=ends)
        except ValueError as error:
            raise damaged(
                self.reader.name, f"the member at byte {member.offset} ends within a row"
            ) from error
        if digest.rows != member.rows:
            what = (
                f"the member at byte {member.offset} contains {digest.rows} rows, {member.rows} were written"
            )
            raise damaged(self.reader.name, what)
        with self.lock:
            self.digests[member.table].add(digest)

    def index(self) -> Index:
        """Return the index with the digests of the members that were read, which are all."""
        index = self.reader.index
        return index if index.digests else index.with_digests("".join(one.hex for one in self.digests))
