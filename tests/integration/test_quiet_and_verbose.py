"""-q, -v and --json with a real server: what each prints, before and after the command, and that the log stays complete."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from tests.command import Command, url_of
from tests.integration.at_terminal import on_a_terminal

from refnet.postgres.session import Target


@pytest.fixture
def refnet(folder: Path, database: Target) -> Command:
    """The command on a database with a table and on a vault, with a home and a backup folder of its own."""
    for name in ("home", "vault", "logs"):
        (folder / name).mkdir(mode=0o755)
    (folder / "vault" / "note.md").write_text("# note\n")
    with database.connect() as session:
        session.execute("CREATE TABLE t AS SELECT generate_series(1, 10) AS n")
    more = {"REFNET_VAULT_DIR": str(folder / "vault"), "REFNET_LOG_FOLDER": str(folder / "logs")}
    return Command(folder / "home", folder / "backups", url_of(database), more)


def test_a_quiet_run_prints_only_what_was_asked_for_and_logs_everything(refnet: Command) -> None:
    for line in (
        ["-q", "backup"], ["backup", "database", "--no-prove", "--quiet"], ["verify", "-q"], ["drill", "-q"],
        ["-q", "restore", "database", "--force"], ["restore", "-q", "obsidian", "--force"],
        ["undo", "database", "-q", "--force"], ["prune", "-q"],
    ):  # fmt: skip
        ran = refnet(*line)
        assert (ran.code, ran.out, ran.err) == (0, "", ""), line
    logs = refnet.home.parent / "logs"
    backups = [json.loads(line) for line in (logs / "refnet-backup.log").read_text().splitlines()]
    assert sum(line["event"] == "done" for line in backups) >= 3
    restores = [json.loads(line) for line in (logs / "refnet-restore.log").read_text().splitlines()]
    assert {line["command"] for line in restores if line["event"] == "ended"} == {"restore", "undo"}

    assert refnet("list", "-q").out.count("refnet_") == 2
    assert json.loads(refnet("-q", "list", "--json").out)["artifacts"]
    assert "Restore " in refnet("-q", "restore", "database", "--plan").out
    assert "overall: " in refnet("monitor", "-q").out


def test_a_quiet_run_prints_errors_and_warnings(refnet: Command) -> None:
    refnet("backup", "--no-prove", "-q").succeeds()
    artifact = refnet.artifact()
    content = artifact.read_bytes()
    artifact.write_bytes(content[:300] + bytes(100) + content[400:])

    damaged = refnet("verify", artifact.name, "-q")

    assert damaged.code == 4
    assert damaged.out.startswith(f"{artifact.name}: DAMAGED")
    refnet("show", "none.sql.gz", "-q").fails(2, "there is no artifact")


def test_a_verbose_run_prints_phases_programs_server_and_checks(refnet: Command) -> None:
    ran = refnet("backup", "database", "-v")
    assert ran.code == 0
    for detail in ("refnet: programs: PostgreSQL ", "refnet: server: PostgreSQL ", "refnet: database: "):
        assert detail in ran.err
    assert " took " in ran.err
    assert "Traceback" not in ran.err
    for detail in ("passed: ", "phases: ", "server: PostgreSQL "):
        assert detail in ran.out

    before, plain = (refnet(*line, "--level", "intact") for line in (["-v", "verify"], ["verify"]))
    assert "passed: bytes of the file" in before.out
    assert "passed: " not in plain.out
    assert plain.err == ""
    assert json.loads(refnet("verify", "-v", "--json", "--level", "intact").out)["results"]


def test_a_terminal_shows_progress_but_for_quiet_json_and_verbose(refnet: Command) -> None:
    assert "\x1b[" in on_a_terminal(refnet, "backup", "database", "--no-prove")
    for option in ("-q", "--json"):
        assert on_a_terminal(refnet, "backup", "database", "--no-prove", option) == ""
    assert "\x1b[" not in on_a_terminal(refnet, "backup", "database", "--no-prove", "-v")
    assert refnet("backup", "database", "--no-prove").err == ""
