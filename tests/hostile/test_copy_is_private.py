"""A copy is closed to other roles while it loads, and a previous version is closed to them from the exchange on."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager

import psycopg
import pytest
from psycopg.conninfo import make_conninfo
from tests.integration.database.library import (
    LIBRARY,
    PREVIOUS,
    artifact_of,
    everything,
    held,
    library_on,
    restore,
)

from refnet.postgres.binaries import Binaries
from refnet.postgres.cluster import Cluster
from refnet.postgres.session import Target
from refnet.sources.database import undo_database
from refnet.sources.database.admin_session import admin_session
from refnet.sources.database.restore.server_facts import live_state


@pytest.fixture
def library(server: Cluster) -> Iterator[Target]:
    with library_on(server, LIBRARY) as target:
        yield target


@pytest.fixture
def reader(server: Cluster, library: Target) -> Iterator[str]:
    """A role that may log in and read the library's tables, until the test is over."""
    with server.target().connect() as admin:
        admin.execute("CREATE ROLE reader LOGIN")
        with library.connect() as session:
            session.execute("GRANT SELECT ON ALL TABLES IN SCHEMA public TO reader")
        yield "reader"
        for name in everything(library):
            with library.database(name).connect() as session:
                session.execute("DROP OWNED BY reader")
        admin.execute("DROP ROLE reader")


@contextmanager
def trying(target: Target, role: str, pattern: str) -> Iterator[dict[str, int]]:
    """`role` tries to connect to every database like `pattern` all the while: how often it tried, how often it got in."""
    over, counts = threading.Event(), {"tried": 0, "got in": 0}

    def loop() -> None:
        with admin_session(target) as admin:
            while not over.is_set():
                names = admin.execute(
                    "SELECT datname::text FROM pg_database WHERE datname LIKE %s", (pattern,)
                )
                for (name,) in names.fetchall():
                    counts["tried"] += 1
                    try:
                        psycopg.connect(make_conninfo(target.conninfo, dbname=name, user=role)).close()
                        counts["got in"] += 1
                    except psycopg.OperationalError:
                        pass

    thread = threading.Thread(target=loop)
    thread.start()
    try:
        yield counts
    finally:
        over.set()
        thread.join()


def state(library: Target) -> dict[str, object]:
    """Return the state of `library` with its grants sorted: a restore may change their order."""
    found = live_state(library)
    return {**found, "acl": found["acl"] and sorted(map(str, found["acl"]))}


@pytest.mark.parametrize("granted", [False, True], ids=["public", "granted by name"])
def test_another_role_gets_into_no_copy_at_any_moment_of_a_restore(
    library: Target, reader: str, wheel: Binaries, granted: bool
) -> None:
    if granted:
        with library.connect() as session:
            session.execute(f"REVOKE CONNECT ON DATABASE {library.name} FROM PUBLIC")
            session.execute(f"GRANT CONNECT ON DATABASE {library.name} TO reader")
    dump, before = held(artifact_of(library, wheel)), state(library)
    with trying(library, reader, f"{library.name}\\_copy\\_%") as counts:
        restore(library, dump, wheel)
    assert counts["tried"] > 10
    assert counts["got in"] == 0
    assert state(library) == before
    psycopg.connect(make_conninfo(library.conninfo, user=reader)).close()


def test_a_previous_version_admits_only_superusers_and_regains_its_limit(
    library: Target, reader: str, wheel: Binaries
) -> None:
    with library.connect() as session:
        session.execute(f"ALTER DATABASE {library.name} CONNECTION LIMIT 9")
    done = restore(library, held(artifact_of(library, wheel)), wheel)
    previous = library.database(done.previous or "")
    with pytest.raises(psycopg.OperationalError, match="too many connections"):
        psycopg.connect(make_conninfo(previous.conninfo, user=reader))
    with previous.connect() as session:
        assert session.execute("SELECT count(*) FROM papers").fetchone() == (5000,)
    undo_database.undo(library, PREVIOUS)
    assert live_state(library)["connection_limit"] == 9
    psycopg.connect(make_conninfo(library.conninfo, user=reader)).close()
