"""What is in artifacts of a database: queries in a throwaway scratch server, differences between two, and from the live one."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import ExitStack, closing, contextmanager
from dataclasses import dataclass
from functools import partial

from refnet import local_postgres, servers
from refnet.catalog.artifact import Deviation, Finding, OpenArtifact, Progress, silent
from refnet.catalog.manifest import Outcome
from refnet.context import Context
from refnet.core.errors import Exit, RefnetError
from refnet.postgres.connect_error import ConnectError
from refnet.postgres.session import Target, server_version
from refnet.postgres.walls import advice
from refnet.sources import source_of
from refnet.sources.contents import (
    LIVE,
    ArtifactDifference,
    Changed,
    ItemVersion,
    Query,
    QueryAnswer,
    repeated,
)
from refnet.sources.database.artifact.index import DIGEST, Index, Table
from refnet.sources.database.artifact.own_artifact import DatabaseArtifact, open_database, open_own
from refnet.sources.database.proof.compare import compare
from refnet.sources.database.query import copies
from refnet.sources.database.query.answer import Asker, Rows
from refnet.sources.database.query.copies import Part, ScratchCopy
from refnet.sources.database.query.sample import sample
from refnet.sources.database.workers import Workers

#: The most characters of a query; an argument of a command line is shorter in any case.
LONGEST = 100_000


@dataclass(frozen=True)
class TableFinder:
    """Finds tables in the artifacts of a database, by schema and name."""

    wanted: Callable[[str, str], bool]

    def versions(self, artifact: OpenArtifact) -> tuple[ItemVersion, ...]:
        found = open_own(artifact, "which records no tables", "")
        return tuple(self._matching(found.index, artifact.row_digests))

    def _matching(self, index: Index, recorded: str) -> Iterator[ItemVersion]:
        known = len(recorded) == len(index.tables) * DIGEST
        for number, table in enumerate(index.tables):
            if self.wanted(table.schema, table.name):
                digest = recorded[number * DIGEST : (number + 1) * DIGEST] if known else table.digest
                yield ItemVersion(table.qualified, "table", table.raw, digest, table.rows, table.columns)


@contextmanager
def query(context: Context, chosen: OpenArtifact, asked: Query) -> Iterator[QueryAnswer]:
    """Run a query on `chosen`; RefnetError if the server rejects it."""
    if asked.sample:
        yield sample(chosen, asked)
        return
    text = checked(asked.query)
    options = source_of(context.settings, chosen.source).proof_options(context.progress, trust=asked.trust)
    with ExitStack() as stack:
        opened = open_database(chosen)
        part: Part | None = None
        with copies.scratch_failures(chosen.name):
            if isinstance(opened, DatabaseArtifact):
                copy, part = stack.enter_context(copies.partial_copy(opened, options))
            else:
                copy = stack.enter_context(copies.foreign_copy(opened, options))
            path = copies.search_path(opened.index) if isinstance(opened, DatabaseArtifact) else None
            asker = Asker(copy.reader, path, asked.limits)
        stack.callback(asker.close)
        notes = [*doubts(copy)]
        if part:
            with copies.scratch_failures(chosen.name):
                found = copies.load_needed(part, asker, text, asked.limits, everything=asked.everything)
            if found.opaque and not asked.everything:
                notes.append(f"all tables were loaded, as {found.opaque} may read any")
            notes += (f"the artifact has no rows of {'.'.join(key)}" for key in part.unstored(found.of("r")))
        columns = asker.columns(text)
        if asked.as_json and len(set(columns)) < len(columns):
            raise repeated(columns)
        loaded = tuple(sorted(".".join(key) for key in part.loaded)) if part else None
        answer = QueryAnswer(chosen, columns, iter(()), loaded, asker, notes)
        with closing(_rows(answer, asker, part, text, as_json=asked.as_json)) as answer.rows:
            yield answer


def _rows(answer: QueryAnswer, asker: Asker, part: Part | None, text: bytes, *, as_json: bool) -> Rows:
    """Yield the rows; RefnetError at the end if the query read a table that was not loaded."""
    with asker.in_time():
        asker.session.execute("BEGIN READ ONLY")
    yield from asker.rows(text, as_json=as_json)
    if part and not answer.cut and (unread := copies.unloaded(part, asker)):
        names = ", ".join(sorted(".".join(key) for key in unread))
        raise RefnetError(
            f"the answer is wrong: the query has read tables that were not loaded: {names}",
            "Repeat it with --all, which loads every table.",
        )


@contextmanager
def browse(context: Context, chosen: OpenArtifact, *, trust: bool) -> Iterator[ScratchCopy]:
    """Load all of `chosen` into a scratch server, which ends with the block."""
    options = source_of(context.settings, chosen.source).proof_options(context.progress, trust=trust)
    opened = open_database(chosen)
    making = (
        partial(copies.complete_copy, opened)
        if isinstance(opened, DatabaseArtifact)
        else partial(copies.foreign_copy, opened)
    )
    with ExitStack() as stack:
        with copies.scratch_failures(chosen.name):
            copy = stack.enter_context(making(options))
        yield copy


def doubts(copy: ScratchCopy) -> Iterator[str]:
    """Sentences about differences from a restore, and missing isolation layers."""
    yield from copy.notes
    if missing := copy.cluster.walls.missing:
        yield f"without isolation layers: {', '.join(missing)}. {advice()}"


def checked(query: str) -> bytes:
    """`query` as UTF-8; RefnetError (USAGE) if it is invalid."""
    text = query.strip().rstrip(";").strip()
    try:
        data = text.encode()
    except UnicodeEncodeError:
        raise RefnetError("the query is not valid UTF-8", "Write it in UTF-8.", Exit.USAGE) from None
    if not text or len(text) > LONGEST:
        raise RefnetError(
            f"the query has {len(text):,} characters",
            f"Give one of 1 to {LONGEST:,} characters, such as: TABLE papers.",
            Exit.USAGE,
        )
    return data


def differences(
    before: OpenArtifact, after: OpenArtifact, jobs: int = 1, progress: Progress = silent
) -> ArtifactDifference:
    """Differences between two artifacts of one database; RefnetError if one is unreadable."""
    return _tables((before, _index(before, jobs, progress)), (after, _index(after, jobs, progress)))


def from_live(context: Context, before: OpenArtifact) -> ArtifactDifference:
    """Differences between an artifact and the live database of its source."""
    settings = context.settings
    target = servers.existing_server(settings, before.source)
    with target.connect() as session:
        binaries = local_postgres.binaries_for(settings, server_version(session))
    return live_differences(before, target, Workers(binaries, settings.jobs, context.progress))


def live_differences(before: OpenArtifact, target: Target, workers: Workers) -> ArtifactDifference:
    """Differences between an artifact and the live database, by the content of each table."""
    added, changed, removed, notes = [], [], [], []
    index = _index(before, workers.jobs, workers.progress)
    for finding in compare(target, index, workers):
        name = finding.what.removeprefix("table ")
        if finding.outcome is Outcome.UNVERIFIED:
            notes.append(f"could not verify: {finding.what}: {finding.reason}")
        elif finding.deviation is Deviation.MISSING:
            removed.append(name)
        elif finding.deviation is Deviation.EXTRA:
            added.append(name)
        elif finding.outcome is Outcome.FAILED:
            changed.append(Changed(name, finding.reason))
    return ArtifactDifference(
        before.source, before.name, LIVE, tuple(added), tuple(changed), tuple(removed), tuple(notes)
    )


def _tables(before: tuple[OpenArtifact, Index], after: tuple[OpenArtifact, Index]) -> ArtifactDifference:
    (_, old), (_, new) = before, after
    tables, now = _by_name(old), _by_name(new)
    changed = [
        Changed(name, why)
        for name, table in now.items()
        if name in tables and (why := _table_why(tables[name], table))
    ]
    return ArtifactDifference(
        before[0].source,
        before[0].name,
        after[0].name,
        tuple(name for name in now if name not in tables),
        (*changed, *_others(old, new)),
        tuple(name for name in tables if name not in now),
        tuple(
            f"{artifact.name} has only some tables" for artifact, index in (before, after) if index.partial
        ),
    )


def _index(artifact: OpenArtifact, jobs: int, progress: Progress) -> Index:
    """The index with the digests of all tables."""
    advice = "`refnet restore` restores it; a backup afterwards can be compared."
    return open_own(artifact, "so its tables cannot be compared", advice).digested(jobs, progress)


def _by_name(index: Index) -> dict[str, Table]:
    return {table.qualified: table for table in index.tables}


def _table_why(old: Table, new: Table) -> str:
    if old.columns != new.columns:
        return f"its columns: {', '.join(old.columns)}; then {', '.join(new.columns)}"
    if old.rows != new.rows:
        return f"{old.rows:,} rows, then {new.rows:,}"
    return "" if old.digest == new.digest else f"other content in its {old.rows:,} rows"


def _others(old: Index, new: Index) -> Iterator[Changed]:
    if sorted(old.large_objects) != sorted(new.large_objects):
        yield Changed(
            "large objects", f"{len(old.large_objects)}, then {len(new.large_objects)}, or other content"
        )
    if sorted(old.sequences) != sorted(new.sequences):
        yield Changed("sequences", "other values")


def compare_live(context: Context, chosen: OpenArtifact) -> tuple[Finding, ...]:
    """Compare the live database with an artifact, by content, as the login that restores."""
    settings, dump = context.settings, open_database(chosen)
    target = servers.restoring(settings, chosen.source)
    try:
        with target.connect() as session:
            binaries = local_postgres.binaries_for(settings, server_version(session))
    except ConnectError as error:
        return (Finding(f"database {target.name}", Outcome.FAILED, error.message),)
    workers = Workers(binaries, settings.jobs, context.progress)
    return dump.compare(target, workers, content=True)
