"""The store on this machine: `database/`, `config/` and `obsidian/` in one folder.

Publishing: write the artifact under a hidden name; record the intent in a hidden manifest; then rename the artifact, its
list of files and its manifest, in this order, and sync the folder after each. Deleting: hide the manifest, then remove
the other files. So the catalog always has an artifact completely or not at all, and a crash leaves only files that can
be recognized (see scan.py).
"""

from __future__ import annotations

import hashlib
import os
import shutil
from collections.abc import Callable, Container, Iterable, Iterator
from contextlib import AbstractContextManager, ExitStack, contextmanager, nullcontext, suppress
from dataclasses import replace
from datetime import datetime
from functools import partial
from pathlib import Path
from typing import BinaryIO, cast

from isal import isal_zlib

from refnet import __version__
from refnet.catalog.artifact import Made, OpenArtifact
from refnet.catalog.evidence import Marks
from refnet.catalog.manifest import (
    EVIDENCE_SUFFIX,
    FILES_SUFFIX,
    FORMAT,
    MANIFEST_SUFFIX,
    MARKS_SUFFIX,
    Entry,
    Evidence,
    Manifest,
)
from refnet.catalog.source_name import STANDARD, SourceName, artifact_names, wrong_name
from refnet.catalog.store import Leftover, Unlisted
from refnet.core.errors import Exit, RefnetError
from refnet.core.files import check_own, explained, identity, make_folder, nearest, sync_folder
from refnet.core.memory import without_collections
from refnet.store import backup_folder, disk
from refnet.store.backup_folder import Remembered
from refnet.store.open_artifacts import artifact_in, manifest_of
from refnet.store.scan import FolderScan, Memory, beside, kind_in, taken

#: Why an artifact cannot have its name.
IS_ANOTHER = "already exists and is a different file"


