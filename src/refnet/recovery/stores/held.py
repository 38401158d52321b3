"""Artifacts that can be read: those of a folder's catalog, and any file at any path."""

from __future__ import annotations

import gzip
import hashlib
import os
import zlib
from pathlib import Path
from typing import BinaryIO, cast

from refnet.errors import Exit, RefnetError
from refnet.files import read_regular
from refnet.recovery.model.artifact import FILES_SUFFIX, MANIFEST_SUFFIX, Manifest
from refnet.recovery.model.source import Held
from refnet.recovery.stores.disk import explained, open_regular

#: The largest manifest that is read, in bytes.
MANIFEST_BYTES = 4 << 20
#: The largest list of files that is read, in bytes as it lies on the disk.
_LIST_BYTES = 512 << 20


def held_in(folder: Path, name: str, manifest: Manifest | None, *, links: bool = False) -> Held:
    """The artifact `name` in `folder`; its list of files is compared with the manifest when it is read.

    `links`: whether the artifact may be a link, as a path that a user names may.
    """

    def open_it() -> BinaryIO:
        with explained(folder / name):
            return (folder / name).open("rb") if links else cast(BinaryIO, open_regular(folder / name))

    def files() -> bytes | None:
        path = folder / f"{name}{FILES_SUFFIX}"
        if manifest is None or manifest.files_sha256 is None:
            return None
        with explained(path):
            packed = read_regular(path, _LIST_BYTES) if os.path.lexists(path) else None
        if packed is None:
            raise RefnetError(
                f"{name} has lost its list of files",
                f"Take another artifact (`refnet list`). Copied elsewhere, {name} alone can still be restored,"
                " and nothing says then what it should hold.",
                Exit.DAMAGED,
            )
        return _inflated(packed, manifest.files_sha256, path)

    return Held(name, open_it, manifest, files, folder / name)


def held_at(path: Path) -> Held:
    """The artifact at `path`, with its manifest where `PATH.json` stands beside it.

    RefnetError where there is no such file, or where what stands beside it is no manifest.
    """
    if not path.is_file():
        raise RefnetError(
            f"there is no file {path}",
            "Give the path of an artifact, or a name that `refnet list` shows.",
            Exit.USAGE,
        )
    return held_in(path.parent, path.name, manifest_of(path), links=True)


def manifest_of(path: Path) -> Manifest | None:
    """The manifest beside the artifact at `path`, or None where it has none."""
    beside = path.with_name(f"{path.name}{MANIFEST_SUFFIX}")
    try:
        with explained(beside):
            return (
                Manifest.from_json(read_regular(beside, MANIFEST_BYTES)) if os.path.lexists(beside) else None
            )
    except ValueError as error:
        raise RefnetError(
            f"{beside} cannot be used: {error}",
            f"Move it away to have {path.name} judged by its own index.",
            Exit.DAMAGED,
        ) from error


def _inflated(packed: bytes, sha256: str, path: Path) -> bytes:
    try:
        files = gzip.decompress(packed)
    except (gzip.BadGzipFile, EOFError, zlib.error):
        files = None
    if files is None or hashlib.sha256(files).hexdigest() != sha256:
        raise RefnetError(
            f"{path.name} is not the list of files that its manifest speaks of",
            "The artifact cannot be compared any more: choose another one (`refnet list`).",
            Exit.DAMAGED,
        )
    return files
