"""What cannot be restored is said by name, and leaves everything as it was."""

from __future__ import annotations

import dataclasses
import io
import threading
from collections.abc import Callable
from typing import Any

import psycopg
import pytest
from psycopg import sql
from tests.integration.database.library import (
    artifact_of,
    everything,
    held,
    of_database,
    papers,
    restore,
    role,
)
from tests.integration.database.shelf import reader, restore_all

from refnet.catalog.artifact import Finding, OpenArtifact
from refnet.catalog.source_name import SourceName
from refnet.core.errors import Exit, RefnetError
from refnet.postgres.binaries import Binaries
from refnet.postgres.cluster import Cluster
from refnet.postgres.session import Target
from refnet.sources.database.admin_session import admin_session, locked_on_server
from refnet.sources.database.artifact.index import Index
from refnet.sources.database.artifact.own_artifact import DatabaseArtifact
from refnet.sources.database.artifact.sqlgz import Writer
from refnet.sources.database.restore import copy_and_swap
from refnet.store.previous_records import MarkState


@pytest.fixture
def library(small_library: Target) -> Target:
    return small_library


def test_a_failed_load_leaves_the_live_database_and_no_copy(
    make_database: Callable[..., Target], wheel: Binaries
) -> None:
    """The classic: a function that finds its table by a search_path which a restore does not set."""
    target = make_database("""
        CREATE TABLE known (name text); INSERT INTO known VALUES ('a');
        CREATE FUNCTION known(text) RETURNS text LANGUAGE plpgsql IMMUTABLE AS
            'BEGIN RETURN (SELECT name FROM known WHERE name = $1); END';
        CREATE TABLE papers (name text, known text GENERATED ALWAYS AS (known(name)) STORED);
        INSERT INTO papers VALUES ('a');""")
    dump = held(artifact_of(target, wheel))
    with pytest.raises(RefnetError, match='relation "known" does not exist'):
        restore(target, dump, wheel)
    assert papers(target) == 1
    assert everything(target) == [target.name]


def test_an_undroppable_copy_is_named_and_dropped_by_the_next_restore(
    library: Target, wheel: Binaries
) -> None:
    class Obstructed(DatabaseArtifact):
        def load(self, target: Target, *others: Any) -> tuple[str, ...]:
            with target.connect() as session:
                session.execute("CREATE TABLE papers ()")
                session.execute("BEGIN")
                session.execute("CREATE TABLE held ()")
                session.execute("PREPARE TRANSACTION 'stuck'")
            return super().load(target, *others)

    content = artifact_of(library, wheel)
    with pytest.raises(RefnetError, match='relation "papers" already exists') as refused:
        restore(
            library,
            Obstructed(
                OpenArtifact(
                    SourceName.DATABASE, "refnet_20261125_020000.sql.gz", lambda: io.BytesIO(content), None
                )
            ),
            wheel,
        )
    (copy,) = of_database(library, MarkState.COPY)
    assert f"The copy {copy} still exists" in refused.value.hint
    assert papers(library) == 50
    with library.database(copy).connect() as session:
        session.execute("ROLLBACK PREPARED 'stuck'")
    restore(library, held(content), wheel)
    assert of_database(library, MarkState.COPY) == []


def rewritten(content: bytes, change: Callable[[Index], Index]) -> bytes:
    """The artifact with another index, whole by its own footer."""
    old = held(content).reader
    out = io.BytesIO()
    writer = Writer(out)
    for member in old.index.members:
        packed = content[member.offset : member.offset + member.length]
        writer.add(packed, member.raw, member.kind, table=member.table, rows=member.rows, text=member.text)
    writer.finish(change(old.index))
    return out.getvalue()


@pytest.mark.parametrize("content", [True, False])
def test_a_copy_that_differs_is_not_promoted(library: Target, wheel: Binaries, content: bool) -> None:
    def lie(index: Index) -> Index:
        if content:
            return index.with_digests("0" * 32 * len(index.tables))
        first, *others = index.tables
        return dataclasses.replace(index, tables=(dataclasses.replace(first, rows=first.rows + 1), *others))

    dump = held(rewritten(artifact_of(library, wheel), lie))
    with pytest.raises(RefnetError, match="differs from the backup") as caught:
        restore(library, dump, wheel, content=content)
    assert caught.value.code is Exit.DAMAGED
    assert everything(library) == [library.name]


def test_a_comparison_that_fails_does_not_wait_for_the_statistics(
    library: Target, wheel: Binaries, monkeypatch: pytest.MonkeyPatch
) -> None:
    analyzing, ended = threading.Event(), []

    def long(target: Target) -> tuple[str, ...]:
        with target.connect() as session:
            analyzing.set()
            try:
                session.execute("SELECT pg_sleep(60)")
            except psycopg.Error as error:
                ended.append(type(error))
        return ()

    class Fails(DatabaseArtifact):
        def compare(self, *_: Any, **_options: Any) -> tuple[Finding, ...]:
            assert analyzing.wait(60)
            raise KeyboardInterrupt

    content = artifact_of(library, wheel)
    dump = Fails(
        OpenArtifact(SourceName.DATABASE, "refnet_20261125_020000.sql.gz", lambda: io.BytesIO(content), None)
    )
    monkeypatch.setattr(copy_and_swap, "analyze", long)
    with pytest.raises(KeyboardInterrupt):
        restore(library, dump, wheel)
    assert ended == [psycopg.errors.AdminShutdown]
    assert everything(library) == [library.name]


