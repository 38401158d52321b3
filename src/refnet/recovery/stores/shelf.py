"""What one folder of a local store holds: entries, leftovers of crashed runs, and files that are not listed.

A hidden manifest is the intent to publish or to delete an artifact: where it stands and no published manifest
does, the files of that name are half published or half deleted, and ours to clean. An artifact without any
manifest is somebody's own (the specification's scripts made such ones): never cleaned, adoptable.
"""

from __future__ import annotations

import json
import os
import stat
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, replace
from functools import cached_property
from pathlib import Path
from typing import TypeVar, cast

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
from refnet.recovery.model.store import Leftover
from refnet.recovery.stores.disk import alive, explained
from refnet.recovery.stores.lock import LOCK_NAME

_BESIDE = (FILES_SUFFIX, EVIDENCE_SUFFIX)


def beside(name: str) -> tuple[str, ...]:
    """The names of the files that belong to the artifact `name`, its manifest first."""
    return (f"{name}{MANIFEST_SUFFIX}", *(f"{name}{suffix}" for suffix in _BESIDE))


def taken(folder: Path, name: str) -> bool:
    """Whether `name`, or a name that would stand beside it, is in use in `folder`."""
    return any(os.path.lexists(folder / one) for one in (name, *beside(name)))


@dataclass(frozen=True)
class _Unreadable:
    """A file in a manifest's place that is none, and why; `ours`: whether a crashed run can have left it."""

    why: str
    ours: bool


#: Of a file: size, time of change (ns), inode. Equal ones mean that it was not written to meanwhile.
Stamp = tuple[int, int, int]
#: What was read of a file, by its name, with the stamps of all that it was read from (None: not there).
Memory = dict[str, tuple[tuple[Stamp | None, ...], object]]
_Read = TypeVar("_Read")


@dataclass(frozen=True)
class Shelf:
    """One folder as it was when it was read: file name → size in bytes.

    `memory` belongs to whoever reads the folder again and again: files that did not change are read once.
    """

    folder: Path
    source: SourceName | None
    sizes: dict[str, int]
    stamps: dict[str, Stamp] = field(default_factory=dict)
    memory: Memory = field(default_factory=dict)

    @classmethod
    def read(cls, folder: Path, source: SourceName | None, memory: Memory | None = None) -> Shelf:
        """The regular files of `folder`; none where there is no such folder. `source` None: of every source."""
        sizes: dict[str, int] = {}
        stamps: dict[str, Stamp] = {}
        with explained(folder):
            try:
                found = list(os.scandir(folder))
            except FileNotFoundError:
                found = []
            for item in found:
                try:
                    about = item.stat(follow_symlinks=False)
                except FileNotFoundError:
                    continue  # removed while we looked
                if stat.S_ISREG(about.st_mode):
                    sizes[item.name] = about.st_size
                    stamps[item.name] = (about.st_size, about.st_mtime_ns, about.st_ino)
        memory = {} if memory is None else memory
        for gone in memory.keys() - stamps.keys():
            del memory[gone]
        return cls(folder, source, sizes, stamps, memory)

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
        return self._checked(Entry(manifest, self._evidence(name)))

    def leftovers(self) -> Iterator[Leftover]:
        """What crashed runs left, in the order in which it may be cleaned."""
        for hidden in sorted(name for name in self.sizes if name.startswith(HIDDEN_PREFIX)):
            if hidden != LOCK_NAME and not alive(self.folder / hidden):
                for name in self._intended(hidden):
                    yield self._leftover(name, "half published or half deleted by a run that did not end")
                yield self._leftover(hidden, "written by a run that did not end")
        for name in self._manifests:
            artifact = name.removesuffix(MANIFEST_SUFFIX)
            manifest = self._manifest(name)
            if isinstance(manifest, _Unreadable):
                if manifest.ours:
                    yield self._leftover(name, manifest.why)
            elif artifact not in self.sizes:
                yield self._leftover(name, "a manifest whose artifact is not there")
        for suffix in _BESIDE:
            for name in sorted(name for name in self.sizes if name.endswith(suffix)):
                artifact = name.removesuffix(suffix)
                if artifact not in self.sizes and f"{artifact}{MANIFEST_SUFFIX}" not in self.sizes:
                    yield self._leftover(name, "its artifact is not there")

    def unlisted(self) -> Iterator[Leftover]:
        """Artifacts that no catalog counts: without a manifest, or with one that this RefNet cannot read."""
        in_flight = {name for hidden in self.sizes for name in self._intended(hidden)}
        for name in sorted(self.sizes):
            if read_name(name) is None or name in in_flight:
                continue
            if f"{name}{MANIFEST_SUFFIX}" not in self.sizes:
                yield self._leftover(name, "has no manifest")
            elif isinstance(found := self._manifest(f"{name}{MANIFEST_SUFFIX}"), _Unreadable):
                yield self._leftover(name, f"its manifest: {found.why}")

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
            text = (self.folder / name).read_bytes()
            manifest = Manifest.from_json(text)
        except OSError as error:
            return _Unreadable(error.strerror or "cannot be read", ours=False)
        except ValueError as error:
            return _Unreadable(str(error), ours=not _is_newer(text))
        if manifest.name != name.removesuffix(MANIFEST_SUFFIX):
            return _Unreadable(f"a manifest of another artifact ({manifest.name})", ours=True)
        if self.source and manifest.source is not self.source:
            return _Unreadable(f"a manifest of another source ({manifest.source})", ours=True)
        return manifest

    def _evidence(self, name: str) -> tuple[Evidence, ...]:
        """The lines that are whole; one that a crash cut short is no evidence."""
        file = f"{name}{EVIDENCE_SUFFIX}"
        return self._once(file, self._read_evidence) if file in self.sizes else ()

    def _read_evidence(self, file: str) -> tuple[Evidence, ...]:
        lines = []
        with explained(self.folder / file):
            for line in (self.folder / file).read_bytes().splitlines():
                try:
                    lines.append(Evidence.from_json(line))
                except ValueError:
                    continue
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
            manifest = Manifest.from_json((self.folder / hidden).read_bytes())
        except (OSError, ValueError):
            return []
        published = f"{manifest.name}{MANIFEST_SUFFIX}" in self.sizes
        if published or self.sizes.get(manifest.name, manifest.size) != manifest.size:
            return []
        return [name for name in (*beside(manifest.name)[1:], manifest.name) if name in self.sizes]

    def _leftover(self, name: str, why: str) -> Leftover:
        source = self.source or (read_name(name) or (SourceName.DATABASE,))[0]
        return Leftover(source, name, self.sizes[name], why)


def _is_newer(text: bytes) -> bool:
    """Whether `text` is a manifest of a RefNet newer than this one, which is no leftover."""
    try:
        return bool(json.loads(text)["format"] > FORMAT)
    except (ValueError, KeyError, TypeError, RecursionError):
        return False
