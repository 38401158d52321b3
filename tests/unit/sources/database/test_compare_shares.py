"""A comparison cuts a large table into shares, so that no worker reads alone at the end."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

from refnet.postgres.session import Target
from refnet.sources.database.artifact.index import Table
from refnet.sources.database.proof.compare import _Comparison
from refnet.sources.database.rows.live_catalog import Relation, Relations
from refnet.sources.database.sql_text import Codec
from refnet.sources.database.workers import Workers

MB = 1 << 20


def statements(raw: int, pages: int, *, content: bool = True) -> list[bytes]:
    table = Table("public", "visits", ("id",), raw=raw)
    relation = Relation("public", "visits", "r", pages, 1, 1, False, ["id"], [])
    index: Any = SimpleNamespace(tables=(table,))
    tables = Relations({("public", "visits"): relation}, {})
    nothing: Any = SimpleNamespace()  # no program is run, and no session asked
    workers = Workers(nothing, 2)
    comparison = _Comparison(Target("dbname=x"), index, tables, Codec(), {}, workers, content, nothing)
    return list(comparison._statements(table, relation))


def test_a_table_of_a_hundred_megabytes_is_read_in_many_shares() -> None:
    found = statements(100 * MB, 13_000)
    assert len(found) == 12
    assert b"ctid >= '(0,0)' AND ctid < '(1083,0)'" in found[0]
    assert found[-1].endswith(b"ctid >= '(11916,0)') TO STDOUT")


def test_a_small_table_is_read_at_once() -> None:
    assert statements(8 * MB, 1000) == [b'COPY (SELECT "id" FROM ONLY "public"."visits") TO STDOUT']


def test_rows_are_counted_at_once() -> None:
    assert len(statements(100 * MB, 13_000, content=False)) == 1
