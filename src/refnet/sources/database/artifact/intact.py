"""Check an artifact's bytes against its footer and its index, member by member."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor

from refnet.catalog.artifact import Finding, Progress, silent, stopped_by
from refnet.catalog.manifest import Outcome
from refnet.catalog.required_tables import Required
from refnet.core.errors import RefnetError
from refnet.sources.database.artifact.definitions import Name, parse
from refnet.sources.database.artifact.index import Member
from refnet.sources.database.artifact.index_values import MemberKind
from refnet.sources.database.artifact.sqlgz import Reader
from refnet.sources.database.sql_names import Codec


def check(reader: Reader, jobs: int, required: Required, progress: Progress = silent) -> tuple[Finding, ...]:
    """Check every member's text, the SHA-256 in the footer, and that no required table is missing."""
    with ThreadPoolExecutor(1) as beside:  # hashing leaves the interpreter to the members
        digest = beside.submit(_digest, reader)
        return (_members(reader, jobs, progress), digest.result(), *_tables(reader, required))


def _members(reader: Reader, jobs: int, progress: Progress) -> Finding:
    index = reader.index
    what = f"{len(index.members)} members"
    done, total = 0, sum(member.raw for member in index.members)

    def read(member: Member) -> Finding | None:
        try:
            for _ in reader.raw(member):
                pass
        except (RefnetError, OSError) as error:
            return stopped_by(what, error)
        return None

    with ThreadPoolExecutor(jobs) as pool:
        for member, stopped in zip(index.members, pool.map(read, index.members), strict=True):
            if stopped:
                return stopped
            done += member.raw
            progress("reading the artifact", done, total)
    return Finding(what, Outcome.PASSED)


def _digest(reader: Reader) -> Finding:
    what = "digest in the footer"
    try:
        same = reader.digests()[0] == reader.sha256
    except (RefnetError, OSError) as error:
        return stopped_by(what, error)
    reason = "" if same else "the SHA-256 of the file differs from the one in its footer"
    return Finding(what, Outcome.PASSED if same else Outcome.FAILED, reason)


def _tables(reader: Reader, required: Required) -> Iterator[Finding]:
    index = reader.index
    yield from _required(reader, required)
    rows: Counter[int | None] = Counter()
    for member in index.members:
        rows[member.table] += member.rows
    for number, table in enumerate(index.tables):
        if rows[number] != table.rows:
            reason = f"its members contain {rows[number]} rows, the index says {table.rows}"
            yield Finding(f"table {table.qualified}", Outcome.FAILED, reason)


def _required(reader: Reader, required: Required) -> Iterator[Finding]:
    """Findings about required tables; partitioned tables have no rows and are looked up in the schema."""
    index = reader.index
    tables = {(table.schema, table.name): table.columns for table in index.tables}
    found = tuple(required.check(tables, index.database["name"]))
    if any(one.outcome is Outcome.FAILED for one in found):
        try:
            partitioned = dict.fromkeys(_partitioned(reader), ())
        except (RefnetError, OSError) as error:
            yield stopped_by("required tables", error)
            return
        found = tuple(required.check({**partitioned, **tables}, index.database["name"]))
    yield from found


def _partitioned(reader: Reader) -> Iterator[Name]:
    for one in parse(reader.text(MemberKind.PRE), Codec()):
        if one.table and one.text.startswith(b"CREATE TABLE ") and b"\nPARTITION BY " in one.text:
            yield one.table
