"""Scan one folder of a local store: entries, leftovers of crashed runs, and files that are not in the catalog.

A hidden manifest is the intent to publish or to delete an artifact: without a published manifest, the files of that name
are partly published or partly deleted, and are cleaned. An artifact without any manifest belongs to somebody else (such
as the specification's scripts): it is never cleaned, and can be adopted. Unreadable files, links and special files may
be the only copy of something: they are listed and never cleaned.
"""

import json
import os
import stat
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from functools import cached_property
from pathlib import Path
from typing import Any, Self, TypeVar

from refnet.catalog.evidence import Marks
from refnet.catalog.manifest import (
    EVIDENCE_SUFFIX,
    FILES_SUFFIX,
    FORMAT,
    HIDDEN_PREFIX,
    MANIFEST_SUFFIX,
    MARKS_SUFFIX,
    Entry,
    Evidence,
    Level,
    Manifest,
    Outcome,
)
from refnet.catalog.source_name import PARTIAL_SUFFIX, Kind, SourceName, read_file_name
from refnet.catalog.store import Leftover, Unlisted
from refnet.core.files import explained, read_regular
from refnet.store.backup_folder import LOCK_NAME
from refnet.store.disk import in_use
from refnet.store.open_artifacts import MANIFEST_BYTES, marks_of

#: The ends of the names of artifacts, and of some other files.
_ENDINGS = (".gz", PARTIAL_SUFFIX)
_BESIDE = (FILES_SUFFIX, EVIDENCE_SUFFIX, MARKS_SUFFIX)
#: The largest evidence that is read, in bytes: ten thousand checks.
_EVIDENCE_BYTES = 8 << 20


def beside(name: str) -> tuple[str, ...]:
    """Return the names of the other files of the artifact `name`, its manifest first."""
    return (f"{name}{MANIFEST_SUFFIX}", *(f"{name}{suffix}" for suffix in _BESIDE))


def taken(folder: Path, name: str) -> bool:
    """Return True if `name`, or the name of another file of that artifact, is used in `folder`."""
    return any(os.path.lexists(folder / one) for one in (name, *beside(name)))


@dataclass(frozen=True)
class _Unreadable:
    why: str
    #: True if a newer RefNet wrote it.
    newer: bool = False


#: Size, mtime (ns) and inode of a file; if they are equal, it was not written meanwhile.
Stamp = tuple[int, int, int]
#: By file name: the parsed value, with the stamps of all files that it was read from (None: missing).
Memory = dict[str, tuple[tuple[Stamp | None, ...], Any]]
_Read = TypeVar("_Read")


