"""Two databases on servers of different majors and a folder, by name, through the command."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest
from tests.command import Command, Result, url_of

from refnet.postgres.session import Target

COUNT = "SELECT count(*), min(t) FROM orders"


def _filled(target: Target, text: str) -> None:
    with target.connect() as session:
        session.execute(
            "CREATE TABLE orders AS SELECT g AS id, %s AS t FROM generate_series(1, 50) g", (text,)
        )


def _holds(target: Target) -> tuple[object, ...] | None:
    with target.connect() as session:
        return session.execute(COUNT).fetchone()


@pytest.fixture
def refnet(folder: Path, database: Target, system_database: Target) -> Command:
    (folder / "notes").mkdir()
    (folder / "notes" / "a.md").write_text("# a\n")
    _filled(database, "shop")
    _filled(system_database, "wiki")
    (folder / "refnet.toml").write_text(
        f'[databases.shop]\nurl = "{url_of(database)}"\nrequired_tables = ["orders"]\n'
        f'[databases.wiki]\nurl = "{url_of(system_database)}"\n[folders.notes]\npath = "{folder}/notes"\n'
    )
    (folder / "refnet.toml").chmod(0o600)
    return Command(folder / "home", folder / "backups", "")


def test_each_source_is_backed_up_and_restored_by_its_name_alone(
    refnet: Command, folder: Path, database: Target, system_database: Target
) -> None:
    assert "no artifact of notes in" in refnet("list", "notes").out
    made = refnet("backup", "--no-prove", "--json").json["results"]
    assert [one["source"] for one in made] == ["shop", "wiki", "notes"]
    by_source = {name.split("_")[0]: name for name in refnet.names()}
    assert set(by_source) == {"shop", "wiki", "notes"}
    assert (folder / "backups" / "wiki" / by_source["wiki"]).is_file()

    for target in (database, system_database):
        with target.connect() as session:
            session.execute("DELETE FROM orders WHERE id > 3")
    lost = refnet("diff", "shop", "--json").json
    assert (lost["source"], lost["acts_on"]["database"]) == ("shop", database.name)
    refnet("recover", "--plan", "--at", "2020-01-01").fails(1, "at or before 2020-01-01", "The oldest is")
    plan = refnet("restore", "shop", "--plan")
    assert "`refnet undo shop` restores it" in plan.out
    assert refnet("restore", "shop", "--force").code == 0
    assert (_holds(database), _holds(system_database)) == ((50, "shop"), (3, "wiki"))
    assert refnet("undo", "shop", "--force").code == 0
    assert _holds(database) == (3, "shop")

    for other in ("wiki", "notes"):
        refnet("restore", "shop", by_source[other], "--force").fails(
            2, f"an artifact of {other}, not of shop"
        )
    assert _holds(database) == (3, "shop")

    shutil.rmtree(folder / "notes")
    assert refnet("recover", "--force").code == 0
    assert (_holds(database), _holds(system_database)) == ((50, "shop"), (50, "wiki"))
    assert (folder / "notes" / "a.md").read_text() == "# a\n"
    _renamed(refnet, folder, by_source["wiki"], system_database)


def _renamed(refnet: Command, folder: Path, artifact: str, system_database: Target) -> None:
    """A renamed source is a new one: its artifacts stay under the old name."""
    settings = folder / "refnet.toml"
    settings.write_text(settings.read_text().replace("databases.wiki", "databases.lexicon"))
    listed = refnet("list", "wiki")
    assert artifact in listed.out
    assert "wiki: not configured, so it is not backed up, and its artifacts are never pruned" in listed.out
    assert artifact not in refnet("prune", "--plan").out
    assert artifact in refnet.names()
    refnet("restore", "wiki", "--force").fails(2, "the source wiki is not configured")
    refnet("backup", "wiki").fails(2, "the source wiki is not configured")
    refnet("list", "wikki").fails(2, "Did you mean wiki?")
    for one in ("monitor", "monitor wiki"):  # its backups ended, and nobody said that this is intended
        assert ["CRITICAL", "wiki", "gone"] in _rows(refnet(*one.split()))
    assert "alarm: wiki: the settings no longer name it" in refnet("list").out
    assert ["ERROR", "wiki", "gone"] in _rows(refnet("check"))
    assert 'refnet_check_status{check="gone",source="wiki"} 2.0' in refnet("metrics").out
    assert "note: wiki is not backed up: the settings no longer name it" in refnet("backup", "--plan").err
    server = url_of(system_database, dbname=f"{system_database.name}_elsewhere")
    done = refnet("restore", "wiki", "--to", server)  # what nothing names can still be restored by its name
    assert done.code == 0, done.err
    with system_database.connect() as session:
        session.execute(f"DROP DATABASE {system_database.name}_elsewhere".encode())
    settings.write_text(settings.read_text().replace("folders.notes", "folders.memos"))
    assert refnet("restore", "notes", "--to", folder / "out").code == 0
    assert (folder / "out" / "a.md").read_text() == "# a\n"
    assert refnet("accept", "notes").code == 0
    assert refnet("accept", "wiki", "--plan").code == 0
    assert refnet("accept", "wiki").out.endswith("accepted: wiki is gone; its artifacts stay\n")
    assert "gone" not in refnet("monitor").out
    refnet("accept", "wiki").fails(2, "there is no artifact 'wiki'")


def _rows(done: Result) -> list[list[str]]:
    return [line.split()[:3] for line in done.out.splitlines()]
