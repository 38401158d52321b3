"""Names that any role with CREATEDB or CREATEROLE gives on a server of a cluster hinder no backup of the others."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from benchmarks.throwaway import throwaway
from psycopg import sql
from tests.command import Command, url_of

from refnet.actions.cluster_databases import _check_different
from refnet.catalog.source_name import member_name
from refnet.core.errors import RefnetError
from refnet.postgres.binaries import Binaries
from refnet.postgres.cluster import Cluster
from refnet.postgres.session import Target
from refnet.store.source_records import ClusterRecord, SeenDatabases
from refnet.wiring import url_of as member_url

NAMES = [
    "host=evil dbname=x",
    "postgresql://evil/x",
    "x?host=evil&y",
    "a\nb",
    "A%41",
    "q\"u'o",
    "-rf",
    "$(id)",
    "é" * 31,
]


@pytest.fixture(scope="module")
def server(wheel: Binaries, short_folder: Path) -> Iterator[Cluster]:
    """A server whose databases and roles have the names that an attacker likes."""
    with throwaway(wheel, base=short_folder / "names") as cluster:
        with cluster.target().connect() as session:
            for name in NAMES:
                session.execute(sql.SQL("CREATE DATABASE {} TEMPLATE template0").format(sql.Identifier(name)))
            session.execute("CREATE DATABASE latin TEMPLATE template0 ENCODING 'LATIN1' LOCALE 'C'")
        with cluster.target("latin").connect(encoding="LATIN1") as session:
            session.execute('CREATE DATABASE "caf\u00e9" TEMPLATE template0')
            session.execute('CREATE ROLE "ren\u00e9"')
        yield cluster


@pytest.fixture
def refnet(folder: Path, server: Cluster) -> Command:
    settings = f'[clusters.main]\nurl = "{url_of(server.target())}"\n'
    (folder / "refnet.toml").write_text(settings)
    (folder / "refnet.toml").chmod(0o600)
    return Command(folder / "home", folder / "backups", "")


def test_a_database_whose_name_is_not_utf8_is_named_and_hinders_no_other(refnet: Command) -> None:
    planned = refnet("backup", "main", "--plan", "--json")
    assert planned.code == 1
    assert (
        "the database caf\\udce9 of the cluster main is not backed up: its name is not UTF-8" in planned.err
    )
    assert len(planned.json["sources"]) == len(NAMES) + 3  # postgres, latin and the roles
    ClusterRecord.at(refnet.home, "main").write(SeenDatabases(("latin", *NAMES[:2])))
    some = ("main-latin", "main-globals", member_name("main", NAMES[0]), member_name("main", NAMES[1]))
    made = refnet("backup", *some, "--no-prove", "--json", "--jobs", "2")
    assert "Traceback" not in made.err
    results = {one["source"]: one for one in made.json["results"]}
    assert [name for name, one in results.items() if "error" in one] == ["main-globals"]
    assert results.keys() == {*some}
    back = refnet("restore", "main-latin", "--plan")
    assert back.code == 0, back.err


def test_the_url_of_a_member_leads_to_its_server_and_database_alone() -> None:
    for url in (
        "postgresql://u@h:1/x",
        "postgresql://u@/x?host=/s",
        "postgresql://u@h/x?dbname=z",
        "postgresql://h/x?",
    ):
        for name in NAMES:
            own, there = Target.from_url(url), Target.from_url(member_url(url, name))
            assert there.name == name
            assert {**there.parts, "dbname": ""} == {**own.parts, "dbname": ""}


def test_two_databases_that_would_be_one_source_are_refused() -> None:
    one, other = (f"{'A' * 36}{number}" for number in (1151, 59146))
    assert len(SeenDatabases((one, other)).members("main")) == 1
    with pytest.raises(RefnetError, match="have the same source name, main-a"):
        _check_different("main", [one, other])


def test_a_record_of_a_name_that_no_url_can_have_is_refused() -> None:
    with pytest.raises(ValueError, match="surrogate"):
        SeenDatabases.from_json('{"format": 1, "databases": ["caf\\udce9"]}')
