"""Which tables differ between two artifacts of a database, or one and what is live."""

from __future__ import annotations

import gzip
import io
from dataclasses import replace

import pytest
from tests.integration.database.library import artifact_of

from refnet.catalog.artifact import OpenArtifact
from refnet.catalog.source_name import Kind, SourceName
from refnet.core.errors import RefnetError
from refnet.postgres.binaries import Binaries
from refnet.postgres.session import Target
from refnet.sources.contents import Changed
from refnet.sources.database import database_contents
from refnet.sources.database.workers import Workers

#: A materialized view with rows; partitions, those of a hash on an enum too; a table without columns; an unlogged one.
_KINDS = '''
CREATE MATERIALIZED VIEW titles AS SELECT id, left(title, 20) AS title FROM papers;
CREATE TABLE years (year int) PARTITION BY LIST (year);
CREATE TABLE years_2019 PARTITION OF years FOR VALUES IN (2019);
INSERT INTO years VALUES (2019);
CREATE TYPE mood AS ENUM ('well', 'ill');
CREATE TABLE moods (m mood) PARTITION BY HASH (m);
CREATE TABLE moods_0 PARTITION OF moods FOR VALUES WITH (MODULUS 1, REMAINDER 0);
INSERT INTO moods VALUES ('well'), ('ill');
CREATE TABLE none ();
CREATE UNLOGGED TABLE unlogged (id int, twice int GENERATED ALWAYS AS (id * 2) STORED);
INSERT INTO unlogged VALUES (1);
CREATE SEQUENCE "odd ""name""";
'''


def held(target: Target, binaries: Binaries) -> OpenArtifact:
    content = artifact_of(target, binaries)
    return OpenArtifact(
        SourceName.DATABASE, "refnet_20261125_020000.sql.gz", lambda: io.BytesIO(content), None
    )


def write(target: Target) -> None:
    with target.connect() as session:
        session.execute("INSERT INTO papers (title) VALUES ('one more')")
        session.execute("UPDATE jobs SET state = 'lost' WHERE id = 3")
        session.execute("CREATE TABLE notes (id int)")
        session.execute("DROP TABLE citations")


def test_two_artifacts_differ_by_their_tables(library: Target, wheel: Binaries) -> None:
    before = held(library, wheel)
    write(library)

    found = database_contents.differences(before, held(library, wheel))

    assert (found.added, found.removed) == (("public.notes",), ("public.citations",))
    assert set(found.changed) == {
        Changed("public.papers", "5,000 rows, then 5,001"),
        Changed("public.jobs", "other content in its 20 rows"),
        Changed("sequences", "other values"),
    }


def test_an_artifact_differs_from_live_by_the_tables_that_were_written(
    library: Target, wheel: Binaries
) -> None:
    shop = SourceName("shop", Kind.DATABASE)
    before = replace(held(library, wheel), source=shop)
    assert database_contents.live_differences(before, library, Workers(wheel, 2)).equal
    write(library)

    found = database_contents.live_differences(before, library, Workers(wheel, 2))

    assert found.source == shop
    assert (found.added, found.removed) == (("public.notes",), ("public.citations",))
    assert {one.name for one in found.changed} == {"public.papers", "public.jobs", "1 sequences"}


def test_nothing_differs_right_after_a_backup_for_any_kind_of_table(library: Target, wheel: Binaries) -> None:
    with library.connect() as session:
        session.execute(_KINDS)
    found = database_contents.live_differences(held(library, wheel), library, Workers(wheel, 2))
    assert (found.added, found.changed, found.removed) == ((), (), ())


def test_a_column_and_a_partition_that_are_new_are_found(library: Target, wheel: Binaries) -> None:
    with library.connect() as session:
        session.execute(_KINDS)
    before = held(library, wheel)
    with library.connect() as session:
        session.execute("ALTER TABLE jobs ADD more int")
        session.execute("CREATE TABLE years_2020 PARTITION OF years FOR VALUES IN (2020)")
    found = database_contents.live_differences(before, library, Workers(wheel, 2))
    assert (found.added, found.removed) == (("public.years_2020",), ())
    assert found.changed == (Changed("public.jobs", "columns were not recorded: more"),)


def test_a_dump_of_others_cannot_be_compared(library: Target, wheel: Binaries) -> None:
    other = OpenArtifact(
        SourceName.DATABASE, "other.sql.gz", lambda: io.BytesIO(gzip.compress(b"SELECT 1;\n" * 100)), None
    )

    with pytest.raises(RefnetError, match=r"other\.sql\.gz is a foreign dump"):
        database_contents.differences(held(library, wheel), other)
