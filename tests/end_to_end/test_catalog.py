"""backup, list, show, verify, drill, prune, monitor and adopt, as a user types them."""

from __future__ import annotations

import json
import os
import re
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest
from tests import forked

Run = Callable[..., subprocess.CompletedProcess[str]]


@pytest.fixture
def vault(tmp_path: Path) -> Path:
    folder = tmp_path / "vault"
    folder.mkdir()
    for number in range(5):
        (folder / f"note {number}.md").write_text(f"# Note {number}\n")
    return folder


@pytest.fixture
def refnet(tmp_path: Path, vault: Path) -> Run:
    """Run the command with a vault and a backup folder of its own; no database is touched."""
    environment = {
        "PATH": os.environ["PATH"],
        "REFNET_HOME": str(tmp_path / "home"),
        "REFNET_BACKUP_DIR": str(tmp_path / "backups"),
        "REFNET_LOG_FOLDER": "none",
        "REFNET_VAULT_DIR": str(vault),
        "TZ": "Asia/Tokyo",
    }

    def run(*arguments: str, code: int = 0, **variables: str) -> subprocess.CompletedProcess[str]:
        done = forked.text(*arguments, environment=environment | variables, folder=tmp_path)
        assert done.returncode == code, done.stdout + done.stderr
        return done

    return run


@pytest.fixture
def name(refnet: Run) -> str:
    """The name of an artifact of the vault that was not proven."""
    made = json.loads(refnet("backup", "obsidian", "--no-prove", "--json").stdout)
    return str(made["results"][0]["manifest"]["name"])


def state(refnet: Run) -> str:
    return str(json.loads(refnet("list", "--json").stdout)["artifacts"][-1]["state"])


def test_no_output_claims_more_than_was_shown(refnet: Run) -> None:
    unproven = refnet("backup", "obsidian", "--no-prove")
    assert "proven" not in unproven.stdout + unproven.stderr
    assert "proven" not in refnet("backup", "obsidian", "--no-prove", "--json").stdout
    assert "proven" not in refnet("list").stdout
    assert "proven" not in refnet("verify", "obsidian", "--level", "restored").stdout
    assert "proven" in refnet("backup", "obsidian").stdout
    assert "proven" in refnet("list").stdout


def test_a_check_is_remembered(refnet: Run, name: str) -> None:
    for level in ("intact", "restored", "proven"):
        refnet("verify", name, "--level", level)
        assert state(refnet) == level
    assert "\nevidence\n" in refnet("show", name).stdout
    assert [line["level"] for line in json.loads(refnet("show", name, "--json").stdout)["evidence"]] == [
        "intact",
        "restored",
        "proven",
    ]


def test_a_flipped_bit_ends_with_its_code_and_is_named_everywhere(
    refnet: Run, name: str, tmp_path: Path
) -> None:
    path = tmp_path / "backups" / "obsidian" / name
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 1
    path.write_bytes(data)

    assert "DAMAGED" in refnet("verify", name, code=4).stdout
    assert "damaged" in refnet("list").stdout
    assert "damaged" in refnet("monitor", "obsidian", code=2).stdout
    assert "no complete artifact" in refnet("verify", code=3).stderr


def test_an_artifact_can_be_named_by_its_path_and_a_source_by_its_name(
    refnet: Run, name: str, tmp_path: Path
) -> None:
    for artifact in (f"backups/obsidian/{name}", str(tmp_path / "backups" / "obsidian" / name), "obsidian"):
        refnet("verify", artifact, "--level", "intact")
    assert "no artifact" in refnet("verify", "vault_1.tar.gz", code=2).stderr
    assert "not a level" in refnet("verify", "--level", "written", code=2).stderr
    assert "not a source" in refnet("backup", "papers", code=2).stderr


def test_an_artifact_outside_the_catalog_is_proven_there(refnet: Run, tmp_path: Path) -> None:
    refnet("backup", "obsidian", "--to", "away")
    (away,) = (tmp_path / "away").glob("*.tar.gz")

    assert "There is no artifact" in refnet("list").stdout
    assert "proven" in refnet("show", f"away/{away.name}").stdout
    assert "proven" in refnet("verify", str(away)).stdout
    assert {path.stat().st_mode & 0o777 for path in (tmp_path / "away").iterdir()} == {0o600}


