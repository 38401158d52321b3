"""A recovery from a backup that somebody else may have written: its commands, programs and folders."""

from __future__ import annotations

import json
import os
import pty
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from tests import forked

from refnet.postgres import embedded


class Machine:
    """A machine that has nothing but a backup folder, and a marker that a command of the backup would write."""

    def __init__(self, folder: Path) -> None:
        self.folder, self.config, self.ran = folder, folder / "config", folder / "ran"
        self.attack = f"sh -c 'id > {self.ran}; sleep 60'"

    def environment(self, **more: str) -> dict[str, str]:
        kept = {name: os.environ[name] for name in ("PATH", "HOME", "LANG") if name in os.environ}
        own = {"REFNET_HOME": str(self.folder / "home"), "REFNET_BACKUP_DIR": str(self.folder / "backups")}
        return kept | own | more

    def refnet(
        self, *arguments: str, here: Path | None = None, **more: str
    ) -> subprocess.CompletedProcess[str]:
        here = here or self.folder / "here"
        return forked.text(*arguments, environment=self.environment(**more), folder=here, seconds=120)

    def backed_up(self, toml: str) -> None:
        """A backup of the configuration with this refnet.toml; then the configuration is lost."""
        self.config.mkdir(exist_ok=True)
        (self.config / ".env").write_text("A=1\n")
        (self.config / "compose.yaml").write_text("services: {}\n")
        (self.config / "refnet.toml").write_text(toml)
        made = self.refnet("backup", "config", "--no-prove", REFNET_CONFIG_DIR=str(self.config))
        assert made.returncode == 0, made.stderr
        shutil.rmtree(self.config)

    def manifest(self) -> Path:
        return next((self.folder / "backups" / "config").glob("config_*.tar.gz.json"))


@pytest.fixture
def machine(short_folder: Path, request: pytest.FixtureRequest) -> Iterator[Machine]:
    folder = short_folder / f"hostile-{abs(hash(request.node.name)) % 10_000}"
    (folder / "here").mkdir(parents=True)
    yield Machine(folder)
    embedded.remove(folder / "home")
    shutil.rmtree(folder)


def local(machine: Machine) -> str:
    return f'[recover]\nservices = "local"\nstorage = ["postgres"]\napplication = [{json.dumps(machine.attack)}]\n'


def test_a_command_out_of_the_backup_does_not_run_unseen(machine: Machine) -> None:
    machine.backed_up(local(machine))
    for options in ((), ("--force",)):
        stopped = machine.refnet("recover", *options)
        assert stopped.returncode == 6, stopped.stdout + stopped.stderr
        assert len(stopped.stderr.splitlines()) == 2
        assert machine.attack in stopped.stderr
        assert "--yes-run-restored-commands" in stopped.stderr
        assert (machine.config / ".env").exists()
    for stage in ("vault", "edge"):
        alone = machine.refnet("recover", "--only", stage, "--force")
        assert (alone.returncode, machine.ran.exists()) == (6 if stage == "vault" else 0, False)
    inside = machine.refnet("recover", "--force", here=machine.config)
    assert (inside.returncode, machine.ran.exists()) == (6, False)
    assert machine.refnet("recover", "--force", REFNET_RECOVER_SERVICES="none").returncode == 0
    assert not machine.ran.exists()


def test_a_hook_out_of_the_backup_does_not_run_unseen(machine: Machine) -> None:
    hook = f"sh -c 'id > {machine.ran}'"
    machine.backed_up(f"[hooks]\nbefore_restore = [{json.dumps(hook)}]\non_error = [{json.dumps(hook)}]\n")
    shown = machine.refnet("recover", "--plan")
    assert f"{hook} (from the backup: needs confirmation)" in shown.stdout
    for here in (
        None,
        machine.config,
    ):  # the second time the settings of the backup are in force from the start
        stopped = machine.refnet("recover", "--only", "config", "--force", here=here)
        assert (stopped.returncode, machine.ran.exists()) == (6, False), stopped.stdout + stopped.stderr
        assert hook in stopped.stderr
        (machine.config / ".env").write_text("A=2\n")
    permitted = machine.refnet(
        "recover", "--only", "config", "--force", "--yes-run-restored-commands", here=machine.config
    )
    assert (permitted.returncode, machine.ran.exists()) == (0, True), permitted.stdout + permitted.stderr
    assert (machine.config / ".env").read_text() == "A=1\n"


def test_a_settings_file_that_names_another_folder_is_still_the_backups(machine: Machine) -> None:
    machine.backed_up(f'config_dir = "{machine.folder / "other"}"\n{local(machine)}')
    for here in (None, machine.config):
        stopped = machine.refnet("recover", "--force", here=here)
        assert (stopped.returncode, machine.ran.exists()) == (6, False), stopped.stderr


def test_with_the_option_or_a_yes_on_a_terminal_the_commands_run(machine: Machine) -> None:
    machine.backed_up(local(machine))
    assert say(machine, "n\n") == (6, False)
    assert say(machine, "y\n") == (0, True)
    machine.ran.unlink()


