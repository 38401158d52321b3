"""The specification's scripts, by their names and arguments, from any folder."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from tests import forked

ROOT = Path(__file__).parents[2]
Run = Callable[..., subprocess.CompletedProcess[str]]
NAMES = {
    "backup-database.sh",
    "backup-config.sh",
    "backup-obsidian.sh",
    "restore-database.sh",
    "restore-config.sh",
    "restore-obsidian.sh",
    "disaster-recovery.sh",
    "staged-recovery.sh",
    "recovery-verification.sh",
    "verify-backup.sh",
    "monthly-recovery-test.sh",
    "monitor-backup.sh",
}


@pytest.fixture(scope="module")
def script(short_folder: Path) -> Iterator[Run]:
    """Runs a script on a machine with a small network, a vault and a configuration."""
    folder = short_folder / "scripts"
    for name in ("bin", "config", "vault", "here"):
        (folder / name).mkdir(parents=True)
    (folder / "config" / ".env").write_text("A=1\n")
    (folder / "config" / "compose.yaml").write_text("services: {}\n")
    (folder / "vault" / "note.md").write_text("# A note\n")
    environment = {
        "PATH": f"{folder / 'bin'}:{Path(sys.executable).parent}:{os.environ['PATH']}",
        "HOME": str(folder),
        "REFNET_HOME": str(folder / "home"),
        "REFNET_BACKUP_DIR": str(folder / "backups"),
        "REFNET_CONFIG_DIR": str(folder / "config"),
        "REFNET_VAULT_DIR": str(folder / "vault"),
    }

    def run(*command: str, code: int = 0) -> subprocess.CompletedProcess[str]:
        program = str(ROOT / "scripts" / command[0]) if command[0] in NAMES else command[0]
        ran = subprocess.run(
            [program, *command[1:]],
            env=environment,
            cwd=folder / "here",
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=900,
            check=False,
        )
        assert ran.returncode == code, f"{command}\n{ran.stdout}{ran.stderr}"
        return ran

    with forked.program(folder / "bin"):
        run("refnet", "network", "sample", "--papers", "15")
        yield run
        run("refnet", "postgres", "stop")


def test_every_script_runs_and_brings_back_what_it_names(script: Run, short_folder: Path) -> None:
    folder = short_folder / "scripts"
    for source in ("database", "config", "obsidian"):
        made = script(f"backup-{source}.sh")
        assert "proven" in made.stdout
        assert "delete" in made.stdout
    shutil.copytree(folder / "backups" / "database", folder / "elsewhere")  # so that no proof is due
    unproven = ("env", "REFNET_PROVE_EVERY=7", str(ROOT / "scripts" / "backup-database.sh"))
    script(*unproven, str(folder / "elsewhere"))
    assert len(list((folder / "elsewhere").glob("refnet_*.sql.gz"))) == 2
    ends = {"database": "*.sql.gz", "config": "*.tar.gz", "obsidian": "*.tar.gz"}
    artifacts = {source: str(next((folder / "backups" / source).glob(end))) for source, end in ends.items()}
    script("restore-database.sh", artifacts["database"], code=6)
    script("restore-database.sh", artifacts["database"], "--force")
    (folder / "vault" / "note.md").write_text("lost")
    script("restore-obsidian.sh", artifacts["obsidian"], "--force")
    assert (folder / "vault" / "note.md").read_text() == "# A note\n"
    (folder / "config" / ".env").unlink()
    script("restore-config.sh", artifacts["config"], "--force")
    assert (folder / "config" / ".env").read_text() == "A=1\n"
    assert "proven" in script("verify-backup.sh", artifacts["obsidian"]).stdout
    assert "proven" in script("verify-backup.sh").stdout
    assert "report" in script("monthly-recovery-test.sh").stdout
    assert "overall: NEW" in script("monitor-backup.sh").stdout
    assert "no differences" in script("recovery-verification.sh").stdout
    shutil.rmtree(folder / "vault")
    assert "RTO" in script("disaster-recovery.sh", "--force").stdout
    assert (folder / "vault" / "note.md").exists()
    assert "RTO" in script("staged-recovery.sh", "--force").stdout


@pytest.mark.parametrize("name", sorted(NAMES))
def test_help_prints_help_and_does_nothing_else(name: str, tmp_path: Path) -> None:
    """No refnet is on PATH or in a clone here, so whatever did more would fail."""
    shutil.copytree(ROOT / "scripts", tmp_path / "scripts")
    for words in (["--help"], ["-h"], ["FILE", "--help"]):
        ran = subprocess.run(
            [str(tmp_path / "scripts" / name), *words],
            env={"PATH": "/usr/bin:/bin"},
            cwd=tmp_path,
            capture_output=True,
            text=True,
            check=False,
        )
        assert (ran.returncode, ran.stderr) == (0, "")
        assert f"Usage: {name}" in ran.stdout
        assert "set -eu" not in ran.stdout
    assert [path.name for path in tmp_path.iterdir()] == ["scripts"]


def test_what_a_script_does_not_take_is_refused(script: Run) -> None:
    for name in ("backup-config.sh", "backup-database.sh", "monitor-backup.sh", "monthly-recovery-test.sh"):
        assert "unexpected argument '--frobnicate'" in script(name, "--frobnicate", code=2).stderr


def test_the_recovery_scripts_say_that_commands_of_the_backup_run_unasked(script: Run) -> None:
    for name in ("disaster-recovery.sh", "staged-recovery.sh"):
        assert "--yes-run-restored-commands" in script(name, "--plan").stderr


def test_the_scripts_are_those_of_the_specification_and_short() -> None:
    scripts = {path.name: path for path in (ROOT / "scripts").glob("*.sh")}
    assert set(scripts) == NAMES
    assert max(len(path.read_text().splitlines()) for path in scripts.values()) <= 25


def test_a_script_without_refnet_says_where_to_install_it(tmp_path: Path) -> None:
    shutil.copytree(ROOT / "scripts", tmp_path / "scripts")
    ran = subprocess.run(
        [str(tmp_path / "scripts" / "monitor-backup.sh")],
        env={"PATH": "/usr/bin:/bin"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert ran.returncode == 1
    assert f"{tmp_path}/dev setup" in ran.stderr
