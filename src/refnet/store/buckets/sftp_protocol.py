"""SFTP, version 3 (draft-ietf-secsh-filexfer-02), through the input and output of `ssh`.

The system's ssh does keys, hosts and encryption. What the server answers is hostile: every length and kind is checked,
and each answer has a time limit.
"""

from __future__ import annotations

import os
import select
import struct
import subprocess
import time
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from enum import IntEnum
from tempfile import TemporaryFile
from typing import Any

#: The longest packet that is read, in bytes; a server need not send longer ones.
_LONGEST = 256 * 1024 + 1024
#: The most bytes of ssh's error output that are read.
_SAID = 2000
_VERSION = 3


class Ask(IntEnum):
    """The kinds of requests."""

    INIT = 1
    OPEN = 3
    CLOSE = 4
    READ = 5
    WRITE = 6
    LSTAT = 7
    FSTAT = 8
    OPENDIR = 11
    READDIR = 12
    REMOVE = 13
    MKDIR = 14
    RMDIR = 15
    RENAME = 18
    EXTENDED = 200


class Reply(IntEnum):
    """The kinds of answers."""

    VERSION = 2
    STATUS = 101
    HANDLE = 102
    DATA = 103
    NAME = 104
    ATTRS = 105


class SftpStatus(IntEnum):
    """The codes of an answer that is a status."""

    OK = 0
    EOF = 1
    NO_SUCH_FILE = 2
    PERMISSION_DENIED = 3
    FAILURE = 4


class SftpRefusedError(Exception):
    """The server refused a request."""

    def __init__(self, code: int, text: str) -> None:
        super().__init__(text)
        #: One of `Status`, or another code of the server.
        self.code = code


class LostError(Exception):
    """The connection failed or timed out; the text is ssh's message or the reason."""


class BadReplyError(LostError):
    """The server's response is not valid SFTP."""


@dataclass(frozen=True)
class Attributes:
    """The attributes of a file; None: the server does not tell."""

    #: In bytes.
    size: int | None = None
    #: With the type of the file.
    mode: int | None = None
    #: In seconds since 1970.
    modified: int | None = None


class Fields:
    """Reads the fields of a packet; BadReplyError if it is too short."""

    def __init__(self, content: bytes, at: int = 0) -> None:
        self._content = content
        self._at = at

    def take(self, size: int) -> bytes:
        """Return the next `size` bytes."""
        if size > len(self._content) - self._at:
            raise BadReplyError("the server sent a packet that is too short")
        self._at += size
        return self._content[self._at - size : self._at]

    def number(self, form: str = ">I") -> int:
        """Return the next number: 32 bits, or `form` of `struct`."""
        found: int = struct.unpack(form, self.take(struct.calcsize(form)))[0]
        return found

    def text(self) -> bytes:
        """Return the next string."""
        return self.take(self.number())

    def attributes(self) -> Attributes:
        """Return the next attributes."""
        flags = self.number()
        size = self.number(">Q") if flags & 1 else None
        self.take(8 if flags & 2 else 0)
        mode = self.number() if flags & 4 else None
        modified = self.number(">Q") & 0xFFFFFFFF if flags & 8 else None
        for _ in range(self.number() if flags & 0x80000000 else 0):
            self.text(), self.text()
        return Attributes(size, mode, modified)


def packed(*fields: int | bytes | tuple[str, int]) -> bytes:
    """Return the fields of a request: numbers of 32 bits, strings, and (form, number)."""
    found = []
    for field in fields:
        if isinstance(field, bytes):
            found += [struct.pack(">I", len(field)), field]
        else:
            found.append(struct.pack(*field) if isinstance(field, tuple) else struct.pack(">I", field))
    return b"".join(found)


