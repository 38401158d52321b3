"""A bucket in a folder of an SFTP server (`sftp://user@host/folder`), through the system's `ssh`.

ssh's own settings name keys, jump hosts and known hosts; nobody is asked. The folder must exist. An object is written to
a hidden file, flushed where the server can, and renamed to its name, which must not exist.
"""

from __future__ import annotations

import stat
import threading
import time
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, nullcontext, suppress
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import TypeVar

from refnet.settings.urls import StoreUrl
from refnet.store.buckets import bucket
from refnet.store.buckets.bucket import (
    BucketError,
    BucketFailure,
    Stored,
    Version,
    checked_name,
    hidden_name,
    is_leftover,
    is_name,
)
from refnet.store.buckets.sftp_protocol import (
    Ask,
    Attributes,
    BadReplyError,
    Connection,
    LostError,
    Reply,
    SftpRefusedError,
    SftpStatus,
    said_of,
)

#: The bytes of a write, which every server takes, and of a read; and the requests that are on the way at once.
_WRITTEN, _ASKED, _WINDOW = 32 * 1024, 128 * 1024, 64
_READ, _NEW = 0x01, 0x02 | 0x08 | 0x20  # WRITE, CREAT, EXCL
#: The pace that a server must keep, so that none holds a command with answers that bring nothing: bytes and names per
#: second, and the most answers without a name, or with less than was asked for, of one list or object.
_BYTES, _NAMES, _EMPTY = 5000, 1000, 100
#: The most files that are listed.
_MOST = 1_000_000
_OPTIONS = (
    *(
        "BatchMode=yes",
        "ConnectTimeout=30",
        "ServerAliveInterval=15",
        "ServerAliveCountMax=4",
        "LogLevel=ERROR",
    ),
    *("ForwardX11=no", "ForwardAgent=no", "ClearAllForwardings=yes", "PermitLocalCommand=no"),
)
_T = TypeVar("_T")
_REFUSED = ("Permission denied", "Host key verification failed", "REMOTE HOST IDENTIFICATION")


@dataclass(frozen=True)
class Patience:
    """The times for which an operation waits and is repeated, in seconds."""

    #: Without a byte of an answer.
    stall: float = 60.0
    #: All attempts of one object.
    objects: float = 600.0
    #: All attempts of a list or a deletion.
    small: float = 15.0
    #: The longest pause between two attempts.
    pause: float = 30.0
    #: One object or list, besides the time that its bytes or names give it as they come.
    once: float = 300.0


