"""Makes the gzip members of an artifact (RFC 1952) with ISA-L.

Digits that hardly repeat (bytea, hashes, measurements) have many chance repetitions of four characters, and referring to
one that is far back takes more bits than the characters. ISA-L takes every repetition that it finds, so such text is
smaller, and faster to write and to read, if it looks back only 512 bytes. Measured on the hexadecimal text of random
bytes: 7 % smaller, deflated in 65 % of the time, inflated in 55 %. Prose would grow by a third.
"""

from __future__ import annotations

from collections.abc import Iterable
from struct import pack

from isal import isal_zlib

#: Of ISA-L's levels 0 to 3. Measured on text: 2 takes as long as 1 and is 3 % smaller; 3 takes 15 % longer.
_LEVEL = 2
#: How far back a deflater looks: exponents of 2. Negative for zlib: without the wrapper of a format.
_FAR, _NEAR = 15, 9
#: Bytes of text of a stretch: after it the window is chosen anew.
_STRETCH = 1 << 19
#: Text that becomes smaller than this share of itself repeats; the short window is not tried.
_REPEATS = 0.4
#: Text that becomes smaller than this share of what the text before it became is of another kind.
_SAME = 0.97
_HEADER = b"\x1f\x8b\x08\0\0\0\0\0\0\xff"


class Deflater:
    """Makes one member of text that comes in pieces, each stretch with the window that suits the one before it.

    ISA-L gives other bytes for the same text in other pieces, and how much a pipe has is chance. So it gets each stretch at
    once: equal texts give equal members, which copies in remote stores share.
    """

    def __init__(self) -> None:
        #: Bytes of text so far.
        self.raw = 0
        #: The beginning of the next stretch.
        self._waiting = bytearray()
        self._parts = [_HEADER]
        self._crc = 0
        #: The short window suits text that becomes a share of itself between these.
        self._least, self._most = _REPEATS, 1.0
        self._choose(_FAR)

    def _choose(self, window: int) -> None:
        self._window = window
        self._deflater = isal_zlib.compressobj(_LEVEL, isal_zlib.DEFLATED, -window)

    def add(self, text: bytes) -> None:
        self.raw += len(text)
        self._waiting += text
        while len(self._waiting) >= _STRETCH:
            with memoryview(self._waiting) as waiting:
                size = self._put(waiting[:_STRETCH], isal_zlib.Z_SYNC_FLUSH)
            del self._waiting[:_STRETCH]
            self._end_stretch(size / _STRETCH)

    def _put(self, text: bytes | bytearray | memoryview, flush: int) -> int:
        """Deflate `text`; return how many bytes it became."""
        self._crc = isal_zlib.crc32(text, self._crc)
        parts = (self._deflater.compress(text), self._deflater.flush(flush))
        self._parts += parts
        return sum(map(len, parts))

    def _end_stretch(self, share: float) -> None:
        """Choose the window of the next stretch; the last one became a `share` of itself."""
        if self._window == _FAR:
            self._least, self._most = _REPEATS, share
        window = _NEAR if self._least <= share <= self._most else _FAR
        if self._window == _NEAR:
            self._least = share * _SAME
        if window != self._window:
            self._choose(window)

    def finish(self) -> bytes:
        """Return the member."""
        self._put(self._waiting, isal_zlib.Z_FINISH)
        return b"".join((*self._parts, pack("<LL", self._crc, self.raw & 0xFFFFFFFF)))


def compress(pieces: Iterable[bytes]) -> tuple[bytes, int]:
    """One gzip member of `pieces`, and their length in bytes."""
    deflater = Deflater()
    for piece in pieces:
        deflater.add(piece)
    return deflater.finish(), deflater.raw
