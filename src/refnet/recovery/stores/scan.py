"""What one folder of a local store holds: entries, leftovers of crashed runs, and files that are not listed.

A hidden manifest is the intent to publish or to delete an artifact: where it stands and no published manifest
does, the files of that name are half published or half deleted, and ours to clean. An artifact without any
manifest is somebody's own (the specification's scripts made such ones): never cleaned, adoptable. What cannot be
read, and what is a link or no regular file, may be the only copy of something: it is listed and never cleaned.
"""

from __future__ import annotations

import json
import os
import stat
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from functools import cached_property
from pathlib import Path
from typing import TypeVar, cast

from refnet.files import explained, read_regular
from refnet.recovery.model.artifact import (
    EVIDENCE_SUFFIX,
    FILES_SUFFIX,
    FORMAT,
    HIDDEN_PREFIX,
    MANIFEST_SUFFIX,
    Entry,
    Evidence,
    Level,
    Manifest,
    Outcome,
    SourceName,
    read_name,
)
from refnet.recovery.model.store import Leftover, Unlisted
from refnet.recovery.stores.disk import alive
from refnet.recovery.stores.lock import LOCK_NAME
from refnet.recovery.stores.open_artifacts import MANIFEST_BYTES

_BESIDE = (FILES_SUFFIX, EVIDENCE_SUFFIX)
#: The largest evidence that is read, in bytes: ten thousand checks.
_EVIDENCE_BYTES = 8 << 20


def beside(name: str) -> tuple[str, ...]:
    """The names of the files that belong to the artifact `name`, its manifest first."""
    return (f"{name}{MANIFEST_SUFFIX}", *(f"{name}{suffix}" for suffix in _BESIDE))


def taken(folder: Path, name: str) -> bool:
    """Whether `name`, or a name that would stand beside it, is in use in `folder`."""
    return any(os.path.lexists(folder / one) for one in (name, *beside(name)))


@dataclass(frozen=True)
class _Unreadable:
    """Why a file in a manifest's place is none. `newer`: it is one of a newer RefNet."""

    why: str
    newer: bool = False


#: Of a file: size, time of change (ns), inode. Equal ones mean that it was not written to meanwhile.
Stamp = tuple[int, int, int]
#: What was read of a file, by its name, with the stamps of all that it was read from (None: not there).
Memory = dict[str, tuple[tuple[Stamp | None, ...], object]]
_Read = TypeVar("_Read")