class Connection:
    """A connection of SFTP over the program `command`; LostError from every method."""

    def __init__(self, command: Sequence[str], stall: float) -> None:
        """Start `command`. stall: the seconds without a byte after which the connection is lost."""
        self._said = TemporaryFile()  # noqa: SIM115  # closed with the connection
        environment = {**os.environ, "SSH_ASKPASS_REQUIRE": "never", "LC_ALL": "C"}
        try:
            self._process = subprocess.Popen(
                command,
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=self._said,
                env=environment,
                bufsize=0,
                start_new_session=True,  # Ctrl-C ends this process, not ssh before it
            )
        except OSError as error:
            self._said.close()
            raise BadReplyError(
                f"{command[0]}: {error.strerror}; Debian's package is openssh-client"
            ) from None
        self._in, self._out = (pipe.fileno() for pipe in (self._process.stdin, self._process.stdout) if pipe)
        os.set_blocking(self._in, False)
        os.set_blocking(self._out, False)
        self._stall = stall
        #: The end of the current operation, by time.monotonic().
        self.deadline = time.monotonic() + stall + 60
        self._read = bytearray()
        self._next = 0
        self._waiting: set[int] = set()
        self._arrived: dict[int, tuple[int, Fields]] = {}
        try:
            self._greet()
        except LostError:
            self.close()
            raise

    def _greet(self) -> None:
        self._write(bytes([Ask.INIT]) + packed(_VERSION))
        kind, fields = self._packet()
        if kind != Reply.VERSION or fields.number() != _VERSION:
            raise BadReplyError("the server does not speak version 3 of SFTP")

    @property
    def usable(self) -> bool:
        """True if ssh runs and no answer is outstanding."""
        return self._process.poll() is None and not self._waiting and not self._arrived

    def close(self) -> None:
        """End ssh."""
        for pipe in (self._process.stdin, self._process.stdout):
            if pipe:
                with suppress(OSError):
                    pipe.close()
        self._process.kill()
        self._process.wait()
        self._said.close()

    def send(self, kind: Ask, *fields: int | bytes | tuple[str, int]) -> int:
        """Send a request; return its number for `answer`."""
        self._next = (self._next + 1) & 0xFFFFFFFF
        self._waiting.add(self._next)
        self._write(bytes([kind]) + packed(self._next, *fields))
        return self._next

    def answer(self, number: int, wanted: Reply) -> Fields:
        """Return the answer to a request; SftpRefusedError if it is a status that is not OK."""
        while number not in self._arrived:
            kind, fields = self._packet()
            found = fields.number()
            if found not in self._waiting:
                raise BadReplyError("the server answered a request that was not sent")
            self._waiting.remove(found)
            self._arrived[found] = kind, fields
        kind, fields = self._arrived.pop(number)
        if kind == Reply.STATUS:
            code = fields.number()
            if code != SftpStatus.OK or wanted != Reply.STATUS:
                raise SftpRefusedError(code, fields.text().decode(errors="replace")[:200])
        elif kind != wanted:
            raise BadReplyError("the server sent an answer of a wrong kind")
        return fields

    def ask(self, kind: Ask, *fields: int | bytes | tuple[str, int], wanted: Reply = Reply.STATUS) -> Fields:
        """Send a request, and return its answer."""
        return self.answer(self.send(kind, *fields), wanted)

    def _packet(self) -> tuple[int, Fields]:
        size = int.from_bytes(self._bytes(4), "big")
        if not 1 <= size <= _LONGEST:
            raise BadReplyError("the server sent a packet that is not SFTP")
        content = self._bytes(size)
        return content[0], Fields(content, 1)

    def _bytes(self, size: int) -> bytes:
        while len(self._read) < size:
            self._wait(self._out, select.POLLIN)
            try:
                found = os.read(self._out, _LONGEST)
            except BlockingIOError:
                continue
            if not found:
                raise self._lost()
            self._read += found
        with memoryview(self._read) as read:
            found = bytes(read[:size])
        del self._read[:size]
        return found

    def _write(self, content: bytes) -> None:
        rest = memoryview(len(content).to_bytes(4, "big") + content)
        while rest:
            try:
                rest = rest[os.write(self._in, rest) :]
            except BlockingIOError:
                self._wait(self._in, select.POLLOUT)
            except OSError:
                raise self._lost() from None

    def _wait(self, handle: int, event: int) -> None:
        poll = select.poll()
        poll.register(handle, event)
        left = self.deadline - time.monotonic()
        if not poll.poll(1000 * max(0.0, min(self._stall, left))):
            if left < self._stall:
                raise BadReplyError("the server is too slow")
            raise LostError(f"the server did not answer within {self._stall:.0f} s")

    def _lost(self) -> LostError:
        """Return the error of a connection that ended, with what ssh said."""
        with suppress(subprocess.TimeoutExpired):
            self._process.wait(1)
        self._said.seek(0)
        lines = self._said.read(_SAID).decode(errors="replace").strip().splitlines()
        return LostError(lines[-1].strip() if lines else "ssh ended")


def said_of(error: Any) -> str:
    """Return what `error` says as one plain line."""
    return "".join(each for each in str(error) if each.isprintable())[:200]