def test_a_drill_leaves_a_report_and_ends_with_what_it_could_not_verify(
    refnet: Run, name: str, tmp_path: Path
) -> None:
    told = refnet("drill", code=3, REFNET_DATABASE_URL="own").stdout
    assert "database  could not verify: there is no complete artifact" in told
    assert "measured recovery" in told

    alone = json.loads(refnet("drill", "obsidian", "--json").stdout)
    assert alone["outcome"] == "passed"
    assert "PASS" in Path(alone["report"]).read_text()
    assert len(list((tmp_path / "home" / "reports").iterdir())) == 4


def test_prune_plans_and_does_the_same_and_says_why(refnet: Run, tmp_path: Path) -> None:
    folder = tmp_path / "backups" / "obsidian"
    folder.mkdir(parents=True)
    for day in ("20231201", "20231202"):
        subprocess.run(
            ["tar", "-czf", folder / f"vault_{day}.tar.gz", "-C", tmp_path / "vault", "."], check=True
        )
    assert "not listed" in refnet("list").stdout
    refnet("adopt", *(str(path) for path in folder.glob("*.gz")))
    refnet("backup", "obsidian")

    planned = refnet("prune", "--plan").stdout
    assert "would delete  vault_20231201.tar.gz" in planned
    assert "the last proven one" in planned
    assert len(json.loads(refnet("list", "--json").stdout)["artifacts"]) == 3
    assert "deleted 2" in refnet("prune", "obsidian").stdout
    assert len(json.loads(refnet("list", "--json").stdout)["artifacts"]) == 1
    assert "deleted 0" in refnet("prune").stdout


def test_a_year_is_simulated_by_the_settings(refnet: Run, name: str) -> None:
    kept = json.loads(refnet("prune", "obsidian", "--simulate", "365d", "--json").stdout)["obsidian"]
    assert len(kept) == 30
    longer = refnet(
        "prune", "obsidian", "--simulate", "52w", "--json", REFNET_RETENTION_OBSIDIAN="days=30 monthly=6"
    )
    assert len(json.loads(longer.stdout)["obsidian"]) > 30
    assert "not a span" in refnet("prune", "--simulate", "forever", code=2).stderr


def test_a_source_without_an_artifact_could_not_be_verified(refnet: Run) -> None:
    assert "no complete artifact" in refnet("verify", "obsidian", code=3).stderr
    refnet("backup", "obsidian", "--no-prove")
    told = refnet("verify", code=3, REFNET_DATABASE_URL="own").stdout
    assert "proven" in told
    assert "database: could not verify: there is no complete artifact" in told
    assert json.loads(refnet("verify", "--json", code=3, REFNET_DATABASE_URL="own").stdout)["absent"] == [
        "database"
    ]


def test_artifacts_that_are_all_gone_are_critical_at_once(refnet: Run, name: str, tmp_path: Path) -> None:
    for path in (tmp_path / "backups" / "obsidian").iterdir():
        path.unlink()
    told = refnet("monitor", "obsidian", code=2).stdout
    assert f"every artifact is gone: the last one was {name}" in told


def test_monitor_ends_as_plugins_do(refnet: Run, vault: Path, tmp_path: Path) -> None:
    assert "no artifact" in refnet("monitor", "obsidian", code=2).stdout
    refnet("backup", "obsidian")
    fresh = json.loads(refnet("monitor", "obsidian", "--json").stdout)
    assert fresh["status"] == "new"
    refnet("monitor", "obsidian", code=1, REFNET_MONITOR_MIN_BYTES="1048576")
    (tmp_path / "backups" / "obsidian" / ".refnet-00.part").write_bytes(b"half")
    assert ".refnet-00.part" in refnet("monitor", "obsidian", code=1).stdout
    refnet("monitor", "obsidian", code=3, REFNET_BACKUP_DIR=str(vault / "note 0.md"))


def block_scratch(tmp_path: Path) -> Path:
    """Put a file where proofs unpack, and return it: no proof can run."""
    scratch = tmp_path / "home" / "scratch"
    if scratch.is_dir():
        scratch.rmdir()
    scratch.write_text("in the way")
    return scratch


