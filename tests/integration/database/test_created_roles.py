"""`--create-roles` makes roles as they were: pg_dumpall says so."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest
from benchmarks.throwaway import throwaway
from tests.integration.database.library import artifact_of, held, restore
from tests.servers import OLDEST_AND_NEWEST

from refnet.postgres.binaries import Binaries
from refnet.postgres.cluster import Cluster
from refnet.sources.database.artifact.own_artifact import DatabaseArtifact

#: A member of 15 has no options of its own; NOINHERIT stands for them.
ROLES = """
CREATE ROLE staff NOLOGIN;
CREATE ROLE outer_staff NOLOGIN;
CREATE ROLE curator LOGIN NOINHERIT CREATEDB CONNECTION LIMIT 3 VALID UNTIL '2031-02-03 04:05:06.789+09';
CREATE ROLE plain LOGIN VALID UNTIL 'infinity';
COMMENT ON ROLE curator IS E'it''s \\\\ here\\n; SELECT 1';
ALTER ROLE curator SET work_mem = '7MB';
ALTER ROLE plain SET search_path = 'x y', public;
GRANT staff TO plain WITH ADMIN OPTION;
GRANT outer_staff TO staff;
"""
OPTIONS = """
GRANT staff TO curator WITH INHERIT FALSE, SET FALSE;
GRANT outer_staff TO curator WITH ADMIN OPTION, INHERIT TRUE, SET FALSE;
GRANT outer_staff TO plain WITH INHERIT FALSE;
"""
PARAMETERS = """
GRANT SET ON PARAMETER log_statement TO curator WITH GRANT OPTION;
GRANT ALTER SYSTEM ON PARAMETER work_mem TO plain;
"""
OWNED = """
CREATE TABLE jobs (); CREATE TABLE papers ();
ALTER TABLE jobs OWNER TO curator; ALTER TABLE papers OWNER TO plain; GRANT SELECT ON papers TO staff, outer_staff;
"""


def _roles(cluster: Cluster) -> list[str]:
    """What pg_dumpall writes of the roles, without their passwords."""
    command = [cluster.binaries.tool("pg_dumpall"), "--roles-only", "--no-role-passwords"]
    ran = subprocess.run(command, env=cluster.target().environment(), capture_output=True, check=True)
    return [line for line in ran.stdout.decode().splitlines() if not line.startswith(("\\", "--"))]


@dataclass(frozen=True)
class Library:
    """A dump, the roles of its server as pg_dumpall wrote them, and that server, which has neither any more."""

    dump: DatabaseArtifact
    roles: list[str]
    cluster: Cluster


@pytest.fixture(scope="module", params=sorted(OLDEST_AND_NEWEST))
def library(request: pytest.FixtureRequest, short_folder: Path) -> Iterator[Library]:
    binaries = OLDEST_AND_NEWEST[request.param]
    with throwaway(binaries, base=short_folder / f"roles-{os.urandom(4).hex()}") as cluster:
        major, target = binaries.major, cluster.target("library")
        with cluster.target().connect() as admin:
            admin.execute(ROLES + (OPTIONS if major >= 16 else "") + (PARAMETERS if major >= 15 else ""))
            admin.execute("CREATE DATABASE library")
            with target.connect() as session:
                session.execute(OWNED)
            found = Library(held(artifact_of(target, binaries)), _roles(cluster), cluster)
            admin.execute("DROP DATABASE library")
            admin.execute("DROP OWNED BY curator, plain; DROP ROLE curator, plain, staff, outer_staff")
        yield found


def test_created_roles_are_as_pg_dumpall_wrote_them(library: Library) -> None:
    empty = library.cluster
    assert _roles(empty) != library.roles
    binaries = empty.binaries
    done = restore(empty.target("library"), library.dump, binaries, create_roles=True, role_powers=True)
    assert _roles(empty) == library.roles
    assert not [note for note in done.notes if "role" in note or "membership" in note]


def test_what_an_older_server_cannot_keep_of_a_role_is_named(library: Library, short_folder: Path) -> None:
    major = library.cluster.binaries.major
    older = next((one for one in OLDEST_AND_NEWEST.values() if one.major < 16), None)
    if older is None or major < 16:
        pytest.skip("needs a server before 16 and one since")
    roles = library.dump.roles
    with throwaway(older, base=short_folder / f"roles-{os.urandom(4).hex()}") as empty:
        from refnet.sources.database.restore.create_database import create_roles

        with empty.target().connect() as admin:
            notes = create_roles(admin, roles, [role["name"] for role in roles if role["name"] != "refnet"])
    assert (
        "the membership of curator in staff allows more than before: PostgreSQL 15 has no INHERIT or SET FALSE"
        in notes
    )
    assert len(notes) == 3


def test_a_privilege_on_a_parameter_is_a_power(library: Library, wheel: Binaries) -> None:
    if library.cluster.binaries.major != wheel.major:
        pytest.skip("one server is enough")
    assert library.dump.wanted().powers["curator"] == ("may change log_statement",)