@dataclass(frozen=True)
class FolderScan:
    """The state of one folder."""

    folder: Path
    #: None: the folder has artifacts of every source.
    source: SourceName | None
    #: Regular file → size in bytes.
    sizes: dict[str, int]
    #: Any other entry → its kind.
    special: dict[str, str] = field(default_factory=dict)
    #: Of every entry.
    stamps: dict[str, Stamp] = field(default_factory=dict)
    #: A cache for several scans, so that unchanged files are read once.
    memory: Memory = field(default_factory=dict)

    @classmethod
    def read(cls, folder: Path, source: SourceName | None, memory: Memory | None = None) -> Self:
        """Scan `folder`, which need not exist. `source` None: of every source."""
        scan = cls(folder, source, {}, memory={} if memory is None else memory)
        with explained(folder):
            try:
                found = list(os.scandir(folder))
            except FileNotFoundError:
                found = []
            for item in found:
                try:
                    scan._add(item.name, item.stat(follow_symlinks=False))
                except FileNotFoundError:
                    continue  # removed meanwhile
        for gone in scan.memory.keys() - scan.stamps.keys():
            del scan.memory[gone]
        return scan

    def _add(self, name: str, about: os.stat_result) -> None:
        self.stamps[name] = (about.st_size, about.st_mtime_ns, about.st_ino)
        if stat.S_ISREG(about.st_mode):
            self.sizes[name] = about.st_size
        else:
            kinds = {stat.S_IFLNK: "a link", stat.S_IFDIR: "a folder"}
            self.special[name] = kinds.get(stat.S_IFMT(about.st_mode), "not a regular file")

    def _path(self, name: str) -> str:
        return f"{self.folder}/{name}"  # a Path takes longer to make than a file to read

    def _once(self, name: str, read: Callable[[str], _Read], *others: str) -> _Read:
        """Return `read(name)`; the cached value if neither `name` nor `others` changed."""
        stamps = (self.stamps.get(name), *map(self.stamps.get, others))
        known = self.memory.get(name)
        if known and known[0] == stamps:
            found: _Read = known[1]
            return found
        found = read(name)
        self.memory[name] = (stamps, found)
        return found

    def entries(self) -> Iterator[Entry]:
        """Yield published artifacts; if the size differs from the manifest's, it is marked as damaged."""
        for manifest in self._manifests:
            name = manifest.removesuffix(MANIFEST_SUFFIX)
            others = (manifest, name + EVIDENCE_SUFFIX, name + MARKS_SUFFIX)
            if name in self.sizes and (entry := self._once(name, self._entry, *others)):
                yield entry

    def _entry(self, name: str) -> Entry | None:
        manifest = self._manifest(f"{name}{MANIFEST_SUFFIX}")
        if not isinstance(manifest, Manifest):
            return None
        return self._checked(Entry(manifest, self._evidence(name, manifest), self._marks(name)))

    def leftovers(self) -> Iterator[Leftover]:
        """Yield the leftovers of crashed runs, in the order in which they can be cleaned."""
        for hidden in self._hidden:
            if hidden != LOCK_NAME and not in_use(self.folder / hidden):
                for name in self._intended(hidden):
                    yield self._leftover(name, "partly published or partly deleted by a run that did not end")
                yield self._leftover(hidden, "written by a run that did not end")
        for name in self._manifests:
            gone = name.removesuffix(MANIFEST_SUFFIX) not in self.stamps
            if gone and isinstance(self._manifest(name), Manifest):
                yield self._leftover(name, "a manifest without its artifact")
        for suffix in _BESIDE:
            for name in sorted(name for name in self.sizes if name.endswith(suffix)):
                artifact = name.removesuffix(suffix)
                if artifact not in self.stamps and f"{artifact}{MANIFEST_SUFFIX}" not in self.stamps:
                    yield self._leftover(name, "without its artifact")

    def unlisted(self) -> Iterator[Unlisted]:
        """Yield the files that the catalog ignores: artifacts without a manifest, and unreadable ones."""
        in_flight = {name for hidden in self._hidden for name in self._intended(hidden)}
        for name in sorted(self._artifacts - in_flight):
            manifest = f"{name}{MANIFEST_SUFFIX}"
            if name in self.special:
                advice = f"replace it by the file itself, with {name}.json"
                yield self._unlisted(name, f"is {self.special[name]}", advice)
            elif manifest in self.special:
                advice = "replace it by the file itself, or move it away and `refnet adopt` the artifact"
                yield self._unlisted(name, f"has a manifest that is {self.special[manifest]}", advice)
            elif manifest not in self.sizes:
                advice = "`refnet adopt` adds it"
                lost = self._had_manifest(name)
                yield self._unlisted(name, "has no manifest", advice, unreadable=lost, adoptable=True)
            elif isinstance(self._manifest(manifest), _Unreadable):
                yield from self._if_unreadable(name, manifest)
        for manifest in self._manifests:
            if manifest.removesuffix(MANIFEST_SUFFIX) not in self.stamps:
                yield from self._if_unreadable(manifest, manifest)

    def _if_unreadable(self, name: str, manifest: str) -> Iterator[Unlisted]:
        """Yield `name` if its `manifest` cannot be read."""
        found = self._manifest(manifest)
        if isinstance(found, _Unreadable):
            adopt = "`refnet adopt` renames the manifest and makes a new one"
            advice = "a newer RefNet can read it" if found.newer else adopt
            why = f"has a manifest that cannot be read: {found.why}"
            if name == manifest:
                yield self._unlisted(name, f"cannot be read: {found.why}", "its artifact is missing")
            else:
                yield self._unlisted(name, why, advice, adoptable=not found.newer)

    def first_check(self, name: str) -> datetime | None:
        """Return the time of the first check of the artifact `name`, from its evidence."""
        file = f"{name}{EVIDENCE_SUFFIX}"
        latest = datetime.max.replace(tzinfo=UTC)
        lines = evidence_in(self._path(file), latest) if file in self.sizes else ()
        return next((line.at for line in lines if not line.revokes), None)

    def _had_manifest(self, name: str) -> bool:
        """Return True if other files of `name` show that it had a manifest."""
        return any(f"{name}{suffix}" in self.stamps for suffix in _BESIDE)

    @cached_property
    def _manifests(self) -> list[str]:
        return sorted(
            name
            for name in self.sizes
            if name.endswith(MANIFEST_SUFFIX) and read_file_name(name.removesuffix(MANIFEST_SUFFIX))
        )

    @cached_property
    def _artifacts(self) -> set[str]:
        """Everything with the name of an artifact."""
        return {name for name in self.stamps if name.endswith(_ENDINGS) and read_file_name(name)}

    @cached_property
    def _hidden(self) -> list[str]:
        return sorted(name for name in self.sizes if name.startswith(HIDDEN_PREFIX))

    def _manifest(self, name: str) -> Manifest | _Unreadable:
        return self._once(name, self._read_manifest)

    def _read_manifest(self, name: str) -> Manifest | _Unreadable:
        try:
            text = read_regular(self._path(name), MANIFEST_BYTES)
            manifest = Manifest.from_json(text)
        except OSError as error:
            return _Unreadable(error.strerror or "unknown error")
        except ValueError as error:
            return _Unreadable(str(error), _is_newer(text))
        if manifest.name != name.removesuffix(MANIFEST_SUFFIX):
            return _Unreadable(f"it is of another artifact ({manifest.name})")
        if self.source and manifest.source != self.source:
            return _Unreadable(f"it is of another source ({manifest.source})")
        if self.source and manifest.source.kind is not self.source.kind:
            return _Unreadable(
                f"it is of a {manifest.source.kind}, and {self.source} is a {self.source.kind}"
            )
        return manifest

    def _evidence(self, name: str, manifest: Manifest) -> tuple[Evidence, ...]:
        """All lines of evidence; an unreadable one may have been any verdict, so it revokes earlier passes."""
        file = f"{name}{EVIDENCE_SUFFIX}"
        if file in self.special:
            return (_lost(manifest.created, f"the evidence is {self.special[file]}"),)
        if file not in self.sizes:
            return ()
        return evidence_in(self._path(file), manifest.created, manifest)

    def _marks(self, name: str) -> Marks:
        file = f"{name}{MARKS_SUFFIX}"
        return marks_of(self.folder / name) if file in self.stamps else Marks()

    def _checked(self, entry: Entry) -> Entry:
        size = self.sizes[entry.name]
        if size == entry.manifest.size:
            return entry
        why = f"the file has {size} bytes, its manifest says {entry.manifest.size}"
        seen = Evidence(entry.created, Level.WRITTEN, Outcome.FAILED, 0.0, reasons=(why,))
        return replace(entry, evidence=(*entry.evidence, seen))

    def _intended(self, hidden: str) -> list[str]:
        """Return the unpublished files of the hidden manifest `hidden`."""
        if not hidden.endswith(MANIFEST_SUFFIX):
            return []
        try:
            manifest = Manifest.from_json(read_regular(self._path(hidden), MANIFEST_BYTES))
        except (OSError, ValueError):
            return []
        published = f"{manifest.name}{MANIFEST_SUFFIX}" in self.sizes
        if published or self.sizes.get(manifest.name, manifest.size) != manifest.size:
            return []
        return [name for name in (*beside(manifest.name)[1:], manifest.name) if name in self.sizes]

    def _leftover(self, name: str, why: str) -> Leftover:
        return Leftover(self._source_of(name), name, self.sizes[name], why)

    def _unlisted(
        self, name: str, why: str, advice: str, *, unreadable: bool = True, adoptable: bool = False
    ) -> Unlisted:
        source, size = self._source_of(name), self.sizes.get(name, 0)
        return Unlisted(source, name, size, why, advice, unreadable, adoptable)

    def _source_of(self, name: str) -> SourceName:
        return (
            self.source or (read_file_name(name.removesuffix(MANIFEST_SUFFIX)) or (SourceName.DATABASE,))[0]
        )


