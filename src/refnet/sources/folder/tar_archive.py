"""Tar archives (POSIX ustar, with pax records for what does not fit): headers are written, members read strictly.

A header takes a few microseconds; Python's tarfile needs more time for it than the kernel for the file. The reader accepts
the archives of RefNet, GNU tar, bsdtar and Python (ustar, pax, GNU long names): files, folders and links. It rejects
everything else by name.
"""

import io
import os
from collections.abc import Iterator
from functools import lru_cache
from typing import Any, BinaryIO
from zlib import adler32

from refnet.core.attributes import NONE, from_records, records
from refnet.core.member_names import MAX_PATH, ArchiveError, checked, show, some
from refnet.sources.folder.listing import FILE_MODE, FOLDER_MODE, FileKind, Listed, possible

BLOCK = 512
END = bytes(2 * BLOCK)
_TYPES = {FileKind.FILE: b"0", FileKind.LINK: b"2", FileKind.FOLDER: b"5"}
_MAX_7 = 0o7777777
_MAX_11 = 0o77777777777
_AFTER_TYPE = b"ustar\x0000" + bytes(32 + 32) + b"0000000\0" * 2
#: mode, uid, gid, size, mtime in whole seconds.
_Numbers = tuple[int, int, int, int, int]
_BLOCKS = 1 << 20
#: Limits of the extended headers before one member: bytes, headers, and records in one of them.
_MAX_EXTENSION = 1 << 20
_MAX_HEADERS = 16
_MAX_RECORDS = 1000
#: Digits of a number in an extended header: 64 bits.
_MAX_DIGITS = 20
_REFUSED = {
    b"3": "a character device",
    b"4": "a block device",
    b"6": "a FIFO",
    b"S": "a sparse file",
    b"D": "a member of an incremental archive",
    b"M": "a part of a file from another volume",
    b"N": "a member of an old GNU archive",
    b"V": "a volume's label",
}


def header(listed: Listed) -> bytes:
    """Header blocks of one member, preceded by pax blocks if a field does not fit."""
    path, kind, size, mode, mtime_ns, uid, gid = listed[:7]
    name, target = os.fsencode(path), os.fsencode(listed.target) if listed.target else b""
    if kind is FileKind.FOLDER:
        name += b"/"
    mtime = mtime_ns // 1_000_000_000
    fits = 0 <= size <= _MAX_11 and 0 <= mtime <= _MAX_11 and 0 <= uid <= _MAX_7 and 0 <= gid <= _MAX_7
    numbers = (mode, uid, gid, size, mtime)
    short, prefix = _split(name)
    if fits and short is not None and len(target) <= 100 and listed.kept is NONE:
        return _block(short, numbers, _tail(_TYPES[kind], target, prefix))
    return _pax_header(name, target, listed, numbers)


def _pax_header(raw: bytes, target: bytes, listed: Listed, numbers: _Numbers) -> bytes:
    pax: dict[bytes, bytes] = {}
    name, prefix = _split(raw)
    if name is None:
        pax[b"path"], name = raw, raw[:100]
    if len(target) > 100:
        pax[b"linkpath"], target = target, target[:100]
    mode, uid, gid, size, mtime = numbers
    fields = {
        b"size": (size, _MAX_11),
        b"mtime": (mtime, _MAX_11),
        b"uid": (uid, _MAX_7),
        b"gid": (gid, _MAX_7),
    }
    pax |= {key: b"%d" % value for key, (value, most) in fields.items() if not 0 <= value <= most}
    size, mtime, uid, gid = (0 if key in pax else value for key, (value, _) in fields.items())
    main = _block(name, (mode, uid, gid, size, mtime), _tail(_TYPES[listed.kind], target, prefix))
    if not _is_utf8(b"".join(pax.values())):
        pax = {b"hdrcharset": b"BINARY", **pax}
    pax |= records(listed.kept)
    return _pax_blocks(pax) + main if pax else main


