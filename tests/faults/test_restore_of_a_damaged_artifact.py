"""An artifact that a check found damaged comes back only where the user says that he wants it all the same."""

from __future__ import annotations

import hashlib
from datetime import UTC, datetime
from pathlib import Path

import pytest
from tests.command import Command
from tests.faults.conftest import Live

from refnet.catalog.manifest import EVIDENCE_SUFFIX, Evidence, Level, Outcome

WHY = "table public.papers: 7 rows are missing"


@pytest.fixture
def vault(tmp_path: Path) -> Path:
    folder = tmp_path / "vault"
    folder.mkdir()
    (folder / "note.md").write_text("as it was")
    return folder


def found_damaged(artifact: Path) -> None:
    """Write down that a proof of `artifact` failed."""
    sha256 = hashlib.sha256(artifact.read_bytes()).hexdigest()
    line = Evidence(
        datetime.now(UTC), Level.PROVEN, Outcome.FAILED, 1.0, reasons=(WHY,), artifact=sha256
    ).to_json()
    with artifact.with_name(artifact.name + EVIDENCE_SUFFIX).open("a") as evidence:
        evidence.write(line)


@pytest.fixture
def damaged(live: Live, written: Path) -> str:
    """The name of a damaged artifact of the database, from which the live one differs since."""
    found_damaged(written)
    live.run("DELETE FROM summaries")
    return written.name


def summaries(live: Live) -> int:
    with live.target.connect() as session:
        return session.execute("SELECT count(*) FROM summaries").fetchall()[0][0]


def test_a_damaged_artifact_given_by_name_needs_a_word_of_its_own(
    refnet: Command, live: Live, damaged: str
) -> None:
    for artifact in (damaged, refnet.backups / "database" / damaged):
        refused = refnet("restore", "database", artifact, "--force")
        assert (refused.code, refused.out.splitlines()[0]) == (4, f"DAMAGED: {damaged}: {WHY}")
        assert "--damaged-anyway" in refused.err
        refnet("restore", "database", artifact, "--force", "--json").fails(4, "is damaged", WHY)
    refnet("restore", "database", damaged, "--table", "summaries", "--mode", "missing").fails(4, "is damaged")
    assert summaries(live) == 0
    refnet("restore", "database", damaged, "--force", "--damaged-anyway").succeeds()
    assert summaries(live) == 100


def test_its_plan_says_so_in_the_first_line(refnet: Command, damaged: str) -> None:
    plan = refnet("restore", "database", damaged, "--plan")
    assert plan.code == 4
    assert plan.out.splitlines()[0] == f"DAMAGED: {damaged}: {WHY}"
    values = refnet("restore", "database", damaged, "--plan", "--json").json
    assert values["damage"] == WHY
    assert "is damaged" in values["problems"][0]["message"]
    table = refnet("restore", "database", damaged, "--table", "summaries", "--mode", "missing", "--plan")
    assert table.out.splitlines()[0] == f"DAMAGED: {damaged}: {WHY}"


def test_a_recovery_never_chooses_it(refnet: Command, damaged: str) -> None:
    refnet("recover", "--plan").fails(1, "no complete artifact")


def test_a_damaged_vault_needs_the_same_word(refnet: Command, vault: Path) -> None:
    settings = {"REFNET_VAULT_DIR": str(vault)}
    refnet("backup", "obsidian", "--no-prove", **settings).succeeds()
    (artifact,) = (refnet.backups / "obsidian").glob("vault_*.tar.gz")
    found_damaged(artifact)
    (vault / "note.md").write_text("changed")
    plan = refnet("restore", "obsidian", artifact.name, "--plan", **settings)
    assert plan.out.splitlines()[0] == f"DAMAGED: {artifact.name}: {WHY}"
    refused = refnet("restore", "obsidian", artifact.name, "--force", **settings)
    assert (refused.code, "--damaged-anyway" in refused.err) == (4, True)
    assert (vault / "note.md").read_text() == "changed"
    refnet("restore", "obsidian", artifact.name, "--force", "--damaged-anyway", **settings).succeeds()
    assert (vault / "note.md").read_text() == "as it was"
