"""Reads the small files of a folder ahead, for its archive, in this process and in a second one.

A small file costs more time of Python than of the disk, and Python runs on one core. Whatever is not a plain file, or
changes while it is read, is left to the caller.
"""

from __future__ import annotations

import gc
import marshal
import os
import select
import signal
import socket
import stat
import struct
import threading
import time
from collections import deque
from collections.abc import Generator, Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass
from hashlib import sha256
from itertools import islice
from typing import NamedTuple, NoReturn, Self

from refnet.core import attributes
from refnet.core.attributes import NONE
from refnet.core.files import OPEN_FILE
from refnet.core.member_names import MAX_PART, ArchiveError, checked
from refnet.core.processes import end_with_parent
from refnet.sources.folder.listing import FILE_MODE, FileKind, Listed
from refnet.sources.folder.tar_archive import header, padding
from refnet.sources.folder.tree import Record, recorded, same, stamp
from refnet.sources.folder.walk import EntryRun

#: The most bytes of a small file, and how many runs are read ahead: all of them are in memory.
_SMALL, _AHEAD = 16 << 10, 6
#: A run with fewer entries is not sent to the second process.
_LEAST = 16
#: A folder with so many runs, or entries in fewer, is worth a second process.
_FIRST, _MANY = 32, 500
#: How many runs the second process has at a time, so that it does not wait for the next one.
_SENT = 2
#: An answer that takes longer does not come.
_SECONDS = 60.0
_LENGTH = struct.Struct("<Q")
#: Bits that are counted as not kept.
_SPECIAL = stat.S_ISUID | stat.S_ISGID

#: A file as it was read: its record, its stamp, the SHA-256 of its content (hex), and its member of the archive: header,
#: content and padding.
SmallFile = tuple[Record, int, str, bytes]


class ReadRun(NamedTuple):
    """A run of entries, and what was read of them."""

    run: EntryRun
    #: When reading began.
    since_ns: int
    #: One for each name; None: the caller reads it.
    files: Sequence[SmallFile | None]


def read_ahead(runs: Iterator[EntryRun], jobs: int) -> Generator[ReadRun, None, None]:
    """Yield `runs` in order, with their small files. With two `jobs` and many entries a second process reads some of them."""
    waiting = deque(map(_Waiting.of, islice(runs, _FIRST)))
    second = None
    many = len(waiting) == _FIRST or sum(len(one.run.names) for one in waiting) >= _MANY
    # A fork copies one thread alone; what other threads hold would stay held in it.
    if jobs > 1 and many and threading.active_count() == 1:
        with suppress(OSError):  # the user's limit of processes is reached
            second = _Second()
    try:
        while waiting:
            if second:
                second.read_first(waiting)
            yield waiting[0].read or waiting[0].read_here()
            os.close(waiting.popleft().run.folder)
            waiting.extend(map(_Waiting.of, islice(runs, max(0, _AHEAD - len(waiting)))))
    finally:
        for one in waiting:
            os.close(one.run.folder)
        if second:
            second.end()


@dataclass(eq=False)
class _Waiting:
    """A run whose turn has not come, with a handle of its own: the walk goes on and closes its folders."""

    run: EntryRun
    read: ReadRun | None = None

    @classmethod
    def of(cls, run: EntryRun) -> Self:
        return cls(run._replace(folder=os.dup(run.folder)))

    @property
    def names(self) -> list[str]:
        """The names of the files; "" for each other entry."""
        _, _, names, kinds, error = self.run
        if error:
            return [""] * len(names)
        return [name if name not in kinds else "" for name in names] if kinds else names

    def read_here(self) -> ReadRun:
        self.read = ReadRun(self.run, time.time_ns(), _read(self.run.folder, self.run.prefix, self.names))
        return self.read


