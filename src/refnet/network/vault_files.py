"""The files of a vault: found by their content, each renewed atomically.

All access is by handles, from the open folder of the vault on: another user who can write in the vault could replace a
folder or a file by a link at any time. Symbolic links are neither followed nor replaced.
"""

import errno
import hashlib
import os
import re
import secrets
import stat
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

from refnet.core import attributes
from refnet.core.errors import Exit, RefnetError
from refnet.core.files import (
    NEW_FILE,
    OPEN_FILE,
    OPEN_FOLDER,
    NotRegularError,
    descended,
    names_in,
    nearest,
    open_file,
    opened,
    write_all,
)
from refnet.core.locks import take
from refnet.core.trust import open_folder
from refnet.network.frontmatter import NoteMark, NotOursError, mark_in, tags_in

#: The folder of papers' PDFs.
ATTACHMENTS = "attachments"
_TEMPORARY = ".refnet-"
_PDF = re.compile(r".*-([0-9a-f]{12})\.pdf")
#: How much of a note is read to find its frontmatter, in bytes; most notes are shorter.
_HEAD = 1 << 16
#: The longest note that is read, in bytes.
_LONGEST = 16 << 20
#: The tries for a note that is edited while it is renewed.
_TRIES = 3
#: The errors of opening a link or a file as a folder.
_NO_FOLDER = {errno.ELOOP, errno.ENOTDIR}


def digest(data: bytes) -> str:
    return hashlib.blake2b(data, digest_size=12).hexdigest()


@dataclass(frozen=True, slots=True)
class Note:
    """An existing note of RefNet, recognized by its mark."""

    mark: NoteMark
    #: The path in the vault.
    path: str
    #: The digest of the content; None: too long to compute.
    content: str | None


@contextmanager
def vault_folder(folder: Path, *, make: bool) -> Iterator[int | None]:
    """Open the vault while the block runs; if it is missing, create it with `make`, else yield None."""
    with ExitStack() as stack:
        there = nearest(folder)
        missing = folder.relative_to(there).parts
        handle = open_folder(there)
        stack.callback(os.close, handle)
        if missing and not make:
            yield None
            return
        for name in missing:
            _make_folder(handle, name)
            handle = stack.enter_context(opened(name, OPEN_FOLDER, handle))
        yield handle


@contextmanager
def locked(vault: int, folder: Path) -> Iterator[None]:
    """Lock the open `vault` while the block runs. RefnetError (LOCKED) if another run has locked it."""
    with opened(".", OPEN_FOLDER, vault) as handle:
        if not take(handle):
            raise RefnetError(
                f"{folder} is locked: another run is writing into it",
                "Wait until it ends, then retry. A killed run leaves no lock.",
                Exit.LOCKED,
                transient=True,
            )
        yield


def make_folder(vault: int, folder: Path, name: str) -> None:
    """Create the folder `name` of the open `vault`. RefnetError if it is a symbolic link: it is never followed."""
    _make_folder(vault, name)
    if stat.S_ISLNK(os.stat(name, dir_fd=vault, follow_symlinks=False).st_mode):
        raise RefnetError(f"{folder / name} is a symbolic link", "Replace it with a real folder.")


def _make_folder(at: int, name: str) -> None:
    with suppress(FileExistsError):
        os.mkdir(name, dir_fd=at)
        with opened(name, OPEN_FOLDER, at) as made:
            _give(made, os.fstat(at))


def _give(handle: int, owner: os.stat_result) -> None:
    """As root, give a created file or folder to the user of `owner`, so that this user can edit it."""
    if os.geteuid() == 0 and owner.st_uid:
        os.fchown(handle, owner.st_uid, owner.st_gid)


def find_notes(vault: int) -> Iterator[Note]:
    """Yield RefNet's notes, sorted by path, without hidden folders and symbolic links."""
    folders: list[str] = [""]
    while folders:
        path = folders.pop()
        try:
            with descended(vault, path.split("/")[:-1]) as folder:
                found, inner = _entries(folder)
                folders += [f"{path}{name}/" for name in reversed(inner)]
                for name in found:
                    yield from _known(f"{path}{name}", folder, name)
        except OSError as error:
            if error.errno not in _NO_FOLDER | {errno.ENOENT}:  # else the user moved it
                raise


def _entries(folder: int) -> tuple[list[str], list[str]]:
    """Return the names of the notes and of the folders in the open `folder`, sorted."""
    with os.scandir(folder) as entries:
        visible = sorted((one for one in entries if one.name[0] != "."), key=lambda one: one.name)
        notes = [
            one.name for one in visible if one.name.endswith(".md") and one.is_file(follow_symlinks=False)
        ]
        return notes, [one.name for one in visible if one.is_dir(follow_symlinks=False)]


def _known(path: str, folder: int, name: str) -> Iterator[Note]:
    try:
        with opened(name, OPEN_FILE, folder) as handle:
            data = os.read(handle, _HEAD)
    except OSError as error:
        if error.errno in {errno.ENOENT, errno.ELOOP}:  # the user is at work
            return
        raise
    if mark := mark_in(data.decode(errors="replace")):
        yield Note(mark, path, digest(data) if len(data) < _HEAD else None)


def tagged(vault: int, tag: str) -> Iterator[NoteMark]:
    """Yield the marks of the papers' notes with `tag` as Obsidian counts it: a property or in the text, `tag/inner` too."""
    wanted = tag.removeprefix("#").lower()
    written = re.compile(rf"(?:^|\s)#{re.escape(wanted)}(?![\w-])", re.IGNORECASE)
    for note in find_notes(vault):
        text = None
        with suppress(NotOursError):
            text, _ = read(vault, note.path)
        listed = any(f"{one}/".startswith(f"{wanted}/") for one in tags_in(text or ""))
        if not (note.mark.index or note.mark.kind) and (listed or written.search(text or "")):
            yield note.mark


