"""Cuts an artifact into blocks, and new blocks into pieces, at places that its content decides.

An artifact is a chain of gzip members, and what did not change gives the same members. So a block begins where a member
does, and where the short stretches end in which small files are deflated: those before a change stay the same. A large
member, or a file that is no such chain, is cut at byte sequences that a secret key chooses, as are the pieces: their
sizes would otherwise be fingerprints of known files.
"""

from __future__ import annotations

import hashlib
import hmac
from collections.abc import Callable, Generator
from concurrent.futures import wait
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, BinaryIO

from refnet.catalog.remote import PIECE_BYTES
from refnet.store.buckets.bucket import in_background

if TYPE_CHECKING:
    from cryptography.hazmat.primitives.ciphers.aead import AESGCM

#: The header of each member that RefNet writes: no name, no time.
_MEMBER = b"\x1f\x8b\x08\0\0\0\0\0\0\xff"
#: The end of a stretch of a member (Z_SYNC_FLUSH), which ends a block that has at most so many bytes with it: longer ones, of
#: tables, would cost memory for many more blocks.
_FLUSHED, _MOST_FLUSHED = b"\0\0\xff\xff", 32 << 10
#: A block has so many bytes, but for the last one, and for short members before a long one: they may come in another order
#: the next time, and must not take the long one with them.
_LEAST_BLOCK, _MOST_BLOCK = 1 << 10, 4 << 20
#: A member that is longer than this is cut at the first pair of bytes that the key chooses, if also the byte behind it
#: is one of so many: in random bytes such a place comes after 2 MiB, on average.
_LONG = 1 << 20
_CHOSEN = 8
#: A piece has at least so many bytes, but for the last one of a copy, and on average about twice as many.
_LEAST_PIECE = 4 << 20
#: Bytes that are read at once.
_BUFFER = 2 * _MOST_BLOCK
_HASH = 16