def test_the_monitor_says_that_the_last_drill_could_not_verify(
    refnet: Run, vault: Path, tmp_path: Path
) -> None:
    refnet("backup", "obsidian")
    scratch = block_scratch(tmp_path)
    refnet("drill", "obsidian", code=3, REFNET_PROVE_MEMORY="0")
    told = refnet("monitor", "obsidian", code=1).stdout
    assert re.search(
        r"WARNING +obsidian +drill +the last one, under 1 min ago, could not verify vault_", told
    ), told

    scratch.unlink()
    refnet("drill", "obsidian")
    assert "could not verify" not in refnet("monitor", "obsidian").stdout


def test_an_unproven_backup_exits_3_unless_no_proof_is_required(
    refnet: Run, vault: Path, tmp_path: Path
) -> None:
    refnet("backup", "obsidian")
    block_scratch(tmp_path)

    (vault / "another.md").write_text("1")
    on_disk = {"REFNET_PROVE_MEMORY": "0"}
    assert "NOT proven" in refnet("backup", "obsidian", code=3, **on_disk).stdout
    (vault / "another.md").write_text("22")
    made = json.loads(refnet("backup", "obsidian", "--json", code=3, **on_disk).stdout)["results"][0]
    assert (made["outcome"], made["proof"]["outcome"]) == ("not proven", "could not verify")
    (vault / "another.md").write_text("333")
    assert "NOT proven" in refnet("backup", "obsidian", REFNET_PROVE_REQUIRED="false", **on_disk).stdout


def test_a_backup_of_a_vault_that_was_emptied_ends_with_1(refnet: Run, vault: Path) -> None:
    for number in range(20):
        (vault / f"more {number}.md").write_text("note")
    refnet("backup", "obsidian")
    for path in vault.iterdir():
        path.unlink()
    (vault / "one.md").write_text("left")

    assert "SHRUNK" in refnet("backup", "obsidian", code=1).stdout
    name = json.loads(refnet("list", "--json").stdout)["artifacts"][-1]["name"]
    refnet("accept", name)
    (vault / "one.md").write_text("changed")
    refnet("backup", "obsidian")


def test_one_source_that_fails_does_not_stop_the_others(refnet: Run, vault: Path, tmp_path: Path) -> None:
    """The database's server is not there; the vault is backed up all the same, and the run has failed."""
    down = f"postgresql:///refnet?host={tmp_path}/nowhere"
    ran = refnet("backup", "--json", code=1, REFNET_DATABASE_URL=down)
    results = {one["source"]: one for one in json.loads(ran.stdout)["results"]}

    assert results["database"]["outcome"] == "failed"
    assert results["config"]["outcome"] == "not configured"
    assert results["obsidian"]["outcome"] == "done"
    assert ran.stderr.startswith("refnet: ")
    assert len(ran.stderr.splitlines()) == 2


def test_a_pinned_artifact_is_forgotten_only_once_unpinned_and_confirmed(
    refnet: Run, name: str, vault: Path
) -> None:
    (vault / "another.md").write_text("new")
    refnet("backup", "obsidian", "--no-prove")
    assert "would be pinned" in refnet("pin", name, "--plan").stdout
    assert refnet("pin", name).stdout == f"pinned: {name}\n"
    assert "pinned; tagged old" in refnet("tag", name, "old").stdout
    (tagged,) = json.loads(refnet("list", "--tag", "old", "--json").stdout)["artifacts"]
    assert (tagged["name"], tagged["marks"]["pinned"], tagged["marks"]["tags"]) == (name, True, ["old"])
    assert "pinned; tagged old" in refnet("list").stdout
    assert "tagged old" in refnet("show", name).stdout
    assert "no artifact" in refnet("list", "--tag", "other").stdout.lower()

    assert "is pinned" in refnet("forget", name, "--force", "--force-last", code=2).stderr
    refnet("unpin", name)
    assert f"1. delete {name} (obsidian, " in refnet("forget", name, "--plan").stdout
    assert "artifacts would be deleted" in refnet("forget", name, code=6).stderr
    assert json.loads(refnet("forget", name, "--force", "--json").stdout)["done"] is True
    assert name not in refnet("list").stdout
