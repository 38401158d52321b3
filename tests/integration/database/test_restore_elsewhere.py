"""A restore as a new database, or on another server: nothing else is touched, and what a run leaves is found."""

from __future__ import annotations

import os
import signal
from collections.abc import Iterator
from typing import Any

import pytest
from psycopg import sql
from tests.integration.database.library import (
    PREVIOUS,
    artifact_of,
    everything,
    held,
    library_on,
    of_database,
    papers,
    restore,
)

from refnet.core.errors import Exit, RefnetError
from refnet.postgres.binaries import Binaries
from refnet.postgres.cluster import Cluster
from refnet.postgres.session import Target
from refnet.sources.database import undo_database
from refnet.sources.database.admin_session import admin_session, locked_on_server
from refnet.sources.database.artifact.own_artifact import DatabaseArtifact
from refnet.sources.database.plan.restore_facts import Where
from refnet.sources.database.plan.restore_plan import PlanOptions
from refnet.sources.database.restore import copy_and_swap, previous_databases
from refnet.store.previous_records import MarkState


@pytest.fixture(scope="module")
def shop(server: Cluster) -> Iterator[Target]:
    """A small library, which no test changes."""
    with library_on(server) as target:
        yield target


@pytest.fixture(scope="module")
def dump(shop: Target, wheel: Binaries) -> DatabaseArtifact:
    return held(artifact_of(shop, wheel))


@pytest.fixture
def new(shop: Target) -> Iterator[Target]:
    """A name for a new database beside it; dropped afterwards."""
    target = shop.database(f"{shop.name}_new")
    yield target
    _drop(target)


def _drop(target: Target) -> None:
    with admin_session(target) as admin:
        admin.execute(sql.SQL("DROP DATABASE IF EXISTS {} WITH (FORCE)").format(sql.Identifier(target.name)))


def beside(shop: Target, dump: DatabaseArtifact, wheel: Binaries, name: str) -> copy_and_swap.Restored:
    return restore(shop, dump, wheel, where=Where.NEW, name=name)


def test_a_new_database_appears_beside_the_live_one_which_stays(
    shop: Target, dump: DatabaseArtifact, wheel: Binaries, new: Target
) -> None:
    with shop.connect() as session:  # a session that nobody terminates
        done = beside(shop, dump, wheel, new.name)
        assert session.execute("SELECT count(*) FROM papers").fetchall() == [(50,)]
    assert (done.database, done.previous) == (new.name, None)
    assert papers(new) == 50
    assert of_database(shop, *MarkState) == []
    with pytest.raises(RefnetError, match="exists already, and --as replaces nothing") as refused:
        beside(shop, dump, wheel, new.name)
    assert refused.value.code is Exit.USAGE
    assert everything(shop) == [shop.name, new.name]


def test_a_database_that_was_created_after_the_plan_is_not_replaced_without_permission(
    shop: Target, dump: DatabaseArtifact, wheel: Binaries, new: Target
) -> None:
    with admin_session(new) as admin:
        admin.execute(sql.SQL("CREATE DATABASE {}").format(sql.Identifier(new.name)))
    with pytest.raises(RefnetError, match="was created after this restore was planned"):
        restore(new, dump, wheel, where=Where.ELSEWHERE, replace=False)
    assert everything(new) == [new.name]
    previous = restore(new, dump, wheel, where=Where.ELSEWHERE).previous
    assert previous
    _drop(new.database(previous))


@pytest.mark.parametrize("name", ['a "quoted" ../name', "dbname=x host=nowhere " + "é" * 20])
def test_any_name_that_postgresql_takes_is_kept_as_it_is(
    shop: Target, dump: DatabaseArtifact, wheel: Binaries, name: str
) -> None:
    try:
        assert beside(shop, dump, wheel, name).database == name
        assert papers(shop.database(name)) == 50
    finally:
        _drop(shop.database(name))


def test_a_database_that_takes_the_name_meanwhile_is_not_touched(
    shop: Target, dump: DatabaseArtifact, wheel: Binaries, new: Target
) -> None:
    class Slow(DatabaseArtifact):
        def load(self, target: Target, *others: Any) -> tuple[str, ...]:
            with admin_session(shop) as admin:
                admin.execute(sql.SQL("CREATE DATABASE {}").format(sql.Identifier(new.name)))
            return super().load(target, *others)

    with pytest.raises(RefnetError, match=f"a database named {new.name} was created"):
        beside(shop, Slow(dump.stored), wheel, new.name)
    assert everything(shop) == [shop.name, new.name]
    with new.connect() as session:
        assert session.execute("SELECT to_regclass('papers')").fetchall() == [(None,)]


@pytest.mark.parametrize("how", ["an interrupt", "a kill"])
def test_a_half_made_copy_is_dropped_at_once_or_by_the_next_run(
    shop: Target, dump: DatabaseArtifact, wheel: Binaries, new: Target, how: str
) -> None:
    class Ending(DatabaseArtifact):
        def load(self, *_: Any) -> tuple[str, ...]:
            if how == "an interrupt":
                raise KeyboardInterrupt
            os.kill(os.getpid(), signal.SIGKILL)
            return ()

    child = os.fork()
    if child == 0:
        code = 1
        try:
            beside(shop, Ending(dump.stored), wheel, new.name)
        except KeyboardInterrupt:
            code = 0
        finally:
            os._exit(code)
    status = os.waitpid(child, 0)[1]
    if how == "an interrupt":
        assert status == 0
        assert everything(shop) == [shop.name]
        return
    [left] = of_database(shop, MarkState.COPY)
    [one] = previous_databases.versions(shop, (), PREVIOUS.forget)
    assert (one.what, one.half_made, one.blocked) == (f"copy {left}", True, "")
    with admin_session(shop) as admin, locked_on_server(admin, shop.name):
        assert [one.blocked for one in previous_databases.versions(shop, (), PREVIOUS.forget)] == [
            "a restore loads it"
        ]
    done = beside(shop, dump, wheel, new.name)
    assert f"{left}, the copy of a killed run, was dropped" in done.notes
    assert everything(shop) == [shop.name, new.name]


def test_an_older_server_is_refused_and_the_plan_names_both_versions(
    dump: DatabaseArtifact, system_server: Cluster, system_database: Target
) -> None:
    plan = copy_and_swap.read_and_decide(
        system_database, dump, PlanOptions(2, where=Where.ELSEWHERE), count=False
    )
    assert plan.to_json()["server_version"] == system_server.binaries.major
    assert "comes from PostgreSQL 18" in " ".join(problem.message for problem in plan.problems)


def test_another_server_keeps_the_database_that_it_had(
    system_server: Cluster, wheel: Binaries, database: Target
) -> None:
    with library_on(system_server) as source:
        older = held(artifact_of(source, system_server.binaries))
    with database.connect() as session:
        session.execute("CREATE TABLE mine (a int)")
    plan = copy_and_swap.read_and_decide(database, older, PlanOptions(2, where=Where.ELSEWHERE), count=False)
    assert any("comes from PostgreSQL 17, and the server is 18" in note for note in plan.notes)
    assert any("`refnet undo database --to URL` restores it" in step for step in plan.steps)
    try:
        restore(database, older, wheel, where=Where.ELSEWHERE)
        assert papers(database) == 50
        undo_database.undo(database, PREVIOUS)
        with database.connect() as session:
            assert session.execute("SELECT to_regclass('mine')::text").fetchall() == [("mine",)]
    finally:
        for name in everything(database):
            _drop(database.database(name))
