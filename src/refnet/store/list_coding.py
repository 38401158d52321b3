"""The list of files of an archive, written so that what did not change stays the same bytes.

A list has the offset of each file in the archive: one longer file changes every line behind it. Here a line has the distance
from the one before, and about 20 lines are a gzip member, cut where their content says, so that a copy shares the members
of all files that did not change.
"""

from __future__ import annotations

import io
import re
import zlib
from collections.abc import Iterable, Iterator

from isal import isal_zlib

_MEMBERS, _BEGIN, _END = b'"members": [', b"#members\n", b"#\n"
_LINE_OF_MEMBERS = re.compile(rb'"members": \[\[\d{1,19},\d{1,19}\](?:,\[\d{1,19},\d{1,19}\])*\],\n')
_PAIR = re.compile(rb"\[(\d+),(\d+)\]")
_DISTANCES = re.compile(rb"(-?\d{1,20}),(-?\d{1,20})\n")
_AT = re.compile(rb',"at":(-?\d{1,20})(?=[,}])')
#: A chunk, of about a KiB, has so many lines, and ends with the first one then whose CRC has these bits zero, or after so many lines.
_LEAST_LINES, _MASK, _MOST_LINES = 16, 3, 512
_GZIP = 31
#: Bytes that are decompressed at once: of each member, what is behind it in them is copied.
_AT_ONCE = 4 << 10
#: Bytes of a coded list that the list itself does not have.
_HEAD = 1 << 10


def encode(text: bytes) -> bytes | None:
    """Encode a list (JSON, as `FileList.to_json` writes it); None: `decode` would not return exactly this text."""
    found = b"".join(_deflated(_chunks(_with_distances(io.BytesIO(text)))))
    try:
        return found if decode(found, len(text)) == text else None
    except ValueError:
        return None


def decode(data: bytes, most: int) -> bytes:
    """Return the list that `encode` encoded; ValueError if it is none, or has more than `most` bytes."""
    out = io.BytesIO()
    for line in _with_offsets(io.BytesIO(_inflated(data, 2 * most + _HEAD))):
        out.write(line)
        if out.tell() > most:
            raise ValueError(f"a list of files of more than {most:,} bytes")
    return out.getvalue()


def _with_distances(lines: Iterable[bytes]) -> Iterator[bytes]:
    last = 0
    for line in lines:
        if line.startswith(_MEMBERS) and _LINE_OF_MEMBERS.fullmatch(line):
            yield _BEGIN
            raw = offset = 0
            for pair in _PAIR.finditer(line):
                yield b"%d,%d\n" % (int(pair[1]) - raw, int(pair[2]) - offset)
                raw, offset = int(pair[1]), int(pair[2])
            yield _END
        elif found := _AT.search(line):
            at = int(found[1])
            yield b'%b,"at":%d%b' % (line[: found.start()], at - last, line[found.end() :])
            last = at
        else:
            yield line


def _with_offsets(lines: Iterator[bytes]) -> Iterator[bytes]:
    last = 0
    for line in lines:
        if line == _BEGIN:
            yield _members(lines)
        elif found := _AT.search(line):
            last += int(found[1])
            yield b'%b,"at":%d%b' % (line[: found.start()], last, line[found.end() :])
        else:
            yield line


def _members(lines: Iterator[bytes]) -> bytes:
    raw = offset = 0
    pairs = list[bytes]()
    for line in lines:
        if line == _END:
            return b'"members": [%b],\n' % b",".join(pairs)
        found = _DISTANCES.fullmatch(line)
        if found is None:
            break
        raw, offset = raw + int(found[1]), offset + int(found[2])
        pairs.append(b"[%d,%d]" % (raw, offset))
    raise ValueError("not a list of files: its members are cut short")


def _chunks(lines: Iterable[bytes]) -> Iterator[bytes]:
    chunk: list[bytes] = []
    for line in lines:
        chunk.append(line)
        if (len(chunk) >= _LEAST_LINES and not zlib.crc32(line) & _MASK) or len(chunk) == _MOST_LINES:
            yield b"".join(chunk)
            chunk = []
    yield b"".join(chunk)


def _deflated(chunks: Iterable[bytes]) -> Iterator[bytes]:
    for chunk in chunks:
        deflater = isal_zlib.compressobj(3, isal_zlib.DEFLATED, _GZIP)
        yield deflater.compress(chunk) + deflater.flush()


def _inflated(data: bytes, most: int) -> bytes:
    """Decompress all members, to at most `most` bytes."""
    found, at = io.BytesIO(), 0
    inflater = zlib.decompressobj(_GZIP)
    while at < len(data):
        if inflater.eof:
            inflater = zlib.decompressobj(_GZIP)
        part = data[at : at + _AT_ONCE]
        try:
            found.write(inflater.decompress(part, most + 1 - found.tell()))
        except zlib.error as error:
            raise ValueError(f"not a list of files: {error}") from None
        if found.tell() > most:
            raise ValueError(f"a list of files of more than {most:,} bytes")
        at += len(part) - len(inflater.unused_data)
    if data and not inflater.eof:
        raise ValueError("a list of files that is cut short")
    return found.getvalue()
