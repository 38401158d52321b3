"""Content of folder archives: lists of files, differences between two, versions of a path."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field

from refnet.catalog.artifact import OpenArtifact
from refnet.catalog.source_name import SourceName
from refnet.core.errors import Exit, RefnetError
from refnet.core.glob import Glob, composed
from refnet.core.member_names import ArchiveError, checked
from refnet.sources.contents import LIVE, MOST, Changed, Difference, Version
from refnet.sources.folder.changes import changed, changes
from refnet.sources.folder.files_artifact import FilesArtifact
from refnet.sources.folder.kept import unkept
from refnet.sources.folder.listing import FileKind, FileList, Listed, matching
from refnet.sources.folder.selection import against_live
from refnet.sources.folder.target import FolderTarget


@contextmanager
def archive_errors(name: str) -> Iterator[None]:
    """Turn errors of an archive or its list of files into RefnetErrors (DAMAGED)."""
    try:
        yield
    except ArchiveError as error:
        raise RefnetError(
            f"{name} cannot be read: {error}", "Choose another artifact (`refnet list`).", Exit.DAMAGED
        ) from error


def files_of(chosen: OpenArtifact) -> tuple[FilesArtifact, FileList, bool]:
    """The archive, its list of files, and whether that was recorded; RefnetError (DAMAGED) if unreadable."""
    artifact = FilesArtifact(chosen)
    with archive_errors(chosen.name):
        return artifact, *artifact.files()


def differences(before: OpenArtifact, after: OpenArtifact) -> Difference:
    """Differences between two archives of one folder; RefnetError if one is unreadable."""
    old, old_files, _ = files_of(before)
    new, new_files, _ = files_of(after)
    notes = tuple(f"{one.name}: {note}" for one in (before, after) for note in _unkept(one))
    return _files(before.source, (old.name, new.name), old_files, new_files, notes)


def live_differences(before: OpenArtifact, target: FolderTarget) -> Difference:
    """Differences between an archive and the live files in `target`."""
    artifact = FilesArtifact(before)
    with archive_errors(artifact.name):
        files, _ = artifact.files()
        selection, live = against_live(files, target)
    notes = [*selection.notes, *(f"live, and not compared: {name}" for name in live.other), *_unkept(before)]
    return _files(target.source, (before.name, LIVE), selection.files, live.files, tuple(notes))


def _unkept(artifact: OpenArtifact) -> tuple[str, ...]:
    """Sentences about metadata that the artifact does not keep and that is not compared."""
    return unkept(artifact.manifest.details) if artifact.manifest else ()


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


@dataclass
class PathFinder:
    """Finds paths in the archives of a folder; equal lists of files are read once."""

    wanted: Callable[[str], bool]
    #: See listing.matching.
    literal: str
    #: The digest of a list of files → what matches in it.
    _known: dict[str, tuple[Version, ...]] = field(default_factory=dict)

    def versions(self, artifact: OpenArtifact) -> tuple[Version, ...]:
        digest = artifact.manifest.files_sha256 if artifact.manifest else None
        if digest in self._known:
            return self._known[digest]
        versions = self._matching(artifact)
        if digest:
            if sum(map(len, self._known.values())) > MOST:
                self._known.clear()
            self._known[digest] = versions
        return versions

    def _matching(self, artifact: OpenArtifact) -> tuple[Version, ...]:
        with archive_errors(artifact.name):
            if text := artifact.files():
                return tuple(map(_version, matching(text, self.wanted, self.literal)))
            listed, _ = FilesArtifact(artifact).files()  # the archive itself is read
        return tuple(_version(one) for one in listed.files if self.wanted(one.path))


def exactly(source: SourceName, name: str) -> PathFinder:
    """Finder of the path `name`; RefnetError (USAGE) for an invalid path."""
    try:
        path = composed(checked(os.fsencode(name)))
    except (ArchiveError, UnicodeEncodeError) as error:
        raise RefnetError(
            f"'{name}' is not a path in {source}: {error}", "Give a path relative to the folder.", Exit.USAGE
        ) from error
    return PathFinder(lambda other: composed(other) == path, _literal(path))


def _literal(path: str) -> str:
    """ASCII text that every spelling of `path` contains."""
    return Glob("".join("?" if one in "*?[" else one for one in path[-500:])).literal


def like(pattern: str) -> PathFinder:
    """Finder of paths that match `pattern`."""
    glob = Glob(pattern)
    return PathFinder(glob.matches, glob.literal)


def _version(one: Listed) -> Version:
    more = (one.target,) if one.kind is FileKind.LINK else (f"mode {one.mode:04o}",)
    return Version(one.path, one.kind, one.size, one.sha256, more=more)
