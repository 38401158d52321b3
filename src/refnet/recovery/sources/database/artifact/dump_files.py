"""The files of a dump that RefNet did not make, opened once and read by handle.

A path leads wherever its folder's owner wants it to lead at that moment. So each file is opened without following a
link and looked at by its handle; programs get the handles, or copies of what was read through them.
"""

from __future__ import annotations

import os
import shutil
import stat
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import IO, BinaryIO

from refnet.errors import Exit, RefnetError
from refnet.files import OPEN_FOLDER, NotRegularError, open_file, opened
from refnet.postgres.account import Account
from refnet.postgres.tempdirs import private_folder
from refnet.recovery.sources.database.artifact import dump_contents
from refnet.recovery.sources.database.artifact.dump_contents import Contents

_HANDLES = Path("/proc/self/fd")
_PIECE = 1 << 20
_CONTENTS = "toc.dat"
#: Files of a folder: a table has one, so has a large object.
_MOST_FILES = 1_000_000


@dataclass(frozen=True)
class Place:
    """Where a program finds a dump, and the open handles that it must inherit for it."""

    path: Path
    handles: tuple[int, ...] = ()


def folder_contents(folder: Path) -> Contents:
    """The table of contents of a dump in directory format, all of whose files were looked at; else RefnetError."""
    with _told(folder), opened(folder, _LINKED_FOLDER) as handle:
        return _checked(folder, handle)


@contextmanager
def folder_place(folder: Path, account: Account | None) -> Iterator[Place]:
    """The folder for a program that runs as `account` (None: as this process), looked at once more.

    The folder itself where nobody else can change what is in it; else a copy, for this account alone.
    """
    with _told(folder), opened(folder, _LINKED_FOLDER) as handle:
        if account is None and _HANDLES.is_dir() and _ours_alone(handle):
            _checked(folder, handle)
            yield Place(_HANDLES / str(handle), (handle,))
            return
        with _private(account) as copy:
            for name in _names(folder, handle):
                with _file(name, handle) as file:
                    _copy(file, copy / name, account)
            with opened(copy, OPEN_FOLDER) as copied:
                _checked(copy, copied)
            yield Place(copy)


@contextmanager
def file_place(file: BinaryIO, account: Account | None) -> Iterator[Place]:
    """The dump in the open `file` for a program that runs as `account` (None: as this process)."""
    if account is None and _HANDLES.is_dir() and (handle := _handle(file)) is not None:
        yield Place(_HANDLES / str(handle), (handle,))
        return
    with _private(account) as folder:
        file.seek(0)
        _copy(file, folder / "dump", account)
        yield Place(folder / "dump")


class NotTakenError(RefnetError):
    """A dump of a kind that RefNet does not load, even where it is complete."""


def file_contents(name: str, file: BinaryIO, *, tar: bool) -> Contents:
    """The table of contents of a dump in custom or tar format; RefnetError where it cannot be read."""
    try:
        if tar:
            dump_contents.in_tar(file)
        return dump_contents.read(file, custom=not tar)
    except ValueError as error:
        kind = NotTakenError if isinstance(error, dump_contents.UnsupportedVersionError) else RefnetError
        raise kind(
            f"reading {name}: {error}",
            "Take another copy of it. A newer pg_dump's archive needs a newer RefNet.",
        ) from error


#: A folder that a user names may be a link; what is in it may not.
_LINKED_FOLDER = os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC


@contextmanager
def _told(folder: Path) -> Iterator[None]:
    """Tell in two lines what is wrong with the folder or with a file in it."""
    try:
        yield
    except NotRegularError as error:
        raise _unsafe(folder, f"{error.filename} is a link or no regular file") from error
    except ValueError as error:
        raise _unsafe(folder, str(error)) from error


def _unsafe(folder: Path, why: str) -> RefnetError:
    return RefnetError(
        f"{folder.name} is no dump that can be restored: {why}",
        "pg_restore would read what lies outside of it. Take another copy of the dump, made by pg_dump.",
        Exit.DAMAGED,
    )


def _checked(folder: Path, handle: int) -> Contents:
    """The contents of the open folder; each name, each file and each place within it was looked at."""
    for name in _names(folder, handle):
        with _file(name, handle) as file:
            if dump_contents.lists_large_objects(name):
                dump_contents.check_large_objects(name, file)
    with _file(_CONTENTS, handle) as file:
        contents = dump_contents.read(file, custom=False)
    dump_contents.check_places(contents)
    return contents


def _file(name: str, folder: int) -> IO[bytes]:
    """The regular file `name` of the open folder; ValueError where it is a file of another user's, linked in."""
    file = os.fdopen(open_file(name, at=folder), "rb")
    found = os.fstat(file.fileno())
    if found.st_nlink > 1 and found.st_uid != os.fstat(folder).st_uid:
        file.close()
        raise ValueError(f"{name} is also another user's file")
    return file


def _names(folder: Path, handle: int) -> list[str]:
    names = os.listdir(handle)
    if _CONTENTS not in names:
        raise RefnetError(
            f"{folder.name} is a folder without a dump in it",
            "Give an artifact of RefNet, SQL (plain or gzipped), or pg_dump's custom, directory or tar format.",
        )
    if len(names) > _MOST_FILES:
        raise ValueError(f"it holds more than {_MOST_FILES:,} files")
    if strange := [name for name in names if not dump_contents.is_file_name(name)]:
        raise ValueError(f"pg_dump names no file {ascii(strange[0])[:80]}")
    return names


def _ours_alone(handle: int) -> bool:
    """Whether root and this user alone can put other files into the open folder."""
    found = os.fstat(handle)
    return found.st_uid in {0, os.geteuid()} and not found.st_mode & (stat.S_IWGRP | stat.S_IWOTH)


def _handle(file: BinaryIO) -> int | None:
    with suppress(OSError):
        return file.fileno()
    return None


@contextmanager
def _private(account: Account | None) -> Iterator[Path]:
    """A folder that this process and `account` alone can enter."""
    with private_folder() as base:
        folder = base / "dump"
        folder.mkdir(mode=0o700)
        if account and account.other:
            base.chmod(0o711)
            os.chown(folder, account.uid, account.gid)
        yield folder


def _copy(file: IO[bytes], to: Path, account: Account | None) -> None:
    with os.fdopen(open_file(to, os.O_WRONLY | os.O_CREAT | os.O_EXCL), "wb") as out:
        shutil.copyfileobj(file, out, _PIECE)
        if account and account.other:
            os.fchown(out.fileno(), account.uid, account.gid)
