"""A new artifact of a local store, from its first byte to its publication; see local.py for the order."""

from __future__ import annotations

import hashlib
import shutil
from collections.abc import Callable, Container, Iterable, Iterator
from contextlib import ExitStack, suppress
from dataclasses import replace
from datetime import datetime
from pathlib import Path
from typing import BinaryIO, cast

from isal import isal_zlib

from refnet import __version__
from refnet.catalog.artifact import Made
from refnet.catalog.file_names import artifact_names
from refnet.catalog.manifest import FILES_SUFFIX, FORMAT, MANIFEST_SUFFIX, Manifest
from refnet.catalog.source_name import SourceName
from refnet.core.errors import Exit, RefnetError
from refnet.core.files import explained, identity, sync_folder
from refnet.store import disk
from refnet.store.open_artifacts import manifest_of
from refnet.store.scan import beside, taken

#: Why an artifact cannot have its name.
IS_ANOTHER = "is there already, and is another file"


class LocalDraft:
    """A new artifact in a LocalStore: what is written to `out` in `folder`.

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
            if self._publish(manifest, shared, _list_of(made)):
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
                f"{manifest.name} is damaged: its bytes are not those of its manifest",
                "Choose another artifact.",
                Exit.DAMAGED,
            )
        pieces = None if packed_files is None else (packed_files,)
        if taken(self._folder, manifest.name) or not self._publish(manifest, None, pieces):
            raise name_taken(self._folder / manifest.name)

    def _publish(self, manifest: Manifest, shared: Manifest | None, pieces: Iterable[bytes] | None) -> bool:
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
    )
