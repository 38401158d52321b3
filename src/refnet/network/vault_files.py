"""The files of a vault: found by what is in them, renewed one by one, each in one step.

No symbolic link is followed, and none is replaced.
"""

import os
import secrets
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from refnet.errors import Exit, RefnetError
from refnet.files import OPEN_FILE, NotRegularError, explained, open_file, opened
from refnet.locks import take
from refnet.network.frontmatter import NotOursError, mark_in
from refnet.network.vault_cache import digest

_TEMPORARY = ".refnet-"
#: The frontmatter is in this many bytes; most notes are shorter.
_HEAD = 1 << 16
#: A longer note is not RefNet's to read into memory.
_LONGEST = 16 << 20
#: How often a note is read again that somebody edits while it is renewed.
_TRIES = 3


@dataclass(frozen=True, slots=True)
class Note:
    """An existing note that RefNet knows by its mark (`frontmatter.mark_in`)."""

    key: str
    number: int
    #: Its path in the vault.
    path: str
    #: The digest of its bytes; None: it is too long to tell.
    content: str | None


@contextmanager
def locked(folder: Path) -> Iterator[None]:
    """Lock `folder` while the block runs. RefnetError (LOCKED) if another run has locked it."""
    with opened(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC) as handle:
        if not take(handle):
            raise RefnetError(
                f"{folder} is locked: another run writes its notes",
                "Wait until it ends, then retry. A killed run leaves no lock.",
                Exit.LOCKED,
                transient=True,
            )
        yield


def make_folder(vault: Path, name: str) -> None:
    """Create the folder `name` of `vault`. RefnetError if it is a symbolic link: what it leads to is never searched."""
    if (vault / name).is_symlink():
        raise RefnetError(f"{vault / name} is a symbolic link", "Replace it with the folder itself.")
    (vault / name).mkdir(parents=True, exist_ok=True)


def find_notes(vault: Path) -> Iterator[Note]:
    """Yield the notes that RefNet knows, in the order of their paths, hidden folders and symbolic links left out."""
    folders = [""] if vault.is_dir() else []
    while folders:
        folder = folders.pop()
        with os.scandir(vault / folder) as entries:
            visible = sorted((one for one in entries if one.name[0] != "."), key=lambda one: one.name)
        folders += [f"{folder}{one.name}/" for one in reversed(visible) if one.is_dir(follow_symlinks=False)]
        for one in visible:
            if one.name.endswith(".md") and one.is_file(follow_symlinks=False):
                yield from _known(f"{folder}{one.name}", one.path)


def _known(path: str, file: str) -> Iterator[Note]:
    try:
        with opened(file, OPEN_FILE) as handle:
            data = os.read(handle, _HEAD)
    except FileNotFoundError:  # its reader is at work
        return
    if mark := mark_in(data.decode(errors="replace")):
        yield Note(*mark, path, digest(data) if len(data) < _HEAD else None)


def renew(
    path: Path, note: Note | None, make: Callable[[str | None], str], *, plan: bool
) -> tuple[bool, str]:
    """Write what `make` makes of the note at `path`, if that differs from what is there.

    Return whether it differs, and the digest of what is there afterwards.

    Args:
        note: the existing note; None: it is new.
        make: gets the text of the existing note, or None.
        plan: write nothing.

    NotOursError if RefNet must not touch the file; OSError.
    """
    if note and note.content == digest(make(None).encode()):
        return False, note.content
    for _ in range(_TRIES):
        before, state = read(path) if note else (None, None)
        text = make(before)
        if text == before or plan or replace(path, text, state):
            return text != before, digest(text.encode())
    raise NotOursError("it is edited at this moment; retry")


def read(path: Path) -> tuple[str | None, os.stat_result | None]:
    """Return the text of the file and its state; (None, None) if there is none. NotOursError if it cannot be text."""
    try:
        with os.fdopen(open_file(path), "rb") as file:
            data, state = file.read(_LONGEST + 1), os.fstat(file.fileno())
        if len(data) > _LONGEST:
            raise NotOursError(f"it is longer than {_LONGEST >> 20} MiB")
        return data.decode(), state
    except FileNotFoundError:
        return None, None
    except NotRegularError:
        raise NotOursError("it is not a regular file") from None
    except UnicodeDecodeError as error:
        raise NotOursError(f"it is not UTF-8: {error.reason} at byte {error.start:,}") from None


def replace(path: Path, text: str, state: os.stat_result | None) -> bool:
    """Write `text` atomically; keep the mode. Return False if the file is not as it was read with `state`.

    state: None: there was no file. NotOursError if one is there nevertheless.
    """
    part = path.with_name(f"{_TEMPORARY}{secrets.token_hex(8)}.part")
    try:
        with explained(path), part.open("x", encoding="utf-8", newline="") as file:
            file.write(text)
            if state:
                os.fchmod(file.fileno(), state.st_mode & 0o777)
        if state is None and os.path.lexists(path):
            raise NotOursError("a file that is not RefNet's has its name")
        if state and not _is_as(path, state):
            return False
        with explained(path):
            part.replace(path)
    finally:
        part.unlink(missing_ok=True)
    return True


def _is_as(path: Path, state: os.stat_result) -> bool:
    try:
        now = path.lstat()
    except FileNotFoundError:
        return False
    return (now.st_ino, now.st_size, now.st_mtime_ns) == (state.st_ino, state.st_size, state.st_mtime_ns)
