"""Roles and tablespaces of a server: dumped, proven, created again on a server without them."""

from __future__ import annotations

import errno
import gzip
import hashlib
import io
from collections.abc import Iterator
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path

import pytest
from benchmarks.throwaway import throwaway
from tests.servers import OLDEST_AND_NEWEST

from refnet.catalog.artifact import Made, OpenArtifact, fault_of
from refnet.catalog.evidence import Fault
from refnet.catalog.manifest import Level, Manifest, Outcome
from refnet.catalog.source_name import Kind, SourceName
from refnet.core.errors import Exit, RefnetError
from refnet.postgres.binaries import Binaries
from refnet.postgres.cluster import Cluster
from refnet.proof_run import ProofOptions
from refnet.sources.permitted import Permitted
from refnet.sources.roles.globals_artifact import GlobalsArtifact, GlobalsMaker
from refnet.sources.roles.source import GlobalsRestore

MAIN = SourceName("main-globals", Kind.GLOBALS)
ODD = 'odd;\nna"me'
SETUP = [
    "SET allow_in_place_tablespaces = on",
    "SET timezone = 'Asia/Tokyo'",
    "CREATE ROLE \"odd;\nna\"\"me\" LOGIN PASSWORD 'x' CONNECTION LIMIT 3 VALID UNTIL '2030-01-01'",
    "CREATE ROLE app NOLOGIN",
    'GRANT app TO "odd;\nna""me" WITH ADMIN OPTION',
    "ALTER ROLE app SET search_path = 'x y', public",
    "ALTER ROLE ALL SET my.setting = 'a=b'",
    "COMMENT ON ROLE app IS 'it''s \\ here\nnewline'",
    "GRANT SET ON PARAMETER log_statement TO app WITH GRANT OPTION",
    "CREATE TABLESPACE fast LOCATION ''",
    "GRANT CREATE ON TABLESPACE fast TO app",
    "ALTER TABLESPACE fast SET (random_page_cost = 2)",
]
SINCE_16 = [
    "CREATE ROLE staff",
    "GRANT staff TO app WITH INHERIT FALSE, SET FALSE",
    # Two memberships: the server's own allows ADMIN alone.
    "CREATE ROLE maker CREATEROLE",
    "SET ROLE maker",
    "CREATE ROLE made",
    "GRANT made TO maker",
    "RESET ROLE",
]
#: Of made in maker, by all who granted it.
OPTIONS = """
SELECT bool_or(admin_option), bool_or(inherit_option), bool_or(set_option) FROM pg_auth_members
WHERE roleid = 'made'::regrole AND member = 'maker'::regrole
"""


@pytest.fixture(
    scope="module", params=OLDEST_AND_NEWEST.values(), ids=lambda one: f"{one.major}-{one.origin}"
)
def crowded(request: pytest.FixtureRequest, short_folder: Path) -> Iterator[Cluster]:
    """A server with roles, memberships and a tablespace."""
    binaries: Binaries = request.param
    base = short_folder / f"globals-{binaries.major}-{binaries.origin}"
    with throwaway(binaries, base=base) as cluster:
        with cluster.target().connect() as session:
            for statement in [*SETUP, *(SINCE_16 if binaries.major >= 16 else [])]:
                session.execute(statement)
        yield cluster


@pytest.fixture(scope="module")
def artifact(crowded: Cluster) -> tuple[Made, bytes]:
    out = io.BytesIO()
    source = GlobalsMaker(MAIN, crowded.target, lambda *_, **__: crowded.binaries, passwords=True)
    return source.dump(out), out.getvalue()


def opened(made: Made, data: bytes) -> GlobalsArtifact:
    manifest = Manifest(
        MAIN,
        "main-globals_1.sql.gz",
        datetime.now(UTC),
        len(data),
        hashlib.sha256(data).hexdigest(),
        1.0,
        details=made.details,
    )
    stored = OpenArtifact(MAIN, manifest.name, lambda: io.BytesIO(data), manifest)
    return GlobalsArtifact(stored)


