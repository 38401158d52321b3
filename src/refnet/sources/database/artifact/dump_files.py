"""Open the files of a foreign dump once, and read them by handle.

The owner of the folder can replace a file at any moment. So each file is opened without following a link and checked
by its handle; programs get the handles, or copies that were read through them.
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

from refnet.core.errors import Exit, RefnetError
from refnet.core.files import OPEN_FOLDER, NotRegularError, open_file, opened
from refnet.postgres.account import Account
from refnet.postgres.tempdirs import private_folder
from refnet.sources.database.artifact import dump_contents
from refnet.sources.database.artifact.dump_contents import Contents

_HANDLES = Path("/proc/self/fd")
_PIECE = 1 << 20
_CONTENTS = "toc.dat"
#: Limit of files in a folder; each table and each large object has one.
_MOST_FILES = 1_000_000


@dataclass(frozen=True)
class DumpPath:
    """The path of a dump for a program."""

    path: Path
    #: Open handles that the program must inherit.
    handles: tuple[int, ...] = ()


def folder_contents(folder: Path) -> Contents:
    """Return the table of contents of a dump in directory format; RefnetError if one of its files is unsafe."""
    with _explained(folder), opened(folder, _LINKED_FOLDER) as handle:
        return _checked(folder, handle)


@contextmanager
def folder_path(folder: Path, account: Account | None) -> Iterator[DumpPath]:
    """Check the folder again, for a program that runs as `account` (None: as this process).

    Yield the folder itself if nobody else can change it, else a private copy.
    """
    with _explained(folder), opened(folder, _LINKED_FOLDER) as handle:
        if account is None and _HANDLES.is_dir() and _ours_alone(handle):
            _checked(folder, handle)
            yield DumpPath(_HANDLES / str(handle), (handle,))
            return
        with _private(account) as copy:
            for name in _names(folder, handle):
                with _file(name, handle) as file:
                    _copy(file, copy / name, account)
            with opened(copy, OPEN_FOLDER) as copied:
                _checked(copy, copied)
            yield DumpPath(copy)


@contextmanager
def file_path(file: BinaryIO, account: Account | None) -> Iterator[DumpPath]:
    """Yield the path of the open `file` for a program that runs as `account` (None: as this process)."""
    if account is None and _HANDLES.is_dir() and (handle := _handle(file)) is not None:
        yield DumpPath(_HANDLES / str(handle), (handle,))
        return
    with _private(account) as folder:
        file.seek(0)
        _copy(file, folder / "dump", account)
        yield DumpPath(folder / "dump")


class UnsupportedDumpError(RefnetError):
    """A dump of a kind that RefNet does not load, even if complete."""


def file_contents(name: str, file: BinaryIO, *, tar: bool) -> Contents:
    """Return the table of contents of a dump in custom or tar format; RefnetError if it cannot be read."""
    try:
        if tar:
            dump_contents.in_tar(file)
        return dump_contents.read(file, custom=not tar)
    except ValueError as error:
        kind = (
            UnsupportedDumpError if isinstance(error, dump_contents.UnsupportedVersionError) else RefnetError
        )
        raise kind(
            f"reading {name}: {error}",
            "Get another copy of the dump. A newer pg_dump's archive needs a newer RefNet.",
        ) from error


#: A folder that a user names may be a link; its files may not.
_LINKED_FOLDER = os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC


@contextmanager
def _explained(folder: Path) -> Iterator[None]:
    """Turn errors about the folder or its files into RefnetErrors."""
    try:
        yield
    except NotRegularError as error:
        raise _unsafe(folder, f"{error.filename} is a link or not a regular file") from error
    except ValueError as error:
        raise _unsafe(folder, str(error)) from error


def _unsafe(folder: Path, why: str) -> RefnetError:
    return RefnetError(
        f"{folder.name} cannot be restored: {why}",
        "pg_restore could read files outside of the folder. Get another copy of the dump.",
        Exit.DAMAGED,
    )


def _checked(folder: Path, handle: int) -> Contents:
    """Check every name, file and file name within the open folder; return its table of contents."""
    for name in _names(folder, handle):
        with _file(name, handle) as file:
            if dump_contents.lists_large_objects(name):
                dump_contents.check_large_objects(name, file)
    with _file(_CONTENTS, handle) as file:
        contents = dump_contents.read(file, custom=False)
    dump_contents.check_file_names(contents)
    return contents


def _file(name: str, folder: int) -> IO[bytes]:
    """Open the regular file `name` of the open folder; ValueError if it is a hard link to another user's file."""
    file = os.fdopen(open_file(name, at=folder), "rb")
    found = os.fstat(file.fileno())
    if found.st_nlink > 1 and found.st_uid != os.fstat(folder).st_uid:
        file.close()
        raise ValueError(f"{name} is a hard link to another user's file")
    return file


def _names(folder: Path, handle: int) -> list[str]:
    names = os.listdir(handle)
    if _CONTENTS not in names:
        raise RefnetError(
            f"{folder.name} is a folder without a dump",
            "Give an artifact of RefNet, SQL (plain or gzipped), or pg_dump's custom, directory or tar format.",
        )
    if len(names) > _MOST_FILES:
        raise ValueError(f"it contains more than {_MOST_FILES:,} files")
    if strange := [name for name in names if not dump_contents.is_file_name(name)]:
        raise ValueError(f"the file name {ascii(strange[0])[:80]} is not one of pg_dump's")
    return names


def _ours_alone(handle: int) -> bool:
    """Whether only root and this user can change the open folder."""
    found = os.fstat(handle)
    return found.st_uid in {0, os.geteuid()} and not found.st_mode & (stat.S_IWGRP | stat.S_IWOTH)


def _handle(file: BinaryIO) -> int | None:
    with suppress(OSError):
        return file.fileno()
    return None


@contextmanager
def _private(account: Account | None) -> Iterator[Path]:
    """Yield a folder that only this process and `account` can enter."""
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
