"""Unpacks a chain of base backups into a new data folder, in which nothing of the backed up configuration is in force.

The full comes first; each increment is applied in place, and what it does not have is removed, so the result is what
pg_combinebackup makes of the chain. The archive may be hostile: members are written by handles that follow no link, and links
are refused. Tablespaces are plain folders below pg_tblspc; where the old machine had them is in force nowhere.
"""

from __future__ import annotations

import os
import re
import sys
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from hashlib import sha256
from pathlib import Path
from typing import Any, BinaryIO, NamedTuple, Self, cast

from refnet.catalog.artifact import MOST_FILES, Progress, silent
from refnet.catalog.cluster_base import BaseFacts
from refnet.catalog.wal import lsn_text, parse_lsn
from refnet.core.blocks import BLOCK as LARGE
from refnet.core.blocks import BlockWriter
from refnet.core.errors import Exit, RefnetError
from refnet.core.files import (
    OPEN_FILE,
    OPEN_FOLDER,
    NotRegularError,
    descended,
    explained,
    opened,
    read_regular,
)
from refnet.core.member_names import ArchiveError, parent, show
from refnet.core.memory import share_one_heap
from refnet.postgres.account import Account
from refnet.sources.cluster import increments
from refnet.sources.cluster.data_files import Writer, give, remove_unseen
from refnet.sources.folder.gzip_members import inflated_members
from refnet.sources.folder.listing import FileKind, Listed
from refnet.sources.folder.tar_archive import BLOCK, TarReader

#: Threads that inflate a base, and threads that write large files.
_THREADS = 2
#: Bytes of a block of PostgreSQL, unless it was built otherwise.
BLOCK_SIZE = 8192
#: Where the configuration of the base lies in the data folder: for a person to read, nothing is run.
FROM_BACKUP = "refnet-from-backup"
CONFIGURATION = frozenset({"postgresql.conf", "postgresql.auto.conf", "pg_hba.conf", "pg_ident.conf"})
#: No server starts with a setting that it does not know.
_MAIN, _UNFINISHED = (
    "postgresql.conf",
    b"# RefNet has not finished this restore. Remove the folder, and restore again.\nrestore_is_unfinished = on\n",
)
#: Files at the top that say how a server runs, or describe the base; the data folder has none of them.
_DROPPED = frozenset(
    {
        *("backup_manifest", "recovery.signal", "standby.signal", "recovery.conf", "recovery.done"),
        *("postmaster.pid", "postmaster.opts", "current_logfiles"),
    }
)
_LABEL, _CONTROL, _WAL = "backup_label", "global/pg_control", "pg_wal"
#: By this map a server would make links to the folders of the old machine.
TABLESPACE_MAP = "tablespace_map"
#: The folders with the files of relations, which an increment may have in part.
_RELATIONS = ("base/", "global/", "pg_tblspc/")
#: Bytes of a label that are read.
_LONGEST_LABEL = 64 << 10
_FIELD = re.compile(
    rb"^(START WAL LOCATION|START TIMELINE|INCREMENTAL FROM LSN|INCREMENTAL FROM TLI): (\S{1,20})",
    re.MULTILINE,
)
_INCREMENTAL = re.compile(rb"^INCREMENTAL FROM (?:LSN|TLI): .*\n", re.MULTILINE)


class Piece(NamedTuple):
    """A base backup of a chain."""

    #: The name of its artifact.
    name: str
    open: Callable[[], BinaryIO]
    #: Of the artifact, in hex.
    sha256: str
    facts: BaseFacts
    #: Where its gzip members begin, in the tar and in the file; (): unknown, so one thread inflates it.
    members: Sequence[tuple[int, int]] = ()


@dataclass(frozen=True)
class Label:
    """What backup_label says: where a recovery begins, and of what an increment was made."""

    start_lsn: int
    timeline: int
    #: The start of the parent, and its timeline; None: a full.
    parent: tuple[int, int] | None = None

    @classmethod
    def read(cls, text: bytes) -> Self:
        """Parse a backup_label; ArchiveError if it is malformed."""
        found = {key: value.decode("ascii", "replace") for key, value in _FIELD.findall(text)}
        try:
            start, timeline = parse_lsn(found[b"START WAL LOCATION"]), int(found[b"START TIMELINE"])
            before = found.get(b"INCREMENTAL FROM LSN")
            return cls(
                start, timeline, (parse_lsn(before), int(found[b"INCREMENTAL FROM TLI"])) if before else None
            )
        except (KeyError, ValueError):
            raise ArchiveError("its backup_label is damaged") from None


