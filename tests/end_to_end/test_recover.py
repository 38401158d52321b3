"""Everything is lost but the backup folder; `refnet recover` brings back configuration, database and vault."""

from __future__ import annotations

import gzip
import json
import os
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest
from tests import forked

_RUN = ("--yes-run-restored-commands",)


class Machine:
    """A home, a vault, a configuration, and a backup folder that outlives them."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.settings = {
            "REFNET_HOME": str(folder / "home"),
            "REFNET_BACKUP_DIR": str(folder / "backups"),
            "REFNET_LOG_FOLDER": "none",
        }
        self.lived_in = {
            "REFNET_CONFIG_DIR": str(folder / "config"),
            "REFNET_VAULT_DIR": str(folder / "vault"),
        }

    def refnet(self, *arguments: str, **settings: str) -> subprocess.CompletedProcess[str]:
        kept = {name: os.environ[name] for name in ("PATH", "HOME", "LANG") if name in os.environ}
        environment = kept | self.settings | settings
        return forked.text(*arguments, environment=environment, folder=self.folder / "here")


@pytest.fixture(scope="module")
def recovered(short_folder: Path) -> Iterator[tuple[Machine, subprocess.CompletedProcess[str]]]:
    """A machine that was backed up, lost everything but the backup folder and was recovered; what the recovery said."""
    machine = Machine(short_folder / "lost")
    for name in ("here", "config", "vault/.obsidian"):
        (machine.folder / name).mkdir(parents=True)
    (machine.folder / "config" / ".env").write_text("PASSWORD=made-up\n")
    (machine.folder / "config" / "compose.yaml").write_text("services: {}\n")
    (machine.folder / "config" / "refnet.toml").write_text(f'vault_dir = "{machine.folder / "vault"}"\n')
    (machine.folder / "vault" / "note.md").write_text("# A note\n")
    for command in (("network", "sample", "--papers", "50"), ("backup", "--no-prove"), ("postgres", "stop")):
        ran = machine.refnet(*command, **machine.lived_in)
        assert ran.returncode == 0, ran.stderr
    for name in ("home", "config", "vault"):
        shutil.rmtree(machine.folder / name)
    yield machine, machine.refnet("recover", "--json")
    machine.refnet("postgres", "stop")
    shutil.rmtree(machine.folder)


def test_recover_restores_everything_from_the_backup_folder_and_compares(
    recovered: tuple[Machine, subprocess.CompletedProcess[str]],
) -> None:
    lost, ran = recovered
    assert ran.returncode == 0, ran.stderr
    told = json.loads(ran.stdout)
    assert {finding["outcome"] for finding in told["findings"]} == {"passed"}
    assert [stage["stage"] for stage in told["stages"]] == [
        "config", "database", "vault", "background", "edge", "check"
    ]  # fmt: skip
    assert told["seconds"] > 0
    assert told["acts_on"]["settings"] == str(lost.folder / "config" / "refnet.toml")
    assert sorted(told["ages"]) == ["config", "database", "obsidian"]
    assert (lost.folder / "vault" / "note.md").read_text() == "# A note\n"
    assert (lost.folder / "config" / ".env").read_text() == "PASSWORD=made-up\n"

    asked = lost.refnet("recover")
    assert asked.returncode == 6
    (lost.folder / "vault" / "note.md").write_text("# Changed\n")
    checked = lost.refnet("recover", "--only", "check")
    (lost.folder / "vault" / "note.md").write_text("# A note\n")
    assert checked.returncode == 4
    assert "files of obsidian: failed: 0 missing, 1 changed, 0 more" in checked.stdout


def test_recover_without_artifacts_says_where_it_looked(short_folder: Path) -> None:
    machine = Machine(short_folder / "nothing")
    (machine.folder / "here").mkdir(parents=True)
    ran = machine.refnet("recover")
    assert ran.returncode == 1
    assert f"{machine.folder / 'backups'} has no complete artifact to recover from" in ran.stderr
    both = machine.refnet("recover", "--from", "vault", "--only", "check")
    assert (both.returncode, "exclude each other" in both.stderr) == (2, True)


def test_a_broken_docker_is_named_and_finished_stages_are_not_repeated(
    short_folder: Path,
) -> None:
    machine = Machine(short_folder / "docker")
    for name in ("here", "config", "bin"):
        (machine.folder / name).mkdir(parents=True)
    programs, toml = machine.folder / "bin", machine.folder / "config" / "refnet.toml"
    for name in ("docker", "docker-compose", "podman", "podman-compose"):
        (programs / name).write_text("#!/bin/sh\necho 'Cannot connect to the Docker daemon' >&2\nexit 1\n")
        (programs / name).chmod(0o755)
    machine.settings["PATH"] = f"{programs}:{os.environ['PATH']}"
    (machine.folder / "config" / ".env").write_text("A=1\n")
    (machine.folder / "config" / "compose.yaml").write_text("services: {}\n")
    toml.write_text('[recover]\nservices = "compose"\n')
    made = machine.refnet("backup", "config", "--no-prove", REFNET_CONFIG_DIR=str(toml.parent))
    assert made.returncode == 0, made.stderr
    shutil.rmtree(toml.parent)

    plan = machine.refnet("recover", "--plan")
    assert "note: database is not restored: there is no artifact" in plan.stdout
    assert json.loads(machine.refnet("recover", "--plan", "--json").stdout)["absent"]["obsidian"]
    stopped = machine.refnet("recover", *_RUN)
    assert stopped.returncode == 1
    assert stopped.stderr.startswith(
        "refnet: the recovery stopped at the stage config: docker version failed: Cannot"
    )
    assert len(stopped.stderr.splitlines()) == 2
    assert "REFNET_RECOVER_SERVICES=none" in stopped.stderr

    toml.write_text(f"# edited by hand\n{toml.read_text()}")
    assert machine.refnet("recover", *_RUN).returncode == 1
    done = machine.refnet("recover", REFNET_RECOVER_SERVICES="none")
    assert done.returncode == 4, done.stderr
    assert "ago, with a run that was interrupted" in done.stdout
    assert "files of config: failed: 0 missing, 1 changed, 0 more" in done.stdout
    assert toml.read_text().startswith("# edited by hand")
    again = machine.refnet("recover", REFNET_RECOVER_SERVICES="none")  # it only compares
    assert again.returncode == 4
    assert "files of config: failed: 0 missing, 1 changed, 0 more" in again.stdout
    toml.write_text(toml.read_text().removeprefix("# edited by hand\n"))
    last = machine.refnet("recover", REFNET_RECOVER_SERVICES="none")
    assert last.returncode == 0, last.stdout
    assert [one.name for one in (machine.folder / "home").glob("*.json")] == ["recovered.json"]
    assert "note: a recovery was complete here at " in machine.refnet("recover", "--plan").stdout

    assert machine.refnet("recover", "--force", *_RUN).returncode == 1
    shutil.rmtree(toml.parent)
    again = machine.refnet("recover", REFNET_RECOVER_SERVICES="none")
    assert again.returncode == 0, again.stderr
    assert not toml.read_text().startswith("# edited by hand")


def test_adopted_artifacts_made_by_the_specifications_commands_come_back(
    recovered: tuple[Machine, subprocess.CompletedProcess[str]],
) -> None:
    """pg_dump and tar as the specification calls them, in a backup folder that knows nothing else."""
    lost, told = recovered
    assert told.returncode == 0, told.stderr
    folder, backups = lost.folder, lost.folder / "backups"
    shutil.rmtree(backups)
    (folder / "config" / "docker-compose.yml").write_text("services: {}\n")
    status = json.loads(lost.refnet("postgres", "status", "--json").stdout)
    dump = [f"{status['programs']}/pg_dump", "-h", status["socket"], "-U", "refnet", "refnet"]
    (folder / "made").mkdir()
    plain = subprocess.run(dump, check=True, capture_output=True).stdout
    (folder / "made" / "refnet_20261101_020000.sql.gz").write_bytes(gzip.compress(plain))
    for name, below, entries in (
        ("config_20261101.tar.gz", "config", ("docker-compose.yml", ".env")),
        ("vault_20261101.tar.gz", "vault", (".",)),
    ):
        command = ["tar", "-czf", str(folder / "made" / name), "-C", str(folder / below), *entries]
        subprocess.run(command, check=True)
    adopted = lost.refnet("adopt", *map(str, sorted((folder / "made").iterdir())))
    assert adopted.returncode == 0, adopted.stdout + adopted.stderr
    lost.refnet("postgres", "stop")
    for name in ("home", "config", "vault"):
        shutil.rmtree(folder / name)

    assert "target folder of" in lost.refnet("recover").stderr
    ran = lost.refnet("recover", "--json", **lost.lived_in)
    assert ran.returncode == 0, ran.stderr
    outcomes = {one["what"]: one["outcome"] for one in json.loads(ran.stdout)["findings"]}
    assert outcomes == {
        "content": "could not verify",
        "files of config": "passed",
        "list of files of config": "could not verify",
        "files of obsidian": "passed",
        "list of files of obsidian": "could not verify",
    }
    assert (folder / "vault" / "note.md").read_text() == "# A note\n"
    assert (folder / "config" / ".env").read_text() == "PASSWORD=made-up\n"
    socket = json.loads(lost.refnet("postgres", "status", "--json").stdout)["socket"]
    count = [
        f"{status['programs']}/psql",
        "-h",
        socket,
        "-U",
        "refnet",
        "-Atc",
        "SELECT count(*) FROM papers",
    ]
    assert subprocess.run(count, check=True, capture_output=True, text=True).stdout == "50\n"
    staged = lost.refnet("recover", "--only", "database", "--force", **lost.lived_in)
    assert staged.returncode == 0, staged.stderr
    checked = lost.refnet("recover", "--only", "check", **lost.lived_in)
    assert "no list of files to compare with" in checked.stdout
