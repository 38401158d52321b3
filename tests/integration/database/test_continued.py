"""A database that was recovered on a new server is one database for every home that reads the store."""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest
from benchmarks.throwaway import throwaway
from tests.command import Command, url_of

from refnet.postgres.binaries import Binaries
from refnet.postgres.cluster import Cluster


@pytest.fixture
def anew(wheel: Binaries, short_folder: Path) -> Iterator[Cluster]:
    """The server that was made after the old one was lost."""
    with throwaway(wheel, base=short_folder / "anew") as cluster:
        yield cluster


def test_containers_see_one_database_after_the_machine_recovered_it(
    server: Cluster, anew: Cluster, folder: Path
) -> None:
    old, new = server.target("continued"), anew.target("continued")
    with server.target().connect() as admin:
        admin.execute("CREATE DATABASE continued")
    with old.connect() as session:
        session.execute("CREATE TABLE t AS SELECT g AS id FROM generate_series(1, 10) g")

    def home(name: str, url: str) -> Command:
        (folder / name).mkdir(exist_ok=True)
        return Command(folder / name, folder / "backups", url)

    home("lost", url_of(old))("backup", "database").succeeds()
    with server.target().connect() as admin:
        admin.execute("DROP DATABASE continued WITH (FORCE)")
    host, container = home("host", url_of(new)), home("container", url_of(new))
    assert host("restore", "database", "--force", "--json").code == 0

    # No artifact of the new server is there yet: the store itself says what continues what.
    assert "others" not in container("monitor").out
    assert container("restore", "database", "--plan").code == 0
    made = container("backup", "database", "--json").json["results"][0]["manifest"]

    assert len(made["continues"]) == 1
    assert (made["number"], made["details"]["database"]) == (2, "continued")
    shutil.rmtree(folder / "backups" / ".refnet-lineage")  # as in a remote store: the manifests alone say it
    other = home("other", url_of(new))
    assert "others" not in other("monitor").out
    planned = other("restore", "database", "--plan", "--json")
    assert planned.code == 0, planned.err
    assert json.loads(planned.out)["artifact"] == made["name"]