def unpack(
    chain: Sequence[Piece],
    folder: Path,
    account: Account,
    progress: Progress = silent,
    *,
    durable: bool = False,
) -> Label:
    """Unpack `chain`, the full first, into `folder`, as files of `account`; return the label of the last.

    The folder has room for the base, and nothing in it but pg_wal, whose WAL is left alone.

    durable: the folder will be kept and flushed. No server starts there until the caller replaces postgresql.conf, also
    after a power failure. RefnetError (DAMAGED) names the artifact that is
    damaged, hostile or does not continue the one before. On an error the caller removes what there is.
    """
    total, done = sum(piece.facts.raw_bytes for piece in chain), 0
    labels = list[Label]()

    def report(at: int) -> None:
        progress("unpacking", done + at, total)

    share_one_heap()
    with (
        explained(folder),
        opened(folder, OPEN_FOLDER) as root,
        ThreadPoolExecutor(_THREADS, "write") as pool,
    ):
        writer = Writer(account, BlockWriter(pool, past_cache=durable))
        _write_own(root, writer, durable=durable)
        for piece in chain:
            with _damaged(piece.name):
                made = _Unpacking(root, writer, piece, full=not labels)
                made.run(report)
                labels.append(Label.read(made.label))
                _check_chain(piece, labels)
            done += piece.facts.raw_bytes
    return labels[-1]


def unpack_as_it_is(piece: Piece, folder: Path, account: Account) -> None:
    """Unpack one base backup into the empty `folder`, with its configuration and incremental files, for pg_combinebackup.

    No server may start there. RefnetError (DAMAGED) as `unpack`.
    """
    share_one_heap()
    with (
        explained(folder),
        opened(folder, OPEN_FOLDER) as root,
        ThreadPoolExecutor(_THREADS, "write") as pool,
        _damaged(piece.name),
    ):
        _AsItIs(root, Writer(account, BlockWriter(pool, past_cache=False)), piece, full=True).run(
            lambda _: None
        )


@contextmanager
def _damaged(name: str) -> Iterator[None]:
    """Turn ArchiveErrors of the block into errors about the artifact `name`."""
    try:
        yield
    except (ArchiveError, IsADirectoryError, NotADirectoryError) as error:
        why = error if isinstance(error, ArchiveError) else f"{error.filename} is both a file and a folder"
        raise RefnetError(
            f"{name} is damaged: {why}",
            "Choose a base backup whose chain does not need it: `refnet list` shows them.",
            Exit.DAMAGED,
        ) from error


def _check_chain(piece: Piece, labels: Sequence[Label]) -> None:
    """Check the newest of `labels` against the facts of `piece` and the label of its parent."""
    label, facts = labels[-1], piece.facts
    if (label.start_lsn, label.timeline) != (facts.start_lsn, facts.timeline):
        raise ArchiveError("its backup_label is of another base backup than its manifest")
    before = (labels[-2].start_lsn, labels[-2].timeline) if len(labels) > 1 else None
    if label.parent != before:
        wanted = lsn_text(label.parent[0]) if label.parent else "no other"
        raise ArchiveError(
            f"it was made from the base backup that starts at {wanted}, and not from the one before it"
        )


def _write_own(root: int, writer: Writer, *, durable: bool) -> None:
    """Write configuration files without a setting; nobody may log in until somebody says who."""
    for name in sorted(CONFIGURATION):
        is_unfinished = durable and name == _MAIN
        writer.write(root, name, (_UNFINISHED if is_unfinished else b"# Written by RefNet.\n",))
    if durable:
        with opened(_MAIN, OPEN_FILE, root) as file:
            os.fsync(file)
        os.fsync(root)


class _Hashed:
    """A reader that digests what is read, once, from its beginning to its end."""

    def __init__(self, reader: BinaryIO) -> None:
        self._reader, self._digest = reader, sha256()
        self.seek = reader.seek

    def read(self, size: int) -> bytes:
        data = self._reader.read(size)
        self._digest.update(data)
        return data

    def readinto(self, buffer: Any) -> int:
        data = self.read(len(buffer))
        buffer[: len(data)] = data
        return len(data)

    def rest(self) -> str:
        """Read to the end; return the digest in hex."""
        while self.read(1 << 20):
            pass
        return self._digest.hexdigest()