def canvases(vault: int, folder: str) -> Iterator[tuple[str, str]]:
    """Yield name and text of each canvas in `folder`, sorted by name."""
    for name in _names(vault, folder):
        if name.endswith(".canvas"):
            with suppress(NotOursError):
                text, _ = read(vault, f"{folder}/{name}")
                if text is not None:
                    yield name, text


def _names(vault: int, folder: str) -> list[str]:
    with suppress(FileNotFoundError, NotOursError), _beside(vault, f"{folder}/") as (handle, _):
        return names_in(handle)
    return []


def pdf_key(paper_id: str) -> str:
    """Return the end of the name of a paper's PDF; paper_id: one of its ids, as `scheme:value`."""
    return digest(paper_id.encode())[:12]


def pdfs(vault: int) -> dict[str, str]:
    """Return `pdf_key` → path, of each PDF in the attachments."""
    named = ((_PDF.fullmatch(name), name) for name in _names(vault, ATTACHMENTS))
    return {found[1]: f"{ATTACHMENTS}/{name}" for found, name in named if found}


@contextmanager
def attachments(vault: int, folder: Path) -> Iterator[None]:
    """Make the folder of PDFs, and lock it while the block runs; what a killed run left there is removed."""
    make_folder(vault, folder, ATTACHMENTS)
    with descended(vault, [ATTACHMENTS]) as handle, locked(handle, folder / ATTACHMENTS):
        for name in names_in(handle):
            if name.startswith(_TEMPORARY):
                os.unlink(name, dir_fd=handle)
        yield


def exists(vault: int, path: str) -> bool:
    """Return whether anything is at `path`."""
    try:
        with _beside(vault, path) as (folder, name):
            os.stat(name, dir_fd=folder, follow_symlinks=False)
    except FileNotFoundError:
        return False
    return True


@contextmanager
def _beside(vault: int, path: str) -> Iterator[tuple[int, str]]:
    """Open the folder of `path` while the block runs; yield handle and name. NotOursError at a link on the path."""
    *folders, name = path.split("/")
    with ExitStack() as stack:
        try:
            folder = stack.enter_context(descended(vault, folders))
        except OSError as error:
            if error.errno in _NO_FOLDER:
                raise NotOursError("a folder on its path is a symbolic link or a file") from None
            raise
        yield folder, name


def renew(
    vault: int, path: str, note: Note | None, make: Callable[[str | None], str], *, plan: bool
) -> tuple[bool, str]:
    """Renew the note at `path` with the text of `make`, if it differs.

    Return whether it differs, and the digest of the new content.

    Args:
        note: the existing note; None: a new note.
        make: called with the text of the existing note, or None; returns the new text.
        plan: write nothing.

    NotOursError if the file must not be changed; OSError.
    """
    if note and note.content == digest(make(None).encode()):
        return False, note.content
    for _ in range(_TRIES):
        before, state = read(vault, path) if note else (None, None)
        text = make(before)
        if text == before or plan or replace(vault, path, text, state):
            return text != before, digest(text.encode())
    raise NotOursError("it is edited at this moment; retry")


def read(vault: int, path: str) -> tuple[str | None, os.stat_result | None]:
    """Return text and state of the file; (None, None) if it is missing. NotOursError if it is not a text file."""
    try:
        with _beside(vault, path) as (folder, name), os.fdopen(open_file(name, at=folder), "rb") as file:
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


def replace(vault: int, path: str, text: str, state: os.stat_result | None) -> bool:
    """Write `text` atomically; keep mode, ACL and owner. False if the file has changed since it was read with `state`.

    state: None: a new file; NotOursError if it exists.
    """
    return write(vault, path, lambda handle: write_all(handle, text.encode()), state)


def write(vault: int, path: str, fill: Callable[[int], None], state: os.stat_result | None = None) -> bool:
    """Like `replace`, with what `fill` writes to the handle of the hidden file."""
    part = f"{_TEMPORARY}{secrets.token_hex(8)}.part"
    with _beside(vault, path) as (folder, name):
        try:
            _write(folder, part, fill, name if state else None)
            now = _state(folder, name)
            if state is None and now is not None:
                raise NotOursError("a file of this name exists, and RefNet did not write it")
            if state and not (now and _same(now, state)):
                return False
            os.replace(part, name, src_dir_fd=folder, dst_dir_fd=folder)
        finally:
            with suppress(FileNotFoundError):
                os.unlink(part, dir_fd=folder)
    return True


def _write(folder: int, part: str, fill: Callable[[int], None], name: str | None) -> None:
    """Write the new file `part`, with the attributes of the file `name` that it replaces, if any."""
    handle = os.open(part, NEW_FILE, 0o600 if name else 0o666, dir_fd=folder)
    try:
        if name:
            _copy_attributes(name, folder, handle)
        else:
            _give(handle, os.fstat(folder))
        fill(handle)
    finally:
        os.close(handle)


def _copy_attributes(name: str, folder: int, handle: int) -> None:
    try:
        with opened(name, OPEN_FILE, folder) as old:
            attributes.copy(old, handle)
    except OSError as error:
        if error.errno not in {
            errno.ENOENT,
            errno.ELOOP,
        }:  # else the user is at work, and nothing is replaced
            raise


def _state(folder: int, name: str) -> os.stat_result | None:
    try:
        return os.stat(name, dir_fd=folder, follow_symlinks=False)
    except FileNotFoundError:
        return None


def _same(now: os.stat_result, state: os.stat_result) -> bool:
    return (now.st_ino, now.st_size, now.st_mtime_ns) == (state.st_ino, state.st_size, state.st_mtime_ns)
