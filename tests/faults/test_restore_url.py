"""A database is backed up by a role that only reads, and restored by one that writes."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from tests.command import Command, url_of
from tests.faults.conftest import Live


@pytest.fixture
def clerk(live: Live) -> Iterator[str]:
    live.run("CREATE ROLE clerk LOGIN; GRANT pg_read_all_data TO clerk")
    live.run("GRANT SELECT ON LARGE OBJECT 4000000001 TO clerk")
    yield "clerk"
    live.run("DROP OWNED BY clerk; DROP ROLE clerk")


@pytest.fixture
def refnet(live: Live, clerk: str, tmp_path: Path, short_home: Path) -> Command:
    """The database as the source `shop`, by the role that reads."""
    (short_home / "refnet.toml").write_text(f'[databases.shop]\nurl = "{url_of(live.target, user=clerk)}"\n')
    (short_home / "refnet.toml").chmod(0o600)
    return Command(short_home, tmp_path / "backups", "")


def test_a_restore_without_a_writing_role_names_its_sources_setting(refnet: Command) -> None:
    refnet("backup", "shop", "--no-prove").succeeds()
    refused = refnet("restore", "shop", "--force")
    assert refused.code == 1
    assert "the role clerk may not create databases" in refused.err
    assert "or restore as another role (databases.shop.restore_url)" in refused.err
    assert "databases.shop.restore_url" in refnet("check").out


def test_backups_read_and_restores_write_by_roles_of_their_own(
    refnet: Command, live: Live, tmp_path: Path
) -> None:
    writer = tmp_path / "writer"
    writer.write_text(url_of(live.target))
    writer.chmod(0o600)
    settings = refnet.home / "refnet.toml"
    settings.write_text(f'{settings.read_text()}restore_url_file = "{writer}"\n')
    made = refnet("backup", "shop")
    made.succeeds()
    assert "proven" in made.out
    assert "clerk can read all" in refnet("check").out
    live.run("DELETE FROM summaries")
    refnet("restore", "shop", "--table", "summaries", "--mode", "missing", "--force").succeeds()
    live.run("DELETE FROM summaries")
    refnet("restore", "shop", "--force").succeeds()
    with live.target.connect() as session:
        assert session.execute("SELECT count(*) FROM summaries").fetchone() == (100,)
    assert "live_before" in refnet("list", "--previous").out
    refnet("undo", "shop", "--force").succeeds()
    with live.target.connect() as session:
        assert session.execute("SELECT count(*) FROM summaries").fetchone() == (0,)
    with live.cluster.target().connect() as admin:
        for (name,) in admin.execute(
            "SELECT datname FROM pg_database WHERE datname LIKE 'live_%'"
        ).fetchall():
            admin.execute(f'DROP DATABASE "{name}" WITH (FORCE)')


def test_a_restore_url_of_another_database_is_a_wrong_setting(refnet: Command, live: Live) -> None:
    other = url_of(live.target, dbname="other")
    refused = refnet("list", REFNET_DATABASES_SHOP_RESTORE_URL=other)
    refused.fails(2, "databases.shop.restore_url", "not the database of the url")
