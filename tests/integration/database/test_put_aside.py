"""What a restore keeps is listed for prune, and goes when its time is over."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from urllib.parse import quote

import psycopg
import pytest
from psycopg import sql
from psycopg.conninfo import make_conninfo

from refnet.actions import prune
from refnet.actions.list import previous
from refnet.catalog.source_name import SourceName
from refnet.context import Context
from refnet.core.errors import RefnetError
from refnet.postgres.session import Target
from refnet.settings import Settings, load
from refnet.sources.database.restore import server_facts
from refnet.sources.database.restore.previous_databases import comment_of, comment_on, oid_of
from refnet.sources.database.source import Database
from refnet.store.local import LocalStore
from refnet.store.previous_records import DatabaseMark, MarkState, PreviousRecord, PreviousVersions
from refnet.wiring import previous_databases

NOW = datetime(2026, 11, 25, tzinfo=UTC)


def settings_for(target: Target, folder: Path) -> Settings:
    parts = target.parts
    url = f"postgresql://{parts['user']}@/{target.name}?host={quote(parts['host'])}&port={parts['port']}"
    return load({"REFNET_HOME": str(folder), "REFNET_DATABASE_URL": url}, folder, root=False, cores=2)


def previous_version(target: Target, of: str, records: PreviousVersions | None, *, seconds: int = 0) -> str:
    """An empty database with the mark of a previous version of `of`; its name."""
    name, mark = f"{of}_before_20261125_0000{seconds:02}", DatabaseMark(of, MarkState.RESTORED, NOW)
    with target.connect() as session:
        session.execute(sql.SQL("CREATE DATABASE {}").format(sql.Identifier(name)))
        session.execute(comment_on(name, comment_of(mark)))
        if records:
            owner = session.info.user
            system = server_facts.system_identifier(session)
            records.add(
                PreviousRecord(system, name, oid_of(session, name), owner, oid_of(session, target.name), mark)
            )
    return name


@pytest.fixture
def dropped(database: Target) -> Iterator[list[str]]:
    """Names of databases that are dropped afterwards."""
    names: list[str] = []
    yield names
    with database.connect() as session:
        for name in names:
            session.execute(sql.SQL("DROP DATABASE IF EXISTS {} WITH (FORCE)").format(sql.Identifier(name)))


def names_of(target: Target) -> set[str]:
    with target.connect() as session:
        return {name for (name,) in session.execute("SELECT datname::text FROM pg_database").fetchall()}


def test_only_this_databases_previous_versions_are_removed_when_due(
    database: Target, tmp_path: Path, dropped: list[str]
) -> None:
    settings = settings_for(database, tmp_path)
    mine = previous_version(database, database.name, previous_databases(settings, SourceName.DATABASE))
    other = previous_version(database, "somebody_elses", previous_databases(settings, SourceName.DATABASE))
    dropped += [mine, other]
    listing, *_ = Database(settings, SourceName.DATABASE).previous()
    (aside,) = listing()
    assert (aside.what, aside.blocked) == (f"database {mine}", "")
    week = timedelta(days=7)
    assert not aside.due(NOW + timedelta(days=6), week)
    assert aside.due(NOW + timedelta(days=8), week)
    aside.remove()
    assert [record.name for record in previous_databases(settings, SourceName.DATABASE).read().records] == [
        other
    ]
    assert {mine, other} & names_of(database) == {other}


def test_a_database_that_only_carries_the_comment_is_unknown_and_stays(
    database: Target, tmp_path: Path, dropped: list[str]
) -> None:
    forged = previous_version(database, database.name, None)
    dropped.append(forged)
    listing, *_ = Database(settings_for(database, tmp_path), SourceName.DATABASE).previous()
    (aside,) = listing()
    assert aside.blocked.startswith("unknown: ")
    with pytest.raises(RefnetError, match="is not dropped"):
        aside.remove()
    assert forged in names_of(database)


def test_a_kept_database_in_use_stays_and_its_application_is_named(
    database: Target, tmp_path: Path, dropped: list[str]
) -> None:
    settings = settings_for(database, tmp_path)
    mine = previous_version(database, database.name, previous_databases(settings, SourceName.DATABASE))
    dropped.append(mine)
    (before,) = Database(settings, SourceName.DATABASE).previous()[0]()
    conninfo = make_conninfo(database.database(mine).conninfo, application_name="gunicorn")
    with psycopg.connect(conninfo, autocommit=True) as application:
        (aside,) = Database(settings, SourceName.DATABASE).previous()[0]()
        assert aside.blocked == f"in use: 1 session of {application.info.user} (gunicorn)"
        with pytest.raises(RefnetError, match="in use: 1 session of"):
            before.remove()
        assert application.execute("SELECT 1").fetchone() == (1,)
    assert mine in names_of(database)


def test_prune_says_what_stays_and_why_and_goes_on(
    database: Target, tmp_path: Path, dropped: list[str]
) -> None:
    dropped.append(previous_version(database, database.name, None))
    settings = settings_for(database, tmp_path)
    plan = prune.Rules(
        LocalStore(tmp_path / "backups"),
        settings.retention_database,
        NOW + timedelta(days=30),
        previous_versions=Database(settings, SourceName.DATABASE).previous(),
    ).prune(SourceName.DATABASE)
    assert [one.what for one in plan.blocked] == [f"database {dropped[0]}"]
    assert (plan.previous_versions, plan.unknown) == ((), ())
    assert dropped[0] in names_of(database)


def test_all_that_is_kept_is_listed_with_its_time_and_what_cannot_be_told(
    database: Target, tmp_path: Path, dropped: list[str]
) -> None:
    settings = settings_for(database, tmp_path)
    records = previous_databases(settings, SourceName.DATABASE)
    mine, gone = (previous_version(database, database.name, records, seconds=one) for one in (1, 2))
    dropped += [mine, previous_version(database, database.name, None)]
    with database.connect() as session:
        session.execute(sql.SQL("DROP DATABASE {}").format(sql.Identifier(gone)))

    found = previous(Context(settings), [SourceName.DATABASE])
    listed = {one["what"]: one for one in found.to_json()["previous_versions"]}
    assert {*listed} == {
        f"database {mine}", f"database {dropped[1]}", f"record of {gone}, which was dropped",
    }  # fmt: skip
    assert listed[f"database {mine}"]["size"] > 1_000_000
    assert listed[f"database {mine}"]["of"].startswith(f"{database.name} on ")
    assert listed[f"database {mine}"]["removed_from"] > listed[f"database {mine}"]["since"]
    assert listed[f"database {dropped[1]}"]["removed_from"] is None
    assert len(Database(settings, SourceName.DATABASE).recorded()) == 2
    next(one for one in found.versions if one.what.startswith("record")).remove()
    assert len(Database(settings, SourceName.DATABASE).recorded()) == 1


def test_a_stopped_embedded_server_is_not_started_to_list_kept_versions(tmp_path: Path) -> None:
    settings = load({"REFNET_HOME": str(tmp_path / "home")}, tmp_path, root=False, cores=2)
    listing, *_ = Database(settings, SourceName.DATABASE).previous()
    assert list(listing()) == []
    assert not (tmp_path / "home").exists()
