"""`refnet check` with a real server: what is ok, what is wrong, and that it changes nothing and never hangs."""

from __future__ import annotations

import os
import socket
import threading
from collections.abc import Iterator
from functools import partial
from pathlib import Path

import pytest
from psycopg import sql
from tests.command import Command, url_of

from refnet.actions.check import check
from refnet.core.errors import RefnetError
from refnet.postgres.session import Target
from refnet.sources import check_result
from refnet.sources.check_result import CheckLine, CheckState, bounded, ok
from refnet.sources.database import check_database
from refnet.sources.database.restore.previous_databases import other_databases


@pytest.fixture
def here(folder: Path, database: Target, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The current folder of this process, with settings in its environment, and a table in the database."""
    for name in [name for name in os.environ if name.startswith(("PG", "REFNET_"))]:
        monkeypatch.delenv(name)
    for name in ("here", "home", "backups", "vault"):
        (folder / name).mkdir(mode=0o755)
    (folder / "vault" / "note.md").write_text("# note\n")
    for name, value in {
        "REFNET_HOME": folder / "home",
        "REFNET_BACKUP_DIR": folder / "backups",
        "REFNET_VAULT_DIR": folder / "vault",
        "REFNET_DATABASE_URL": url_of(database),
        "REFNET_LOG_FOLDER": "none",
        "REFNET_LEFT_OUT_DATABASES": "*",  # other tests share the server
    }.items():
        monkeypatch.setenv(name, str(value))
    monkeypatch.chdir(folder / "here")
    with database.connect() as session:
        session.execute("CREATE TABLE t AS SELECT generate_series(1, 10) AS n")
    return folder


def found(what: str) -> list[CheckLine]:
    return [line for line in check().lines if line.what == what]


def wrong(what: str, state: CheckState, *words: str) -> None:
    """The check `what` has one line that is not ok, with `words` and a hint."""
    lines = [line for line in found(what) if line.state is not CheckState.OK]
    assert [line.state for line in lines] == [state], lines
    assert lines[0].hint
    for word in words:
        assert word in f"{lines[0].says} {lines[0].hint}"


def everything(folder: Path) -> list[tuple[str, int, int]]:
    stats = ((path, path.lstat()) for path in sorted(folder.rglob("*")))
    return [(str(path), about.st_mtime_ns, about.st_size) for path, about in stats]


def test_a_machine_with_a_proven_backup_is_ok_and_stays_as_it_is(here: Path, database: Target) -> None:
    command = Command(here / "home", here / "backups", url_of(database))
    command("backup", REFNET_VAULT_DIR=str(here / "vault")).succeeds()
    before = everything(here)
    checked = check()
    assert everything(here) == before
    assert {line.what for line in checked.lines if line.state is not CheckState.OK} <= {
        "schedule",
        "messages",
    }
    names = {line.what: line.says for line in checked.lines}
    assert database.name in names["database"]
    assert "can restore refnet_" in names["restore"]
    assert str(here / "vault") in names["obsidian"]


def test_the_command_ends_as_monitor_does_and_reports_as_json(here: Path, database: Target) -> None:
    command = Command(here / "home", here / "backups", url_of(database))
    command("backup", "--no-prove").succeeds()
    done = command("check", "--json")
    assert (done.code, done.json["state"]) == (1, "warning")
    assert {"what", "state", "says", "hint"} == set(done.json["checks"][0])
    shown = command("check")
    assert shown.code == 1
    assert "overall: WARNING" in shown.out
    assert command("check", REFNET_DATABASE_URL="postgresql://localhost:1/nothing").code == 2


def test_every_problem_of_the_settings_is_a_line(here: Path) -> None:
    (here / "here" / "refnet.toml").write_text('jobs = 0\nvault_dirr = "/v"\n')
    lines = check().lines
    assert [line.state for line in lines] == [CheckState.ERROR] * 2
    assert "vault_dir" in lines[1].hint


def test_a_database_that_no_source_names_is_not_protected(
    here: Path, database: Target, monkeypatch: pytest.MonkeyPatch
) -> None:
    other = sql.Identifier(f"{database.name}\nother")
    with database.connect() as session:
        session.execute(sql.SQL("CREATE DATABASE {}").format(other))
    try:
        assert f"{database.name}\nother" in other_databases(database)
        assert database.name not in other_databases(database)
        monkeypatch.setenv("REFNET_LEFT_OUT_DATABASES", f"{database.name},postgres")
        wrong("not protected", CheckState.WARNING, "of the server: ", "left_out.databases")
        monkeypatch.setenv("REFNET_LEFT_OUT_DATABASES", "*")
        assert [line.state for line in found("not protected")] == [CheckState.OK]
    finally:
        with database.connect() as session:
            session.execute(sql.SQL("DROP DATABASE {}").format(other))


def test_what_the_role_cannot_read_is_an_error(
    here: Path, database: Target, monkeypatch: pytest.MonkeyPatch
) -> None:
    role = sql.Identifier(f"{database.name}_reader")
    name = role.as_string().strip('"')
    with database.connect() as session:
        session.execute(sql.SQL("CREATE ROLE {} LOGIN").format(role))
        session.execute("CREATE TABLE hidden (n int); ALTER TABLE hidden ENABLE ROW LEVEL SECURITY")
        session.execute(sql.SQL("GRANT SELECT ON hidden TO {}").format(role))
        session.execute("SELECT lo_from_bytea(0, 'x')")
    try:
        monkeypatch.setenv("REFNET_DATABASE_URL", url_of(database, user=name))
        words = (
            "table public.t",
            "hides in public.hidden",
            "1 large object",
            "GRANT pg_read_all_data",
            "BYPASSRLS",
        )
        wrong("backup rights", CheckState.ERROR, *words)
        wrong("restore", CheckState.WARNING, "may not create databases", "CREATEDB")
    finally:
        with database.connect() as session:
            session.execute(sql.SQL("DROP OWNED BY {role}; DROP ROLE {role}").format(role=role))


@pytest.fixture
def silent() -> Iterator[int]:
    """The port of a server that accepts connections and says nothing."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        yield listener.getsockname()[1]


def test_a_server_that_hangs_is_an_error(here: Path, silent: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(check_database, "CONNECT_SECONDS", 2)
    monkeypatch.setattr("refnet.actions.check.bounded", partial(bounded, seconds=4))
    monkeypatch.setenv("REFNET_DATABASE_URL", f"postgresql://u@127.0.0.1:{silent}/d?connect_timeout=900")
    wrong("database", CheckState.ERROR, f"127.0.0.1:{silent}")


def test_a_check_that_hangs_is_an_error_after_its_time() -> None:
    ever = threading.Event()

    def lines() -> Iterator[CheckLine]:
        yield ok("disk", "before")
        ever.wait()

    first, last = bounded("disk", lines, 0.1)
    ever.set()
    assert (first.state, last.state) == (CheckState.OK, CheckState.ERROR)
    assert "within 0.1 s" in last.says


@pytest.mark.parametrize(
    "error", [RefnetError("a", "b"), FileNotFoundError(2, "missing", "/x"), PermissionError(13, "no", "/x")]
)
def test_an_error_ends_a_check_as_a_line_with_a_hint(error: Exception) -> None:
    def fails() -> Iterator[CheckLine]:
        raise error
        yield ok("", "")

    (line,) = bounded("x", fails)
    assert line.state is CheckState.ERROR
    assert line.says
    assert line.hint
    assert check_result.SECONDS <= 30


def test_folders_that_are_missing_or_hold_the_backups(here: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("REFNET_DATABASE_URL")
    monkeypatch.setenv("REFNET_BACKUP_DIR", str(here / "vault" / "backups"))
    wrong("backup folder", CheckState.ERROR, "inside", "REFNET_BACKUP_DIR")
    monkeypatch.setenv("REFNET_VAULT_DIR", str(here / "none"))
    wrong("obsidian", CheckState.ERROR, str(here / "none"), "does not exist")
    monkeypatch.setenv("REFNET_CONFIG_DIR", str(here / "vault"))
    wrong("config", CheckState.ERROR, "compose.yaml", "missing")


def test_a_recovery_needs_its_programs_and_its_compose_file(
    here: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("REFNET_DATABASE_URL")
    monkeypatch.setenv("REFNET_RECOVER_SERVICES", "local")
    monkeypatch.setenv("REFNET_RECOVER_APPLICATION", "sh -c true, no-such-program --x, 'open")
    wrong("settings", CheckState.ERROR, "REFNET_RECOVER_APPLICATION", "quotes")
    monkeypatch.setenv("REFNET_RECOVER_APPLICATION", "sh -c true, no-such-program --x")
    lines = [line.says for line in found("recovery") if line.state is CheckState.ERROR]
    assert len(lines) == 1
    assert "no-such-program" in lines[0]
    monkeypatch.setenv("REFNET_RECOVER_SERVICES", "compose")
    assert any("no Compose file" in line.says for line in found("recovery"))


def test_a_locked_source_and_a_broker_that_is_down_are_named(
    here: Path, database: Target, monkeypatch: pytest.MonkeyPatch
) -> None:
    from refnet.store.backup_folder import locked

    (here / "backups" / "database").mkdir()
    with locked(here / "backups" / "database", "database"):
        wrong("backup folder", CheckState.WARNING, "database")
    monkeypatch.setenv("REFNET_BROKER_URL", "redis://:secret@localhost:1/0")
    wrong("broker", CheckState.ERROR, "localhost:1")
    assert "secret" not in str(check().to_json())