def padding(size: int) -> bytes:
    """Zeros that pad a content of `size` bytes to complete blocks."""
    return bytes(-size % BLOCK)


def _split(raw: bytes) -> tuple[bytes | None, bytes]:
    """`raw` split into ustar's name and prefix; the name is None if it does not fit."""
    if len(raw) <= 100:
        return raw, b""
    cut = raw.find(b"/", len(raw) - 101, len(raw) - 1)
    if 0 < cut <= 155:
        return raw[cut + 1 :], raw[:cut]
    return None, b""


def _block(name: bytes, numbers: _Numbers, tail: tuple[bytes, int]) -> bytes:
    head = b"%b%07o\0%07o\0%07o\0%011o\0%011o\0" % (name.ljust(100, b"\0"), *numbers)
    return b"%b%06o\0 %b" % (head, _sum(head) + tail[1], tail[0])


@lru_cache(256)
def _tail(kind: bytes, target: bytes, prefix: bytes) -> tuple[bytes, int]:
    """Bytes after the checksum, and the sum of these and of the checksum's own eight spaces."""
    tail = kind + target.ljust(100, b"\0") + _AFTER_TYPE + prefix.ljust(155 + 12, b"\0")
    return tail, _sum(tail[:256]) + _sum(tail[256:]) + 8 * ord(" ")


def _sum(raw: bytes) -> int:
    """Sum at most 256 bytes: adler32's low half is one more, as long as that stays below 65,521."""
    return (adler32(raw) & 0xFFFF) - 1


def _pax_blocks(pax: dict[bytes, bytes]) -> bytes:
    body = b"".join(_record(key, value) for key, value in pax.items())
    head = _block(b"PaxHeaders/0", (0o644, 0, 0, len(body), 0), _tail(b"x", b"", b""))
    return head + body + padding(len(body))


def _record(key: bytes, value: bytes) -> bytes:
    length = len(key) + len(value) + 3
    total = length + len(str(length))
    total = length + len(str(total))
    return b"%d %b=%b\n" % (total, key, value)


def _is_utf8(raw: bytes) -> bool:
    try:
        raw.decode()
    except UnicodeDecodeError:
        return False
    return True


class Pieces(io.RawIOBase):
    """A reader of `pieces`, one after another."""

    def __init__(self, pieces: Iterator[bytes]) -> None:
        super().__init__()
        self._pieces, self._ahead = pieces, memoryview(b"")

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any, /) -> int:
        while not self._ahead:
            if (piece := next(self._pieces, None)) is None:
                return 0
            self._ahead = memoryview(piece)
        count = min(len(buffer), len(self._ahead))
        buffer[:count], self._ahead = self._ahead[:count], self._ahead[count:]
        return count