@dataclass(frozen=True)
class Cutting:
    """The places of cuts and the hashes of pieces; both are secret."""

    #: 32 bytes.
    key: bytes

    @classmethod
    def of(cls, secret: str) -> Cutting:
        """That of the machine with the catalog key `secret`."""
        return cls(hashlib.blake2b(secret.encode(), digest_size=32, person=b"refnet-pieces").digest())

    def hash(self, data: bytes | memoryview) -> bytes:
        """Keyed hash for the name of a piece, 16 bytes: only this machine can tell whether a store has known content."""
        return hmac.digest(self.key, data, "sha256")[:_HASH]

    def block_hash(self, data: bytes | memoryview) -> bytes:
        """Keyed hash of a block, 16 bytes, in a fraction of the time: HMAC of the GMAC of the block.

        Who does not know the key cannot make two blocks with one GMAC, as long as nobody sees any: so the nonce may be always
        the same. HMAC hides them from who sees where pieces end.
        """
        gmac, key = self._of_blocks
        return hmac.digest(key, gmac.encrypt(bytes(12), b"", data), "sha256")[:_HASH]

    @cached_property
    def _of_blocks(self) -> tuple[AESGCM, bytes]:
        from cryptography.hazmat.primitives.ciphers.aead import AESGCM

        gmac, key = (hmac.digest(self.key, use, "sha256") for use in (b"gmac of blocks", b"hashes of blocks"))
        return AESGCM(gmac), key

    def sealed(self, record: bytes) -> bytes:
        """`record` with its seal: a keyed hash, so nobody without the key can make one. It never equals a `hash`."""
        return record + self._seal(record)

    def opened(self, data: bytes) -> bytes:
        """The record in `data`; ValueError if its seal is not one of this machine."""
        record = memoryview(data)[:-_HASH]
        if not hmac.compare_digest(self._seal(record), data[-_HASH:]):
            raise ValueError("another program wrote it")
        return bytes(record)

    def _seal(self, record: bytes | memoryview) -> bytes:
        return hmac.digest(hmac.digest(self.key, b"records", "sha256"), record, "sha256")[:_HASH]

    def blocks(
        self,
        reader: BinaryIO,
        follow: Callable[[memoryview], object] = lambda _read: None,
        likely: Callable[[bytes], tuple[bytes, int]] = lambda _hash: (b"", 0),
    ) -> Generator[tuple[memoryview, bytes], None, None]:
        """Cut everything that is read from `reader`; yield each block, valid until the next one, with its hash.

        A thread reads ahead: who closes `reader` early closes this generator first.

        Args:
            follow: gets what was read, in order, in that thread.
            likely: hash and length of the block that followed one with the given hash in an earlier artifact. Where it
                follows again, no place of a cut is searched.
        """
        room = _MOST_BLOCK + len(_MEMBER)
        buffer, spare = bytearray(room + _BUFFER), bytearray(room + _BUFFER)
        at = have = room
        expected, length, ended = b"", 0, False
        ahead = in_background(_fill, memoryview(spare)[room:], reader, follow)
        try:
            while True:
                while not ended and have - at < room:
                    read, left = ahead.result(), have - at
                    memoryview(spare)[room - left : room] = memoryview(buffer)[at:have]
                    buffer, spare = spare, buffer
                    at, have, ended = room - left, room + read, read < _BUFFER
                    if not ended:
                        ahead = in_background(_fill, memoryview(spare)[room:], reader, follow)
                if at == have:
                    return
                block = memoryview(buffer)[at : min(at + length, have)]
                if not length or (found := self.block_hash(block)) != expected:
                    block = memoryview(buffer)[at : self._end(buffer, at, have)]
                    found = self.block_hash(block)
                yield block, found
                at += len(block)
                expected, length = likely(found)
        finally:
            wait([ahead])

    def _end(self, data: bytearray, at: int, have: int) -> int:
        """End of the block that begins at `at`; `data` is read up to `have`."""
        most = min(at + _MOST_BLOCK, have)
        near = min(at + _LONG, most)
        member = self._member(data, at, near, have)
        if member >= 0 or near == most:
            return most if member < 0 else member
        member = data.find(_MEMBER, near, min(most + len(_MEMBER) - 1, have))
        return self._cut(data, near, most if member < 0 else member)

    @staticmethod
    def _member(data: bytearray, at: int, most: int, have: int) -> int:
        """Begin of the member or stretch before which the block that begins at `at` ends; -1: there is none up to `most`."""
        member = _next(data, at, most, have)
        while at < member < at + _LEAST_BLOCK:
            after = _next(data, member, member + _LEAST_BLOCK, have)
            if after < 0:  # it is long, or the last one
                return member if have - member >= _LEAST_BLOCK else -1
            member = after
        return member

    def _cut(self, data: bytearray, begin: int, end: int) -> int:
        """The first place from `begin` that the key chooses, or `end`."""
        first, second, third = self._chosen
        while (begin := data.find(bytes((first, second)), begin, end)) >= 0:
            begin += 2
            if begin < end and data[begin] ^ third < _CHOSEN:
                return begin
        return end

    @cached_property
    def _chosen(self) -> bytes:
        return hmac.digest(self.key, b"places of cuts", "sha256")[:3]

    def ends_piece(self, size: int, hash_: bytes, length: int) -> bool:
        """Whether a piece of `size` bytes ends with its last block, of `length` bytes and the hash `hash_`."""
        chance = min(length, _LEAST_PIECE) / _LEAST_PIECE
        return size >= _LEAST_PIECE and int.from_bytes(hash_[:4], "big") < chance * (1 << 32)


def _next(data: bytearray, at: int, most: int, have: int) -> int:
    """Begin of the first member behind `at`, or of the first stretch if that is near; -1: there is none up to `most`."""
    flushed = data.find(_FLUSHED, at + 1, min(at + _MOST_FLUSHED, most, have))
    end = most if flushed < 0 else flushed + len(_FLUSHED)
    member = data.find(_MEMBER, at + 1, min(end + len(_MEMBER) - 1, have))
    return end if flushed >= 0 > member else member


def _fill(into: memoryview, reader: BinaryIO, follow: Callable[[memoryview], object]) -> int:
    """Read until `into` is full, or `reader` ends; return how many bytes there are, which `follow` got too."""
    size = 0
    while size < len(into) and (read := reader.readinto(into[size:])):  # type: ignore[attr-defined]
        size += read
    follow(into[:size])
    return size


def fits(size: int, length: int) -> bool:
    """Whether a block of `length` bytes fits into a piece that has `size` bytes."""
    return size + length <= PIECE_BYTES
