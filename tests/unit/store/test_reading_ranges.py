"""An artifact of many ranges over few pieces is read in order and anywhere, and each piece is fetched once."""

from __future__ import annotations

import time

import pytest
from tests.remote_store import Machine, artifact
from tests.shared_pieces import (
    DATA,
    MOST_BLOCK,
    NOISE,
    PIECE,
    memory,
    send,
)

from refnet.catalog.remote import Copy, Range
from refnet.store.remote_pieces import PieceReader, Pieces
from refnet.store.sending_pieces import Encrypter

pytestmark = pytest.mark.usefixtures("fine_cuts")


def _shuffled(machine: Machine, count: int) -> tuple[bytes, Copy]:
    """A copy of many ranges over the few pieces of an earlier one: its blocks in another order."""
    blocks = [bytes(one) for one, _ in Encrypter((), machine.keys).cutting.blocks(_reader(DATA))]
    first = machine.send(artifact(1, DATA))
    order = NOISE.sample(blocks, len(blocks)) * count
    data = b"".join(order)
    return data, send(machine, 2, data).copy if first else first


def _reader(data: bytes) -> object:
    return artifact(0, data).open()


def _gets(machine: Machine) -> int:
    return memory(machine).requests["get"]


def test_an_artifact_of_many_ranges_is_read_in_order_with_each_piece_fetched_once(machine: Machine) -> None:
    data, copy = _shuffled(machine, 2)
    pieces, ranges = len(copy.document.pieces), len(copy.document.ranges)
    assert ranges > 3 * pieces
    for in_order in (True, False):
        opened, before = machine.store(key=True).artifact(copy, in_order=in_order), _gets(machine)
        with opened.open() as reader:
            assert reader.read() == data
        assert _gets(machine) - before == pieces


def test_an_artifact_of_many_ranges_is_read_at_random_places(machine: Machine) -> None:
    data, copy = _shuffled(machine, 1)
    opened, before = machine.store(key=True).artifact(copy), _gets(machine)
    with opened.open() as reader, opened.open() as other:
        for _ in range(300):
            at, size = NOISE.randrange(len(data)), NOISE.randrange(1, 3 * MOST_BLOCK)
            for one in (reader, other):
                one.seek(at)
                assert one.read(size) == data[at : at + size]
        assert reader.seek(0, 2) == len(data)
        assert reader.read() == b""
        reader.seek(-5, 2)
        assert reader.read() == data[-5:]
        reader.seek(len(data) + 10)
        assert reader.read() == b""
        reader.seek(3)
        assert reader.read(PIECE) == data[3 : 3 + PIECE]
        assert reader.tell() == 3 + PIECE
    assert _gets(machine) - before <= len(copy.document.pieces)


def test_only_the_pieces_of_what_is_read_are_fetched(machine: Machine) -> None:
    _, copy = _shuffled(machine, 1)
    opened, before = machine.store(key=True).artifact(copy), _gets(machine)
    with opened.open() as reader:
        reader.seek(len(DATA) // 2)
        assert reader.read(1)
        assert _gets(machine) - before <= 2


def test_the_time_to_read_in_order_grows_with_the_number_of_ranges_alone() -> None:
    parts = [Range(number // 100, 10 * (number % 100), 9) for number in range(40_000)]
    pieces = Pieces(lambda _number, _keep: bytes(1000), [1000] * 400, parts)
    begun = time.monotonic()
    assert len(PieceReader(pieces, in_order=True).readall()) == 9 * len(parts)
    assert time.monotonic() - begun < 8, "the time grows with the square"
