"""Open artifacts: from the catalog of a folder, or at any path."""

import hashlib
import io
import shlex
import zlib
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, BinaryIO, cast

from isal import isal_zlib

from refnet.catalog.artifact import MOST_LIST_BYTES, OpenArtifact, most_listed
from refnet.catalog.evidence import MARKS_BYTES, Marks
from refnet.catalog.manifest import FILES_SUFFIX, MANIFEST_SUFFIX, MARKS_SUFFIX, Manifest
from refnet.catalog.source_name import SourceName
from refnet.core.errors import Exit, RefnetError
from refnet.core.files import TooLargeError, explain, explained, read_regular
from refnet.store.disk import open_regular

#: The largest manifest that is read, in bytes.
MANIFEST_BYTES = 4 << 20
#: Limits of a list of files, in bytes: one entry (a path and a target of 4,096 bytes, each byte escaped as six), and
#: the head without the offsets of the gzip members, which are shorter than the members themselves.
_ENTRY, _HEAD = 50_000, 4096
_GZIP = 16 + 15
#: Bytes of a list of files that are inflated at once.
_PIECE = 1 << 20
_INFLATE_ERRORS = (zlib.error, cast("type[Exception]", isal_zlib.error))


def artifact_in(
    source: SourceName, path: Path, manifest: Manifest | None, *, links: bool = False
) -> OpenArtifact:
    """Return the artifact of `source` in the file `path`; its list of files is compared with the manifest when it is read.

    `links`: the artifact may be a link, for a path from the user.
    """

    def open_it() -> BinaryIO:
        with explained(path):
            raw = path.open("rb", buffering=0) if links else open_regular(path, buffering=0)
        return _Explained(cast(io.RawIOBase, raw), path)

    def stored(most: int) -> bytes | None:
        return _read(path.with_name(f"{path.name}{FILES_SUFFIX}"), most)

    files, packed_files, pieces = listed_in(path.name, manifest, stored)
    return OpenArtifact(
        source, path.name, open_it, manifest, files, path, packed_files=packed_files, file_pieces=pieces
    )


class _Explained(io.BufferedReader):
    """A file that raises disk errors as RefnetErrors about `path`."""

    def __init__(self, raw: io.RawIOBase, path: Path) -> None:
        super().__init__(raw)
        self._path = path

    def read(self, size: int | None = -1, /) -> bytes:
        try:
            return super().read(size)
        except OSError as error:
            raise explain(error, self._path) from error

    def readinto(self, buffer: Any, /) -> int:
        try:
            return super().readinto(buffer)
        except OSError as error:
            raise explain(error, self._path) from error


def listed_in(
    name: str, manifest: Manifest | None, stored: Callable[[int], bytes | None]
) -> tuple[Callable[[], bytes | None], Callable[[], bytes | None], Callable[[], Iterator[bytes]]]:
    """Return `files`, `packed_files` and `file_pieces` of the OpenArtifact `name`.

    stored: reads the stored list of files, up to the given size; None: the list is missing.
    """

    def packed() -> tuple[bytes, str, int] | None:
        """The stored list of files, its digest, and the limit of its decompressed size."""
        if manifest is None or manifest.files_sha256 is None:
            return None
        most = min(most_listed(manifest) * _ENTRY + manifest.size + _HEAD, MOST_LIST_BYTES)
        found = stored(most)
        if found is None:
            raise RefnetError(
                f"the list of files of {name} is missing",
                f"Choose another artifact (`refnet list`). A copy of {name} alone can still be restored, but not "
                "compared with its list.",
                Exit.DAMAGED,
            )
        return found, manifest.files_sha256, most

    def files() -> bytes | None:
        found = packed()
        return _inflated(*found, f"{name}{FILES_SUFFIX}") if found else None

    def packed_files() -> bytes | None:
        found = packed()
        for _ in _checked(*found, f"{name}{FILES_SUFFIX}") if found else ():
            pass
        return found[0] if found else None

    def file_pieces() -> Iterator[bytes]:
        found = packed()
        yield from _checked(*found, f"{name}{FILES_SUFFIX}") if found else ()

    return files, packed_files, file_pieces


def artifact_at(path: Path, source: SourceName) -> OpenArtifact:
    """Return the artifact at `path`, with its manifest if `PATH.json` exists; without one it is of `source`.

    RefnetError if the file does not exist, or its manifest is not valid.
    """
    if not path.is_file():
        raise RefnetError(
            f"{path} does not exist",
            "Give the path of an artifact, or a name from `refnet list`.",
            Exit.USAGE,
        )
    manifest = manifest_of(path)
    return artifact_in(manifest.source if manifest else source, path, manifest, links=True)


