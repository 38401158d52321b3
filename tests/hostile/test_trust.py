"""A dump that RefNet did not make, where this machine cannot build all walls around a scratch server."""

from __future__ import annotations

import shutil
from datetime import UTC, datetime
from pathlib import Path

import pytest
from tests import oracle

from refnet.actions.verify import evidence_of
from refnet.catalog.artifact import OpenArtifact, Proof
from refnet.catalog.manifest import Evidence, Level, Outcome
from refnet.catalog.source_name import SourceName
from refnet.cli.render import details
from refnet.postgres import walls
from refnet.postgres.binaries import Binaries
from refnet.postgres.session import Target
from refnet.proof_run import ProofOptions
from refnet.sources.database.artifact.own_artifact import open_database


@pytest.fixture
def foreign(database: Target, wheel: Binaries, tmp_path: Path) -> OpenArtifact:
    """A dump by pg_dump."""
    with database.connect() as session:
        session.execute("CREATE TABLE t (a int); INSERT INTO t VALUES (1)")
    path = tmp_path / "foreign.sql"
    path.write_bytes(oracle.run(wheel.tool("pg_dump"), conninfo=database.conninfo))
    return OpenArtifact(SourceName.DATABASE, path.name, lambda: path.open("rb"), None, path=path)


@pytest.fixture
def no_walls(monkeypatch: pytest.MonkeyPatch) -> None:
    """A machine without the programs that build walls."""
    which = shutil.which
    monkeypatch.setattr(
        walls.shutil, "which", lambda name: None if name in {"bwrap", "unshare"} else which(name)
    )


def _proof(held: OpenArtifact, wheel: Binaries, home: Path, *, trust: bool = False) -> Proof:
    options = ProofOptions(home, lambda *_, **__: wheel, jobs=2, trust=trust)
    return open_database(held).prove(Level.RESTORED, options)


def test_it_is_loaded_where_every_wall_stands(
    foreign: OpenArtifact, wheel: Binaries, short_home: Path
) -> None:
    proof = _proof(foreign, wheel, short_home)
    assert proof.missing_walls == ()
    assert proof.level is Level.RESTORED


@pytest.mark.usefixtures("no_walls")
def test_without_walls_it_is_not_loaded_and_each_is_named(
    foreign: OpenArtifact, wheel: Binaries, short_home: Path
) -> None:
    proof = _proof(foreign, wheel, short_home)
    assert proof.outcome is Outcome.UNVERIFIED
    assert proof.level is Level.INTACT
    assert "files, processes, network, ipc" in " ".join(details(proof))
    assert "Install bubblewrap, or verify it with --trust" in " ".join(proof.reasons)


@pytest.mark.usefixtures("no_walls")
def test_with_trust_it_is_loaded_and_the_evidence_names_the_missing_walls(
    foreign: OpenArtifact, wheel: Binaries, short_home: Path
) -> None:
    proof = _proof(foreign, wheel, short_home, trust=True)
    assert proof.level is Level.RESTORED
    assert "files" in proof.missing_walls
    assert proof.to_json()["missing_walls"] == list(proof.missing_walls)
    (line,) = evidence_of(proof, datetime.now(UTC), 1.0)
    assert Evidence.from_json(line.to_json()) == line
    assert line.missing_walls == proof.missing_walls
