from __future__ import annotations

import socket
import subprocess
from collections.abc import Iterator, Mapping
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import psycopg
import pytest
from benchmarks.throwaway import throwaway
from psycopg import sql
from psycopg.conninfo import make_conninfo
from psycopg.pq import Conninfo

from refnet.postgres.binaries import Binaries
from refnet.postgres.cluster import Cluster
from refnet.postgres.connect_error import ConnectError
from refnet.postgres.session import READER_SETTINGS, Target, server_version


@pytest.fixture(scope="module")
def guarded(wheel: Binaries, short_folder: Path) -> Iterator[Cluster]:
    """A server that asks one user for a password, keeps another out, and has few connections."""
    few = {"max_connections": "5", "superuser_reserved_connections": "3"}
    with throwaway(wheel, base=short_folder / "guarded", settings=few) as cluster:
        rules = "local all secretive scram-sha-256\nlocal all outcast reject\nlocal all all trust\n"
        (cluster.data / "pg_hba.conf").write_text(rules)
        with cluster.target().connect() as admin:
            admin.execute("CREATE ROLE secretive LOGIN PASSWORD 'sEcret'")
            admin.execute("CREATE ROLE outcast LOGIN")
            admin.execute("CREATE ROLE ordinary LOGIN")
            admin.execute("SELECT pg_reload_conf()")
        yield cluster


def _as(cluster: Cluster, user: str, password: str = "", database: str = "postgres") -> Target:
    login = f"{user}:{password}" if password else user
    return Target.from_url(f"postgresql://{login}@/{database}?host={cluster.socket}")


def test_the_right_password_opens_a_session(guarded: Cluster) -> None:
    with _as(guarded, "secretive", "sEcret").connect() as session:
        assert session.execute("SELECT current_user").fetchone() == ("secretive",)


@pytest.mark.parametrize(
    ("user", "password", "database", "sqlstate", "says"),
    [
        ("secretive", "wrOng", "postgres", "28P01", "rejects the password of secretive"),
        ("secretive", "", "postgres", None, "requires a password for secretive"),
        ("outcast", "", "postgres", "28000", "does not accept outcast"),
        ("nobody_at_all", "", "postgres", "28000", "does not accept nobody_at_all"),
        ("ordinary", "", "absent", "3D000", "has no database absent"),
        ("ordinary", "", "template0", "55000", "does not allow connections"),
    ],
)
def test_a_session_that_is_refused_says_why_and_shows_no_password(
    guarded: Cluster, user: str, password: str, database: str, sqlstate: str | None, says: str
) -> None:
    with pytest.raises(ConnectError, match=says) as raised:
        _as(guarded, user, password, database).connect()
    assert raised.value.sqlstate == sqlstate
    assert "wrOng" not in raised.value.message + raised.value.hint


@pytest.mark.parametrize(
    ("database", "is_missing"), [("absent", True), ("template0", False), ("postgres", False)]
)
def test_a_missing_database_is_known_in_every_language(
    guarded: Cluster, monkeypatch: pytest.MonkeyPatch, database: str, is_missing: bool
) -> None:
    def refused(conninfo: str, **more: Any) -> Any:
        if f"dbname={database}" in conninfo:
            raise psycopg.OperationalError("FATAL:  Datenbank »d« ist nicht erreichbar")
        return connect(conninfo, **more)

    connect = psycopg.connect
    monkeypatch.setattr(psycopg, "connect", refused)
    with pytest.raises(ConnectError) as raised:
        _as(guarded, "ordinary", database=database).connect()
    assert raised.value.no_such_database == is_missing


def test_a_server_without_a_free_connection_says_so(guarded: Cluster) -> None:
    target = _as(guarded, "ordinary")
    # The second is refused where the process of an earlier session has not ended yet, else the third.
    with ExitStack() as sessions, pytest.raises(ConnectError) as raised:
        [sessions.enter_context(target.connect()) for _ in range(3)]
    assert raised.value.sqlstate == "53300"


