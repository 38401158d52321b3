"""Text is deflated with a window that suits it, and any reader of gzip inflates it."""

from __future__ import annotations

import gzip
import random
from collections.abc import Iterator

import pytest
from isal import isal_zlib

from refnet.sources.database.artifact.deflating import Deflater, compress

PIECE = 1 << 16
_random = random.Random(1)
#: The row of a bytea that does not compress, and one that repeats what is 10,000 bytes before.
NOISE = b"1\t\\\\x" + _random.randbytes(1 << 20).hex().encode() + b"\n"
FAR = _random.randbytes(5_000).hex().encode() * 200
_WORDS = [_random.randbytes(_random.randrange(1, 6)).hex().encode() for _ in range(500)]
PROSE = b" ".join(_random.choices(_WORDS, k=400_000))


def pieces(text: bytes, size: int = PIECE) -> Iterator[bytes]:
    return (text[at : at + size] for at in range(0, len(text), size))


def with_long_window(text: bytes) -> int:
    deflater = isal_zlib.compressobj(2, isal_zlib.DEFLATED, 31)
    return sum(len(deflater.compress(piece)) for piece in pieces(text)) + len(deflater.flush())


def test_hexadecimal_text_that_does_not_repeat_is_smaller_with_a_short_window() -> None:
    packed, raw = compress(pieces(NOISE))
    assert raw == len(NOISE)
    assert gzip.decompress(packed) == NOISE
    assert len(packed) < 0.96 * with_long_window(NOISE)


def test_text_that_repeats_from_afar_keeps_the_long_window() -> None:
    packed, _ = compress(pieces(FAR))
    assert gzip.decompress(packed) == FAR
    assert len(packed) < 1.01 * with_long_window(FAR)


def test_the_window_follows_the_text() -> None:
    text = NOISE + PROSE + NOISE
    packed, _ = compress(pieces(text))
    assert gzip.decompress(packed) == text
    assert len(packed) < with_long_window(text)


@pytest.mark.parametrize("size", [1000, 12_345, PIECE, 700_001, len(NOISE)])
def test_pieces_of_any_length_make_the_same_member(size: int) -> None:
    text = NOISE + PROSE
    packed, raw = compress(pieces(text, size))
    assert packed == compress([text])[0]
    assert raw == len(text)
    assert gzip.decompress(packed) == text


def test_a_member_may_be_empty() -> None:
    assert gzip.decompress(Deflater().finish()) == b""
