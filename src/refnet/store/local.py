"""The store on this machine: `database/`, `config/` and `obsidian/` in one folder.

Publishing: write the artifact under a hidden name; record the intent in a hidden manifest; then rename the artifact, its
list of files and its manifest, in this order, and sync the folder after each. Deleting: hide the manifest, then remove
the other files. So the catalog always has an artifact completely or not at all, and a crash leaves only files that can
be recognized (see scan.py).
"""

from __future__ import annotations

import gc
import os
import shutil
from collections import Counter
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext, suppress
from dataclasses import replace
from datetime import datetime
from functools import partial
from pathlib import Path

from refnet.catalog.artifact import Made, OpenArtifact
from refnet.catalog.file_names import read_file_name
from refnet.catalog.manifest import EVIDENCE_SUFFIX, MANIFEST_SUFFIX, MARKS_SUFFIX, Entry, Evidence, Manifest
from refnet.catalog.marks import Marks
from refnet.catalog.source_name import STANDARD, Kind, SourceName, wrong_name
from refnet.catalog.store import Leftover, Unlisted
from refnet.core.errors import RefnetError
from refnet.core.files import check_own, explained, make_folder, nearest, sync_folder
from refnet.store import disk, identified, lock
from refnet.store.identified import Remembered
from refnet.store.local_draft import LocalDraft, name_taken, new_manifest
from refnet.store.open_artifacts import artifact_in
from refnet.store.scan import FolderScan, Memory, beside, taken


@contextmanager
def _without_collections() -> Iterator[None]:
    """Pause the garbage collector, which would scan all entries repeatedly without finding cycles."""
    running = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if running:
            gc.enable()


