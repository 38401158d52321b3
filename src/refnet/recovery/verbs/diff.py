"""diff: which notes, configuration files or tables differ between two artifacts, or an artifact and what is live."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from refnet.errors import RefnetError
from refnet.postgres.binaries import Binaries
from refnet.postgres.session import Target
from refnet.recovery.model.artifact import Outcome, SourceName
from refnet.recovery.model.source import Deviation, OpenArtifact, Progress, silent
from refnet.recovery.sources.database.artifact.sqlgz import Index, NotAnArtifact, Reader, Table
from refnet.recovery.sources.database.rows.compare import compare
from refnet.recovery.sources.files.changes import changes, same
from refnet.recovery.sources.files.listing import FileList, Kind, Listed
from refnet.recovery.sources.files.selection import select
from refnet.recovery.sources.files.target import FolderTarget
from refnet.recovery.verbs.restore_files import explain_archive_errors, files_of

LIVE = "live"


@dataclass(frozen=True)
class Changed:
    """Something that stands on both sides and differs, and in what."""

    name: str
    why: str


@dataclass(frozen=True)
class Difference:
    """How `after` differs from `before`: files or tables that it adds, changes, lacks. `notes` are to be known."""

    source: SourceName
    before: str
    after: str
    added: tuple[str, ...]
    changed: tuple[Changed, ...]
    removed: tuple[str, ...]
    notes: tuple[str, ...] = ()

    @property
    def equal(self) -> bool:
        return not (self.added or self.changed or self.removed)


def artifacts(source: SourceName, before: OpenArtifact, after: OpenArtifact) -> Difference:
    """How two artifacts of one source differ. RefnetError where one cannot be read."""
    if source is SourceName.DATABASE:
        return _tables(before, after)
    with explain_archive_errors(before):
        old, _ = files_of(before)
    with explain_archive_errors(after):
        new, _ = files_of(after)
    return _files(source, before.name, after.name, old, new)


def live_files(before: OpenArtifact, place: FolderTarget) -> Difference:
    """How what is live in `place` differs from an artifact of it: what a restore would take back."""
    with explain_archive_errors(before):
        files, _ = files_of(before)
        selection = select(files, place, None)
        live = selection.live(entire=place.entire)
    notes = [*selection.notes, *(f"live, and not compared: {name}" for name in live.other)]
    return _files(place.source, before.name, LIVE, selection.files, live.files, tuple(notes))


def live_tables(
    before: OpenArtifact, target: Target, binaries: Binaries, jobs: int, progress: Progress = silent
) -> Difference:
    """How the live database differs from an artifact of it, table by table, by content."""
    added, changed, removed, notes = [], [], [], []
    for finding in compare(target, _index(before), binaries, jobs, progress):
        name = finding.what.removeprefix("table ")
        if finding.outcome is Outcome.UNVERIFIED:
            notes.append(f"could not verify: {finding.what}: {finding.reason}")
        elif finding.deviation is Deviation.MISSING:
            removed.append(name)
        elif finding.deviation is Deviation.EXTRA:
            added.append(name)
        elif finding.outcome is Outcome.FAILED:
            changed.append(Changed(name, finding.reason))
    return Difference(
        SourceName.DATABASE, before.name, LIVE, tuple(added), tuple(changed), tuple(removed), tuple(notes)
    )


def _files(
    source: SourceName, before: str, after: str, old: FileList, new: FileList, notes: tuple[str, ...] = ()
) -> Difference:
    found = changes(old, new)
    changed = (Changed(path, _why(old.by_path[path], new.by_path[path])) for path in found.changed)
    return Difference(source, before, after, found.added, tuple(changed), found.removed, notes)


def _why(old: Listed, new: Listed) -> str:
    if old.kind is not new.kind:
        return f"a {old.kind}, then a {new.kind}"
    if old.kind is Kind.LINK:
        return f"leads to {old.target}, then to {new.target}"
    if same(old, new._replace(mode=old.mode)):
        return f"mode {old.mode:04o}, then {new.mode:04o}"
    return (
        f"{old.size:,} bytes, then {new.size:,}" if old.size != new.size else "other content of the same size"
    )


def _tables(before: OpenArtifact, after: OpenArtifact) -> Difference:
    old, new = _index(before), _index(after)
    tables, now = _by_name(old), _by_name(new)
    changed = [
        Changed(name, why)
        for name, table in now.items()
        if name in tables and (why := _table_why(tables[name], table))
    ]
    return Difference(
        SourceName.DATABASE,
        before.name,
        after.name,
        tuple(name for name in now if name not in tables),
        (*changed, *_others(old, new)),
        tuple(name for name in tables if name not in now),
        tuple(
            f"{held.name} holds some tables only"
            for held, index in ((before, old), (after, new))
            if index.partial
        ),
    )


def _index(held: OpenArtifact) -> Index:
    try:
        return Reader(held.name, held.open).index
    except NotAnArtifact:
        raise RefnetError(
            f"RefNet did not make {held.name}, so its tables cannot be compared",
            "`refnet restore database` restores it; a backup afterwards can be compared.",
        ) from None


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
