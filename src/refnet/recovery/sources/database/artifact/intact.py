"""Whether an artifact's bytes are those that its footer and its index say, member by member."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor

from refnet.errors import RefnetError
from refnet.recovery.model.artifact import Outcome
from refnet.recovery.model.source import Finding, Progress, silent
from refnet.recovery.sources.database.artifact.required_tables import Required
from refnet.recovery.sources.database.artifact.sqlgz import FOOTER_LENGTH, Index, Member, Reader

_READ = 1 << 20


def check(reader: Reader, jobs: int, required: Required, progress: Progress = silent) -> tuple[Finding, ...]:
    """Every member inflates to its length, they follow one another without a gap, the SHA-256 of all of it is
    the footer's, and the tables that `required` asks for are there.
    """
    return (
        _members(reader, jobs, progress),
        _digest(reader),
        *_tables(reader.index, required),
    )


def _members(reader: Reader, jobs: int, progress: Progress) -> Finding:
    index = reader.index
    what = f"{len(index.members)} members"
    done, whole = 0, sum(member.raw for member in index.members)

    def inflate(member: Member) -> str:
        try:
            for _ in reader.raw(member):
                pass
        except RefnetError as error:
            return error.message
        return ""

    with ThreadPoolExecutor(jobs) as pool:
        for member, reason in zip(index.members, pool.map(inflate, index.members), strict=True):
            if reason:
                return Finding(what, Outcome.FAILED, reason)
            done += member.raw
            progress("inflating", done, whole)
    return Finding(what, Outcome.PASSED)


def _digest(reader: Reader) -> Finding:
    sha256 = hashlib.sha256()
    with reader.open() as file:
        left = file.seek(0, 2) - FOOTER_LENGTH
        file.seek(0)
        while left and (piece := file.read(min(_READ, left))):
            sha256.update(piece)
            left -= len(piece)
    same = sha256.digest() == reader.sha256
    reason = "" if same else "the SHA-256 of the file is not the one in its footer"
    return Finding("digest in the footer", Outcome.PASSED if same else Outcome.FAILED, reason)


def _tables(index: Index, required: Required) -> Iterator[Finding]:
    there = {(table.schema, table.name): table.columns for table in index.tables}
    yield from required.check(there, index.database["name"])
    held = {member.table for member in index.members}
    for number, table in enumerate(index.tables):
        rows = sum(member.rows for member in index.members if member.table == number) if number in held else 0
        if rows != table.rows:
            reason = f"its members hold {rows} rows where the index says {table.rows}"
            yield Finding(f"table {table.qualified}", Outcome.FAILED, reason)
