"""Sessions through a real pgbouncer: those that the pooler shares are refused before anything is set."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import psycopg
import pytest
from tests.pooler import pooler

from refnet.core.errors import Exit, RefnetError
from refnet.postgres.cluster import Cluster
from refnet.postgres.connect_error import ConnectError
from refnet.postgres.session import READER_SETTINGS, Target

pytestmark = pytest.mark.skipif(not Path("/usr/sbin/pgbouncer").exists(), reason="pgbouncer is not installed")


@contextmanager
def _through(database: Target, server: Cluster, folder: Path, mode: str, **settings: str) -> Iterator[Target]:
    with pooler(server, folder / "pooler", mode, **settings) as found:
        yield Target.from_url(found.url(database.name), "databases.shop.url")


@contextmanager
def _application(target: Target) -> Iterator[None]:
    """An application that works through the pooler meanwhile."""
    stop = threading.Event()

    def work() -> None:
        with psycopg.connect(target.conninfo, autocommit=True) as session:
            while not stop.is_set():
                session.execute("SELECT 1")

    threads = [threading.Thread(target=work) for _ in range(3)]
    for thread in threads:
        thread.start()
    try:
        yield
    finally:
        stop.set()
        for thread in threads:
            thread.join()


def _paths(target: Target, mode: str, count: int) -> set[tuple[str, ...]]:
    """The settings in the sessions with the server, as another client sees them."""
    clients = [psycopg.connect(target.conninfo, autocommit=mode == "statement") for _ in range(count)]
    try:
        return {
            client.execute(
                "SELECT current_setting('search_path'), current_setting('row_security')"
            ).fetchone()  # type: ignore[misc]
            for client in clients
        }
    finally:
        for client in clients:
            client.close()


@pytest.mark.parametrize(
    ("mode", "settings"),
    [
        ("transaction", {}),
        ("transaction", {"default_pool_size": "1"}),
        ("transaction", {"default_pool_size": "2", "server_reset_query_always": "1"}),
        ("transaction", {"server_round_robin": "1", "min_pool_size": "7"}),
        ("transaction", {"ignore_startup_parameters": ""}),
        ("statement", {}),
    ],
)
def test_a_pooler_that_shares_sessions_is_refused_and_gets_no_setting(
    mode: str, settings: dict[str, str], server: Cluster, database: Target, folder: Path
) -> None:
    with _through(database, server, folder, mode, **settings) as target:
        with pytest.raises(RefnetError) as refused:
            target.connect(READER_SETTINGS)
        count = int(settings.get("default_pool_size", "2"))
        assert _paths(target, mode, count) == {('"$user", public', "on")}
    assert refused.value.code is Exit.USAGE
    assert f"pooler at {folder}/pooler:6432" in refused.value.message
    assert f"pool_mode = {mode}" in refused.value.message
    assert "databases.shop.url" in refused.value.hint
    assert ":5432" in refused.value.hint


@pytest.mark.parametrize("settings", [{}, {"default_pool_size": "3"}, {"server_round_robin": "1"}])
def test_a_pooler_that_shares_sessions_is_refused_beside_an_application(
    settings: dict[str, str], server: Cluster, database: Target, folder: Path
) -> None:
    with _through(database, server, folder, "transaction", **settings) as target, _application(target):
        for _ in range(5):
            with pytest.raises(RefnetError, match="pool_mode = transaction"):
                target.connect(READER_SETTINGS)


@pytest.mark.parametrize("ignored", ["", "extra_float_digits,options", "extra_float_digits"])
def test_a_session_through_a_pooler_that_keeps_it_has_its_settings(
    ignored: str, server: Cluster, database: Target, folder: Path
) -> None:
    with database.connect() as admin:
        admin.execute(f"ALTER DATABASE {database.name} SET extra_float_digits = 0")
        admin.execute(f"ALTER DATABASE {database.name} SET timezone = 'Asia/Tokyo'")
    with (
        _through(database, server, folder, "session", ignore_startup_parameters=ignored) as target,
        target.connect(READER_SETTINGS, encoding="UTF8") as session,
    ):
        for name in ("extra_float_digits", "timezone", "search_path", "row_security", "client_encoding"):
            wanted = {**READER_SETTINGS, "client_encoding": "UTF8"}[name]
            assert session.execute("SELECT current_setting(%s)", [name]).fetchone() == (wanted,)
        assert target.pooled


def test_a_pooler_with_too_few_sessions_is_named_after_a_bounded_wait(
    server: Cluster, database: Target, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("refnet.postgres.preparing._ANSWER", 0.5)
    with (
        _through(database, server, folder, "session", default_pool_size="1") as target,
        pytest.raises(ConnectError, match="opened no second session within") as refused,
    ):
        target.connect(READER_SETTINGS)
    assert "pool_size" in refused.value.hint


def test_a_direct_session_is_no_poolers(database: Target) -> None:
    direct = Target(database.conninfo)
    with direct.connect(READER_SETTINGS):
        assert not direct.pooled
