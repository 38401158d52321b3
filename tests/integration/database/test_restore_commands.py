"""`refnet restore|undo database` as a user types them, asked, forced, and killed at the worst moments."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
import time
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from typing import Any

import pytest
from psycopg import sql
from psycopg.conninfo import conninfo_to_dict
from tests import forked
from tests.integration.database.library import artifact_of, everything, of_database, papers

from refnet.cli import main
from refnet.postgres.binaries import Binaries
from refnet.postgres.session import Target
from refnet.sources.database.admin_session import admin_session
from refnet.sources.database.restore import copy_and_swap as verb
from refnet.store.previous_records import MarkState

#: An index that takes as long as the database's own setting says: at once when it is made, long in a restore.
SLOW = """
CREATE FUNCTION slow(int) RETURNS int IMMUTABLE LANGUAGE plpgsql AS $$
BEGIN PERFORM pg_sleep(coalesce(current_setting('app.slow', true)::float, 0)); RETURN $1; END $$;
CREATE INDEX ON jobs (slow(id));
"""


@pytest.fixture
def library(small_library: Target) -> Target:
    return small_library


@pytest.fixture
def environment(library: Target, tmp_path: Path) -> dict[str, str]:
    """That of a user whose REFNET_DATABASE_URL is the library."""
    return environment_of(library, tmp_path)


def environment_of(library: Target, folder: Path) -> dict[str, str]:
    """That of a user whose REFNET_DATABASE_URL is `library`, with home and backups in `folder`."""
    parts = conninfo_to_dict(library.conninfo)
    url = f"postgresql://{parts['user']}@/{library.name}?host={parts['host']}&port={parts['port']}"
    clean = {k: v for k, v in os.environ.items() if not k.startswith(("PG", "REFNET_"))}
    home = {"REFNET_HOME": str(folder / "home"), "REFNET_BACKUP_DIR": str(folder / "backups")}
    return {**clean, **home, "REFNET_DATABASE_URL": url, "REFNET_LOG_FOLDER": "none"}


def refnet(environment: dict[str, str], *arguments: str) -> subprocess.CompletedProcess[str]:
    return forked.text(*arguments, environment=environment, folder=Path.cwd())


def report(environment: dict[str, str], *arguments: str) -> Any:
    ran = refnet(environment, *arguments, "--json")
    assert ran.returncode == 0, ran.stderr
    return json.loads(ran.stdout)


@pytest.fixture
def artifact(library: Target, wheel: Binaries, tmp_path: Path) -> str:
    """The path of an artifact of the library, from which the live one differs since."""
    path = tmp_path / "refnet_20261125_020000.sql.gz"
    path.write_bytes(artifact_of(library, wheel))
    with library.connect() as session:
        session.execute("INSERT INTO papers (title) VALUES ('written since')")
    return str(path)


def test_the_plan_is_shown_and_nothing_is_changed(
    library: Target, environment: dict[str, str], artifact: str
) -> None:
    plan = report(environment, "restore", "database", artifact, "--plan")
    assert plan["replaces"] is True
    assert plan["problems"] == []
    table = next(one for one in plan["tables"] if one["name"] == "public.papers")
    assert (table["rows"], table["live_rows"], table["written_since"]) == (50, 51, 1)
    assert everything(library) == [library.name]


def test_without_a_terminal_and_without_force_nothing_live_is_replaced(
    library: Target, environment: dict[str, str], artifact: str
) -> None:
    for arguments in (("restore", "database", artifact), ("restore", "database", artifact, "--json")):
        ran = refnet(environment, *arguments)
        assert (ran.returncode, "--force" in ran.stderr) == (6, True)
    assert papers(library) == 51
    assert everything(library) == [library.name]


def test_a_forced_restore_and_its_undo_report_what_they_did(
    library: Target, environment: dict[str, str], artifact: str
) -> None:
    done = report(environment, "restore", "database", artifact, "--force")
    assert {"load", "compare", "swap"} <= set(done["seconds"])
    assert {one["outcome"] for one in done["findings"]} == {"passed"}
    assert papers(library) == 50
    with library.connect() as session:
        session.execute("DELETE FROM jobs; UPDATE papers SET year = 1 WHERE id = 1")
    assert refnet(environment, "undo", "database").returncode == 6
    planned = report(environment, "undo", "database", "--plan")
    assert planned["written_since"] == {"public.papers": 1}
    undone = report(environment, "undo", "database", "--force")
    assert undone["back"] == done["kept"]
    assert papers(library) == 51


def test_an_undo_and_an_undo_of_it_say_what_they_bring_back(
    library: Target, environment: dict[str, str], artifact: str
) -> None:
    kept, name = report(environment, "restore", "database", artifact, "--force")["kept"], Path(artifact).name
    moment = r"\d{4}-\d\d-\d\d \d\d:\d\d:\d\d \S+"
    for word, cause in (("before", ""), ("undone", "an undo of ")):
        replaced = rf"until {moment}, when {cause}the restore of {re.escape(name)} replaced it"
        planned = refnet(environment, "undo", "database", "--plan").stdout
        assert re.search(
            rf"Bring back {kept} .* as {library.name} on .*:\n  it was {library.name} {replaced}\n", planned
        )
        done = refnet(environment, "undo", "database", "--force").stdout
        assert re.search(rf"{library.name} on \S+ is {kept} again: it was live {replaced}\.\n", done)
        found = re.search(
            rf"the replaced database is now ({library.name}_undone_\w+): `refnet undo database` brings it back",
            done,
        )
        assert found, done
        assert f"_{word}_" in kept
        kept = found[1]


def test_a_file_that_is_not_there_is_a_matter_of_usage(environment: dict[str, str]) -> None:
    ran = refnet(environment, "restore", "database", "/nowhere/refnet_20261125_020000.sql.gz")
    assert ran.returncode == 2
    assert "there is no artifact" in ran.stderr


def test_a_run_killed_while_loading_blocks_nobody_and_the_next_one_works(
    library: Target, environment: dict[str, str], wheel: Binaries, tmp_path: Path
) -> None:
    with library.connect() as session:
        session.execute(SLOW)
        session.execute(f"ALTER DATABASE {library.name} SET app.slow = 600")
        path = tmp_path / "slow.sql.gz"
        path.write_bytes(artifact_of(library, wheel))
        session.execute(f"ALTER DATABASE {library.name} RESET app.slow")
        fine = tmp_path / "fine.sql.gz"
        fine.write_bytes(artifact_of(library, wheel))
    killed = forked.Heard(["restore", "database", str(path), "--force"], environment, Path.cwd())
    await_query(library, f"{library.name}_copy_%", "CREATE INDEX jobs_slow%")
    killed.send_signal(signal.SIGKILL)
    killed.communicate(timeout=120)
    assert len(of_database(library, MarkState.COPY)) == 1
    assert papers(library) == 50
    assert re.search(rf"half-made copy +{library.name}_copy_\w+, from", refnet(environment, "monitor").stdout)
    (left,) = json.loads(refnet(environment, "list", "--previous", "--json").stdout)["previous_versions"]
    assert left["since"][:4] == str(datetime.now(UTC).year)
    done = report(environment, "restore", "database", str(fine), "--force")
    assert any("of a killed run" in note for note in done["notes"])
    assert set(everything(library)) == {library.name, done["kept"]}
    assert "half-made" not in refnet(environment, "monitor").stdout


def dying_at_the_exchange(environment: dict[str, str], artifact: str, when: str) -> int:
    """Start a restore that comes to the exchange and then kills itself, or waits within it; its process id."""
    if child := os.fork():
        return child
    try:
        nowhere = os.open(os.devnull, os.O_RDWR)
        for stream in range(3):
            os.dup2(nowhere, stream)
        os.environ.clear()
        os.environ.update(environment)
        verb.swap = partial(_dying, verb.swap, when)
        sys.argv[:] = ["refnet", "restore", "database", artifact, "--force"]
        main.run()
    finally:
        os._exit(1)


def _dying(swap: Any, when: str, admin: Any, target: Any, renames: Any, also: Any = ()) -> None:
    if when == "before":
        os.kill(os.getpid(), signal.SIGKILL)
    swap(admin, target, renames, [*also, sql.SQL("SELECT pg_sleep(2)")] if when == "within" else also)
    os.kill(os.getpid(), signal.SIGKILL)


@pytest.mark.parametrize("when", ["before", "within", "after"])
def test_a_run_killed_around_the_swap_leaves_one_whole_database_live(
    library: Target, environment: dict[str, str], artifact: str, when: str
) -> None:
    killed = dying_at_the_exchange(environment, artifact, when)
    if when == "within":
        await_query(library, "%", "SELECT pg_sleep(2)")
        os.kill(killed, signal.SIGKILL)
    assert os.waitstatus_to_exitcode(os.waitpid(killed, 0)[1]) == -signal.SIGKILL
    assert papers(library) == (50 if when == "after" else 51)
    assert len(of_database(library, MarkState.COPY)) == (0 if when == "after" else 1)
    assert len(of_database(library, MarkState.RESTORED)) == (1 if when == "after" else 0)
    done = report(environment, "restore", "database", artifact, "--force")
    assert papers(library) == 50
    assert papers(library.database(done["kept"])) == (50 if when == "after" else 51)
    assert of_database(library, MarkState.COPY) == []


def test_an_interrupted_restore_kept_waiting_by_other_runs_cleans_up(
    library: Target, environment: dict[str, str], wheel: Binaries, tmp_path: Path
) -> None:
    with library.connect() as session:
        session.execute(SLOW)
        session.execute(f"ALTER DATABASE {library.name} SET app.slow = 600")
        path = tmp_path / "slow.sql.gz"
        path.write_bytes(artifact_of(library, wheel))
    interrupted = forked.Heard(["restore", "database", str(path), "--force"], environment, Path.cwd())
    await_query(library, f"{library.name}_copy_%", "CREATE INDEX jobs_slow%")
    for other in (("restore", "database", str(path), "--force"), ("backup", "database", "--no-prove")):
        refused = refnet(environment, *other)
        assert refused.returncode == 5
        assert f"database is locked by another run of RefNet (process {interrupted.pid})" in refused.stderr
    interrupted.send_signal(signal.SIGTERM)
    _, said = interrupted.communicate(timeout=120)
    assert b"interrupted" in said
    assert interrupted.returncode == 1
    assert everything(library) == [library.name]


def await_query(target: Target, database: str, query: str) -> None:
    """Wait until a session runs `query` in a database; both are LIKE patterns."""
    until = time.monotonic() + 30
    with admin_session(target) as admin:
        while time.monotonic() < until:
            found = admin.execute(
                "SELECT FROM pg_stat_activity WHERE datname LIKE %s AND query LIKE %s AND state = 'active'"
                " AND pid <> pg_backend_pid()",
                (database, query),
            ).fetchall()
            if found:
                return
            time.sleep(0.01)
    raise AssertionError(f"nobody ran {query}")


def test_one_table_is_planned_asked_for_and_restored_by_the_command(
    library: Target, environment: dict[str, str], artifact: str
) -> None:
    with library.connect() as session:
        session.execute("UPDATE jobs SET state = 'lost' WHERE id <= 3; DELETE FROM jobs WHERE id > 18")
    one = ("restore", "database", artifact, "--table", "jobs")
    for half, says in (((), "--mode is required"), (("--mode", "all"), "'all' is not a mode")):
        refused = refnet(environment, *one, *half)
        assert (refused.returncode, says in refused.stderr) == (2, True)
    assert refnet(environment, "restore", "database", artifact, "--mode", "replace").returncode == 2
    assert report(environment, *one, "--mode", "missing", "--plan")["add"] == 2
    assert refnet(environment, *one, "--mode", "replace").returncode == 6
    assert report(environment, *one, "--mode", "missing")["done"] is True
    done = report(environment, *one, "--mode", "replace", "--force")
    assert (done["add"], done["change"], done["delete"], done["alike"]) == (0, 3, 0, 17)
    assert everything(library) == [library.name]


def test_several_tables_are_planned_and_restored_by_the_command(
    library: Target, environment: dict[str, str], artifact: str
) -> None:
    with library.connect() as session:
        session.execute("DELETE FROM jobs; DELETE FROM citations; DELETE FROM papers WHERE id <= 3")
    several = ("restore", "database", artifact, "--table", "jobs", "--table", "papers", "--mode", "missing")
    shown = refnet(environment, *several, "--plan").stdout.splitlines()
    assert [line.split()[1] for line in shown if line.startswith("Restore")] == [
        "public.papers",
        "public.jobs",
    ]
    done = report(environment, *several)
    assert [(one["table"], one["add"]) for one in done["tables"]] == [
        ("public.papers", 3),
        ("public.jobs", 20),
    ]
    assert (done["add"], done["done"]) == (23, True)
    with library.connect() as session:
        assert session.execute("SELECT count(*) FROM jobs JOIN papers ON papers.id = paper").fetchall() == [
            (20,)
        ]
