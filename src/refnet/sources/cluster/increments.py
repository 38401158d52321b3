"""Incremental files of PostgreSQL 17 and newer (INCREMENTAL.NAME), applied to the older file in place.

The file begins with three numbers of 32 bits: a magic number, how many blocks follow, and the truncation length, in blocks.
Then come the numbers of the blocks, zeros up to a whole block, and the blocks. Blocks from the truncation length on are not
those of the older file: they follow, or are zeros. pg_combinebackup makes the same file from all backups of a chain at once.
"""

from __future__ import annotations

import io
import os
import struct
from collections.abc import Iterator, Sequence
from itertools import pairwise
from typing import BinaryIO, cast

from refnet.core.files import write_all
from refnet.core.member_names import ArchiveError
from refnet.sources.folder.tar_archive import Pieces

#: Begins the name of an incremental file.
PREFIX = "INCREMENTAL."
_MAGIC = 0xD3AE1F0D
_HEAD = struct.Struct("=III")
#: Blocks of a file of a relation: 1 GiB of the smallest blocks; PostgreSQL splits larger relations into several files.
_MOST_BLOCKS = (1 << 30) // 1024
#: Bytes that are written at once.
_AT_ONCE = 1 << 20


def _read(stream: BinaryIO, size: int) -> bytes:
    if len(found := stream.read(size)) != size:
        raise ArchiveError("an incremental file is cut short")
    return found


def apply(pieces: Iterator[bytes], size: int, handle: int, block: int) -> None:
    """Apply an incremental file to the open file `handle`, which becomes the newer file.

    Args:
        pieces: the content of the incremental file, in order.
        size: its bytes.
        block: bytes of a block of the cluster.

    ArchiveError if it is malformed.
    """
    stream = cast("BinaryIO", io.BufferedReader(Pieces(pieces)))
    count, truncation, numbers = _header(stream, block)
    head = _HEAD.size + 4 * count
    if size != (head + (-head % block if count else 0) + count * block):
        raise ArchiveError(f"an incremental file of {count} blocks has {size} bytes")
    if count:
        _read(stream, -head % block)
    before = os.fstat(handle).st_size
    if before > truncation * block:
        os.ftruncate(handle, truncation * block)
    for first, run in _runs(numbers, max(1, _AT_ONCE // block)):
        os.lseek(handle, first * block, os.SEEK_SET)
        write_all(handle, _read(stream, run * block))
    if stream.read(1):
        raise ArchiveError("an incremental file is longer than its header says")
    after = max(truncation, numbers[-1] + 1 if numbers else 0) * block
    if count or before != after:  # most files are as they were: their inodes are not written again
        os.ftruncate(handle, after)


def _header(stream: BinaryIO, block: int) -> tuple[int, int, Sequence[int]]:
    """How many blocks there are, the truncation length, and the numbers of the blocks."""
    magic, count, truncation = _HEAD.unpack(_read(stream, _HEAD.size))
    most = min(_MOST_BLOCKS, (1 << 30) // block)
    if magic != _MAGIC:
        raise ArchiveError("an incremental file has another magic number")
    if count > most or truncation > most:
        raise ArchiveError("an incremental file has more blocks than a file of a relation")
    numbers = struct.unpack(f"={count}I", _read(stream, 4 * count))
    if any(after <= before for before, after in pairwise(numbers)) or (numbers and numbers[-1] >= most):
        raise ArchiveError("the blocks of an incremental file are not in order")
    return count, truncation, numbers


def _runs(numbers: Sequence[int], most: int) -> Iterator[tuple[int, int]]:
    """Yield runs of neighbours among `numbers`: the first one, and how many there are, at most `most`."""
    begin = 0
    for at in range(1, len(numbers) + 1):
        if at == len(numbers) or numbers[at] != numbers[at - 1] + 1 or at - begin == most:
            yield numbers[begin], at - begin
            begin = at