class _Second:
    """A process that reads runs, a fork of this one. If it ends too early or hangs, this one reads the rest."""

    def __init__(self) -> None:
        self._socket, theirs = socket.socketpair()
        self._socket.settimeout(_SECONDS)
        self._answers = select.poll()
        self._answers.register(self._socket, select.POLLIN)
        #: What it has to read, in this order.
        self._sent: deque[_Waiting] = deque()
        self._ended = False
        before = signal.pthread_sigmask(signal.SIG_BLOCK, signal.valid_signals())
        try:
            self._pid = os.fork()
            if not self._pid:
                _serve(theirs, self._socket)
        except OSError:
            self._socket.close()
            raise
        finally:
            theirs.close()
            signal.pthread_sigmask(signal.SIG_SETMASK, before)

    def read_first(self, waiting: deque[_Waiting]) -> None:
        """Read until the first of `waiting` is read, while the second process reads others."""
        while not waiting[0].read:
            try:
                self._read_one(waiting)
            except OSError:
                self._sent.clear()
                self._ended = True

    def _read_one(self, waiting: deque[_Waiting]) -> None:
        free = [one for one in waiting if not one.read and one not in self._sent]
        if waiting[0] in self._sent and (not free or self._answers.poll(0)):
            answer = marshal.loads(_received(self._socket))  # noqa: S302  # of a fork of this process
            one = self._sent.popleft()
            one.read = ReadRun(one.run, *answer)
            return
        for one in free[1:]:
            if not self._ended and len(self._sent) < _SENT and len(one.run.names) >= _LEAST:
                self._send(one)
        free[0].read_here()

    def _send(self, one: _Waiting) -> None:
        paths = os.fsencode("\0".join((one.run.prefix, *one.names)))
        socket.send_fds(self._socket, [_LENGTH.pack(len(paths))], [one.run.folder])
        self._socket.sendall(paths)
        self._sent.append(one)

    def end(self) -> None:
        """End the process, also one that hangs."""
        self._socket.close()
        with suppress(ProcessLookupError, ChildProcessError):
            os.kill(self._pid, signal.SIGKILL)
            os.waitpid(self._pid, 0)


def _serve(requests: socket.socket, other_end: socket.socket) -> NoReturn:
    """Read what is asked for until the parent closes its end; no signal but SIGKILL arrives here."""
    try:
        end_with_parent(signal.SIGKILL)
        other_end.close()
        gc.disable()  # it would write to the pages that are shared with the parent
        while True:
            length, folders, *_ = socket.recv_fds(requests, _LENGTH.size, 1)
            prefix, *names = os.fsdecode(bytes(_received(requests, length))).split("\0")
            answer = marshal.dumps((time.time_ns(), _read(folders[0], prefix, names)))
            os.close(folders[0])
            requests.sendall(_LENGTH.pack(len(answer)))
            requests.sendall(answer)
    finally:  # nothing of the parent's cleanup runs here; without an answer it reads by itself
        os._exit(0)


def _received(peer: socket.socket, length: bytes = b"") -> bytearray:
    """Return a message; `length`: what was already received of it. ConnectionError if the other process has ended."""
    found = bytearray(_LENGTH.unpack(length or _exactly(peer, bytearray(_LENGTH.size)))[0])
    return _exactly(peer, found)


def _exactly(peer: socket.socket, into: bytearray) -> bytearray:
    left = memoryview(into)
    while left:
        count = peer.recv_into(left)
        if not count:
            raise ConnectionError
        left = left[count:]
    return into


def _read(folder: int, prefix: str, names: Sequence[str]) -> list[SmallFile | None]:
    return [_small_file(folder, name, prefix + name) if name else None for name in names]


def _small_file(folder: int, name: str, path: str) -> SmallFile | None:
    """Read the file `name` of the open `folder`; None if it is not small and plain, or not as it was before."""
    try:
        if len(raw := os.fsencode(path)) > MAX_PART:
            checked(raw)
        handle = os.open(name, OPEN_FILE, dir_fd=folder)
    except (ArchiveError, OSError):
        return None
    try:
        status = os.fstat(handle)
        if not _is_plain(status) or attributes.read(handle) != (NONE, ()):
            return None
        data = os.read(handle, status.st_size + 1)
        if len(data) != status.st_size or not same(status, os.fstat(handle)):
            return None
    except OSError:
        return None
    finally:
        os.close(handle)
    record, digest = recorded(status), sha256(data).hexdigest()
    listed = listed_file(path, record, digest, -1)
    return record, stamp(status), digest, header(listed) + data + padding(len(data))


def _is_plain(status: os.stat_result) -> bool:
    mode = status.st_mode
    return stat.S_ISREG(mode) and not mode & _SPECIAL and status.st_nlink == 1 and status.st_size <= _SMALL


def listed_file(path: str, record: Record, digest: str, at: int) -> Listed:
    """Return the entry of a file with the SHA-256 `digest`, whose header is at the byte `at` of the tar."""
    _, size, mode, uid, gid, mtime_ns, _ = record
    return Listed(path, FileKind.FILE, size, mode & FILE_MODE, mtime_ns, uid, gid, at, digest)