def say(machine: Machine, answer: str) -> tuple[int, bool]:
    """Recover on a terminal on which `answer` is typed; the exit code, and whether the command ran."""
    ours, theirs = pty.openpty()
    os.write(ours, answer.encode())
    ran = subprocess.run(
        [sys.executable, "-m", "refnet", "recover", "--force"],
        env=machine.environment(),
        cwd=machine.folder / "here",
        stdin=theirs,
        stdout=subprocess.PIPE,
        stderr=theirs,
        timeout=120,
        check=False,
    )
    os.close(theirs)
    shown = os.read(ours, 100_000).decode()
    os.close(ours)
    assert machine.attack in shown
    assert str(machine.config) in shown + ran.stdout.decode()
    return ran.returncode, machine.ran.exists()


def test_the_plan_shows_commands_folders_and_settings_from_the_backup(
    machine: Machine,
) -> None:
    machine.backed_up(f'vault_dir = "{machine.folder / "notes"}"\n{local(machine)}')
    shown = machine.refnet("recover", "--plan")
    assert shown.returncode == 1, shown.stderr  # the settings name a vault, and there is no artifact of it
    assert machine.attack in shown.stdout
    assert f"{machine.config} (the folder that it was backed up from)" in shown.stdout
    told = json.loads(machine.refnet("recover", "--plan", "--json").stdout)
    assert told["commands"] == [{"stage": "vault", "command": machine.attack, "restored": True}]
    assert told["to"]["settings"] == f"{machine.config / 'refnet.toml'}, out of the backup"
    assert not machine.config.exists()


def test_the_compose_file_of_a_backup_starts_nothing_unseen(machine: Machine) -> None:
    machine.backed_up('[recover]\nservices = "compose"\n')
    programs = machine.folder / "bin"
    programs.mkdir()
    for name in ("docker", "docker-compose"):
        (programs / name).write_text(
            f'#!/bin/sh\n[ "${{2:-$1}}" = version ] || [ "$1" = version ] || id > {machine.ran}\n'
        )
        (programs / name).chmod(0o755)
    stopped = machine.refnet("recover", "--force", PATH=f"{programs}:{os.environ['PATH']}")
    assert (stopped.returncode, machine.ran.exists()) == (6, False), stopped.stderr
    assert "docker compose" in stopped.stderr


def test_programs_that_a_backup_names_for_postgresql_are_not_used(machine: Machine) -> None:
    programs = machine.folder / "bin"
    programs.mkdir()
    for name in ("postgres", "initdb", "psql", "pg_dump", "pg_restore", "pg_dumpall"):
        (programs / name).write_text(f"#!/bin/sh\nid > {machine.ran}\necho 'postgres (PostgreSQL) 17.0'\n")
        (programs / name).chmod(0o755)
    made = machine.refnet("network", "sample", "--papers", "10")
    assert made.returncode == 0, made.stderr
    assert machine.refnet("backup", "database", "--no-prove").returncode == 0
    tables = ("postgres", "prove")
    machine.backed_up("".join(f'[{table}]\nbin_dir = "{programs}"\n' for table in tables))
    recovered = machine.refnet("recover", "--force")
    assert recovered.returncode == 0, recovered.stderr
    assert [table for table in tables if f"{table}.bin_dir" not in recovered.stderr] == []
    # The file is live now. Permission to run its programs is none to run them before the plan is confirmed.
    permitted = "--yes-run-restored-commands"
    planned = machine.refnet("recover", "--plan", permitted)
    unconfirmed = machine.refnet("recover", permitted)
    machine.refnet("postgres", "stop")
    assert (planned.returncode, unconfirmed.returncode) == (0, 6), planned.stderr + unconfirmed.stderr
    assert not machine.ran.exists()


@pytest.mark.parametrize("folder", ["/", "/etc", "/usr/local", "/home", "/root/.ssh", "/etc/systemd/system"])
def test_a_backup_is_never_unpacked_over_the_system(machine: Machine, folder: str) -> None:
    machine.backed_up("")
    manifest = json.loads(machine.manifest().read_text())
    manifest["details"]["folder"] = folder
    machine.manifest().write_text(json.dumps(manifest))
    plan = machine.refnet("recover", "--plan")
    assert plan.returncode == 2, plan.stderr
    refused = machine.refnet("recover", "--force", "--yes-run-restored-commands")
    assert refused.returncode == 2
    assert f"config is not restored to {folder}" in refused.stderr
    assert "REFNET_CONFIG_DIR" in refused.stderr
    by_settings = machine.refnet("recover", "--force", REFNET_CONFIG_DIR="/")
    assert (by_settings.returncode, "config is not restored to /:" in by_settings.stderr) == (2, True)


