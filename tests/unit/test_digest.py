"""The content digest: what it must notice, and what it must not depend on."""

from __future__ import annotations

import itertools
import random

import pytest
from xxhash import xxh3_64_intdigest

from refnet.sources.database.artifact.index_values import MemberKind
from refnet.sources.database.artifact.member_rows import LONG_LINE, Cutter, Digest, Packed, complete_lines


def digest_of(text: bytes, cuts: list[int]) -> Digest:
    digest = Digest()
    edges = [0, *sorted(cuts), len(text)]
    for data, ends in complete_lines(text[a:b] for a, b in itertools.pairwise(edges) if a < b):
        digest.feed(data, ends=ends)
    return digest


ROWS = [b"1\tone\n", b"2\ttwo\n", b"\n", b"3\t" + b"x" * (3 * LONG_LINE) + b"\n", b"4\t\\N\n"]


@pytest.mark.parametrize("seed", range(20))
def test_digest_does_not_depend_on_where_the_bytes_were_cut(seed: int) -> None:
    text = b"".join(ROWS)
    chance = random.Random(seed)
    cut = digest_of(text, [chance.randrange(len(text)) for _ in range(12)])
    assert (cut.rows, cut.raw) == (len(ROWS), len(text))
    assert cut.total == sum(xxh3_64_intdigest(row[:-1]) for row in ROWS)


@pytest.mark.parametrize("length", [10, 5_000, 50_000, LONG_LINE, 3 * LONG_LINE])
def test_rows_of_any_length_are_counted_and_digested(length: int) -> None:
    rows = [b"%d\t%b\n" % (number, b"x" * (length + number)) for number in range(40)]
    text, packed = b"".join(rows), list[Packed]()
    pieces = [text[at : at + (1 << 18)] for at in range(0, len(text), 1 << 18)]
    digest = Digest()
    for data, ends in complete_lines(pieces):
        digest.feed(data, ends=ends)
    assert (digest.rows, digest.total) == (40, sum(xxh3_64_intdigest(row[:-1]) for row in rows))
    Cutter(MemberKind.BLOCK, packed.append).rows(("a", "b"), b"COPY a.b (c) FROM stdin;\n", pieces)
    assert (sum(one.rows for one in packed), sum(one.row_bytes for one in packed)) == (40, len(text))


def test_digest_does_not_depend_on_the_order_of_rows() -> None:
    assert digest_of(b"".join(ROWS), []).hex == digest_of(b"".join(reversed(ROWS)), []).hex


@pytest.mark.parametrize(
    ("what", "rows"),
    [
        ("a lost row", ROWS[1:]),
        ("a doubled row", [*ROWS, ROWS[0]]),
        ("a row twice where another was", [ROWS[1], *ROWS[1:]]),
        ("values swapped between rows", [b"1\ttwo\n", b"2\tone\n", *ROWS[2:]]),
        ("one changed byte in a long row", [*ROWS[:3], ROWS[3].replace(b"x\n", b"y\n"), ROWS[4]]),
    ],
)
def test_digest_notices(what: str, rows: list[bytes]) -> None:
    changed, whole = digest_of(b"".join(rows), []), digest_of(b"".join(ROWS), [])
    assert (changed.rows, changed.hex) != (whole.rows, whole.hex), what


def test_rows_whose_last_line_has_no_end_are_refused() -> None:
    with pytest.raises(ValueError, match="no end"):
        list(complete_lines([b"1\n2"]))