def test_every_role_and_tablespace_is_proven(
    artifact: tuple[Made, bytes], crowded: Cluster, short_home: Path
) -> None:
    options = ProofOptions(short_home / "scratch", lambda *_, **__: crowded.binaries, 2)
    proof = opened(*artifact).prove(Level.PROVEN, options)
    assert (proof.outcome, proof.level, proof.reasons) == (Outcome.PASSED, Level.PROVEN, ())
    assert artifact[0].details["passwords"] == 1
    assert artifact[0].unchecked == (
        "settings of all roles are not in the backup, as pg_dumpall leaves them out (ALTER ROLE ALL SET): my.setting",
    )


def test_a_changed_role_is_no_proof(artifact: tuple[Made, bytes], crowded: Cluster, short_home: Path) -> None:
    text = gzip.decompress(artifact[1]).decode().replace("CREATE ROLE app;\n", "", 1)
    options = ProofOptions(short_home / "scratch", lambda *_, **__: crowded.binaries, 2)
    proof = opened(artifact[0], gzip.compress(text.encode())).prove(Level.PROVEN, options)
    assert (proof.outcome, proof.level) == (Outcome.FAILED, None)


@pytest.mark.parametrize(
    "damage",
    [b"", b"no gzip", gzip.compress(b"\\! id\n"), gzip.compress(b"DROP ROLE app;")],
    ids=["empty", "no gzip", "a command of psql", "a statement"],  # gzip's header has the time
)
def test_what_pg_dumpall_does_not_write_is_damaged(artifact: tuple[Made, bytes], damage: bytes) -> None:
    with pytest.raises(RefnetError) as refused:
        opened(artifact[0], damage).statements  # noqa: B018
    assert refused.value.code is Exit.DAMAGED


def test_missing_roles_are_created_and_existing_ones_left(
    artifact: tuple[Made, bytes], crowded: Cluster, short_folder: Path
) -> None:
    with throwaway(crowded.binaries, base=short_folder / f"empty-{crowded.binaries.major}") as empty:
        target, binaries, found = empty.target(), crowded.binaries, opened(*artifact)
        with target.connect() as session:
            session.execute("CREATE ROLE app LOGIN")
        with pytest.raises(RefnetError, match="gives the role"):
            GlobalsRestore(replace_powers(found, "SUPERUSER"), target, binaries).run()
        done = GlobalsRestore(found, target, binaries, Permitted(everything=True)).run()
        assert done.finding.outcome is Outcome.PASSED
        since_16 = binaries.major >= 16
        assert done.plan.create == (("made", "maker", ODD, "staff") if since_16 else (ODD,))
        assert set(done.plan.differing) == {"app"}
        with target.connect() as session:
            row = session.execute(
                "SELECT rolcanlogin, rolconnlimit, rolpassword LIKE 'SCRAM%%' FROM pg_authid WHERE rolname = %s",
                (ODD,),
            ).fetchone()
            app = session.execute("SELECT rolcanlogin FROM pg_roles WHERE rolname = 'app'").fetchone()
            if since_16:
                assert session.execute(OPTIONS).fetchone() == (True, True, True)
        assert (row, app) == ((True, 3, True), (True,))
        again = GlobalsRestore(found, target, binaries).plan()
        assert again.create == again.statements == ()


def replace_powers(found: GlobalsArtifact, power: str) -> GlobalsArtifact:
    """The same artifact, forged: the role that is missing gets `power`."""
    forged = GlobalsArtifact(replace(found.stored))
    statements = tuple(
        replace(one, tokens=tuple(power if token == f"NO{power}" else token for token in one.tokens))
        for one in found.statements
    )
    forged.__dict__["wanted"] = replace(found.wanted, statements=statements)
    return forged


def test_roles_on_a_disk_that_fails_are_not_damaged() -> None:
    def fails() -> io.BytesIO:
        raise OSError(errno.EIO, "Input/output error")

    broken = GlobalsArtifact(OpenArtifact(MAIN, "main-globals_1.sql.gz", fails, None))
    with pytest.raises(RefnetError, match="cannot be read: Input/output error") as failed:
        _ = broken.statements
    assert fault_of(failed.value) is Fault.TRANSIENT
