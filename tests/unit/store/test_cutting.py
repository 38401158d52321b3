"""An artifact is cut where its content says: what did not change gives the same blocks, and another key cuts elsewhere."""

from __future__ import annotations

import errno
import io
import random
import zlib
from collections.abc import Callable, Iterable
from contextlib import closing
from itertools import pairwise
from typing import BinaryIO, cast

import pytest
from tests.remote_store import cut_finely

from refnet.store import cutting
from refnet.store.cutting import Cutting, fits

KEY = Cutting(bytes(range(32)))
OTHER = Cutting(bytes(range(1, 33)))
Content = bytes | memoryview
KIB, MIB = 1 << 10, 1 << 20
LEAST = cutting._LEAST_BLOCK
HEADER = b"\x1f\x8b\x08\0\0\0\0\0\0\xff"
FLUSHED = b"\0\0\xff\xff"


class _Slow(io.RawIOBase):
    """Gives at most so many bytes at once, in turn."""

    def __init__(self, data: bytes, *sizes: int) -> None:
        super().__init__()
        self._data, self._sizes, self._at, self._turn = data, sizes, 0, 0

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: object) -> int:
        view = memoryview(buffer).cast("B")  # type: ignore[arg-type]
        most = self._sizes[self._turn % len(self._sizes)]
        self._turn += 1
        found = self._data[self._at : self._at + min(most, len(view))]
        view[: len(found)] = found
        self._at += len(found)
        return len(found)


def _blocks(data: bytes, *sizes: int, by: Cutting = KEY) -> list[bytes]:
    reader = cast(BinaryIO, _Slow(data, *sizes)) if sizes else io.BytesIO(data)
    return [bytes(one) for one, _ in by.blocks(reader)]


def _member(data: bytes) -> bytes:
    """A gzip member as RefNet writes it."""
    deflater = zlib.compressobj(1, zlib.DEFLATED, -15)
    body = deflater.compress(data) + deflater.flush()
    return HEADER + body + zlib.crc32(data).to_bytes(4, "little") + len(data).to_bytes(4, "little")


def _noise(seed: int, size: int) -> bytes:
    """Random bytes without the header of a member."""
    return random.Random(seed).randbytes(size).replace(HEADER, b"-" * len(HEADER))


def _members(seed: int, sizes: Iterable[int]) -> list[bytes]:
    return [_member(_noise(seed + number, size)) for number, size in enumerate(sizes)]


def _new(before: bytes, after: bytes, by: Cutting = KEY) -> list[bytes]:
    """The blocks of `after` that `before` does not have."""
    known = set(_blocks(before, by=by))
    return [one for one in _blocks(after, by=by) if one not in known]


@pytest.mark.parametrize("size", [0, 1, LEAST, MIB, 4 * MIB - 1, 4 * MIB, 4 * MIB + 1, 30 * MIB + 7])
def test_the_blocks_are_the_artifact_in_order(size: int) -> None:
    data = _noise(1, size)
    blocks = _blocks(data)
    assert b"".join(blocks) == data
    assert all(blocks)
    assert all(len(one) <= 4 * MIB for one in blocks)
    assert all(len(one) >= LEAST for one in blocks[:-1])


def test_each_block_comes_with_its_hash() -> None:
    for block, found in KEY.blocks(io.BytesIO(_noise(2, 20 * MIB))):
        assert found == KEY.block_hash(block)


def test_who_follows_gets_all_that_is_read_in_order() -> None:
    data, followed = _noise(3, 40 * MIB + 5), bytearray()
    assert b"".join(bytes(one) for one, _ in KEY.blocks(io.BytesIO(data), followed.extend)) == data
    assert followed == data


def test_an_error_of_the_disk_ahead_is_one_of_the_reader() -> None:
    class Failing(_Slow):
        def readinto(self, buffer: object) -> int:
            if self._at > 20 * MIB:
                raise OSError(errno.EIO, "Input/output error")
            return super().readinto(buffer)

    with pytest.raises(OSError, match="Input/output"):
        list(KEY.blocks(cast(BinaryIO, Failing(_noise(4, 30 * MIB), MIB))))


