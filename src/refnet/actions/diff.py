"""diff: compare notes, configuration files or tables of two artifacts, or of an artifact and what is live."""

from __future__ import annotations

import os
from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Any

from refnet import servers
from refnet.actions import unprotected
from refnet.actions.choose import choose_to_read
from refnet.actions.look import archive_errors
from refnet.context import Context
from refnet.core.errors import Exit, RefnetError
from refnet.postgres.session import Target, server_version
from refnet.recovery.model.artifact import Outcome
from refnet.recovery.model.source import Deviation, OpenArtifact, Progress, silent
from refnet.recovery.model.source_name import Kind, SourceName
from refnet.recovery.sources.database.artifact.index import Index, Table
from refnet.recovery.sources.database.rows.compare import compare
from refnet.recovery.sources.database.workers import Workers
from refnet.recovery.sources.files.changes import changed, changes
from refnet.recovery.sources.files.files_artifact import FilesArtifact
from refnet.recovery.sources.files.kept import unkept
from refnet.recovery.sources.files.listing import FileKind, FileList, Listed
from refnet.recovery.sources.files.member_names import spelled
from refnet.recovery.sources.files.selection import against_live
from refnet.recovery.sources.files.target import FolderTarget
from refnet.recovery.sources.opening import open_own
from refnet.sources.folder import Folder

LIVE = "live"


@dataclass(frozen=True)
class Changed:
    """A file or table that is on both sides and differs, and why."""

    name: str
    why: str


@dataclass(frozen=True)
class Difference:
    """The files or tables of `after` that are extra, changed and missing against `before`."""

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

    def to_json(self) -> dict[str, Any]:
        return {
            "source": self.source,
            "before": self.before,
            "after": self.after,
            "equal": self.equal,
            "added": [spelled(name) for name in self.added],
            "changed": [{"name": spelled(one.name), "why": spelled(one.why)} for one in self.changed],
            "removed": [spelled(name) for name in self.removed],
            "notes": [spelled(note) for note in self.notes],
        }


def diff(context: Context, before: str, after: str) -> Difference:
    """Compare two artifacts of one source, or an artifact with what is LIVE.

    Args:
        before: a name in the catalog, a path, or a source for its newest artifact; `after` likewise.
    """
    old, settings = choose_to_read(context, before), context.settings
    if after != LIVE:
        new = choose_to_read(context, after)
        if new.source != old.source:
            raise RefnetError(
                f"{old.name} is of {old.source}, {new.name} of {new.source}",
                "Compare two artifacts of one source.",
                Exit.USAGE,
            )
        return artifacts(old, new, settings.jobs, context.progress)
    if old.source.kind is Kind.GLOBALS:
        raise RefnetError(
            f"{old.name} has roles, which are not compared as rows or files",
            f"`refnet restore {old.source} --plan` shows what differs.",
            Exit.USAGE,
        )
    if old.source.kind is not Kind.DATABASE:
        found = live_files(old, Folder(settings, old.source).target())
        lacks = unprotected.of_source(settings, old.source)
        return replace(found, notes=(*found.notes, f"not protected: {lacks}")) if lacks else found
    target = servers.existing_server(settings, old.source)
    with target.connect() as session:
        binaries = servers.binaries_for(settings, server_version(session))
    return live_tables(old, target, Workers(binaries, settings.jobs, context.progress))


def artifacts(
    before: OpenArtifact, after: OpenArtifact, jobs: int = 1, progress: Progress = silent
) -> Difference:
    """Compare two artifacts of one source. RefnetError where one cannot be read."""
    if before.source.kind is Kind.DATABASE:
        return _tables((before, _index(before, jobs, progress)), (after, _index(after, jobs, progress)))
    old, new = FilesArtifact(before), FilesArtifact(after)
    with archive_errors(old.name):
        old_files, _ = old.files()
    with archive_errors(new.name):
        new_files, _ = new.files()
    notes = tuple(f"{one.name}: {note}" for one in (before, after) for note in _unkept(one))
    return _files(before.source, (old.name, new.name), old_files, new_files, notes)


def live_files(before: OpenArtifact, target: FolderTarget) -> Difference:
    """Compare an artifact with the live files in `target`."""
    artifact = FilesArtifact(before)
    with archive_errors(artifact.name):
        files, _ = artifact.files()
        selection, live = against_live(files, target)
    notes = [*selection.notes, *(f"live, and not compared: {name}" for name in live.other), *_unkept(before)]
    return _files(target.source, (before.name, LIVE), selection.files, live.files, tuple(notes))


def _unkept(artifact: OpenArtifact) -> tuple[str, ...]:
    """Return the sentences about metadata that the artifact does not keep, which are not compared."""
    return unkept(artifact.manifest.details) if artifact.manifest else ()


def live_tables(before: OpenArtifact, target: Target, workers: Workers) -> Difference:
    """Compare an artifact with the live database, table by table, by content."""
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
    return Difference(
        before.source, before.name, LIVE, tuple(added), tuple(changed), tuple(removed), tuple(notes)
    )


def _files(
    source: SourceName, names: tuple[str, str], old: FileList, new: FileList, notes: tuple[str, ...] = ()
) -> Difference:
    owners = names[1] != LIVE or os.geteuid() == 0  # only root can restore an owner
    found = changes(old, new, owners=owners)
    differing = (Changed(path, _why(old.by_path[path], new.by_path[path])) for path in found.changed)
    return Difference(source, *names, found.added, tuple(differing), found.removed, notes)


def _why(old: Listed, new: Listed) -> str:
    what = changed(old, new)
    if what == "kind":
        return f"a {old.kind}, then a {new.kind}"
    if what == "mode":
        return f"mode {old.mode:04o}, then {new.mode:04o}"
    if what == "owner":
        return f"owner {old.uid}:{old.gid}, then {new.uid}:{new.gid}"
    if what != "content":
        return f"other {what}"
    if old.kind is FileKind.LINK:
        return f"leads to {old.target}, then to {new.target}"
    return (
        f"{old.size:,} bytes, then {new.size:,}" if old.size != new.size else "other content of the same size"
    )


def _tables(before: tuple[OpenArtifact, Index], after: tuple[OpenArtifact, Index]) -> Difference:
    (_, old), (_, new) = before, after
    tables, now = _by_name(old), _by_name(new)
    changed = [
        Changed(name, why)
        for name, table in now.items()
        if name in tables and (why := _table_why(tables[name], table))
    ]
    return Difference(
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
    """Return the index with the content digest of every table."""
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
