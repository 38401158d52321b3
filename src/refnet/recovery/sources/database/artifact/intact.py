"""Check an artifact's bytes against its footer and its index, member by member."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor

from refnet.errors import RefnetError
from refnet.recovery.model.artifact import Outcome
from refnet.recovery.model.source import Finding, Progress, silent
from refnet.recovery.sources.database.artifact.index import Index, Member
from refnet.recovery.sources.database.artifact.required_tables import Required
from refnet.recovery.sources.database.artifact.sqlgz import Reader
from refnet.recovery.sources.database.rows.row_digests import MemberRows


def check(
    rows: MemberRows, jobs: int, required: Required, progress: Progress = silent
) -> tuple[Finding, ...]:
    """Check every member, the SHA-256 in the footer, the number of rows, and that no required table is missing.

    Every member is read by `rows`.
    """
    return (_members(rows, jobs, progress), _digest(rows.reader), *_tables(rows.reader.index, required))


def _members(rows: MemberRows, jobs: int, progress: Progress) -> Finding:
    index = rows.reader.index
    what = f"{len(index.members)} members"
    done, total = 0, sum(member.raw for member in index.members)

    def read(member: Member) -> str:
        try:
            rows.read(member)
        except RefnetError as error:
            return error.message
        return ""

    with ThreadPoolExecutor(jobs) as pool:
        for member, reason in zip(index.members, pool.map(read, index.members), strict=True):
            if reason:
                return Finding(what, Outcome.FAILED, reason)
            done += member.raw
            progress("reading the artifact", done, total)
    return Finding(what, Outcome.PASSED)


def _digest(reader: Reader) -> Finding:
    same = reader.digests()[0] == reader.sha256
    reason = "" if same else "the SHA-256 of the file differs from the one in its footer"
    return Finding("digest in the footer", Outcome.PASSED if same else Outcome.FAILED, reason)


def _tables(index: Index, required: Required) -> Iterator[Finding]:
    tables = {(table.schema, table.name): table.columns for table in index.tables}
    yield from required.check(tables, index.database["name"])
    rows: Counter[int | None] = Counter()
    for member in index.members:
        rows[member.table] += member.rows
    for number, table in enumerate(index.tables):
        if rows[number] != table.rows:
            reason = f"its members contain {rows[number]} rows, the index says {table.rows}"
            yield Finding(f"table {table.qualified}", Outcome.FAILED, reason)
