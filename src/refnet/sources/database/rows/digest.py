"""The content digest of a table: its rows, and the sum modulo 2^128 of a 64-bit hash of each COPY line.

Independent of the rows' order, and cheap enough to compute while the bytes stream. It detects lost, changed, swapped
and duplicated rows; it does not protect against an attacker.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from xxhash import xxh3_64, xxh3_64_intdigest

MODULUS = 1 << 128

#: A line longer than this (bytes) is hashed and passed on in parts, so that no row bounds the memory.
LONG_LINE = 1 << 20
_PIECE = 1 << 18


class Digest:
    """The count, the digest and the bytes of rows, fed as complete lines or as parts of one long line."""

    __slots__ = ("_long", "raw", "rows", "total")

    def __init__(self) -> None:
        self.rows = 0
        self.total = 0
        self.raw = 0
        self._long: xxh3_64 | None = None

    def feed(self, data: bytes, *, ends: bool) -> None:
        """Add what `complete_lines` yields."""
        self.raw += len(data)
        if ends and self._long is None:
            lines = data.split(b"\n")
            lines.pop()
            self.rows += len(lines)
            self.total += sum(map(xxh3_64_intdigest, lines))
            return
        self._long = self._long or xxh3_64()
        self._long.update(data[:-1] if ends else data)
        if ends:
            self.rows += 1
            self.total += self._long.intdigest()
            self._long = None

    def through(self, lines: Iterable[tuple[bytes, bool]]) -> Iterator[bytes]:
        """Yield the rows of `lines` (complete_lines), and add each."""
        for data, ends in lines:
            self.feed(data, ends=ends)
            yield data

    def add(self, other: Digest) -> None:
        """Add another digest's rows."""
        self.rows += other.rows
        self.total += other.total
        self.raw += other.raw

    @property
    def hex(self) -> str:
        """32 hexadecimal digits."""
        return f"{self.total % MODULUS:032x}"


def gathered(copy: Iterable[bytes | bytearray | memoryview]) -> Iterator[bytes]:
    """Yield the rows of psycopg's COPY in large pieces: overhead is per piece."""
    parts: list[bytes | bytearray | memoryview] = []
    size = 0
    for row in copy:
        parts.append(row)
        size += len(row)
        if size >= _PIECE:
            yield b"".join(parts)
            parts, size = [], 0
    yield b"".join(parts)


def complete_lines(chunks: Iterable[bytes]) -> Iterator[tuple[bytes, bool]]:
    r"""Cut `chunks` at line ends: yield (complete lines, True) or (part of a long line, False).

    The part that ends a long line comes alone, as (part with its newline, True). ValueError where the last line has
    no newline; COPY text always has one.
    """
    carry, within_long = b"", False
    for chunk in chunks:
        data = carry + chunk if carry else chunk
        carry = b""
        if within_long:
            at = data.find(b"\n") + 1
            if not at:
                yield data, False
                continue
            yield data[:at], True
            data, within_long = data[at:], False
        at = data.rfind(b"\n") + 1
        if at:
            yield (data if at == len(data) else data[:at]), True
        carry = data[at:]
        if len(carry) >= LONG_LINE:
            yield carry, False
            carry, within_long = b"", True
    if carry:
        raise ValueError("the last line has no end")