class SftpBucket:
    """Objects as files (0600) in private folders on a server, for any number of threads; one connection for all."""

    def __init__(self, url: StoreUrl, options: Sequence[str] = (), patience: Patience = Patience()) -> None:
        """Args: options: more arguments of ssh."""
        self.shown = str(url)
        host = f"{url.user}@{url.place}" if url.user else url.place
        self._by_hand = f"ssh -p {url.port} {host}" if url.port else f"ssh {host}"
        given = [each for option in _OPTIONS for each in ("-o", option)]
        user, port = ["-l", url.user] if url.user else [], ["-p", str(url.port)] if url.port else []
        self._command = ["ssh", *given, *options, *user, *port, "-s", "--", url.place, "sftp"]
        below_home = url.path.startswith("~")  # ssh begins there
        self._root = f".{url.path[1:]}" if below_home else url.path
        self._patience = patience
        self._alone = threading.Lock()
        self._connection: Connection | None = None
        self._made: set[str] = set()
        self._cleaned = False

    def put(self, name: str, data: bytes) -> str:
        checked_name(name)
        self._do(name, lambda server: self._put(server, name, data), self._patience.objects)
        return ""

    def get(self, name: str, most: int, *, version: str = "") -> bytes:  # noqa: ARG002  # it has none
        checked_name(name)
        return self._do(name, lambda server: self._get(server, name, most), self._patience.objects)

    def listed(self, prefix: str) -> Iterator[Stored]:
        return iter(
            self._do(prefix, lambda server: [*self._below(server, "", prefix, [_MOST])], self._patience.small)
        )

    def versions(self, prefix: str) -> Iterator[Version]:
        return bucket.unversioned(self.listed(prefix))

    def folders(self, *, deleted: bool = False) -> list[str]:  # noqa: ARG002  # it has no versions
        root = self._path("")
        found = self._do("", lambda server: [*_entries(server, root, [_MOST])], self._patience.small)
        return bucket.top_folders((name for name, each in found if _is_folder(each)), self.shown)

    def delete(self, name: str, *, version: str = "") -> None:  # noqa: ARG002  # it has none
        checked_name(name)
        self._do(name, lambda server: self._delete(server, name), self._patience.small)

    def close(self) -> None:
        """End the connection; the next operation opens another one."""
        if self._connection:
            self._connection.close()
            self._connection = None

    def _do(self, name: str, act: Callable[[Connection], _T], longest: float) -> _T:
        """Run `act` on the connection, on a new one if it was lost; BucketError about `name`."""
        end, pause = time.monotonic() + longest, self._patience.pause / 30
        while True:
            try:
                with self._alone:
                    return self._once(name, act)
            except LostError as error:
                failed = self._unreachable(error)
                final = isinstance(error, BadReplyError) or failed.kind is not BucketFailure.UNREACHABLE
                if final or time.monotonic() + pause > end:
                    raise failed from None
            time.sleep(pause)
            pause = min(2 * pause, self._patience.pause)

    def _once(self, name: str, act: Callable[[Connection], _T]) -> _T:
        if self._connection is None or not self._connection.usable:  # servers end idle ones
            self.close()
            self._connection = Connection(self._command, self._patience.stall)
        server = self._connection
        server.deadline = time.monotonic() + self._patience.once
        try:
            return act(server)
        except SftpRefusedError as error:
            raise self._refused(server, name, error) from None
        except BucketError:
            raise
        except BaseException:  # in the middle of an answer
            self.close()
            raise

    def _refused(self, server: Connection, name: str, error: SftpRefusedError) -> BucketError:
        if error.code == SftpStatus.PERMISSION_DENIED:
            return self._error(BucketFailure.REFUSED, name, error, "Give the folder there to that user.")
        if error.code != SftpStatus.NO_SUCH_FILE:
            return self._error(BucketFailure.UNREACHABLE, name, error, "See the server's log, and retry.")
        if self._found(server, ""):
            return bucket.missing(name, self.shown)
        hint = "Create it, or mount its disk: RefNet does not, as it could fill another one."
        return BucketError(BucketFailure.UNREACHABLE, f"the folder of {self.shown} does not exist", hint)

    def _error(self, kind: BucketFailure, name: str, error: SftpRefusedError, hint: str) -> BucketError:
        what = f"{name} in {self.shown}" if name else self.shown
        return BucketError(kind, f"{what}: {said_of(error) or f'SFTP error {error.code}'}", hint)

    def _unreachable(self, error: LostError) -> BucketError:
        said = said_of(error)
        kind, hint = BucketFailure.UNREACHABLE, ""
        if any(word in said for word in _REFUSED):
            kind, hint = BucketFailure.REFUSED, " Its key must be known there, and the host's key here."
        return BucketError(kind, f"{self.shown}: {said}", f"Try `{self._by_hand}` as this user.{hint}")

    def _path(self, name: str) -> bytes:
        return f"{self._root}/{name}".encode()

    def _found(self, server: Connection, name: str) -> bool:
        with _missing_allowed():
            server.ask(Ask.LSTAT, self._path(name), wanted=Reply.ATTRS)
            return True
        return False

    def _put(self, server: Connection, name: str, data: bytes) -> None:
        if self._found(server, name):
            self._compare(server, name, data)
            return
        self._clean(server)
        self._make_folders(server, name)
        hidden = self._path(hidden_name())
        try:
            _write(server, hidden, data)
            server.ask(Ask.RENAME, hidden, self._path(name))
        except SftpRefusedError as error:
            with suppress(SftpRefusedError):
                server.ask(Ask.REMOVE, hidden)
            if self._found(server, name):  # another run was faster
                self._compare(server, name, data)
            elif error.code == SftpStatus.FAILURE:  # SFTP has no code for a full disk
                raise self._error(
                    BucketFailure.FULL, name, error, "Its disk may be full, or its quota reached."
                ) from None
            else:
                raise

    def _compare(self, server: Connection, name: str, data: bytes) -> None:
        """Raise BucketError (EXISTS) if the object has other bytes than `data`."""
        try:
            same = self._get(server, name, len(data)) == data
        except BucketError:  # it is larger, or no file
            same = False
        if not same:
            raise bucket.exists(name, self.shown)

    def _get(self, server: Connection, name: str, most: int) -> bytes:
        with _opened(server, Ask.OPEN, self._path(name), _READ, 0) as handle:
            found = server.ask(Ask.FSTAT, handle, wanted=Reply.ATTRS).attributes()
            if found.mode is not None and not stat.S_ISREG(found.mode):
                raise bucket.missing(name, self.shown)
            if found.size is None or found.size > most:
                raise bucket.too_large(name, self.shown, most)
            return self._read(server, handle, name, found.size)

    def _delete(self, server: Connection, name: str) -> None:
        with _missing_allowed():
            server.ask(Ask.REMOVE, self._path(name))
        parents = name.split("/")[:-1]
        with suppress(SftpRefusedError):  # a folder is not empty
            for depth in range(len(parents), 0, -1):
                folder = "/".join(parents[:depth])
                self._made.discard(folder)
                server.ask(Ask.RMDIR, self._path(folder))

    def _make_folders(self, server: Connection, name: str) -> None:
        parents = name.split("/")[:-1]
        for depth in range(1, len(parents) + 1):
            folder = "/".join(parents[:depth])
            if folder not in self._made:
                with suppress(SftpRefusedError):  # it is there; else the object cannot be renamed into it
                    server.ask(Ask.MKDIR, self._path(folder), 4, 0o700)
                self._made.add(folder)

    def _clean(self, server: Connection) -> None:
        """Remove the hidden files that killed runs left."""
        if not self._cleaned:
            self._cleaned = True
            for name, found in _entries(server, self._root.encode(), [_MOST]):
                if is_leftover(name, found.modified or 0, time.time()) and _is_file(found):
                    with suppress(SftpRefusedError):
                        server.ask(Ask.REMOVE, self._path(name))

    def _read(self, server: Connection, handle: bytes, name: str, size: int) -> bytes:
        """Return the `size` bytes of an open file."""
        content = bytearray(size)
        todo = deque((at, min(_ASKED, size - at)) for at in range(0, size, _ASKED))
        sent: deque[tuple[int, int, int]] = deque()
        short = 0
        while todo or sent:
            while todo and len(sent) < _WINDOW:
                at, length = todo.popleft()
                sent.append((server.send(Ask.READ, handle, (">Q", at), length), at, length))
            number, at, length = sent.popleft()
            try:
                found = server.answer(number, Reply.DATA).text()
            except SftpRefusedError as error:
                hint = "It became shorter while it was read, or its disk fails."
                raise self._error(BucketFailure.DAMAGED, name, error, hint) from None
            if not 0 < len(found) <= length:
                raise BadReplyError("the server sent data that was not asked for")
            content[at : at + len(found)] = found
            server.deadline += len(found) / _BYTES
            if len(found) < length:  # servers may send less
                short += 1
                if short > _EMPTY + size // _BYTES:
                    raise BadReplyError("the server sends the object in parts that are too small")
                todo.appendleft((at + len(found), length - len(found)))
        return bytes(content)

    def _below(self, server: Connection, above: str, prefix: str, left: list[int]) -> Iterator[Stored]:
        """Yield the objects in the folder `above` ("" or with a final slash), ordered by name."""
        found = {}
        with _missing_allowed() if above else nullcontext():
            for name, each in _entries(server, self._path(above), left):
                found[f"{above}{name}{'' if _is_file(each) else '/'}"] = each
        for name, each in sorted(found.items()):
            if name.endswith("/"):
                is_folder = _is_folder(each) and is_name(name[:-1])
                if is_folder and (name.startswith(prefix) or prefix.startswith(name)):
                    yield from self._below(server, name, prefix, left)
            elif is_name(name) and name.startswith(prefix):
                modified = datetime.fromtimestamp(each.modified or 0, UTC)
                yield Stored(name, each.size or 0, modified, f"{each.modified or 0:x}-{each.size or 0:x}")


