"""pg_dump's data section, cut at the tables' boundaries, whatever the names hold."""

from __future__ import annotations

import gzip
from collections.abc import Iterable

import pytest
from xxhash import xxh3_128

from refnet.sources.database.artifact import member_rows
from refnet.sources.database.artifact.index_values import MemberKind
from refnet.sources.database.artifact.member_rows import Cutter, DataSection, Packed
from refnet.sources.database.sql_text import Codec

KEY = b"k3y"
DATA = b"""\
--
-- PostgreSQL database dump
--

\\restrict k3y

SET statement_timeout = 0;

COPY public.plain (id, "odd ""name") FROM stdin;
1\tCOPY x FROM stdin;
2\t\\N
\\.


COPY "sch.ema"."new
line; COPY public.plain (id) FROM stdin;
" ("co
l", b) FROM stdin;
a\tb
\\.


COPY public.nothing  FROM stdin;


\\.


COPY public.empty (a) FROM stdin;
\\.


SELECT pg_catalog.setval('public.plain_id_seq', 2, true);
SELECT pg_catalog.setval('public."it''s"', -7, false);

\\unrestrict k3y

"""


def cut(size: int) -> tuple[list[Packed], DataSection]:
    packed: list[Packed] = []
    section = DataSection(packed.append, Codec(), KEY)
    section.read(DATA[at : at + size] for at in range(0, len(DATA), size))
    return packed, section


@pytest.mark.parametrize("size", [1, 7, 64, 10_000])
def test_a_section_is_cut_at_tables_and_loses_only_the_restrict_pair(size: int) -> None:
    packed, section = cut(size)
    text = b"".join(gzip.decompress(member.data) for member in packed)
    assert text == DATA.replace(b"\\restrict k3y\n", b"").replace(b"\\unrestrict k3y\n", b"")
    odd = ("sch.ema", "new\nline; COPY public.plain (id) FROM stdin;\n")
    tables = {member.table: member.rows for member in packed if member.table}
    assert tables == {("public", "plain"): 2, odd: 1, ("public", "nothing"): 2, ("public", "empty"): 0}
    assert section.columns == {
        ("public", "plain"): ("id", 'odd "name'),
        odd: ("co\nl", "b"),
        ("public", "nothing"): (),
        ("public", "empty"): ("a",),
    }
    assert section.sequences == [("public.plain_id_seq", 2, True), ('public."it\'s"', -7, False)]


def test_output_that_ends_within_the_rows_of_a_table_is_refused() -> None:
    section = DataSection(lambda _: None, Codec(), KEY)
    with pytest.raises(ValueError, match="ends within"):
        section.read([DATA[: DATA.index(b"2\t")]])


def test_a_member_contains_each_byte_once_in_order_however_its_pieces_are_gathered() -> None:
    rows = [b"%d\t%b\n" % (number, b"x" * (number * 997 % 90_000)) for number in range(300)]
    packed: list[Packed] = []
    Cutter(MemberKind.BLOCK, packed.append).rows(("public", "t"), b"COPY;\n", rows)
    expected = b"".join(rows)
    texts = [gzip.decompress(one.data) for one in packed]
    assert b"".join(text.removeprefix(b"COPY;\n").removesuffix(b"\\.\n") for text in texts) == expected
    assert [(len(text), xxh3_128(text).hexdigest()) for text in texts] == [
        (one.raw, one.text) for one in packed
    ]
    assert sum(one.rows for one in packed) == len(rows)


@pytest.mark.parametrize("size", [1, 30, 99, 1000, 100_000])
def test_rows_are_cut_at_the_first_line_end_after_a_block(size: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(member_rows, "BLOCK", 100)
    head, packed = b"COPY t (a) FROM stdin;\n", list[Packed]()
    rows = b"".join(b"%d%b\n" % (n, b"x" * (n % 40)) for n in range(100)) + b"y" * 300 + b"\n\n"
    cutter = Cutter(MemberKind.BLOCK, packed.append)
    cutter.rows(("s", "t"), head, (rows[at : at + size] for at in range(0, len(rows), size)))
    texts = [gzip.decompress(member.data).removeprefix(head).removesuffix(b"\\.\n") for member in packed]
    assert b"".join(texts) == rows
    assert sum(member.rows for member in packed) == 102
    for text in texts[:-1]:
        assert len(head + text) >= 100 > len(head) + text.rstrip(b"\n").rfind(b"\n") + 1


def _objects(numbers: Iterable[int], length: int) -> bytes:
    """pg_dump's section of one small table, a sequence, and large objects of `length` bytes of text."""
    each = (
        b"SELECT pg_catalog.lo_open('%d', 131072);\nSELECT pg_catalog.lowrite(0, '\\x%b');\nSELECT pg_catalog.lo_close(0);\n\n"
        % (n, b"%02x" % (n % 256) * (length // 2))
        for n in numbers
    )
    value = b"SELECT pg_catalog.setval('public.s', %d, true);\n" % length
    return (
        b"COPY public.t (id) FROM stdin;\n1\n\\.\n\n" + value + b"BEGIN;\n\n" + b"".join(each) + b"COMMIT;\n"
    )


def _cut_objects(text: bytes) -> list[bytes]:
    packed: list[Packed] = []
    DataSection(packed.append, Codec(), KEY).read([text])
    assert b"".join(gzip.decompress(one.data) for one in packed) == text
    return [one.data for one in packed]


@pytest.mark.parametrize("length", [20_000, 600_000])
def test_a_large_object_that_is_deleted_or_added_changes_few_members(length: int) -> None:
    numbers = range(16_400, 16_400 + 24_000_000 // length)
    before = _cut_objects(_objects(numbers, length))
    assert 6 < len(before) < 26
    fewer = _cut_objects(_objects([n for n in numbers if n != 16_402], length))
    more = _cut_objects(_objects([*numbers, 1_000_000], length))
    assert len(set(fewer) - set(before)) <= 4
    assert len(set(more) - set(before)) <= 2