class TarReader:
    """The members of the tar in `stream`, which is read once, from `at` on.

    `content` reads the content of the current member; otherwise it is skipped. ArchiveError for damage.
    """

    def __init__(self, stream: BinaryIO, at: int = 0) -> None:
        self.at = at
        self._stream = stream
        self._left = 0
        self._padding = 0
        #: Read, and not used yet.
        self._ahead = b""

    def __iter__(self) -> Iterator[Listed]:
        while (member := self.next()) is not None:
            yield member
        self.check_end()

    def next(self) -> Listed | None:
        """Return the next member, or None at the end mark."""
        self.skip()
        at, extensions = self.at, dict[bytes, bytes]()
        for _ in range(_MAX_HEADERS):
            if self.at - at > _MAX_EXTENSION:
                break
            head = self._read(BLOCK)
            if head == bytes(BLOCK):
                if extensions:
                    raise ArchiveError("the archive ends inside a member")
                return None
            _check_sum(head, at)
            kind = head[156:157]
            if kind not in (b"x", b"g", b"L", b"K"):
                member = _member(head, kind, extensions, at)
                self._left = 0 if member.same_as else member.size
                self._padding = -self._left % BLOCK
                return member
            extensions |= self._extension(head, kind)
        raise ArchiveError(f"the headers at byte {at} of the tar are too long")

    def expect(self, head: bytes, size: int) -> bool:
        """Whether the next member has exactly the header blocks `head`, and so a content of `size` bytes.

        If not, they are not read.
        """
        self.skip()
        found = self._take(len(head))
        if found != head:
            self._ahead = found + self._ahead
            return False
        self.at += len(head)
        self._left, self._padding = size, -size % BLOCK
        return True

    def content(self) -> Iterator[bytes]:
        """Yield the content of the last member, in blocks of at most 1 MiB."""
        while self._left:
            block = self._read(min(self._left, _BLOCKS))
            self._left -= len(block)
            yield block

    def whole(self) -> bytes:
        """Return the content of the last member, which fits in memory, with one read."""
        size = self._left
        data = self._read(size + self._padding)
        self._left = self._padding = 0
        return data[:size]

    def skip_to(self, at: int) -> None:
        """Skip forward to the member whose header is at `at`."""
        self.skip()
        while self.at < at:
            self._read(min(at - self.at, _BLOCKS))

    def skip(self) -> int:
        """Skip the rest of the current member; return the offset of the next one."""
        if self._left:
            for _block in self.content():
                pass
        if self._padding:
            self._read(self._padding)
            self._padding = 0
        return self.at

    def _read(self, size: int) -> bytes:
        data = self._take(size)
        if len(data) != size:
            raise ArchiveError("the archive is cut short")
        self.at += size
        return data

    def _take(self, size: int) -> bytes:
        if not self._ahead:
            return self._stream.read(size)
        data, self._ahead = self._ahead[:size], self._ahead[size:]
        return data + self._stream.read(size - len(data))

    def _extension(self, head: bytes, kind: bytes) -> dict[bytes, bytes]:
        size = _number(head[124:136])
        if not 0 <= size <= _MAX_EXTENSION:
            raise ArchiveError(f"a header of {size} bytes is too long")
        body = self._read(size + -size % BLOCK)[:size]
        if kind in (b"L", b"K"):
            return {b"path" if kind == b"L" else b"linkpath": body.rstrip(b"\0")}
        records = _pax_records(body)
        if kind == b"g" and records.keys() - {b"comment"}:
            raise ArchiveError(
                f"a global header sets {some(sorted(map(os.fsdecode, records)))} for all members"
            )
        return {} if kind == b"g" else records

    def check_end(self) -> None:
        """Check that only zeros follow; reading them also verifies the checksum of the last gzip member."""
        while block := self._take(_BLOCKS):
            if block.count(0) != len(block):
                raise ArchiveError("there is data after the end of the archive")


def _check_sum(head: bytes, at: int) -> None:
    expected = _number(head[148:156])
    total = (
        (adler32(head[:148]) & 0xFFFF) + (adler32(head[156:256]) & 0xFFFF) + (adler32(head[256:]) & 0xFFFF)
    )
    if total - 3 + 8 * 32 != expected:
        raise ArchiveError(f"the header at byte {at} is damaged, or this is not a tar archive")


def _number(field: bytes) -> int:
    if field[0] in (0x80, 0xFF):  # GNU: too large for octal digits, or below zero
        return int.from_bytes(field[1:], "big", signed=field[0] == 0xFF)
    try:
        return int(field.rstrip(b"\0 ") or b"0", 8)
    except ValueError:
        raise ArchiveError(f"a header has {field!r} in place of a number") from None


