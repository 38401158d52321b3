"""An undo brings back the database that was recorded, whatever other databases say of themselves."""

from __future__ import annotations

import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import timedelta
from pathlib import Path

import pytest
from psycopg import sql
from tests.integration.database.library import (
    PREVIOUS,
    artifact_of,
    everything,
    held,
    papers,
    restore,
)

from refnet.core.clock import utc_now
from refnet.core.errors import RefnetError
from refnet.postgres.binaries import Binaries
from refnet.postgres.cluster import Cluster
from refnet.postgres.session import Target
from refnet.sources.database import undo_database
from refnet.sources.database.admin_session import admin_session
from refnet.sources.database.restore import previous_databases
from refnet.store.previous_records import DatabaseMark, MarkState, PreviousVersions

_PAPERS = "CREATE TABLE papers AS SELECT 'paper ' || i AS title FROM generate_series(1, {}) i"


@contextmanager
def papers_on(server: Cluster, count: int) -> Iterator[Target]:
    """A database with so many papers; what a restore makes of it is dropped with it."""
    target = server.target(f"papers_{uuid.uuid4().hex[:8]}")
    with server.target().connect() as admin:
        admin.execute(sql.SQL("CREATE DATABASE {} TEMPLATE template0").format(sql.Identifier(target.name)))
        try:
            with target.connect() as session:
                session.execute(_PAPERS.format(count).encode())
            yield target
        finally:
            for name in everything(target):
                admin.execute(sql.SQL("DROP DATABASE {} WITH (FORCE)").format(sql.Identifier(name)))


@pytest.fixture(scope="module")
def artifact(server: Cluster, wheel: Binaries) -> bytes:
    with papers_on(server, 50) as target:
        return artifact_of(target, wheel)


@pytest.fixture
def library(server: Cluster) -> Iterator[Target]:
    with papers_on(server, 10) as target:
        yield target


@pytest.fixture
def previous(library: Target, artifact: bytes, wheel: Binaries) -> str:
    """The previous version that a restore has left: it holds 10 papers, the live database 50."""
    return restore(library, held(artifact), wheel).previous or ""


def forge(target: Target, name: str, comment: str) -> str:
    """A database of an attacker, with one paper and this comment; its name."""
    with admin_session(target) as admin:
        admin.execute(sql.SQL("CREATE DATABASE {}").format(sql.Identifier(name)))
        admin.execute(previous_databases.comment_on(name, comment))
    with target.database(name).connect() as session:
        session.execute("CREATE TABLE papers (title text); INSERT INTO papers VALUES ('forged')")
    return name


def mark(target: Target) -> str:
    return previous_databases.comment_of(
        DatabaseMark(target.name, MarkState.RESTORED, utc_now() + timedelta(hours=1))
    )


def test_undo_ignores_a_newer_database_that_forges_refnets_comment(library: Target, previous: str) -> None:
    forged = forge(library, f"{library.name}_before_20991231_235959", mark(library))
    plan = undo_database.plan(library, PREVIOUS)
    assert plan.back.name == previous
    assert any(forged in note and "unknown" in note for note in plan.notes)
    undo_database.undo(library, PREVIOUS)
    assert papers(library) == 10
    assert forged in everything(library)


def test_a_database_that_took_the_name_of_the_previous_version_is_refused(
    library: Target, previous: str
) -> None:
    with admin_session(library) as admin:
        admin.execute(sql.SQL("DROP DATABASE {}").format(sql.Identifier(previous)))
    forge(library, previous, mark(library))
    with pytest.raises(RefnetError, match="not the recorded database"):
        undo_database.undo(library, PREVIOUS)
    assert papers(library) == 50


def test_a_previous_version_that_changed_its_owner_is_refused(
    library: Target, previous: str, server: Cluster
) -> None:
    with server.target().connect() as admin:
        admin.execute("CREATE ROLE mallory")
        try:
            change = sql.SQL("ALTER DATABASE {} OWNER TO {}")
            admin.execute(change.format(sql.Identifier(previous), sql.Identifier("mallory")))
            with pytest.raises(RefnetError, match="its owner is mallory, recorded"):
                undo_database.undo(library, PREVIOUS)
        finally:
            admin.execute(change.format(sql.Identifier(previous), sql.Identifier("refnet")))
            admin.execute("DROP ROLE mallory")
    assert papers(library) == 50


def test_undo_refuses_to_replace_a_database_other_than_the_restored_one(
    library: Target, previous: str
) -> None:
    with admin_session(library) as admin:
        admin.execute(
            sql.SQL("ALTER DATABASE {} RENAME TO {}").format(
                sql.Identifier(library.name), sql.Identifier(f"{library.name}_mine")
            )
        )
    forge(library, library.name, "")
    with pytest.raises(RefnetError, match="is not the database that replaced"):
        undo_database.undo(library, PREVIOUS)
    plan = undo_database.plan(library, PREVIOUS, previous)
    assert plan.problems == ()
    assert "is not the database that replaced" in plan.doubts[0]


def test_without_records_undo_needs_the_name_and_says_it_is_unknown(
    library: Target, previous: str, tmp_path: Path
) -> None:
    lost = PreviousVersions(tmp_path / "previous", "shop")
    with pytest.raises(RefnetError, match="is unknown: its comment is RefNet's, and no record") as caught:
        undo_database.undo(library, lost)
    assert f"refnet undo shop {previous} --plan" in caught.value.hint
    with pytest.raises(RefnetError, match="is not a previous version of"):
        undo_database.undo(library, lost, "postgres")
    assert "is unknown" in undo_database.plan(library, lost, previous).doubts[0]
    undone = undo_database.undo(library, lost, previous)
    assert papers(library) == 10
    assert undo_database.plan(library, lost).back.name == undone.previous


#: Cut short, deep, a list, of wrong types, a copy's.
UNREADABLE = ("{", "[" * 100_000, "[]", '{"why": "restored", "of": 7, "at": "2026-01-01"}', '{"why": "copy"}')


def test_comments_that_cannot_be_read_stop_nothing(library: Target, previous: str) -> None:
    forged = {
        forge(library, f"{library.name}_before_20991231_23595{number}", f"RefNet {text}")
        for number, text in enumerate(UNREADABLE)
    }
    assert undo_database.undo(library, PREVIOUS).back.name == previous
    assert forged <= {*everything(library)}


def test_a_database_replaced_during_the_swap_is_noticed(library: Target, previous: str) -> None:
    from refnet.sources.database.restore.copy_and_swap import Rename, swap

    with (
        admin_session(library) as admin,
        pytest.raises(RefnetError, match="was replaced by another database before the swap"),
    ):
        swap(admin, library, [Rename(library.name, f"{library.name}_aside", 1)])
    assert papers(library) == 50