@pytest.mark.parametrize("folder", [None, "", "relative/..", "/a\x1b[31m"])
def test_where_nothing_says_the_folder_it_is_asked_for(machine: Machine, folder: str | None) -> None:
    machine.backed_up("")
    manifest = json.loads(machine.manifest().read_text())
    manifest["details"]["folder"] = folder
    machine.manifest().write_text(json.dumps(manifest))
    assert "unknown: set REFNET_CONFIG_DIR" in machine.refnet("recover", "--plan").stdout
    asked = machine.refnet("recover", "--force")
    assert asked.returncode == 2
    assert "target folder of" in asked.stderr
    assert "REFNET_CONFIG_DIR=FOLDER" in asked.stderr


@pytest.mark.parametrize(
    "toml", ["jobs = [", "unknown = 1", "jobs = " + "[" * 30_000, f"a = '{'x' * 70_000}'"]
)
def test_settings_that_cannot_be_used_stop_no_plan_and_are_told(machine: Machine, toml: str) -> None:
    machine.backed_up("")
    machine.config.mkdir()
    for name, text in ((".env", "A=1\n"), ("compose.yaml", "services: {}\n"), ("refnet.toml", toml)):
        (machine.config / name).write_text(text)
    config = machine.folder / "named.toml"
    config.write_text("")
    made = machine.refnet(
        "--config", str(config), "backup", "config", "--no-prove", REFNET_CONFIG_DIR=str(machine.config)
    )
    assert made.returncode == 0, made.stderr
    shutil.rmtree(machine.config)
    plan = machine.refnet("recover", "--plan", "--json")
    assert plan.returncode == 0, plan.stderr
    assert any("cannot be used" in note for note in json.loads(plan.stdout)["notes"])
    stopped = machine.refnet("recover", "--force")
    assert "Traceback" not in stopped.stderr
    assert stopped.returncode == 2, stopped.stderr


def outside(machine: Machine, text: str) -> dict[str, str]:
    """Settings outside of the configuration, as variables name them; a backup whose program writes the marker."""
    program = machine.config / "deploy" / "prepare"
    program.parent.mkdir(parents=True)
    program.write_text(f"#!/bin/sh\nid > {machine.ran}\n")
    program.chmod(0o755)
    settings = machine.folder / "outside.toml"
    settings.write_text(
        f'config_dir = "{machine.config}"\nbackup_dir = "{machine.folder / "backups"}"\n'
        f'home = "{machine.folder / "home"}"\n[config]\nentries = ["deploy/"]\n[log]\nfolder = "none"\n'
        + text.format(program)
    )
    made = machine.refnet("backup", "config", "--no-prove", REFNET_CONFIG=str(settings))
    assert made.returncode == 0, made.stderr
    machine.ran.unlink(missing_ok=True)
    program.write_text("#!/bin/sh\n")
    return {"REFNET_CONFIG": str(settings)}


@pytest.mark.parametrize("hook", ["after_restore", "before_backup"])
def test_a_restored_program_never_runs_unasked_despite_other_settings(machine: Machine, hook: str) -> None:
    given = outside(machine, f"[hooks]\n{hook} = ['sh {{}}']\n")
    program = machine.config / "deploy" / "prepare"
    plan = machine.refnet("restore", "config", "--plan", **given)
    assert f"sh {program} is in the restored files: needs confirmation" in plan.stdout
    refused = machine.refnet("restore", "config", "--force", **given)
    assert (refused.returncode, machine.ran.exists()) == (6, False), refused.stderr
    assert f"commands from the backup would run: sh {program}" in refused.stderr
    assert program.read_text() == "#!/bin/sh\n"
    done = machine.refnet("restore", "config", "--force", "--yes-run-restored-commands", **given)
    assert (done.returncode, machine.ran.exists()) == (0, hook == "after_restore"), done.stderr
    again = machine.refnet("restore", "config", "--force", **given)
    assert again.returncode == 0, again.stderr  # it changes nothing, and so runs nothing


@pytest.mark.parametrize(
    "text",
    [
        "[hooks]\nafter_restore = ['{}']\n",
        "[recover]\nservices = 'local'\nstorage = []\napplication = ['{}']\n",
        "[hooks]\nbefore_backup = ['{}']\n",
    ],
)
def test_a_recovered_program_never_runs_unasked_despite_other_settings(machine: Machine, text: str) -> None:
    given = outside(machine, text)
    shown = machine.refnet("recover", "--plan", **given)
    assert "(from the backup: needs confirmation)" in shown.stdout
    refused = machine.refnet("recover", "--force", **given)
    assert (refused.returncode, machine.ran.exists()) == (6, False), refused.stdout + refused.stderr
    assert str(machine.config / "deploy" / "prepare") in refused.stderr


def test_a_copy_of_a_program_outside_of_what_a_recovery_brings_runs(machine: Machine) -> None:
    copy = machine.folder / "copy"
    given = outside(machine, f"[hooks]\nafter_restore = ['{copy}']\n")
    copy.write_text(f"#!/bin/sh\nid > {machine.ran}\n")
    copy.chmod(0o755)
    done = machine.refnet("restore", "config", "--force", **given)
    assert (done.returncode, machine.ran.exists()) == (0, True), done.stderr
