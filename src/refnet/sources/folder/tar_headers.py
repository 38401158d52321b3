"""The headers of a tar archive (POSIX ustar, with pax records for what does not fit), a few microseconds each.

Python's tarfile needs more time for a header than the kernel for the file.
"""

import os
from functools import lru_cache
from zlib import adler32

from refnet.core.attributes import NONE, records
from refnet.sources.folder.listing import FileKind, Listed

BLOCK = 512
END = bytes(2 * BLOCK)
_TYPES = {FileKind.FILE: b"0", FileKind.LINK: b"2", FileKind.FOLDER: b"5"}
_MAX_7 = 0o7777777
_MAX_11 = 0o77777777777
_AFTER_TYPE = b"ustar\x0000" + bytes(32 + 32) + b"0000000\0" * 2
#: mode, uid, gid, size, mtime in whole seconds.
_Numbers = tuple[int, int, int, int, int]


def header(listed: Listed) -> bytes:
    """Header blocks of one member, preceded by pax blocks if a field does not fit."""
    name, target = os.fsencode(listed.path), os.fsencode(listed.target)
    if listed.kind is FileKind.FOLDER:
        name += b"/"
    _, kind, size, mode, mtime_ns, uid, gid, *_ = listed
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
    return _pax(pax) + main if pax else main


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


def _pax(pax: dict[bytes, bytes]) -> bytes:
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
