"""A database that was emptied backs up and proves without a fault: it is marked, and what it held is kept."""

from __future__ import annotations

from pathlib import Path

from tests.command import Command
from tests.faults.conftest import Live

SHRANK = "3 tables → 0; 6,098 rows → 0"


def test_an_emptied_database_is_reported_and_its_last_artifact_is_kept(
    refnet: Command, live: Live, proven: Path
) -> None:
    full = proven.name
    live.run("DROP SCHEMA public CASCADE")
    live.run("CREATE SCHEMA public")
    made = refnet("backup", "database")
    assert (made.code, made.err) == (1, "")
    assert "proven" in made.out
    empty = refnet.names()[-1]
    assert f"SHRUNK against {full}: {SHRANK}" in made.out.splitlines()[-1]
    assert f"`refnet accept {empty}`" in made.out.splitlines()[-1]

    assert f"SHRUNK: {SHRANK}" in refnet("list").out
    assert [one["shrunk"] for one in refnet("list", "--json").json["artifacts"]] == [False, True]
    assert f"SHRUNK against {full}: {SHRANK}" in refnet("show", empty).out
    watched = refnet("monitor", "database")
    assert (watched.code, SHRANK in watched.out) == (2, True)
    assert 'refnet_backup_shrunk{source="database"} 1.0' in refnet("metrics").out
    assert refnet("restore", "database", "--plan").out.startswith(f"SHRUNK against {full}: ")

    assert f"proven, SHRUNK against {full}" in refnet("recover", "--plan").out

    no_time = {"REFNET_RETENTION_DATABASE": "yearly=1"}
    assert refnet("backup", "database", "--no-prove").code == 1
    assert refnet("backup", "database", "--if-older", "1h").code == 1
    refnet("prune", "database", **no_time).succeeds()
    third = refnet.names()[-1]
    assert refnet.names() == [full, third]
    assert "shrank" in refnet("prune", "database", "--plan", **no_time).out

    refnet("accept", third, "--plan").succeeds()
    assert refnet("monitor", "database").code == 2
    refnet("accept", third).succeeds()
    again = refnet("backup", "database", "--if-older", "1h")
    again.succeeds()
    assert "SHRUNK" not in again.out
    refnet("accept", third).fails(2, "is accepted already")
    refnet("accept", full).fails(2, "has not shrunk")
    assert f"accepted: {SHRANK}" in refnet("monitor", "database").out
    refnet("backup", "database").succeeds()
    assert [one["shrunk"] for one in refnet("list", "--json").json["artifacts"]] == [False, False, False]
    refnet("prune", "database", **no_time).succeeds()
    assert len(refnet.names()) == 1


def test_a_database_whose_rows_come_and_go_is_not_marked(refnet: Command, live: Live, written: Path) -> None:
    assert refnet.names() == [written.name]
    live.run("DELETE FROM summaries WHERE id > 10")
    live.run("DELETE FROM citations WHERE citing > 2000")
    made = refnet("backup", "database", "--no-prove")
    assert "SHRUNK" not in made.out