def test_a_server_that_is_down_says_so(tmp_path: Path) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))  # bound, and listening to nobody
        port = taken.getsockname()[1]
        with pytest.raises(ConnectError, match=f"no PostgreSQL server answers at 127.0.0.1:{port}") as raised:
            Target.from_url(f"postgresql://u:sEcret@127.0.0.1:{port}/db").connect()
    assert raised.value.sqlstate is None
    assert "sEcret" not in raised.value.message + raised.value.hint


@pytest.mark.parametrize("kind", ["session", "child"])
def test_our_own_server_is_reached_whatever_the_variables_say(
    server: Cluster, database: Target, monkeypatch: pytest.MonkeyPatch, kind: str
) -> None:
    for option in Conninfo.get_defaults():
        if option.envvar:
            monkeypatch.setenv(option.envvar.decode(), "nonsense")
    monkeypatch.setenv("PGSERVICEFILE", "/nonsense")
    monkeypatch.setenv("PGTZ", "nonsense")
    if kind == "session":
        with database.connect(READER_SETTINGS) as session:
            assert session.execute("SELECT current_database()").fetchone() == (database.name,)
    else:
        command = [server.binaries.tool("psql"), "-XAtc", "SELECT current_database()"]
        environment = database.environment(READER_SETTINGS)
        done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
        assert (done.stdout.strip(), done.stderr) == (database.name, "")


@pytest.mark.parametrize("which", ["database", "system_database"])
def test_a_readers_settings_win_over_those_of_the_database(
    which: str, request: pytest.FixtureRequest
) -> None:
    target: Target = request.getfixturevalue(which)
    right = {"datestyle": "ISO, MDY", "statement_timeout": "0", "search_path": "", "bytea_output": "hex"}
    wrong = {
        "datestyle": "German",
        "statement_timeout": "1",
        "search_path": "pg_catalog",
        "bytea_output": "escape",
    }
    with target.connect() as admin:
        if server_version(admin) >= 17:
            right["transaction_timeout"], wrong["transaction_timeout"] = "0", "500"
        for name, value in wrong.items():
            command = sql.SQL("ALTER DATABASE {} SET {} = {}")
            admin.execute(
                command.format(sql.Identifier(target.name), sql.Identifier(name), sql.Literal(value))
            )
    with target.connect(READER_SETTINGS, autocommit=False) as session:
        found = {n: session.execute("SELECT current_setting(%s)", [n]).fetchone() for n in right}
    assert found == {name: (value,) for name, value in right.items()}


@pytest.mark.parametrize("settings", [None, READER_SETTINGS])
def test_no_limit_for_idle_sessions_ends_one_of_ours(
    database: Target, settings: Mapping[str, str] | None
) -> None:
    with database.connect() as admin:
        name = sql.Identifier(database.name)
        admin.execute(sql.SQL("ALTER DATABASE {} SET idle_session_timeout = 1").format(name))
    with database.connect(settings) as session:
        assert session.execute("SHOW idle_session_timeout").fetchone() == ("0",)


@pytest.mark.parametrize("name", ['a"b', "a b", "x=y", "postgresql://h/db", "文献", "a\\b", "a'b", "%s"])
def test_a_database_is_reached_whatever_its_name(server: Cluster, name: str) -> None:
    with server.target().connect() as admin:
        admin.execute(sql.SQL("CREATE DATABASE {}").format(sql.Identifier(name)))
    try:
        target = server.target().database(name)
        with target.connect() as session:
            assert session.execute("SELECT current_database()").fetchone() == (name,)
        command = [
            server.binaries.tool("psql"),
            "-XAt",
            "-c",
            "SELECT current_database()",
        ]
        done = subprocess.run(command, env=target.environment(), capture_output=True, text=True, check=True)
        assert done.stdout == f"{name}\n"
    finally:
        with server.target().connect() as admin:
            admin.execute(sql.SQL("DROP DATABASE {}").format(sql.Identifier(name)))


def test_only_the_user_who_runs_our_server_is_believed_to_be_it(server: Cluster) -> None:
    target = server.target()
    with pytest.raises(ConnectError, match="requirepeer"):
        Target(make_conninfo(target.conninfo, requirepeer="somebody-else"), own=True).connect()
