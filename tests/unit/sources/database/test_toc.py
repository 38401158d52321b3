"""The table of contents is read as pg_restore prints it, and every entry has exactly one that runs it."""

from __future__ import annotations

from refnet.sources.database.artifact.index import Table
from refnet.sources.database.dump.pgdump import TIMEOUT_17, for_server
from refnet.sources.database.restore import schema_archive

LISTING = """;
; Archive created at 2026-11-25 10:37:04 UTC
;     dbname: odd; name
;
2437; 2606 16406 CONSTRAINT public citations citations_pkey refnet
2431; 2606 16397 CONSTRAINT public papers papers_pkey refnet
2441; 2606 16437 CONSTRAINT public jobs jobs_pkey refnet
2435; 1259 16438 INDEX public citations_cited_idx refnet
2440; 0 0 COMMENT public INDEX citations_cited_idx refnet
2442; 2606 16412 FK CONSTRAINT public citations citations_cited_fkey refnet
2444; 2606 16425 FK CONSTRAINT public summaries summaries_paper_fkey refnet
2450; 2620 16438 TRIGGER public citations 16438 refnet
"""
PAPERS = Table("public", "papers", ("id",), blocks=True, oid=1, keys=(16397,))
CITATIONS = Table(
    "public", "citations", ("a",), blocks=True, oid=2, keys=(16406, 16438), foreign_keys={"16412": 1}
)
SUMMARIES = Table("public", "summaries", ("a",), oid=3, foreign_keys={"16425": 1})
JOBS = Table("public", "jobs", ("a",), oid=4, keys=(16437,))


def test_a_listing_is_read_without_its_comments() -> None:
    items = schema_archive.parse(LISTING)
    assert [item.dump_id for item in items] == [2437, 2431, 2441, 2435, 2440, 2442, 2444, 2450]
    assert items[0].line == "2437; 2606 16406 CONSTRAINT public citations citations_pkey refnet"


def test_only_the_entries_of_tables_in_blocks_are_run_early() -> None:
    shares = schema_archive.share(schema_archive.parse(LISTING), [PAPERS, CITATIONS, SUMMARIES, JOBS])
    assert {table: [item.dump_id for item in items] for table, items in shares.keys.items()} == {
        2: [2437],
        1: [2431],
    }
    assert {table: [item.dump_id for item in items] for table, items in shares.indexes.items()} == {2: [2435]}
    assert [(own, other, item.dump_id) for own, other, item in shares.foreign] == [(2, 1, 2442)]


def test_the_rest_keeps_its_order_and_another_catalogs_oid_does_not_match() -> None:
    shares = schema_archive.share(schema_archive.parse(LISTING), [PAPERS, CITATIONS, SUMMARIES, JOBS])
    assert [item.dump_id for item in shares.rest] == [2441, 2440, 2444, 2450]


def test_a_foreign_key_to_a_table_outside_the_blocks_waits_for_the_rest() -> None:
    small_papers = Table("public", "papers", ("id",), oid=1, keys=(16397,))
    shares = schema_archive.share(schema_archive.parse(LISTING), [small_papers, CITATIONS])
    assert shares.foreign == []
    assert [item.dump_id for item in shares.rest] == [2431, 2441, 2440, 2442, 2444, 2450]


def test_a_line_that_pg_restore_does_not_write_is_no_entry() -> None:
    lines = [
        "1; 2 3",
        f"{'9' * 5000}; 0 0 TABLE a b c",
        "١; 0 0 TABLE a b c",
        "-1; 0 0 TABLE a b c",
        "1;2 3 TABLE",
    ]
    assert schema_archive.parse("\n".join(lines)) == ()


def test_only_the_head_of_a_text_is_adapted_to_an_older_server():
    head = b"SET lock_timeout = 0;\n%bSELECT pg_catalog.set_config('search_path', '', false);\n"
    body = b"CREATE FUNCTION f() RETURNS void LANGUAGE plpgsql AS $$ BEGIN\nSET transaction_timeout = 0;\nEND $$;\n"
    assert for_server(16, head % TIMEOUT_17 + body) == head % b"" + body
    assert for_server(16, head % b"" + body) == head % b"" + body
    assert for_server(17, head % TIMEOUT_17 + body) == head % TIMEOUT_17 + body
