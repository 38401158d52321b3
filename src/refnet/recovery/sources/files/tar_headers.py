"""The headers of a tar archive (POSIX ustar, with pax records for what does not fit), a few microseconds each.

Python's tarfile needs longer for a header than the kernel for the file behind it.
"""

from __future__ import annotations

from functools import lru_cache
from zlib import adler32

from refnet.recovery.sources.files.listing import Kind

BLOCK = 512
END = bytes(2 * BLOCK)
_TYPES = {Kind.FILE: b"0", Kind.LINK: b"2", Kind.FOLDER: b"5"}
_MAX_7 = 0o7777777
_MAX_11 = 0o77777777777
_AFTER_TYPE = b"ustar\x0000" + bytes(32 + 32) + b"0000000\0" * 2


def header(
    raw: bytes, kind: Kind, *, size: int, mode: int, mtime: int, uid: int, gid: int, target: bytes = b""
) -> bytes:
    """The header blocks of one member, pax blocks before it where a field does not fit.

    Args:
        raw: the name in bytes, as the file system has it; a folder's without its `/`.
        size: of the content in bytes. `mtime`: whole seconds since 1970.
        target: where a link leads, in bytes.
    """
    if kind is Kind.FOLDER:
        raw += b"/"
    fits = 0 <= size <= _MAX_11 and 0 <= mtime <= _MAX_11 and 0 <= uid <= _MAX_7 and 0 <= gid <= _MAX_7
    if fits and len(raw) <= 100 and len(target) <= 100:
        return _block(raw, _TYPES[kind], mode, uid, gid, size, mtime, target)
    return _long_header(raw, kind, size, mode, mtime, uid, gid, target)


def _long_header(
    raw: bytes, kind: Kind, size: int, mode: int, mtime: int, uid: int, gid: int, target: bytes
) -> bytes:
    pax: dict[bytes, bytes] = {}
    name, prefix = _split(raw)
    if name is None:
        pax[b"path"], name = raw, raw[:100]
    if len(target) > 100:
        pax[b"linkpath"], target = target, target[:100]
    fields = {
        b"size": (size, _MAX_11),
        b"mtime": (mtime, _MAX_11),
        b"uid": (uid, _MAX_7),
        b"gid": (gid, _MAX_7),
    }
    pax |= {key: b"%d" % value for key, (value, most) in fields.items() if not 0 <= value <= most}
    size, mtime, uid, gid = (0 if key in pax else value for key, (value, _) in fields.items())
    main = _block(name, _TYPES[kind], mode, uid, gid, size, mtime, target, prefix)
    return _pax(pax) + main if pax else main


def padding(size: int) -> bytes:
    """The zeros that fill a content of `size` bytes up to whole blocks."""
    return bytes(-size % BLOCK)


def _split(raw: bytes) -> tuple[bytes | None, bytes]:
    """`raw` as ustar's name and prefix; no name where it does not fit."""
    if len(raw) <= 100:
        return raw, b""
    cut = raw.find(b"/", len(raw) - 101, len(raw) - 1)
    if 0 < cut <= 155:
        return raw[cut + 1 :], raw[:cut]
    return None, b""


def _block(
    name: bytes,
    kind: bytes,
    mode: int,
    uid: int,
    gid: int,
    size: int,
    mtime: int,
    target: bytes = b"",
    prefix: bytes = b"",
) -> bytes:
    head = b"%b%07o\0%07o\0%07o\0%011o\0%011o\0" % (name.ljust(100, b"\0"), mode, uid, gid, size, mtime)
    tail, of_tail = _tail(kind, target, prefix)
    return b"%b%06o\0 %b" % (head, _sum(head) + of_tail, tail)


@lru_cache(256)
def _tail(kind: bytes, target: bytes, prefix: bytes) -> tuple[bytes, int]:
    """What follows the checksum, and what that and the checksum's own eight spaces add to it."""
    tail = kind + target.ljust(100, b"\0") + _AFTER_TYPE + prefix.ljust(155 + 12, b"\0")
    return tail, _sum(tail[:256]) + _sum(tail[256:]) + 8 * ord(" ")


def _sum(raw: bytes) -> int:
    """The sum of at most 256 bytes: adler32's low half is one more, as long as that stays below 65,521."""
    return (adler32(raw) & 0xFFFF) - 1


def _pax(records: dict[bytes, bytes]) -> bytes:
    body = b"".join(_record(key, value) for key, value in records.items())
    if not _is_utf8(body):
        body = _record(b"hdrcharset", b"BINARY") + body
    head = _block(b"PaxHeaders/0", b"x", 0o644, 0, 0, len(body), 0)
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
