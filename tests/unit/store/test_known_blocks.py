"""Which range of which piece has a block's bytes: read as it was written, and nothing of a file that somebody changed."""

from __future__ import annotations

import json
import os
import struct
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from tests.remote_copies import MACHINE
from xxhash import xxh3_128_digest

from refnet.catalog.object_names import SharedName
from refnet.catalog.remote import PIECE_BYTES, Piece
from refnet.store import known_blocks
from refnet.store.cutting import Cutting
from refnet.store.known_blocks import KnownBlocks, Place


def _piece(number: int, plain: int = 1000) -> Piece:
    name = SharedName(MACHINE, f"{number:032x}").named("0" * 16)
    return Piece(name, plain + 216, "ab" * 32, plain=plain)


KEY = Cutting(bytes(range(32)))
PIECES = {one.name: one for one in map(_piece, range(3))}
NAMES = [*PIECES]
PLACES = {bytes([number]) * 16: Place(NAMES[number // 2], (number % 2) * 500, 500) for number in range(6)}


@pytest.fixture
def blocks(tmp_path: Path) -> KnownBlocks:
    found = KnownBlocks(tmp_path / "blocks" / "database", KEY)
    found.write(PLACES)
    return found


def _sealed(head: Any, rows: list[tuple[bytes, int, int, int]]) -> bytes:
    """A file with a seal that is right."""
    line = head if isinstance(head, bytes) else json.dumps(head).encode()
    body = line + b"\n" + b"".join(struct.pack("<16sIII", *row) for row in rows)
    return KEY.sealed(body)


def test_what_is_written_is_read(blocks: KnownBlocks) -> None:
    assert blocks.read(PIECES) == PLACES


def test_a_file_that_is_not_there_knows_nothing(tmp_path: Path) -> None:
    assert KnownBlocks(tmp_path / "blocks" / "database", KEY).read(PIECES) == {}


def test_nothing_is_known_of_an_empty_copy(blocks: KnownBlocks) -> None:
    blocks.write({})
    assert blocks.read(PIECES) == {}


def test_only_this_user_reads_the_file(blocks: KnownBlocks) -> None:
    assert blocks.path.stat().st_mode & 0o777 == 0o600
    assert [one.name for one in blocks.path.parent.iterdir()] == ["database"]


def test_blocks_of_a_piece_that_is_not_usable_are_left_out(blocks: KnownBlocks) -> None:
    usable = {name: one for name, one in PIECES.items() if name != NAMES[1]}
    assert {place.piece for place in blocks.read(usable).values()} == {NAMES[0], NAMES[2]}
    assert blocks.read({}) == {}


def test_a_piece_of_which_less_than_half_is_used_is_left_out(blocks: KnownBlocks) -> None:
    large = _piece(0, 2000), _piece(1, 2001)
    usable = PIECES | {one.name: one for one in large}
    assert {place.piece for place in blocks.read(usable).values()} == {NAMES[0], NAMES[2]}


def test_a_range_beyond_its_piece_is_left_out(blocks: KnownBlocks) -> None:
    usable = PIECES | {NAMES[0]: _piece(0, 999)}
    assert set(PLACES) - set(blocks.read(usable)) == {bytes([1]) * 16}


@pytest.mark.parametrize("at", [0, 1, 17, -1, -16, -17, -40, 200])
def test_a_flipped_bit_anywhere_leaves_nothing(blocks: KnownBlocks, at: int) -> None:
    data = bytearray(blocks.path.read_bytes())
    data[at] ^= 1
    blocks.path.write_bytes(data)
    assert blocks.read(PIECES) == {}


def test_a_file_that_was_cut_leaves_nothing(blocks: KnownBlocks) -> None:
    data = blocks.path.read_bytes()
    for size in range(len(data)):
        blocks.path.write_bytes(data[:size])
        assert blocks.read(PIECES) == {}
    blocks.path.write_bytes(data + b"\0")
    assert blocks.read(PIECES) == {}


HEAD = {"format": 1, "pieces": NAMES}
ROW = (b"\1" * 16, 0, 0, 1000)


@pytest.mark.parametrize(
    "data",
    [
        _sealed(HEAD, [ROW, (b"\2" * 16, 3, 0, 500)]),
        _sealed(HEAD, [(b"\2" * 16, 0xFFFFFFFF, 0, 500)]),
        _sealed(HEAD, [(b"\2" * 16, 0, 1, 1000)]),
        _sealed(HEAD, [(b"\2" * 16, 0, 0xFFFFFFFF, 0xFFFFFFFF)]),
        _sealed(HEAD, [(b"\2" * 16, 0, PIECE_BYTES, 600)]),
        _sealed({"format": 2, "pieces": NAMES}, [ROW]),
        _sealed({"format": True, "pieces": NAMES}, [ROW]),
        _sealed({"pieces": NAMES}, [ROW]),
        _sealed({"format": 1}, [ROW]),
        _sealed({"format": 1, "pieces": ["../../etc/passwd"]}, [ROW]),
        _sealed({"format": 1, "pieces": [None]}, [ROW]),
        _sealed({"format": 1, "pieces": {NAMES[0]: 1}}, [ROW]),
        _sealed(HEAD | {"more": 1}, [ROW]),
        _sealed([], [ROW]),
        _sealed(b"not JSON", [ROW]),
        _sealed(b"[" * 100_000, [ROW]),
        _sealed(b"\xff\xfe", [ROW]),
        b"",
        b"\0" * 16,
        KEY.sealed(b""),
        _sealed(HEAD, [ROW])[:-16] + xxh3_128_digest(_sealed(HEAD, [ROW])[:-16]),
        _sealed(HEAD, [ROW])[:-16] + KEY.hash(_sealed(HEAD, [ROW])[:-16]),
        Cutting(bytes(32)).sealed(_sealed(HEAD, [ROW])[:-16]),
    ],
)  # fmt: skip
def test_a_file_that_somebody_wrote_leaves_nothing(blocks: KnownBlocks, data: bytes) -> None:
    blocks.path.write_bytes(_sealed(HEAD, [ROW]))
    assert blocks.read(PIECES) == {ROW[0]: Place(NAMES[0], 0, 1000)}
    blocks.path.write_bytes(data)
    assert blocks.read(PIECES) == {}


@pytest.mark.skipif(os.geteuid() != 0, reason="only root gives files away")
def test_a_file_of_another_user_is_not_read(blocks: KnownBlocks) -> None:
    os.chown(blocks.path, 65_534, 65_534)
    assert blocks.read(PIECES) == {}


def _link(path: Path) -> None:
    path.rename(path.with_name("elsewhere"))
    path.symlink_to(path.with_name("elsewhere"))


def _pipe(path: Path) -> None:
    path.unlink()
    os.mkfifo(path)


def _folder(path: Path) -> None:
    path.unlink()
    path.mkdir()


@pytest.mark.parametrize("change", [_link, _pipe, _folder])
def test_what_is_no_file_is_not_read(blocks: KnownBlocks, change: Callable[[Path], None]) -> None:
    change(blocks.path)
    assert blocks.read(PIECES) == {}


def test_a_file_that_is_too_large_is_not_read(blocks: KnownBlocks, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(known_blocks, "_MOST_BYTES", blocks.path.stat().st_size)
    assert blocks.read(PIECES) == PLACES
    monkeypatch.setattr(known_blocks, "_MOST_BYTES", blocks.path.stat().st_size - 1)
    assert blocks.read(PIECES) == {}


def test_too_many_blocks_are_not_written_and_the_older_ones_are_forgotten(
    blocks: KnownBlocks, monkeypatch: pytest.MonkeyPatch
) -> None:
    size = blocks.path.stat().st_size
    monkeypatch.setattr(known_blocks, "_MOST_BYTES", size)
    blocks.write(PLACES)
    assert blocks.read(PIECES) == PLACES
    blocks.write(PLACES | {b"\xff" * 16: Place(NAMES[0], 0, 1)})
    assert not blocks.path.exists()
    blocks.write(PLACES | {b"\xff" * 16: Place(NAMES[0], 0, 1)})
    assert blocks.read(PIECES) == {}