def evidence_in(path: str | Path, since: datetime, of: Manifest | None = None) -> tuple[Evidence, ...]:
    """Read evidence; a line that is unreadable, or not about the artifact `of`, revokes earlier passes.

    `since`: time of such a line if it is the first.
    """
    try:
        text = read_regular(path, _EVIDENCE_BYTES)
    except OSError as error:
        return (_lost(since, f"the evidence cannot be read: {error.strerror}"),)
    lines: list[Evidence] = []
    for number, line in enumerate(text.removesuffix(b"\n").split(b"\n") if text else (), 1):
        found: Evidence | None = None
        why = "cannot be read"
        with suppress(ValueError):
            found, why = Evidence.from_json(line), "is of another artifact"
        if found is None or (of and not _is_about(found, of)):
            at = lines[-1].at if lines else since
            found = _lost(at, f"line {number} of the evidence {why}: a verdict is lost")
        lines.append(found)
    return tuple(lines)


def _is_about(line: Evidence, manifest: Manifest) -> bool:
    """Whether `line` names the artifact; older versions named none."""
    return line.artifact == manifest.sha256 or not (line.artifact or manifest.binds_evidence)


def _lost(at: datetime, why: str) -> Evidence:
    """The line that stands for unreadable evidence."""
    return Evidence(at, Level.WRITTEN, Outcome.UNVERIFIED, 0.0, reasons=(why,), revokes=True)


def _is_newer(text: bytes) -> bool:
    try:
        return bool(json.loads(text)["format"] > FORMAT)
    except (ValueError, KeyError, TypeError, RecursionError):
        return False


def kind_in(folder: Path) -> Kind | None:
    """The most frequent kind of the artifacts in `folder` that have its name, or None.

    Artifacts with a manifest take precedence, so a stray file does not change the kind.
    """
    try:
        names = set(os.listdir(folder))  # noqa: PTH208  # a Path for each takes three times as long
    except OSError:
        return None
    manifests = (name for name in names if name.endswith(MANIFEST_SUFFIX))
    for one in (names.intersection(name.removesuffix(MANIFEST_SUFFIX) for name in manifests), names):
        said = (read_file_name(name) for name in sorted(one, reverse=True))
        if kinds := Counter(found[0].kind for found in said if found and found[0] == folder.name):
            return kinds.most_common(1)[0][0]
    return None
