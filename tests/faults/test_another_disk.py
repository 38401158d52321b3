"""The backup disk is not mounted, or another one is: nothing is written to it, and the monitor is not content."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest
from tests.command import Command

MARKER = ".refnet-store.json"


def status(refnet: Command) -> tuple[int, dict[str, str]]:
    ran = refnet("monitor", "database", "--json")
    return ran.code, {one["check"]: one["says"] for one in ran.json["checks"]}


@pytest.fixture
def unmounted(refnet: Command) -> Path:
    """A backup was made; then the disk is gone, and its mount point is an empty folder. Where the disk is now."""
    refnet("backup", "database", "--no-prove").succeeds()
    away = refnet.backups.with_name("the disk")
    refnet.backups.rename(away)
    refnet.backups.mkdir()
    return away


def test_the_folder_of_a_disk_that_is_not_mounted_stays_empty(refnet: Command, unmounted: Path) -> None:
    words = (
        f"{refnet.backups} is not the store of earlier runs",
        "is the disk mounted?",
        "refnet store accept",
    )

    refnet("backup", "database").fails(1, *words)
    refnet("adopt", unmounted / "database" / "nothing.sql.gz").fails(2, "is not an artifact")
    assert list(refnet.backups.iterdir()) == []
    code, checks = status(refnet)
    assert (code, list(checks)) == (2, ["the store"])
    assert "is the disk mounted?" in checks["the store"]
    assert "is the disk mounted?" in refnet("list").out
    metrics = refnet("metrics")
    assert 'refnet_check_status{check="the store",source="all"} 2.0' in metrics.out.replace(
        "} 2\n", "} 2.0\n"
    )

    refnet.backups.rmdir()
    refnet("backup", "database").fails(1, *words)
    assert not refnet.backups.exists()
    unmounted.rename(refnet.backups)
    refnet("backup", "database", "--no-prove").succeeds()
    assert len(refnet.names()) == 2


def test_another_disk_in_its_place_is_no_better(refnet: Command, unmounted: Path) -> None:
    other = replace(refnet, home=refnet.home / "other", backups=refnet.backups)
    other.home.mkdir()
    other("backup", "database", "--no-prove").succeeds()

    refnet("backup", "database").fails(1, "is a different store than earlier runs")
    for manifest in (refnet.backups / "database").glob("*.sql.gz.json"):
        values = json.loads(manifest.read_text()) | {"created": "2020-01-01T00:00:00+00:00"}
        manifest.write_text(json.dumps(values))
        shutil.copy(manifest, manifest.with_name("refnet_20200102_000000.sql.gz.json"))
    (refnet.backups / "database" / ".refnet-0.part").write_bytes(b"left by another run")
    refnet("prune", "database").fails(1, "is a different store than earlier runs")
    assert unmounted.exists()


def test_a_new_disk_is_accepted_by_name(refnet: Command, unmounted: Path) -> None:
    accepted = refnet("store", "accept")
    accepted.succeeds()
    assert f"{refnet.backups} is the store from now on (0 artifacts" in accepted.out

    refnet("backup", "database", "--no-prove").succeeds()
    assert len(refnet.names()) == 1
    assert unmounted.exists()


def test_a_restore_of_a_file_needs_no_store(refnet: Command, unmounted: Path) -> None:
    (artifact,) = (unmounted / "database").glob("refnet_*.sql.gz")

    refnet("restore", "database", artifact, "--force").succeeds()
    assert list(refnet.backups.iterdir()) == []


def test_a_store_from_before_there_were_markers_gets_one(refnet: Command) -> None:
    refnet("backup", "database", "--no-prove").succeeds()
    (refnet.backups / MARKER).unlink()
    shutil.rmtree(refnet.home / "stores")

    assert status(refnet)[0] == 1  # not proven, and no more than that
    refnet("backup", "database", "--no-prove").succeeds()
    assert (refnet.backups / MARKER).stat().st_mode & 0o777 == 0o600


def test_a_backup_that_published_nothing_binds_nobody_to_the_folder(refnet: Command) -> None:
    down = replace(refnet, url="postgresql://nobody@127.0.0.1:9/live")
    assert down("backup", "database").code == 1
    assert (refnet.backups / MARKER).exists()
    shutil.rmtree(refnet.backups)

    refnet("backup", "database", "--no-prove").succeeds()


def test_a_first_backup_onto_an_unmounted_disk_of_fstab_is_refused(refnet: Command, tmp_path: Path) -> None:
    bubblewrap = shutil.which("bwrap")
    if not bubblewrap or not Path("/etc/fstab").is_file():
        pytest.skip("this machine has no bubblewrap, or no fstab")
    fstab = tmp_path / "fstab"
    fstab.write_text(f"UUID=1 {tmp_path}/disk ext4 defaults 0 2\n")
    program = Path(sys.executable).with_name("refnet")
    onto = replace(refnet, backups=tmp_path / "disk" / "backups")
    box = [bubblewrap, "--dev-bind", "/", "/", "--ro-bind", fstab, "/etc/fstab"]
    ran = subprocess.run(
        [*box, program, "backup", "database"],
        env=onto._environment({}), cwd=tmp_path, capture_output=True, text=True, check=False,
    )  # fmt: skip
    if "bwrap:" in ran.stderr:
        pytest.skip(f"this user may not make namespaces: {ran.stderr}")
    assert ran.returncode == 1
    assert f"{onto.backups} is on {tmp_path}/disk" in ran.stderr
    assert not (tmp_path / "disk").exists()
