"""`refnet undo` after a restore of tables: the rows that it replaced come back, and an undo can be undone."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from tests.integration.database.library import artifact_of, papers
from tests.integration.database.test_restore_commands import environment_of, refnet, report

from refnet.catalog.source_name import SourceName
from refnet.postgres.binaries import Binaries
from refnet.postgres.session import Target
from refnet.settings import load
from refnet.sources.database.saved_tables import previous_tables

#: The options of a restore of one table.
_TABLES = ("--table", "papers", "--mode", "replace", "--force")


@pytest.fixture
def library(small_library: Target) -> Target:
    return small_library


@pytest.fixture
def path(library: Target, wheel: Binaries, tmp_path: Path) -> Path:
    """An artifact of the library, in which a paper was written since."""
    path = tmp_path / "refnet_20261125_020000.sql.gz"
    path.write_bytes(artifact_of(library, wheel))
    with library.connect() as session:
        session.execute("INSERT INTO papers (title) VALUES ('written since')")
    return path


def test_a_restore_of_tables_keeps_replaced_rows_and_undo_restores_them(
    library: Target, path: Path, tmp_path: Path
) -> None:
    environment = environment_of(library, tmp_path)
    with library.connect() as session:
        session.execute("UPDATE papers SET title = 'changed since' WHERE id = 1")
    done = refnet(environment, "restore", "database", str(path), *_TABLES)
    assert done.returncode == 0, done.stderr
    assert "`refnet undo database` brings back the rows that it replaced" in done.stdout
    assert (papers(library), titles(library)) == (50, [])

    listed = json.loads(refnet(environment, "list", "database", "--previous", "--json").stdout)
    assert "tables public.papers" in json.dumps(listed)
    plan = refnet(environment, "undo", "database", "--plan")
    assert (plan.returncode, "public.papers" in plan.stdout) == (0, True), plan.stderr
    assert refnet(environment, "undo", "database").returncode == 6
    undone = report(environment, "undo", "database", "--force")
    assert undone["done"] is True
    assert (papers(library), titles(library)) == (51, ["changed since", "written since"])
    assert refnet(environment, "undo", "database", "--force").returncode == 0
    assert (papers(library), titles(library)) == (50, [])

    settings = load(environment, tmp_path, root=False, cores=1)
    kept = list(previous_tables(settings, SourceName.DATABASE))
    assert [one.what for one in kept] == ["tables public.papers"] * 3
    for one in kept:
        one.remove()
    assert list(previous_tables(settings, SourceName.DATABASE)) == []
    assert not [*(tmp_path / "home" / "tables").rglob("*.partial*")]


def test_after_a_later_restore_of_all_undo_brings_back_the_database(
    library: Target, path: Path, tmp_path: Path
) -> None:
    environment = environment_of(library, tmp_path)
    assert refnet(environment, "restore", "database", str(path), *_TABLES).returncode == 0
    with library.connect() as session:
        session.execute("INSERT INTO papers (title) VALUES ('written later')")
    assert refnet(environment, "restore", "database", str(path), "--force").returncode == 0
    plan = refnet(environment, "undo", "database", "--plan")
    assert "Bring back" in plan.stdout, plan.stdout
    assert refnet(environment, "undo", "database", "--force").returncode == 0
    assert titles(library) == ["written later"]


def titles(library: Target) -> list[str]:
    with library.connect() as session:
        found = session.execute(
            "SELECT title FROM papers WHERE title LIKE '%since' OR title LIKE '%later' ORDER BY 1"
        )
        return [title for (title,) in found.fetchall()]
