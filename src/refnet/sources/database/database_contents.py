"""Content of database artifacts: differences between two, and versions of a table."""

from __future__ import annotations

from collections.abc import Iterator

from refnet import local_postgres, servers
from refnet.catalog.artifact import Deviation, Finding, OpenArtifact, Progress, silent
from refnet.catalog.manifest import Outcome
from refnet.context import Context
from refnet.postgres.connect_error import ConnectError
from refnet.postgres.session import Target, server_version
from refnet.sources.contents import LIVE, ArtifactDifference, Changed
from refnet.sources.database.artifact.index import Index, Table
from refnet.sources.database.artifact.own_artifact import open_database, open_own
from refnet.sources.database.proof.compare import compare
from refnet.sources.database.workers import Workers


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
    """Compare the live database with an artifact, by content."""
    settings, dump = context.settings, open_database(chosen)
    target = servers.server(settings, chosen.source)
    try:
        with target.connect() as session:
            binaries = local_postgres.binaries_for(settings, server_version(session))
    except ConnectError as error:
        return (Finding(f"database {target.name}", Outcome.FAILED, error.message),)
    workers = Workers(binaries, settings.jobs, context.progress)
    return dump.compare(target, workers, content=True)