@contextmanager
def _missing_allowed() -> Iterator[None]:
    """Continue after the block if the server has no such file."""
    try:
        yield
    except SftpRefusedError as error:
        if error.code != SftpStatus.NO_SUCH_FILE:
            raise


def _is_file(found: Attributes) -> bool:
    return found.mode is not None and stat.S_ISREG(found.mode)


def _is_folder(found: Attributes) -> bool:
    return found.mode is not None and stat.S_ISDIR(found.mode)


@contextmanager
def _opened(server: Connection, kind: Ask, *fields: int | bytes) -> Iterator[bytes]:
    """The handle of a file or a folder; it is closed after the block, unless the connection is lost."""
    handle = server.ask(kind, *fields, wanted=Reply.HANDLE).text()
    try:
        yield handle
    except (SftpRefusedError, BucketError):
        with suppress(SftpRefusedError):
            server.ask(Ask.CLOSE, handle)
        raise
    server.ask(Ask.CLOSE, handle)


def _write(server: Connection, path: bytes, data: bytes) -> None:
    """Write a new file, and flush it if the server supports that."""
    with _opened(server, Ask.OPEN, path, _NEW, 4, 0o600) as handle:
        sent: deque[int] = deque()
        for at in range(0, len(data), _WRITTEN):
            if len(sent) == _WINDOW:
                server.answer(sent.popleft(), Reply.STATUS)
                server.deadline += _WRITTEN / _BYTES
            sent.append(server.send(Ask.WRITE, handle, (">Q", at), data[at : at + _WRITTEN]))
        for number in sent:
            server.answer(number, Reply.STATUS)
        with suppress(SftpRefusedError):  # not every server has it
            server.ask(Ask.EXTENDED, b"fsync@openssh.com", handle)


def _entries(server: Connection, folder: bytes, left: list[int]) -> Iterator[tuple[str, Attributes]]:
    """List a folder, without names that are not ASCII; `left`: entries still allowed."""
    with _opened(server, Ask.OPENDIR, folder) as handle:
        empty = 0
        while empty <= _EMPTY:
            try:
                found = server.ask(Ask.READDIR, handle, wanted=Reply.NAME)
            except SftpRefusedError as error:
                if error.code == SftpStatus.EOF:
                    break
                raise
            count = found.number()
            empty += not count
            server.deadline += min(count, left[0]) / _NAMES
            for _ in range(count):
                name, _, attributes = found.text(), found.text(), found.attributes()
                left[0] -= 1
                if left[0] < 0:
                    raise BadReplyError(f"the server lists more than {_MOST:,} files")
                if name.isascii() and b"/" not in name and name not in {b".", b".."}:
                    yield name.decode(), attributes
        if empty > _EMPTY:
            raise BadReplyError(f"the server sent {empty} answers without a name")
