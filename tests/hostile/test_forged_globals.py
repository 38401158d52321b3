"""A forged artifact of roles reaches no role that exists, and gives no powers without the user's word."""

from __future__ import annotations

import gzip
import io
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from benchmarks.throwaway import throwaway

from refnet.catalog.artifact import OpenArtifact
from refnet.catalog.manifest import Outcome
from refnet.catalog.source_name import Kind, SourceName
from refnet.context import Context
from refnet.core.errors import RefnetError
from refnet.postgres.binaries import installed
from refnet.postgres.cluster import Cluster
from refnet.settings import Settings
from refnet.sources.base import Permits
from refnet.sources.permitted import NOTHING, Permitted
from refnet.sources.roles import source
from refnet.sources.roles.globals_artifact import GlobalsArtifact
from refnet.sources.roles.source import GlobalsRestore, Roles

MAIN = SourceName("main-globals", Kind.GLOBALS)


@pytest.fixture(scope="module")
def server(short_folder: Path) -> Iterator[Cluster]:
    binaries = max((one for one in installed(None) if one.has_server), key=lambda one: one.major)
    with throwaway(binaries, base=short_folder / "forged-globals") as cluster:
        yield cluster


def forged(text: str) -> GlobalsArtifact:
    data = gzip.compress(text.encode())
    return GlobalsArtifact(OpenArtifact(MAIN, "main-globals_1.sql.gz", lambda: io.BytesIO(data), None))


def rows(server: Cluster, query: str) -> list[tuple[Any, ...]]:
    with server.target().connect() as session:
        return session.execute(query.encode()).fetchall()


SETTINGS = "SELECT * FROM pg_db_role_setting WHERE setrole = 0 OR setrole = 10"
SUPERUSER = "SELECT rolcanlogin, rolvaliduntil, rolpassword FROM pg_authid WHERE oid = 10"


@pytest.mark.parametrize(
    "text",
    [
        "CREATE ROLE \"all\"; ALTER ROLE all SET work_mem TO '64kB';",
        "CREATE ROLE \"current_user\"; ALTER ROLE current_user WITH LOGIN VALID UNTIL '2020-01-01';",
        "CREATE ROLE \"session_user\"; ALTER ROLE session_user SET work_mem TO '64kB';",
        "CREATE ROLE \"user\"; ALTER ROLE user WITH PASSWORD 'stolen';",
        "CREATE ROLE \"current_role\"; COMMENT ON ROLE current_role IS 'mine'; ALTER ROLE current_role WITH NOLOGIN;",
    ],
)
def test_a_role_with_the_name_of_a_keyword_is_that_role_alone(server: Cluster, text: str) -> None:
    before = rows(server, SETTINGS), rows(server, SUPERUSER)
    found = forged(text)
    done = GlobalsRestore(found, server.target(), server.binaries).run()
    assert (rows(server, SETTINGS), rows(server, SUPERUSER)) == before
    assert rows(server, f"SELECT 1 FROM pg_roles WHERE rolname = '{done.plan.create[0]}'") == [(1,)]


@pytest.mark.parametrize(
    "setting", ["session_preload_libraries", "Session_Preload_Libraries", "lo_compat_privileges"]
)
def test_a_setting_that_only_a_superuser_may_change_is_a_power(server: Cluster, setting: str) -> None:
    found = forged(f"CREATE ROLE evil; ALTER ROLE evil SET \"{setting}\" TO 'on';")
    plan = GlobalsRestore(found, server.target(), server.binaries).plan()
    shown = setting if setting.islower() else f'"{setting}"'
    assert [str(one) for one in plan.withheld] == [f"evil: sets {shown} to 'on'"]
    with pytest.raises(RefnetError, match="gives the role evil powers"):
        plan.check()


def test_a_recovery_creates_no_role_with_powers_unless_told(
    server: Cluster, monkeypatch: pytest.MonkeyPatch
) -> None:
    attributes = "SUPERUSER INHERIT NOCREATEROLE NOCREATEDB LOGIN NOREPLICATION NOBYPASSRLS PASSWORD 'known'"
    found = forged(f"CREATE ROLE boss; ALTER ROLE boss WITH {attributes};")

    def of(
        _context: object, _chosen: object, permitted: Permitted = NOTHING, **options: bool
    ) -> GlobalsRestore:
        return GlobalsRestore(found, server.target(), server.binaries, permitted, **options)

    monkeypatch.setattr(source, "restore_of", of)
    roles, context = Roles(Settings(), MAIN), Context(Settings())
    asked = roles.powers(context, found.stored, Permits())
    assert ([str(one) for one in asked.open], asked.granting) == (
        ["boss: SUPERUSER"],
        ('ALTER ROLE "boss" WITH SUPERUSER',),
    )
    assert roles.recover(context, found.stored, Permits())
    super_ = "SELECT rolsuper FROM pg_roles WHERE rolname = 'boss'"
    assert rows(server, super_) == [(False,)]
    (same,) = roles.compare(context, found.stored, Permits())
    assert same.outcome is Outcome.PASSED
    with server.target().connect() as session:
        session.execute("DROP ROLE boss")
    assert roles.recover(context, found.stored, Permits(powers=Permitted.of(["boss: SUPERUSER"])))
    assert rows(server, super_) == [(True,)]
