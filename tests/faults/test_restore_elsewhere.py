"""A restore to another database, asked for wrongly and rightly: the live one is what it was, and no secret is shown."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from psycopg import sql
from tests.command import Command, url_of

from refnet.postgres.cluster import Cluster

PASSWORD = "the right one"

pytestmark = pytest.mark.usefixtures("unchanged")


@pytest.fixture
def there(server: Cluster, guarded: str) -> Iterator[str]:
    """The URL of a database that does not exist, for a role that must give a password."""
    yield url_of(server.target("there"), user=guarded)
    with server.target().connect() as admin:
        found = admin.execute("SELECT datname FROM pg_database WHERE datname LIKE 'there%'").fetchall()
        for (name,) in found:
            admin.execute(sql.SQL("DROP DATABASE {} WITH (FORCE)").format(sql.Identifier(name)))


def test_another_database_is_restored_replaced_with_force_and_undone(
    refnet: Command, there: str, written: Path
) -> None:
    assert refnet.names() == [written.name]
    arguments = ("restore", "database", "--to", there)
    with_password = there.replace("guarded@", "guarded:the%20right%20one@")
    refused = refnet("restore", "database", "--to", with_password)
    refused.fails(2, "~/.pgpass", "PGPASSWORD")
    assert "right" not in refused.out + refused.err
    refnet(*arguments).fails(1, "password")

    refnet(*arguments, PGPASSWORD=PASSWORD).succeeds()
    refnet(*arguments, PGPASSWORD=PASSWORD).fails(6, "--force")
    done = refnet(*arguments, "--force", "--json", PGPASSWORD=PASSWORD).json
    assert done["kept"].startswith("there_before_")
    refnet("undo", "database", "--to", there, "--force", PGPASSWORD=PASSWORD).succeeds()
    refnet("restore", "database", "--as", "there").fails(2, "exists already")