@dataclass(frozen=True)
class FolderScan:
    """One folder as it was when it was read: regular file → size in bytes.

    `odd`: what is no regular file → what it is. `stamps`: of everything. `memory` belongs to whoever reads the
    folder again and again: files that did not change are read once.
    """

    folder: Path
    source: SourceName | None
    sizes: dict[str, int]
    odd: dict[str, str] = field(default_factory=dict)
    stamps: dict[str, Stamp] = field(default_factory=dict)
    memory: Memory = field(default_factory=dict)

    @classmethod
    def read(cls, folder: Path, source: SourceName | None, memory: Memory | None = None) -> FolderScan:
        """What `folder` holds; nothing where there is no such folder. `source` None: of every source."""
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
                    continue  # removed while we looked
        for gone in scan.memory.keys() - scan.stamps.keys():
            del scan.memory[gone]
        return scan

    def _add(self, name: str, about: os.stat_result) -> None:
        self.stamps[name] = (about.st_size, about.st_mtime_ns, about.st_ino)
        if stat.S_ISREG(about.st_mode):
            self.sizes[name] = about.st_size
        else:
            kinds = {stat.S_IFLNK: "a link", stat.S_IFDIR: "a folder"}
            self.odd[name] = kinds.get(stat.S_IFMT(about.st_mode), "not a regular file")

    def _once(self, name: str, read: Callable[[str], _Read], *others: str) -> _Read:
        """What `read` makes of the file `name` (and of `others`); from memory where none of them changed."""
        stamps = (self.stamps.get(name), *map(self.stamps.get, others))
        known = self.memory.get(name)
        if known and known[0] == stamps:
            return cast(_Read, known[1])
        found = read(name)
        self.memory[name] = (stamps, found)
        return found

    @property
    def quiet(self) -> bool:
        """Whether nobody writes here, and nobody was killed doing so: then what it holds is in its stamps alone."""
        return not any(name.startswith(HIDDEN_PREFIX) and name != LOCK_NAME for name in self.sizes)

    def entries(self) -> Iterator[Entry]:
        """Every published artifact. One whose file has another size than its manifest says is damaged."""
        for name in self._manifests:
            artifact = name.removesuffix(MANIFEST_SUFFIX)
            if artifact in self.sizes and (entry := self._once(artifact, self._entry, *beside(artifact))):
                yield entry

    def _entry(self, name: str) -> Entry | None:
        manifest = self._manifest(f"{name}{MANIFEST_SUFFIX}")
        if not isinstance(manifest, Manifest):
            return None
        return self._checked(Entry(manifest, self._evidence(name, manifest)))

    def leftovers(self) -> Iterator[Leftover]:
        """What crashed runs left, in the order in which it may be cleaned."""
        for hidden in sorted(name for name in self.sizes if name.startswith(HIDDEN_PREFIX)):
            if hidden != LOCK_NAME and not alive(self.folder / hidden):
                for name in self._intended(hidden):
                    yield self._leftover(name, "half published or half deleted by a run that did not end")
                yield self._leftover(hidden, "written by a run that did not end")
        for name in self._manifests:
            gone = name.removesuffix(MANIFEST_SUFFIX) not in self.stamps
            if gone and isinstance(self._manifest(name), Manifest):
                yield self._leftover(name, "a manifest whose artifact is not there")
        for suffix in _BESIDE:
            for name in sorted(name for name in self.sizes if name.endswith(suffix)):
                artifact = name.removesuffix(suffix)
                if artifact not in self.stamps and f"{artifact}{MANIFEST_SUFFIX}" not in self.stamps:
                    yield self._leftover(name, "its artifact is not there")

    def unlisted(self) -> Iterator[Unlisted]:
        """What no catalog counts: artifacts without a manifest, and what cannot be read."""
        in_flight = {name for hidden in self.sizes for name in self._intended(hidden)}
        for name in sorted(name for name in self.stamps if read_name(name) and name not in in_flight):
            manifest = f"{name}{MANIFEST_SUFFIX}"
            if name in self.odd:
                advice = f"put the file itself in its place, {name}.json beside it"
                yield self._unlisted(name, f"is {self.odd[name]}", advice)
            elif manifest in self.odd:
                advice = "put the file itself in its place, or move it away and `refnet adopt` the artifact"
                yield self._unlisted(name, f"has a manifest that is {self.odd[manifest]}", advice)
            elif manifest not in self.sizes:
                advice = "`refnet adopt` takes it in"
                ours = self._was_ours(name)
                yield self._unlisted(name, "has no manifest", advice, unreadable=ours, adoptable=True)
            else:
                yield from self._if_unreadable(name, manifest)
        for manifest in self._manifests:
            if manifest.removesuffix(MANIFEST_SUFFIX) not in self.stamps:
                yield from self._if_unreadable(manifest, manifest)

    def _if_unreadable(self, name: str, manifest: str) -> Iterator[Unlisted]:
        """`name`, which `manifest` is to publish, where that cannot be read."""
        found = self._manifest(manifest)
        if isinstance(found, _Unreadable):
            adopt = "`refnet adopt` moves the manifest aside and makes a new one"
            advice = "a newer RefNet reads it" if found.newer else adopt
            why = f"has a manifest that cannot be read: {found.why}"
            if name == manifest:
                yield self._unlisted(name, f"cannot be read: {found.why}", "its artifact is not there")
            else:
                yield self._unlisted(name, why, advice, adoptable=not found.newer)

    def first_check(self, name: str) -> datetime | None:
        """When the artifact `name` was first checked, by what evidence stands beside it."""
        file = f"{name}{EVIDENCE_SUFFIX}"
        lines = self._read_evidence(file, datetime.max.replace(tzinfo=UTC)) if file in self.sizes else ()
        return next((line.at for line in lines if not line.revokes), None)

    def _was_ours(self, name: str) -> bool:
        """Whether something beside `name` shows that it had a manifest once."""
        return any(f"{name}{suffix}" in self.stamps for suffix in _BESIDE)

    @cached_property
    def _manifests(self) -> list[str]:
        return sorted(
            name
            for name in self.sizes
            if name.endswith(MANIFEST_SUFFIX) and read_name(name.removesuffix(MANIFEST_SUFFIX))
        )

    def _manifest(self, name: str) -> Manifest | _Unreadable:
        return self._once(name, self._read_manifest)

    def _read_manifest(self, name: str) -> Manifest | _Unreadable:
        try:
            text = read_regular(self.folder / name, MANIFEST_BYTES)
            manifest = Manifest.from_json(text)
        except OSError as error:
            return _Unreadable(error.strerror or "the system does not say why")
        except ValueError as error:
            return _Unreadable(str(error), _is_newer(text))
        if manifest.name != name.removesuffix(MANIFEST_SUFFIX):
            return _Unreadable(f"it is that of another artifact ({manifest.name})")
        if self.source and manifest.source is not self.source:
            return _Unreadable(f"it is that of another source ({manifest.source})")
        return manifest

    def _evidence(self, name: str, manifest: Manifest) -> tuple[Evidence, ...]:
        """Every line; one that cannot be read may have been any verdict, so it revokes what passed before it."""
        file = f"{name}{EVIDENCE_SUFFIX}"
        if file in self.odd:
            return (_lost(manifest.created, f"the evidence is {self.odd[file]}"),)
        if file not in self.sizes:
            return ()
        return self._once(file, lambda file: self._read_evidence(file, manifest.created))

    def _read_evidence(self, file: str, since: datetime) -> tuple[Evidence, ...]:
        try:
            text = read_regular(self.folder / file, _EVIDENCE_BYTES)
        except OSError as error:
            return (_lost(since, f"the evidence cannot be read: {error.strerror}"),)
        lines: list[Evidence] = []
        for number, line in enumerate(text.removesuffix(b"\n").split(b"\n") if text else (), 1):
            try:
                lines.append(Evidence.from_json(line))
            except ValueError:
                at = lines[-1].at if lines else since
                lines.append(_lost(at, f"line {number} of the evidence cannot be read: a verdict is lost"))
        return tuple(lines)

    def _checked(self, entry: Entry) -> Entry:
        size = self.sizes[entry.name]
        if size == entry.manifest.size:
            return entry
        why = f"the file has {size} bytes, its manifest says {entry.manifest.size}"
        seen = Evidence(entry.created, Level.WRITTEN, Outcome.FAILED, 0.0, reasons=(why,))
        return replace(entry, evidence=(*entry.evidence, seen))

    def _intended(self, hidden: str) -> list[str]:
        """The unpublished files that the hidden manifest `hidden` speaks of."""
        if not (hidden.startswith(HIDDEN_PREFIX) and hidden.endswith(MANIFEST_SUFFIX)):
            return []
        try:
            manifest = Manifest.from_json(read_regular(self.folder / hidden, MANIFEST_BYTES))
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
        return self.source or (read_name(name.removesuffix(MANIFEST_SUFFIX)) or (SourceName.DATABASE,))[0]


def _lost(at: datetime, why: str) -> Evidence:
    """A line that stands for what cannot be read."""
    return Evidence(at, Level.WRITTEN, Outcome.UNVERIFIED, 0.0, reasons=(why,), revokes=True)


def _is_newer(text: bytes) -> bool:
    """Whether `text` is a manifest of a RefNet newer than this one, which is no leftover."""
    try:
        return bool(json.loads(text)["format"] > FORMAT)
    except (ValueError, KeyError, TypeError, RecursionError):
        return False