@pytest.mark.parametrize("place", ["a member", "the footer's digest"])
def test_a_damaged_artifact_is_refused_before_anything_is_made(
    library: Target, wheel: Binaries, place: str
) -> None:
    content = bytearray(artifact_of(library, wheel))
    content[1000 if place == "a member" else -20] ^= 1
    with pytest.raises(RefnetError) as caught:
        restore(library, held(bytes(content)), wheel)
    assert caught.value.code is Exit.DAMAGED
    assert everything(library) == [library.name]


def test_a_missing_extension_is_named_before_anything_is_made(library: Target, wheel: Binaries) -> None:
    def ask(index: Index) -> Index:
        return dataclasses.replace(
            index, extensions=({"name": "not_there", "version": "1.0", "schema": "public"},)
        )

    dump = held(rewritten(artifact_of(library, wheel), ask))
    with pytest.raises(RefnetError, match="extensions not available on the server: not_there"):
        restore(library, dump, wheel)
    assert everything(library) == [library.name]


@pytest.mark.parametrize(
    ("powers", "owns", "message"),
    [
        ("LOGIN", True, "may not create databases"),
        ("LOGIN CREATEDB", False, "does not own"),
    ],
)
def test_a_role_without_the_rights_is_told_which_one_is_missing(
    library: Target, busy_server: Cluster, wheel: Binaries, powers: str, owns: bool, message: str
) -> None:
    dump = held(artifact_of(library, wheel))
    with role(busy_server, "humble", powers), busy_server.target().connect() as admin:
        change = sql.SQL("ALTER DATABASE {} OWNER TO {}")
        name = sql.Identifier(library.name)
        if owns:
            admin.execute(change.format(name, sql.Identifier("humble")))
        humble = Target(psycopg.conninfo.make_conninfo(library.conninfo, user="humble"), own=True)
        with pytest.raises(RefnetError, match=message):
            restore(humble, dump, wheel)
        admin.execute(change.format(name, sql.Identifier("refnet")))
    assert everything(library) == [library.name]


def test_a_prepared_transaction_is_named_before_anything_is_made(library: Target, wheel: Binaries) -> None:
    dump = held(artifact_of(library, wheel))
    with library.connect() as session:
        session.execute("BEGIN; INSERT INTO papers (title) VALUES ('half'); PREPARE TRANSACTION 'left open'")
        try:
            with pytest.raises(RefnetError, match=r"prepared transaction is open in .*: left open"):
                restore(library, dump, wheel)
            assert everything(library) == [library.name]
        finally:
            session.execute("ROLLBACK PREPARED 'left open'")


def test_a_prepared_transaction_is_named_where_it_is_left_out_or_in_the_way(
    library: Target, wheel: Binaries, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("refnet.sources.database.rows.merge.LOCK_TIMEOUT", "100ms")
    monkeypatch.setattr("refnet.sources.database.dump.snapshot.LOCK_SECONDS", 0.2)
    with library.connect() as session:
        try:
            session.execute("BEGIN; UPDATE papers SET year = 1 WHERE id = 1; PREPARE TRANSACTION 'left open'")
            source = reader(library, wheel)
            assert source.index.unchecked == (
                "prepared transactions are not in the backup until they are committed: left open",
            )
            session.execute("CREATE TABLE other AS SELECT 1")
            session.execute("DELETE FROM citations; DELETE FROM jobs; DELETE FROM papers WHERE id > 40")
            with pytest.raises(RefnetError, match="locked by the prepared transaction left open"):
                restore_all(library, source, ["papers"], "missing")
            session.execute("ROLLBACK PREPARED 'left open'")
            session.execute("BEGIN; ALTER TABLE other ADD more int; PREPARE TRANSACTION 'left open'")
            with pytest.raises(RefnetError, match=r"public\.other .* the prepared transaction left open has"):
                artifact_of(library, wheel)
        finally:
            session.execute("ROLLBACK PREPARED 'left open'")


def test_two_restores_of_one_database_never_run_at_once(library: Target, wheel: Binaries) -> None:
    dump = held(artifact_of(library, wheel))
    with admin_session(library) as other, locked_on_server(other, library.name):
        with pytest.raises(RefnetError, match="another run") as caught:
            restore(library, dump, wheel)
        assert caught.value.code is Exit.LOCKED
    restore(library, dump, wheel)


def test_an_artifact_of_some_tables_is_not_restored_whole(library: Target, wheel: Binaries) -> None:
    some = held(
        rewritten(artifact_of(library, wheel), lambda index: dataclasses.replace(index, partial=True))
    )
    with pytest.raises(RefnetError, match="contains only some tables") as caught:
        restore(library, some, wheel)
    assert caught.value.code is Exit.USAGE


def test_a_locale_that_the_server_lacks_is_named_and_nothing_is_made(
    library: Target, wheel: Binaries
) -> None:
    def elsewhere(index: Index) -> Index:
        return dataclasses.replace(
            index, database={**index.database, "collate": "xx_XX.UTF-8", "ctype": "xx_XX.UTF-8"}
        )

    dump = held(rewritten(artifact_of(library, wheel), elsewhere))
    with pytest.raises(RefnetError, match=r"xx_XX\.UTF-8") as caught:
        restore(library, dump, wheel)
    assert "locale" in caught.value.hint
    assert everything(library) == [library.name]