class _Unpacking:
    """One base backup on its way into the open folder `root`."""

    def __init__(self, root: int, writer: Writer, piece: Piece, *, full: bool) -> None:
        self._root, self._writer, self._piece, self._full = root, writer, piece, full
        self._left = piece.facts.raw_bytes
        #: What the base has, by its path after the increment is applied.
        self._seen = {".", FROM_BACKUP, *CONFIGURATION}
        self.label = b""
        #: The folder of the last member, and its path: members come folder by folder.
        self._open, self._path = os.dup(root), ""

    def run(self, progress: Callable[[int], None]) -> None:
        """Write every member; remove what the base does not have."""
        try:
            self._write_members(progress)
            if not self._full:  # what an earlier base of the chain has and this one does not
                remove_unseen(self._root, "", self._seen | {_WAL}, (FROM_BACKUP, _WAL))
            self._check_server()
        finally:
            os.close(self._open)

    def _write_members(self, progress: Callable[[int], None]) -> None:
        members, raw_bytes = self._piece.members, self._piece.facts.raw_bytes
        with self._piece.open() as raw:
            hashed = _Hashed(raw)
            file = cast("BinaryIO", hashed)
            with inflated_members(file, members, raw_bytes, _THREADS) as tar:
                reader = TarReader(tar)
                for member in reader:
                    self._take(member, reader)
                    progress(reader.at)
            if hashed.rest() != self._piece.sha256:
                raise ArchiveError("its SHA-256 differs from its manifest's")

    def _take(self, member: Listed, reader: TarReader) -> None:
        path = self._check(member, reader)
        if path in _DROPPED or path == "." or (path == TABLESPACE_MAP and not member.size):
            return
        if _WAL in {path, parent(path)} and member.kind is FileKind.FILE:
            raise ArchiveError(f"{show(path)} is WAL, which belongs in the archive and not in a base backup")
        if path.partition("/")[0] == FROM_BACKUP:
            raise ArchiveError(f"{show(path)} has a name that is reserved")
        self._write_member(member, reader)

    def _check(self, member: Listed, reader: TarReader) -> str:
        """The path of `member`; ArchiveError for a link, and past the size of the manifest."""
        if reader.at + member.size > self._left + BLOCK:
            raise ArchiveError("it has more bytes than its manifest says")
        if member.kind is FileKind.LINK or member.same_as:
            raise ArchiveError(f"{show(member.path)} is a link")
        return member.path

    def _write_member(self, member: Listed, reader: TarReader) -> None:
        path, name = member.path, member.path.rpartition("/")[2]
        if path in CONFIGURATION or path == TABLESPACE_MAP:
            path = f"{FROM_BACKUP}/{name}"
            self._make_folder(FROM_BACKUP)
        elif name.startswith(increments.PREFIX) and path.startswith(_RELATIONS):
            path = f"{parent(path)}/{name.removeprefix(increments.PREFIX)}"
            self._see(path, member.path)
            self._apply(path, member, reader)
            return
        self._see(path, member.path)
        if member.kind is FileKind.FOLDER:
            self._make_folder(path)
            return
        content: Iterable[bytes] = (reader.whole(),) if member.size < LARGE else reader.content()
        if path == _LABEL:
            if member.size > _LONGEST_LABEL:
                raise ArchiveError("its backup_label is too long")
            self.label = b"".join(content)
            content = (_INCREMENTAL.sub(b"", self.label),)
        self._writer.write(self._parent(path), name, content, again=not self._full)

    def _see(self, path: str, member: str) -> None:
        if path in self._seen:
            raise ArchiveError(f"{show(member)} is in the archive twice")
        if len(self._seen) > MOST_FILES:
            raise ArchiveError(f"it has more than {MOST_FILES:,} files")
        self._seen.add(path)

    def _apply(self, path: str, member: Listed, reader: TarReader) -> None:
        if self._full:
            raise ArchiveError(f"{show(member.path)} is incremental, in a full")
        folder, name = self._parent(path), path.rpartition("/")[2]
        try:
            with opened(name, os.O_RDWR | os.O_NOFOLLOW | os.O_CLOEXEC, folder) as file:
                increments.apply(reader.content(), member.size, file, BLOCK_SIZE)
        except FileNotFoundError:
            raise ArchiveError(
                f"{show(member.path)} continues a file that its parent does not have"
            ) from None

    def _make_folder(self, path: str) -> None:
        folder, name = self._parent(path), path.rpartition("/")[2]
        with suppress(FileExistsError):
            os.mkdir(name, 0o700, dir_fd=folder)
        with opened(name, OPEN_FOLDER, folder) as made:
            give(made, self._writer.account)

    def _parent(self, path: str) -> int:
        """The folder of `path`, open until another one is asked for; ArchiveError if it is missing or a file."""
        parts = path.split("/")[:-1]
        if (wanted := "/".join(parts)) != self._path:
            try:
                with descended(self._root, parts) as folder:
                    before, self._open, self._path = self._open, os.dup(folder), wanted
                    os.close(before)
            except (FileNotFoundError, NotADirectoryError):
                raise ArchiveError(f"{show(path)} is in a folder that the archive does not have") from None
        return self._open

    def _check_server(self) -> None:
        """Check that the data folder is of the cluster that the manifest names."""
        try:
            found = read_regular("pg_control", LARGE, at=self._parent(_CONTROL))
        except (FileNotFoundError, NotRegularError):
            raise ArchiveError(f"it has no file {_CONTROL}") from None
        # In every version it begins with the identifier.
        if str(int.from_bytes(found[:8], sys.byteorder)) != self._piece.facts.system_identifier:
            raise ArchiveError("it is of another cluster than its manifest says (system identifier)")


class _AsItIs(_Unpacking):
    """One base backup whose members are written as they are."""

    def __init__(self, root: int, writer: Writer, piece: Piece, *, full: bool) -> None:
        super().__init__(root, writer, piece, full=full)
        self._seen = {"."}

    def _take(self, member: Listed, reader: TarReader) -> None:
        if (path := self._check(member, reader)) == ".":
            return
        self._see(path, path)
        if member.kind is FileKind.FOLDER:
            self._make_folder(path)
            return
        content: Iterable[bytes] = (reader.whole(),) if member.size < LARGE else reader.content()
        self._writer.write(self._parent(path), path.rpartition("/")[2], content)
