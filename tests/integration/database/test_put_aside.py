"""What a restore keeps is listed for prune, and goes when its time is over."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from pathlib import Path
from urllib.parse import quote

from psycopg import sql

from refnet import wiring
from refnet.postgres.session import Target
from refnet.recovery.model.artifact import SourceName
from refnet.recovery.sources.database.kept import Kept, Why, comment_on
from refnet.settings import Settings, load

NOW = datetime(2026, 11, 25, tzinfo=UTC)


def settings_for(target: Target, folder: Path) -> Settings:
    parts = target.parts
    url = f"postgresql://{parts['user']}@/{target.name}?host={quote(parts['host'])}&port={parts['port']}"
    return load({"REFNET_HOME": str(folder), "REFNET_DATABASE_URL": url}, folder, root=False, cores=2)


def test_a_kept_database_is_removed_when_its_time_is_over_and_only_those_of_this_database(
    database: Target, tmp_path: Path
) -> None:
    mine = Kept(f"{database.name}_before_20261125_000000", database.name, Why.RESTORED, NOW)
    other = Kept("somebody_elses_before_20261125_000000", "somebody_elses", Why.RESTORED, NOW)
    with database.connect() as session:
        for kept in (mine, other):
            session.execute(sql.SQL("CREATE DATABASE {}").format(sql.Identifier(kept.name)))
            session.execute(comment_on(kept.name, kept.mark()))
        listing, *_ = wiring.put_aside(settings_for(database, tmp_path))
        (aside,) = listing(SourceName.DATABASE)
        assert aside.what == f"database {mine.name}"
        assert not aside.due(NOW + timedelta(days=6))
        assert aside.due(NOW + timedelta(days=8))
        aside.remove()
        left = session.execute(
            "SELECT datname::text FROM pg_database WHERE datname = ANY (%s)", ([mine.name, other.name],)
        )
        assert left.fetchall() == [(other.name,)]
        session.execute(sql.SQL("DROP DATABASE {}").format(sql.Identifier(other.name)))


def test_an_embedded_server_that_does_not_run_is_not_started_to_list_what_it_keeps(tmp_path: Path) -> None:
    settings = load({"REFNET_HOME": str(tmp_path / "home")}, tmp_path, root=False, cores=2)
    listing, *_ = wiring.put_aside(settings)
    assert list(listing(SourceName.DATABASE)) == []
    assert not (tmp_path / "home").exists()
