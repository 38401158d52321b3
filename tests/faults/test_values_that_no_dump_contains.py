"""What no dump contains: an error or a sentence says where it is.

A value of 513 MiB is more than 1 GB as text, so no COPY can read it.
"""

from __future__ import annotations

import io

import pytest
from tests.command import Command
from tests.faults.conftest import Live

from refnet.core.errors import RefnetError
from refnet.sources.database.dump import parallel_dump
from refnet.sources.database.dump.pgdump import too_large_row
from refnet.sources.database.dump.snapshot import open_snapshot
from refnet.sources.database.workers import Workers


def test_a_bytea_that_is_too_large_is_named_with_its_table_and_column(
    refnet: Command, live: Live, monkeypatch: pytest.MonkeyPatch
) -> None:
    live.run("CREATE SCHEMA scans; CREATE TABLE scans.pages (id int, note text, image bytea)")
    live.run(
        "INSERT INTO scans.pages"
        " SELECT 1, 'a', string_agg(textsend(repeat('x', 1024 * 1024)), '') FROM generate_series(1, 513)"
    )
    words = ("scans.pages cannot be copied", "image has a value of 513.0 MiB")
    refnet("backup", "database", "--no-prove").fails(1, *words, "large objects")
    assert refnet.files() == []

    monkeypatch.setattr(parallel_dump, "LARGE", 1 << 40)  # as pg_dump copies it
    with pytest.raises(RefnetError, match=words[0]) as refused:
        parallel_dump.dump(live.target, io.BytesIO(), Workers(live.cluster.binaries, 2))
    assert words[1] in refused.value.message


def test_a_server_without_memory_is_not_a_value_that_is_too_large(live: Live) -> None:
    live.run("CREATE TABLE small (a text, b bytea, c jsonb); INSERT INTO small VALUES ('a', '\\x00', '{}')")
    with open_snapshot(live.target) as snapshot:
        (small,) = (one for one in snapshot.relations if one.name == "small")
        assert too_large_row("ERROR:  out of memory", snapshot, small) is None


def test_what_users_made_in_the_systems_schemas_is_named(refnet: Command, live: Live) -> None:
    live.run("CREATE TABLE information_schema.kept AS SELECT 1 AS v")
    live.run("CREATE FUNCTION pg_catalog.twice(int) RETURNS int LANGUAGE sql IMMUTABLE AS 'SELECT 2 * $1'")
    made = refnet("backup", "database", "--no-prove")
    assert made.code == 0, made.err
    assert (
        "what users made in the system's schemas is not in the backup, as pg_dump leaves it out:"
        " information_schema.kept, pg_catalog.twice"
    ) in " ".join(made.out.split())


def test_invalid_indexes_and_foreign_keys_that_are_off_are_named(refnet: Command, live: Live) -> None:
    live.run("CREATE INDEX odd ON papers (title); ALTER TABLE summaries DISABLE TRIGGER ALL")
    live.run("UPDATE pg_index SET indisvalid = false WHERE indexrelid = 'odd'::regclass")
    made = refnet("backup", "database", "--no-prove")
    assert made.code == 0, made.err
    said = " ".join(made.out.split())
    assert "invalid indexes are not in the backup: public.odd" in said
    assert "are checked after a restore: summaries_paper_fkey of public.summaries" in said