def _member(head: bytes, kind: bytes, extensions: dict[bytes, bytes], at: int) -> Listed:
    raw = extensions.get(b"path") or _name(head)
    size = _decimal(extensions, "size", _number(head[124:136]))
    path = checked(raw)
    if sparse := [key for key in extensions if key.startswith(b"GNU.sparse")]:
        raise ArchiveError(
            f"{show(path)} is a sparse file ({show(os.fsdecode(sparse[0]))}), which is not supported"
        )
    if kind in _REFUSED:
        raise ArchiveError(f"{show(path)} is {_REFUSED[kind]}")
    mode = _number(head[100:108])
    uid = _decimal(extensions, "uid", _number(head[108:116]))
    gid = _decimal(extensions, "gid", _number(head[116:124]))
    mtime_ns = _seconds(extensions.get(b"mtime"), head[136:148])
    if not possible(size, mtime_ns, uid, gid):
        raise ArchiveError(f"{show(path)} has an invalid size, time or owner")
    target = extensions.get(b"linkpath") or head[157:257].split(b"\0", 1)[0]
    if len(target) >= MAX_PATH:
        raise ArchiveError(f"{show(path)} is a link with a target that is too long")
    kept = from_records(extensions) if extensions else NONE
    if kind == b"5" or (kind in (b"0", b"\0") and raw.endswith(b"/")):
        return Listed(path, FileKind.FOLDER, 0, mode & FOLDER_MODE, mtime_ns, uid, gid, at).having(kept)
    if kind == b"2":
        return Listed(path, FileKind.LINK, 0, 0o777, mtime_ns, uid, gid, at, target=os.fsdecode(target))
    if kind == b"1":
        return Listed(
            path, FileKind.FILE, 0, mode & FILE_MODE, mtime_ns, uid, gid, at, same_as=_same_as(path, target)
        )
    if kind in (b"0", b"\0", b"7"):
        return Listed(path, FileKind.FILE, size, mode & FILE_MODE, mtime_ns, uid, gid, at).having(kept)
    raise ArchiveError(f"{show(path)} has the unknown type {kind!r}")


def _name(head: bytes) -> bytes:
    name = head[:100].split(b"\0", 1)[0]
    if head[257:263] == b"ustar\0" and head[345]:
        return head[345:500].split(b"\0", 1)[0] + b"/" + name
    return name


def _same_as(path: str, target: bytes) -> str:
    try:
        return checked(target)
    except ArchiveError as error:
        raise ArchiveError(f"{show(path)} is a hard link: {error}") from None


def _decimal(extensions: dict[bytes, bytes], key: str, otherwise: int) -> int:
    value = extensions.get(key.encode())
    return otherwise if value is None else _integer(value, key)


def _integer(text: bytes, what: str) -> int:
    """Parse a decimal number, which may have a sign."""
    if not text.removeprefix(b"-").isdigit() or len(text) > _MAX_DIGITS:
        raise ArchiveError(f"a header has {text[:40]!r} in place of {what}")
    return int(text)


def _seconds(pax: bytes | None, field: bytes) -> int:
    if pax is None:
        return _number(field) * 1_000_000_000
    digits, point, part = pax.partition(b".")
    if point and part and not part.isdigit():
        raise ArchiveError(f"a header has {pax[:40]!r} in place of a time")
    nanoseconds = int(part[:9].ljust(9, b"0"))
    return _integer(digits, "a time") * 1_000_000_000 + (
        -nanoseconds if digits.startswith(b"-") else nanoseconds
    )


def _pax_records(body: bytes) -> dict[bytes, bytes]:
    """Parse a pax header: records `LENGTH KEY=VALUE` with a newline; LENGTH counts all of it."""
    records: dict[bytes, bytes] = {}
    at = 0
    for _ in range(_MAX_RECORDS):
        if at == len(body):
            return records
        space = body.find(b" ", at, at + _MAX_DIGITS)
        length = body[at : max(space, at)]
        end = at + int(length) if length.isdigit() else 0
        key, equals, value = body[space + 1 : end - 1].partition(b"=")
        if not space + 1 < end - 1 < len(body) or not equals or body[end - 1 : end] != b"\n":
            raise ArchiveError("a pax header is damaged")
        records[key] = value
        at = end
    raise ArchiveError(f"a pax header has {_MAX_RECORDS} records or more")
