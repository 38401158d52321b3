"""Incremental files of PostgreSQL: applied, or refused, within the size of a file of a relation."""

from __future__ import annotations

import os
import struct

from hypothesis import given
from hypothesis import strategies as st
from tests.fuzz.harness import fuzzed, outcome
from tests.fuzz.strategies import damaged

from refnet.core.member_names import ArchiveError
from refnet.sources.cluster.data_folder import Label
from refnet.sources.cluster.increments import apply

BLOCK = 1024
FILE = struct.pack("=IIIII", 0xD3AE1F0D, 2, 3, 1, 5).ljust(BLOCK, b"\0") + b"b" * BLOCK * 2
LABEL = b"START WAL LOCATION: 0/2000028 (file 000000010000000000000002)\nSTART TIMELINE: 1\nINCREMENTAL FROM LSN: 0/1\n"


@fuzzed
@given(damaged(FILE), st.integers(1, 4000))
def test_a_damaged_incremental_file_is_applied_or_refused(data: bytes, piece: int) -> None:
    pieces = (data[at : at + piece] for at in range(0, len(data), piece))
    handle = os.memfd_create("relation")
    try:
        os.write(handle, b"a" * BLOCK * 4)
        outcome(lambda: apply(pieces, len(data), handle, BLOCK), ArchiveError)
        assert os.fstat(handle).st_size <= 1 << 30
    finally:
        os.close(handle)


@fuzzed
@given(damaged(LABEL))
def test_a_damaged_label_is_read_or_refused(data: bytes) -> None:
    outcome(lambda: Label.read(data), ArchiveError)