class LocalStore:
    """Artifacts in private folders (0700) and files (0600) of this machine.

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
            (name, kind_in(self.root / name))
            for name in names
            if name not in STANDARD and not wrong_name(name)
        )
        return (*STANDARD, *(SourceName(name, kind) for name, kind in kinds if kind))

    def path(self, entry: Entry) -> Path:
        """Return the file of `entry`."""
        return self.folder(entry.source) / entry.name

    @without_collections()
    def entries(self, source: SourceName | None = None) -> tuple[Entry, ...]:
        return tuple(entry for scan in self._scans(source) for entry in scan.entries())

    def leftovers(self, source: SourceName | None = None) -> tuple[Leftover, ...]:
        return tuple(leftover for scan in self._scans(source) for leftover in scan.leftovers())

    @without_collections()
    def entries_and_leftovers(
        self, source: SourceName | None = None
    ) -> tuple[tuple[Entry, ...], tuple[Leftover, ...]]:
        scans = list(self._scans(source))
        return (
            tuple(entry for scan in scans for entry in scan.entries()),
            tuple(leftover for scan in scans for leftover in scan.leftovers()),
        )

    @without_collections()
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
        found = artifact_in(entry.source, self.path(entry), entry.manifest)
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
        return backup_folder.trouble(self.root, self._remembered) if self._remembered else None

    def accept(self) -> str:
        """Make this the expected store; return its id."""
        return backup_folder.accept(self.root, self._remembered) if self._remembered else ""

    def remember(self) -> None:
        """Record the id of this store, before an artifact is published."""
        if self._remembered and (own := backup_folder.mark(self.root)):
            self._remembered.remember(self.root, own)

    def lock(self, source: SourceName) -> AbstractContextManager[object]:
        """Lock `source`. RefnetError, before anything is written, if this is not the expected store."""
        if self.flat:
            return nullcontext()
        if error := self.trouble():
            raise error
        self.check_own(source)
        if self._remembered:
            backup_folder.mark(self.root)
        make_folder(self.folder(source))
        return backup_folder.locked(self.folder(source), source)

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
            bound = (replace(line, artifact=entry.manifest.sha256) for line in evidence)
            disk.append_lines(path, "".join(line.to_json() for line in bound))
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


class LocalDraft:
    """A new artifact in a LocalStore; its content is written to `out`.

    `remember`: records the store, before an artifact is published in it.
    """

    def __init__(
        self, folder: Path, source: SourceName, out: disk.HiddenFile, remember: Callable[[], None]
    ) -> None:
        self._source = source
        self._folder = folder
        self._out = out
        self._remember = remember

    @property
    def out(self) -> BinaryIO:
        return cast(BinaryIO, self._out)

    def publish(
        self, made: Made, local: datetime, seconds: float, others: Container[str] = frozenset()
    ) -> Manifest:
        self._remember()
        shared = self._shared(made)
        sha256, size = (shared.sha256, shared.size) if shared else self._out.sync()
        for name in artifact_names(self._source, local, partial=made.partial):
            if name in others or taken(self._folder, name):
                continue
            manifest = replace(new_manifest(self._source, name, made, sha256, size), seconds=seconds)
            if shared and made.packed_files:
                manifest = replace(manifest, files_sha256=shared.files_sha256)
            if self._publish_files(manifest, shared, _list_of(made)):
                return manifest
        raise RefnetError(
            f"every name for an artifact of {local:%Y-%m-%d %H:%M:%S %Z} is taken in {self._folder}",
            "Retry in a second.",
        )

    def publish_again(self, manifest: Manifest, packed_files: bytes | None) -> None:
        """Publish the written bytes under a `manifest` that was published elsewhere.

        packed_files: the stored list of files, already checked. RefnetError (DAMAGED) if the bytes do not match the
        manifest; RefnetError if the name is taken.
        """
        self._remember()
        if self._out.sync() != (manifest.sha256, manifest.size):
            raise RefnetError(
                f"{manifest.name} is damaged: its bytes do not match its manifest",
                "Choose another artifact.",
                Exit.DAMAGED,
            )
        pieces = None if packed_files is None else (packed_files,)
        if taken(self._folder, manifest.name) or not self._publish_files(manifest, None, pieces):
            raise name_taken(self._folder / manifest.name)

    def _publish_files(
        self, manifest: Manifest, shared: Manifest | None, pieces: Iterable[bytes] | None
    ) -> bool:
        """Publish artifact, list of files (in `pieces`) and manifest; return False if the name was taken meanwhile."""
        with ExitStack() as hidden:
            intent = self._written(hidden, MANIFEST_SUFFIX, manifest.to_json().encode())
            listed = None if pieces is None else self._written(hidden, ".part", *pieces)
            try:
                if not self._publish_artifact(manifest.name, shared):
                    return False
                sync_folder(self._folder)
                if listed:
                    disk.publish(listed, f"{manifest.name}{FILES_SUFFIX}")
                disk.publish(intent, f"{manifest.name}{MANIFEST_SUFFIX}")
            except BaseException:
                self._withdraw(manifest.name)
                raise
        return True

    def _publish_artifact(self, name: str, shared: Manifest | None) -> bool:
        if shared:
            existing = self._folder / shared.name
            with suppress(FileExistsError):
                if disk.hard_link(existing, self._folder / name):
                    return True
            with explained(existing), disk.open_regular(existing) as reader:
                shutil.copyfileobj(reader, self._out, disk.CHUNK)
            self._out.sync()
        return self._out.rename(name)

    def _written(self, hidden: ExitStack, ending: str, *pieces: bytes) -> disk.HiddenFile:
        file = hidden.enter_context(disk.HiddenFile(self._folder, ending))
        for piece in pieces:
            file.write(piece)
        file.sync()
        return file

    def _withdraw(self, name: str) -> None:
        """Undo a partial publication, the manifest first, as in every deletion."""
        for one in (*beside(name), name):
            disk.remove(self._folder / one)

    def _shared(self, made: Made) -> Manifest | None:
        """Manifest of the artifact whose bytes the new one shares; its bytes are checked unless the source did.

        RefnetError if that artifact is damaged.
        """
        name = made.details.get("shares_bytes_with")
        if not name:
            return None
        manifest = manifest_of(self._folder / name)
        with explained(self._folder / name), disk.open_cold(self._folder / name) as reader:
            checked = made.same_file and made.same_file == identity(reader)
            found = None if checked else disk.digest(reader)
        if manifest is None or (found and found != (manifest.sha256, manifest.size)):
            raise RefnetError(
                f"{name} is damaged, so the new artifact cannot share its bytes",
                f"Run `refnet verify {name}` to mark it as damaged, then retry.",
                Exit.DAMAGED,
            )
        return manifest


def name_taken(path: Path, why: str = IS_ANOTHER) -> RefnetError:
    """Error: another file has the artifact's name."""
    return RefnetError(f"{path} {why}", "Move it and the files beside it away, then retry.")


def _list_of(made: Made) -> Iterable[bytes] | None:
    """The stored (packed) list of files, in pieces, or None."""
    if made.files is not None:
        return _packed(made.files)
    return (made.packed_files,) if made.packed_files else None


def _packed(files: bytes) -> Iterator[bytes]:
    """Yield the list of files as one gzip member, in pieces."""
    deflater = isal_zlib.compressobj(1, isal_zlib.DEFLATED, 31)
    for at in range(0, len(files), disk.CHUNK):
        yield deflater.compress(files[at : at + disk.CHUNK])
    yield deflater.flush()


def new_manifest(source: SourceName, name: str, made: Made, sha256: str, size: int) -> Manifest:
    """Return the manifest of the artifact `name`, with the digest and the size of its bytes."""
    return Manifest(
        source=source,
        name=name,
        created=made.created,
        published=made.published,
        shrunk=made.shrunk,
        shrunk_from=made.shrunk_from,
        compared=made.compared,
        identity_id=made.identity_id,
        number=made.number,
        continues=made.continues,
        size=size,
        sha256=sha256,
        seconds=0.0,
        partial=made.partial,
        files_sha256=None if made.files is None else hashlib.sha256(made.files).hexdigest(),
        unchecked=made.unchecked,
        details=made.details,
        made_by=f"refnet {__version__}",
        format=FORMAT,
        binds_evidence=True,
    )
