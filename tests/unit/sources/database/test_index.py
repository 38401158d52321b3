"""The index of an artifact with very many tables."""

from __future__ import annotations

import time

from refnet.sources.database.artifact.index import Index, Member, Table
from refnet.sources.database.artifact.index_values import MemberKind

COUNT = 20_000


def test_the_blocks_of_many_tables_are_found_in_bounded_time() -> None:
    members = tuple(
        Member(number, 1, 1, MemberKind.BLOCK if number % 4 else MemberKind.DATA, number // 2)
        for number in range(2 * COUNT)
    )
    tables = tuple(Table("public", f"t{number}", (), blocks=True) for number in range(COUNT))
    index = Index({}, {}, "", "UTF8", "", b"", members, tables)
    begun = time.monotonic()
    found = [index.blocks_of(number) for number in range(COUNT)]
    assert time.monotonic() - begun < 5
    assert found[:2] == [members[1:2], members[2:4]]
    assert index.blocks_of(COUNT) == ()