def test_who_ends_early_may_close_the_reader() -> None:
    """The thread that reads ahead has ended by then."""

    class Watched(_Slow):
        reads = 0

        def readinto(self, buffer: object) -> int:
            self.reads += 1
            read = super().readinto(buffer)
            self.reads -= 1
            return read

    for taken in range(5):
        reader = Watched(_noise(5, 30 * MIB), 64 * KIB)
        with closing(KEY.blocks(cast(BinaryIO, reader))) as blocks:
            for _ in range(taken):
                next(blocks)
        assert not reader.reads
        reader.close()


@pytest.fixture
def searched(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """Where the end of a block was searched."""
    found, end = list[int](), Cutting._end

    def searching(self: Cutting, data: bytearray, at: int, have: int) -> int:
        found.append(at)
        return end(self, data, at, have)

    monkeypatch.setattr(Cutting, "_end", searching)
    return found


def _after(data: bytes) -> dict[bytes, tuple[bytes, int]]:
    """By the hash of a block of `data`: hash and length of the next one."""
    blocks = _blocks(data)
    return {KEY.block_hash(one): (KEY.block_hash(other), len(other)) for one, other in pairwise(blocks)}


def _guessed(data: bytes, after: dict[bytes, tuple[bytes, int]]) -> list[bytes]:
    blocks = KEY.blocks(io.BytesIO(data), likely=lambda found: after.get(found, (b"", 0)))
    return [bytes(one) for one, _ in blocks]


def test_what_follows_again_is_not_searched_and_cut_as_before(searched: list[int]) -> None:
    members = _members(1, [*range(5 * KIB, 90 * KIB, 3 * KIB)])
    data = b"".join(members) + _noise(6, 30 * MIB)
    blocks, after = _blocks(data), _after(data)
    searched.clear()
    assert _guessed(data, after) == blocks
    assert len(searched) == 1, "the first one has none before it"
    changed = b"".join([*members[:10], _member(_noise(9, 50 * KIB)), *members[11:]]) + _noise(6, 30 * MIB)
    expected = _blocks(changed)
    searched.clear()
    assert _guessed(changed, after) == expected
    assert len(searched) == 3, "the first one, the one that changed, and the one after it"


@pytest.mark.parametrize("length", [1, 7, 4 * MIB, 13 * MIB, 1 << 31])
@pytest.mark.parametrize("right", [True, False])
def test_a_wrong_guess_changes_no_cut(length: int, *, right: bool) -> None:
    data = b"".join(_members(1, [9 * KIB, 90 * KIB, 30 * KIB])) + _noise(6, 12 * MIB)
    after = {one: (found if right else bytes(16), length) for one, (found, _) in _after(data).items()}
    assert _guessed(data, after) == _blocks(data)


def test_an_empty_artifact_has_no_block() -> None:
    assert _blocks(b"") == []


def test_each_member_begins_a_block() -> None:
    members = _members(1, [5 * KIB, 70 * KIB, 900 * KIB, 4 * KIB, 300 * KIB])
    assert _blocks(b"".join(members)) == members


def test_members_that_are_too_small_share_a_block() -> None:
    members = _members(1, [random.Random(n).randrange(50, 500) for n in range(300)])
    blocks = _blocks(b"".join(members))
    assert all(one.startswith(HEADER) for one in blocks)
    assert all(LEAST <= len(one) < LEAST + 600 for one in blocks[:-1])


def test_short_members_take_no_long_one_with_them_to_another_place() -> None:
    short, other, *long = _members(1, [100, 200, 300 * KIB, 900 * KIB, 50 * KIB])
    before, after = [long[0], short, other, *long[1:]], [*long[:2], other, long[2], short]
    assert _blocks(b"".join(before)) == [long[0], short + other, *long[1:]]
    assert _blocks(b"".join(after)) == after


def _in_stretches(*stretches: bytes) -> list[bytes]:
    """A gzip member, deflated so that what comes before the end of a stretch does not depend on what follows."""
    deflater, data = zlib.compressobj(1, zlib.DEFLATED, -15), b"".join(stretches)
    parts = [deflater.compress(one) + deflater.flush(zlib.Z_SYNC_FLUSH) for one in stretches[:-1]]
    parts.append(deflater.compress(stretches[-1]) + deflater.flush())
    parts[0] = HEADER + parts[0]
    parts[-1] += zlib.crc32(data).to_bytes(4, "little") + len(data).to_bytes(4, "little")
    return parts


def test_a_stretch_of_a_member_is_a_block() -> None:
    before, after = _members(1, [30 * KIB, 900 * KIB])
    texts = [_noise(n, 16 * KIB) for n in range(4)]
    parts = _in_stretches(*texts)
    assert _blocks(b"".join([before, *parts, after])) == [before, *parts, after]
    changed = _in_stretches(*texts[:2], _noise(9, 15 * KIB), texts[3])
    assert changed[:2] == parts[:2]
    assert _new(b"".join(parts), b"".join(changed)) == changed[2:]


def test_a_long_stretch_is_no_block_and_tiny_ones_share_one() -> None:
    whole = b"".join(_in_stretches(_noise(1, 40 * KIB), _noise(2, 5 * KIB), _noise(3, 5 * KIB)))
    assert _blocks(whole) == [whole]
    tiny = _in_stretches(*(_noise(n, 100) for n in range(300)))
    blocks = _blocks(b"".join(tiny))
    assert 10 < len(blocks) < 40
    assert all(LEAST <= len(one) < LEAST + 300 for one in blocks[:-1])


def test_a_header_that_stands_in_the_middle_of_a_member_costs_a_cut_and_nothing_else() -> None:
    data = _noise(1, 50 * KIB) + HEADER + _noise(2, 50 * KIB)
    assert _blocks(data) == [data[: 50 * KIB], data[50 * KIB :]]


@pytest.mark.parametrize("sizes", [(1,), (7, 100), (65_536,), (MIB, 3, 5 * MIB), (3 * MIB + 1,)])
def test_equal_bytes_give_equal_blocks_whatever_is_read_at_once(sizes: tuple[int, ...]) -> None:
    data = b"".join(_members(1, [5000, 9000, 20_000]))
    if max(sizes) >= MIB:
        data += b"".join(_members(1, [300 * KIB, 5 * MIB, 20 * KIB])) + _noise(3, 12 * MIB)
    assert _blocks(data, *sizes) == _blocks(data)


def test_small_sizes_cut_alike_at_every_place(monkeypatch: pytest.MonkeyPatch) -> None:
    """A header, and the bytes that the key chooses, at every place of the buffer, and across its end."""
    cut_finely(monkeypatch, 16 << 10)
    chosen = random.Random(4)
    for number in range(60):
        gaps = (chosen.choice([0, 1, 3, 10, 250, 300, 700]) + chosen.randrange(20) for _ in range(12))
        data = b"".join(chosen.randbytes(gap) + chosen.choice([HEADER, FLUSHED, HEADER]) for gap in gaps)
        with monkeypatch.context() as patched:
            patched.setattr(cutting, "_BUFFER", 1 << 20)
            whole = _blocks(data)
        for sizes in ((1,), (1, 300), (chosen.randrange(1, 400),), ()):
            assert _blocks(data, *sizes) == whole, number
        assert b"".join(whole) == data
        assert all(len(one) <= (4 << 20) // (16 << 10) for one in whole)


@pytest.mark.parametrize("at", [0, 2, 41, 80])
def test_a_member_that_is_inserted_is_the_only_new_block(at: int) -> None:
    members = _members(1, [random.Random(n).randrange(8 * KIB, 200 * KIB) for n in range(80)])
    new = _member(_noise(1000, 50 * KIB))
    assert _new(b"".join(members), b"".join([*members[:at], new, *members[at:]])) == [new]


def test_a_member_that_is_gone_changes_no_other_block() -> None:
    members = _members(1, [random.Random(n).randrange(8 * KIB, 200 * KIB) for n in range(80)])
    assert _new(b"".join(members), b"".join([*members[:40], *members[41:]])) == []


def test_small_members_that_are_inserted_change_a_few_blocks() -> None:
    members = _members(1, [random.Random(n).randrange(50, 500) for n in range(2000)])
    new = _member(b"new")
    assert len(_new(b"".join(members), b"".join([*members[:1000], new, *members[1000:]]))) < 20


@pytest.mark.parametrize("number", range(2))
def test_an_insertion_into_what_is_no_chain_of_members_changes_a_few_blocks(number: int) -> None:
    data = _noise(number, 60 * MIB)
    after = data[: 30 * MIB] + b"inserted" * (number + 1) + data[30 * MIB :]
    assert 1 <= len(_new(data, after)) <= 6
    assert len(_blocks(data)) > 15


def test_a_change_of_a_large_member_is_a_change_of_its_blocks_alone() -> None:
    members = _members(1, [100 * KIB, 20 * MIB, 100 * KIB])
    changed = bytearray(members[1])
    changed[10 * MIB] ^= 1
    new = _new(b"".join(members), members[0] + bytes(changed) + members[2])
    assert 1 <= len(new) <= 3
    assert sum(map(len, new)) <= 12 * MIB


def test_large_content_is_cut_at_about_every_third_mebibyte() -> None:
    blocks = _blocks(_noise(5, 60 * MIB))
    assert 15 <= len(blocks) <= 35
    assert all(len(one) > MIB for one in blocks[:-1])
    assert len({len(one) for one in blocks}) > len(blocks) // 2, "most are no round numbers"


def test_another_key_cuts_elsewhere_and_hashes_otherwise() -> None:
    data = _noise(6, 20 * MIB)
    ours, theirs = (list(map(len, _blocks(data, by=one))) for one in (KEY, OTHER))
    assert ours != theirs
    assert not {*ours[:-1]} & {*theirs[:-1]} - {4 * MIB}
    assert KEY.hash(data) != OTHER.hash(data)
    assert KEY.block_hash(data) != OTHER.block_hash(data)


@pytest.mark.parametrize("hashed", [Cutting.hash, Cutting.block_hash])
def test_a_hash_is_of_16_bytes_and_of_all_of_the_content(hashed: Callable[[Cutting, Content], bytes]) -> None:
    one = hashed(KEY, b"content")
    assert len(one) == 16
    assert one == hashed(KEY, memoryview(bytearray(b"content"))) == hashed(Cutting(KEY.key), b"content")
    long = _noise(1, MIB)
    others = [b"content", b"Content", b"content\0", b"", b"conten", bytes(15), bytes(16), bytes(17), long]
    others += [long[:at] + bytes([long[at] ^ 1]) + long[at + 1 :] for at in (0, 4095, MIB - 1)]
    assert len({hashed(KEY, data) for data in others}) == len(others)


def test_no_hash_of_a_block_is_one_of_a_piece() -> None:
    gmac, key = KEY._of_blocks
    tag = gmac.encrypt(bytes(12), b"", b"content")
    seen = {KEY.block_hash(b"content"), KEY.hash(b"content"), KEY.hash(tag), tag, KEY.sealed(tag)[-16:]}
    assert len(seen) == 5
    assert key != KEY.key


def test_the_key_is_made_of_the_secret_of_the_machine_and_is_not_the_secret() -> None:
    one, other = Cutting.of("AGE-SECRET-KEY-1A"), Cutting.of("AGE-SECRET-KEY-1B")
    assert one == Cutting.of("AGE-SECRET-KEY-1A")
    assert one.key != other.key
    assert len(one.key) == 32
    assert b"AGE" not in one.key


def test_zeros_are_the_same_block_again_and_again() -> None:
    blocks = _blocks(bytes(40 * MIB + 5))
    assert len(set(blocks[:-1])) == 1
    assert len(blocks[0]) in {MIB + 2, 4 * MIB}


def test_what_is_as_long_as_a_buffer_or_a_byte_more_is_cut_too() -> None:
    for size in (8 * MIB - 1, 8 * MIB, 8 * MIB + 1, 8 * MIB + 10, 16 * MIB):
        assert b"".join(_blocks(bytes(size))) == bytes(size)


def test_a_piece_ends_with_a_block_that_its_hash_chooses_but_not_before_4_mib() -> None:
    lowest, highest = bytes(16), b"\xff" * 16
    assert not KEY.ends_piece(4 * MIB - 1, lowest, MIB)
    assert KEY.ends_piece(4 * MIB, lowest, MIB)
    assert not KEY.ends_piece(4 * MIB, highest, MIB)
    assert KEY.ends_piece(4 * MIB, highest, 4 * MIB), "a large block always does"
    ends = sum(KEY.ends_piece(8 * MIB, KEY.hash(bytes([n % 256, n // 256])), MIB) for n in range(4000))
    assert 850 < ends < 1150, "a block of a quarter of it does once in four"


def test_a_piece_has_at_most_16_mib() -> None:
    assert fits(0, 16 * MIB)
    assert fits(12 * MIB, 4 * MIB)
    assert not fits(12 * MIB + 1, 4 * MIB)