def folder_at(path: Path, source: SourceName = SourceName.DATABASE) -> OpenArtifact:
    """Return the dump in pg_dump's directory format at `path`, as one of `source`."""
    return OpenArtifact(source, path.name, lambda: (path / "toc.dat").open("rb"), None, path=path)


def manifest_of(path: Path) -> Manifest | None:
    """Return the manifest beside the artifact at `path`, or None if it has none."""
    beside = path.with_name(f"{path.name}{MANIFEST_SUFFIX}")
    text = _read(beside, MANIFEST_BYTES)
    try:
        return None if text is None else Manifest.from_json(text)
    except ValueError as error:
        raise RefnetError(
            f"{beside} cannot be used: {error}",
            f"Use the RefNet that wrote it, or recreate it from the artifact: `refnet adopt {shlex.quote(str(path))}`.",
            Exit.DAMAGED,
        ) from error


def marks_of(path: Path) -> Marks:
    """Return the marks of the artifact at `path`; their file may be missing, or damaged."""
    try:
        return Marks.from_file(read_regular(path.with_name(f"{path.name}{MARKS_SUFFIX}"), MARKS_BYTES))
    except FileNotFoundError:
        return Marks()
    except OSError as error:
        return Marks(unreadable=error.strerror or "unknown error")
    except ValueError as error:
        return Marks(unreadable=str(error))


def listed_beside(path: Path) -> bytes | None:
    """The decompressed, unchecked list of files beside the artifact at `path`; None if unreadable."""
    try:
        packed = read_regular(path.with_name(f"{path.name}{FILES_SUFFIX}"), MOST_LIST_BYTES)
    except OSError:
        return None
    return _one_member(packed, MOST_LIST_BYTES)


def _read(path: Path, limit: int) -> bytes | None:
    """Read the file at `path`, of at most `limit` bytes; return None if it does not exist."""
    with explained(path):
        try:
            return read_regular(path, limit)
        except FileNotFoundError:
            return None
        except TooLargeError as error:
            raise RefnetError(
                f"{path.name} is damaged: {error.strerror}",
                "Choose another artifact (`refnet list`).",
                Exit.DAMAGED,
            ) from error


def _inflated(packed: bytes, sha256: str, most: int, file: str) -> bytes:
    """Inflate the list of files `packed`. RefnetError if its digest is not `sha256`."""
    files = _one_member(packed, most)
    if files is None or hashlib.sha256(files).hexdigest() != sha256:
        raise _damaged(file)
    return files


def _checked(packed: bytes, sha256: str, most: int, file: str) -> Iterator[bytes]:
    """Inflate the list of files `packed` like `_inflated`, in pieces: a million files take 200 MB."""
    digest = hashlib.sha256()
    try:
        for piece in _pieces(packed, most):
            digest.update(piece)
            yield piece
    except _INFLATE_ERRORS:
        raise _damaged(file) from None
    if digest.hexdigest() != sha256:
        raise _damaged(file)


def _damaged(file: str) -> RefnetError:
    return RefnetError(
        f"{file} is damaged: it does not match the manifest",
        "This artifact can no longer be verified. Choose another one (`refnet list`).",
        Exit.DAMAGED,
    )


def _one_member(packed: bytes, most: int) -> bytes | None:
    """Inflate one complete gzip member of at most `most` bytes; return None if `packed` is anything else."""
    files = io.BytesIO()  # in one piece, zlib needs the memory twice
    try:
        for piece in _pieces(packed, most):
            files.write(piece)
    except _INFLATE_ERRORS:
        return None
    return files.getvalue()


def _pieces(packed: bytes, most: int) -> Iterator[bytes]:
    """Inflate one complete gzip member of at most `most` bytes in pieces; one of _INFLATE_ERRORS if it is none."""
    inflater, size = isal_zlib.decompressobj(_GZIP), 0  # in half the time of zlib
    for at in range(0, len(packed), _PIECE):
        left = packed[at : at + _PIECE]
        while left and not inflater.eof and size <= most:
            yield (piece := inflater.decompress(left, _PIECE))
            size += len(piece)
            left = inflater.unconsumed_tail
        if left:
            raise zlib.error("too large, or data after its end")
    yield (rest := inflater.flush())
    if not inflater.eof or inflater.unused_data or size + len(rest) > most:
        raise zlib.error("cut, too large, or data after its end")
