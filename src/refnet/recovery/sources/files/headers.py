"""The headers of a tar archive (POSIX ustar, with pax records for what does not fit), a few microseconds each.

Python's tarfile needs longer for a header than the kernel for the file behind it.
"""

from __future__ import annotations

from zlib import adler32

from refnet.recovery.sources.files.listing import Kind

BLOCK = 512
END = bytes(2 * BLOCK)
_TYPES = {Kind.FILE: b"0", Kind.LINK: b"2", Kind.FOLDER: b"5"}
_MAX_OCTAL_7 = 0o7777777
_MAX_OCTAL_11 = 0o77777777777
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
    pax: dict[bytes, bytes] = {}
    name, prefix = _split(raw)
    if name is None:
        pax[b"path"], name = raw, raw[:100]
    if len(target) > 100:
        pax[b"linkpath"], target = target, target[:100]
    for key, value, most in ((b"size", size, _MAX_OCTAL_11), (b"uid", uid, _MAX_OCTAL_7), (b"gid", gid, _MAX_OCTAL_7),
                             (b"mtime", mtime, _MAX_OCTAL_11)):  # fmt: skip
        if not 0 <= value <= most:
            pax[key] = b"%d" % value
    main = _block(
        name,
        _TYPES[kind],
        mode=mode,
        uid=0 if b"uid" in pax else uid,
        gid=0 if b"gid" in pax else gid,
        size=0 if b"size" in pax else size,
        mtime=0 if b"mtime" in pax else mtime,
        target=target,
        prefix=prefix,
    )
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
    *,
    mode: int = 0o644,
    uid: int = 0,
    gid: int = 0,
    size: int,
    mtime: int = 0,
    target: bytes = b"",
    prefix: bytes = b"",
) -> bytes:
    head = b"%b%07o\0%07o\0%07o\0%011o\0%011o\0" % (name.ljust(100, b"\0"), mode, uid, gid, size, mtime)
    tail = kind + target.ljust(100, b"\0") + _AFTER_TYPE + prefix.ljust(155 + 12, b"\0")
    # adler32's low half is one more than the sum of the bytes, as long as that stays below 65,521: halves do.
    total = (
        (adler32(head) & 0xFFFF)
        + (adler32(tail[:256]) & 0xFFFF)
        + (adler32(tail[256:]) & 0xFFFF)
        - 3
        + 8 * 32
    )
    return b"%b%06o\0 %b" % (head, total, tail)


def _pax(records: dict[bytes, bytes]) -> bytes:
    body = b"".join(_record(key, value) for key, value in records.items())
    if not _is_utf8(body):
        body = _record(b"hdrcharset", b"BINARY") + body
    head = _block(b"PaxHeaders/0", b"x", size=len(body))
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