class LocalStore:
    """Artifacts in folders of this machine (0700), each file for this user alone (0600).

    Args:
        root: the backup folder; it and the folders of the sources are created when something is written.
        flat: no subfolders (`--to DIR`). The folder belongs to the user and needs no lock: nothing is pruned there,
            and nothing is overwritten.
        remembered: the ids of known stores; None: `root` is not checked.
    """

    def __init__(self, root: Path, *, flat: bool = False, remembered: Remembered | None = None) -> None:
        self.root = root
        self.flat = flat
        self._remembered = remembered
        self._memory: dict[Path, Memory] = {}

    def folder(self, source: SourceName) -> Path:
        """Return the folder of the artifacts of `source`."""
        return self.root if self.flat else self.root / source

    def sources(self) -> tuple[SourceName, ...]:
        """Standard sources, then other sources with a folder of artifacts."""
        try:
            with os.scandir(self.root) as found:
                names = sorted(one.name for one in found if one.is_dir(follow_symlinks=False))
        except OSError:
            return STANDARD  # the scan of their folders reports it
        kinds = (
            (name, _kind_in(self.root / name))
            for name in names
            if name not in STANDARD and not wrong_name(name)
        )
        return (*STANDARD, *(SourceName(name, kind) for name, kind in kinds if kind))

    def path(self, entry: Entry) -> Path:
        """Return the file of `entry`."""
        return self.folder(entry.source) / entry.name

    @_without_collections()
    def entries(self, source: SourceName | None = None) -> tuple[Entry, ...]:
        return tuple(entry for scan in self._scans(source) for entry in scan.entries())

    def leftovers(self, source: SourceName | None = None) -> tuple[Leftover, ...]:
        return tuple(leftover for scan in self._scans(source) for leftover in scan.leftovers())

    @_without_collections()
    def entries_and_leftovers(
        self, source: SourceName | None = None
    ) -> tuple[tuple[Entry, ...], tuple[Leftover, ...]]:
        scans = list(self._scans(source))
        return (
            tuple(entry for scan in scans for entry in scan.entries()),
            tuple(leftover for scan in scans for leftover in scan.leftovers()),
        )

    @_without_collections()
    def contents(self) -> tuple[tuple[Entry, ...], tuple[Leftover, ...], tuple[Unlisted, ...]]:
        """`entries`, `leftovers` and `unlisted` from one scan; the next scan reads only changes."""
        scans = list(self._scans(None))
        return (
            tuple(entry for scan in scans for entry in scan.entries()),
            tuple(leftover for scan in scans for leftover in scan.leftovers()),
            tuple(unlisted for scan in scans for unlisted in scan.unlisted()),
        )

    def unlisted(self, source: SourceName | None = None) -> tuple[Unlisted, ...]:
        """Files that the catalog ignores; never cleaned, because one may be the only copy."""
        return tuple(unlisted for scan in self._scans(source) for unlisted in scan.unlisted())

    def artifact(self, entry: Entry) -> OpenArtifact:
        found = artifact_in(entry.source, self.folder(entry.source), entry.name, entry.manifest)
        return replace(found, entry=entry, record=partial(self.record, entry))

    def free_bytes(self) -> int | None:
        with suppress(OSError):
            return shutil.disk_usage(nearest(self.root)).free
        return None

    def check_own(self, source: SourceName) -> None:
        """RefnetError if the folder for artifacts of `source` belongs to another user.

        It may be in a folder of root. A folder from `--to` is not checked.
        """
        if self.flat:
            return
        folder, advice = self.folder(source), "set REFNET_BACKUP_DIR to a folder of your own"
        check_own(self.root, "the backup folder", advice, {os.geteuid(), 0})
        check_own(folder, "the backup folder", advice)
        with explained(folder):
            if not folder.exists():
                check_own(self.root, "the backup folder", advice)

    def trouble(self) -> RefnetError | None:
        """Error if this may not be the expected store, else None."""
        return identified.trouble(self.root, self._remembered) if self._remembered else None

    def accept(self) -> str:
        """Make this the expected store; return its id."""
        return identified.accept(self.root, self._remembered) if self._remembered else ""

    def remember(self) -> None:
        """Record the id of this store, before an artifact is published."""
        if self._remembered and (own := identified.mark(self.root)):
            self._remembered.remember(self.root, own)

    def lock(self, source: SourceName) -> AbstractContextManager[None]:
        """Lock `source`. RefnetError, before anything is written, if this is not the expected store."""
        if self.flat:
            return nullcontext()
        if error := self.trouble():
            raise error
        self.check_own(source)
        if self._remembered:
            identified.mark(self.root)
        make_folder(self.folder(source))
        return lock.locked(self.folder(source), source)

    @contextmanager
    def draft(self, source: SourceName) -> Iterator[LocalDraft]:
        folder = self.folder(source)
        self.check_own(source)
        make_folder(folder)
        with disk.HiddenFile(folder, ".part") as out:
            yield LocalDraft(self.folder(source), source, out, self.remember)

    def record(self, entry: Entry, *evidence: Evidence) -> None:
        self.check_own(entry.source)
        folder = self.folder(entry.source)
        path, manifest = folder / f"{entry.name}{EVIDENCE_SUFFIX}", folder / f"{entry.name}{MANIFEST_SUFFIX}"
        gone = RefnetError(f"{entry.name} is gone", "Another run deleted it.")
        if not manifest.exists():
            raise gone
        with explained(path):
            disk.append_lines(path, "".join(line.to_json() for line in evidence))
        if not manifest.exists() and not (folder / entry.name).exists():
            disk.remove(path)  # deleted meanwhile: the line is of no artifact
            raise gone
        sync_folder(folder)

    def mark(self, entry: Entry, marks: Marks) -> None:
        self.check_own(entry.source)
        folder, name, data = self.folder(entry.source), f"{entry.name}{MARKS_SUFFIX}", marks.to_file()
        if not data:
            disk.remove(folder / name)
            sync_folder(folder)
            return
        with disk.HiddenFile(folder, ".part") as file:
            file.write(data)
            file.sync()
            file.replace(name)

    def adopt(self, source: SourceName, name: str, made: Made) -> Manifest:
        """Publish the file `name` in the folder of `source`, which has no valid manifest.

        An unreadable manifest is renamed. A crash leaves the file unchanged: the new manifest's hidden name is not one
        of an intent (see scan.py). RefnetError if the catalog has the file already, or it cannot be adopted.
        """
        self.check_adoptable(source, name)
        self.remember()
        folder = self.folder(source)
        self._rename_damaged(folder / f"{name}{MANIFEST_SUFFIX}")
        with explained(folder / name), disk.open_cold(folder / name) as reader:
            sha256, size = disk.digest(reader)
            os.fchmod(reader.fileno(), 0o600)
        manifest = new_manifest(source, name, made, sha256, size)
        with disk.HiddenFile(folder, ".part") as file:
            file.write(manifest.to_json().encode())
            file.sync()
            disk.publish(file, f"{name}{MANIFEST_SUFFIX}")
        return manifest

    def check_free(self, source: SourceName, name: str) -> None:
        """RefnetError if a file has the name of the artifact `name` of `source`, or of a file beside it."""
        if taken(self.folder(source), name):
            raise name_taken(self.folder(source) / name)

    def check_adoptable(self, source: SourceName, name: str) -> None:
        """RefnetError if the file `name` in the folder of `source` cannot be adopted."""
        path = self.folder(source) / name
        found = next((one for one in self.unlisted(source) if one.name == name), None)
        if found is None:
            raise RefnetError(f"{path} has a manifest already", "`refnet list` shows it.")
        if not found.adoptable:
            raise RefnetError(f"{path} {found.why}", f"It is left unchanged: {found.advice}.")

    def first_check(self, source: SourceName, name: str) -> datetime | None:
        """Time of the first check of the artifact `name`, from its evidence."""
        return self._scan(self.folder(source), source).first_check(name)

    def _rename_damaged(self, path: Path) -> None:
        """Rename the file `path`, if it exists, to a name that is never read."""
        names = (f"{path.name}.damaged{f'-{number}' if number > 1 else ''}" for number in range(1, 100))
        if os.path.lexists(path) and not any(disk.rename(path, path.with_name(name)) for name in names):
            raise RefnetError(f"{path} cannot be renamed", f"Remove the files {path.name}.damaged* there.")

    def delete(self, entry: Entry) -> None:
        folder = self.folder(entry.source)
        manifest, *others = beside(entry.name)
        with disk.hide(folder / manifest) as hidden:
            sync_folder(folder)
            for name in (*others, entry.name):
                disk.remove(folder / name)
            sync_folder(folder)
            disk.remove(hidden)
        sync_folder(folder)

    def clean(self, leftover: Leftover) -> None:
        disk.remove(self.folder(leftover.source) / leftover.name)
        sync_folder(self.folder(leftover.source))

    def _scans(self, source: SourceName | None) -> Iterator[FolderScan]:
        if self.flat:
            yield self._scan(self.root, None)
        else:
            sources = (source,) if source else self.sources()
            yield from (self._scan(self.folder(one), one) for one in sources)

    def _scan(self, folder: Path, source: SourceName | None) -> FolderScan:
        return FolderScan.read(folder, source, self._memory.setdefault(folder, {}))


def _kind_in(folder: Path) -> Kind | None:
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
