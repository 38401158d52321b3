"""Digests of rows and notes at the end of a run, so that the next run renders only changes.

The cache only saves time: a note is skipped if both its row and its bytes are unchanged. If the file is missing,
damaged, or of another version of RefNet, every note is rendered and compared.
"""

import hashlib
import json
from collections.abc import Iterable
from contextlib import suppress
from pathlib import Path

from refnet.core.errors import RefnetError
from refnet.core.files import make_folder, read_regular, replace_file
from refnet.network import frontmatter, note, note_marks
from refnet.network.note import PaperLink

_LIMIT = 256 << 20


def digest(data: bytes) -> str:
    return hashlib.blake2b(data, digest_size=12).hexdigest()


class Cache:
    """The digests of one vault, in a file below `folder`; None: nothing is stored."""

    def __init__(self, folder: Path | None, vault: Path) -> None:
        self._file = folder / f"notes-{digest(bytes(vault.absolute()))}.json" if folder else None
        self._found = _read(self._file) if self._file else {}
        self._seen: dict[str, list[str]] = {}
        self._links = ""

    def begin(self, places: Iterable[tuple[int, PaperLink]]) -> None:
        """Include the input of all links in the digests: the place of every paper."""
        code = [Path(module.__file__ or "").read_bytes() for module in (note, note_marks, frontmatter)]
        shown = [(number, place.path, place.text, place.year) for number, place in places]
        self._links = digest(repr((code, shown)).encode(errors="surrogatepass"))

    def row(self, row: tuple[object, ...]) -> str:
        """Return the digest of a row, including the places of all papers."""
        return digest(f"{self._links}{row!r}".encode(errors="surrogatepass"))

    def has(self, number: int, row: str, content: str | None) -> bool:
        """Return whether the last run wrote or found the note of the paper `number` with this row and content."""
        return content is not None and self._found.get(str(number)) == [row, content]

    def add(self, number: int, row: str, content: str) -> None:
        self._seen[str(number)] = [row, content]

    def save(self) -> None:
        """Write the digests if they changed; an error only makes the next run slower."""
        if self._file and self._seen != self._found:
            with suppress(OSError, RefnetError):
                make_folder(self._file.parent)
                replace_file(self._file, json.dumps(self._seen).encode())


def _read(file: Path) -> dict[str, list[str]]:
    try:
        found = json.loads(read_regular(file, _LIMIT))
    except (OSError, RefnetError, ValueError, RecursionError):
        return {}
    return found if isinstance(found, dict) else {}
