"""Units that run as root run nothing that somebody else can write."""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from refnet.core.errors import Exit, RefnetError
from refnet.scheduling import service
from refnet.scheduling.units import Service
from refnet.settings import Settings, load

pytestmark = pytest.mark.skipif(os.geteuid() != 0, reason="only root installs units of root")
STRANGER = 4711


@pytest.fixture
def folder() -> Iterator[Path]:
    with tempfile.TemporaryDirectory(dir="/tmp") as name:
        yield Path(name)


def settings_in(folder: Path, **environment: str) -> Settings:
    return load({"REFNET_HOME": str(folder / "home"), **environment}, folder, root=True, cores=1)


def service_of(folder: Path, program: Path) -> Service:
    return Service((str(program),), folder, "root", (), None, (), (), {}, own_server=True)


def refused(folder: Path, settings: Settings, program: Path, named: Path) -> None:
    with pytest.raises(RefnetError, match="units that run as root are not installed") as error:
        service.check_privileged(service_of(folder, program), settings)
    assert error.value.code is Exit.USAGE
    assert str(named) in error.value.message
    assert "--as USER" in error.value.hint


def test_a_program_or_a_folder_above_it_that_others_can_write_is_refused(folder: Path) -> None:
    program = folder / "bin" / "refnet"
    program.parent.mkdir()
    program.write_text("#!/bin/sh\n")
    program.chmod(0o775)
    refused(folder, settings_in(folder), program, program)
    program.chmod(0o755)
    program.parent.chmod(0o777)
    refused(folder, settings_in(folder), program, program.parent)
    program.parent.chmod(0o755)
    os.chown(program.parent, STRANGER, 0)
    refused(folder, settings_in(folder), program, program.parent)
    os.chown(program.parent, 0, 0)
    link = folder / "linked"
    link.symlink_to(program)
    os.chown(program, STRANGER, 0)
    refused(folder, settings_in(folder), link, program)


@pytest.mark.parametrize("deep", ["site.py", "package/module.py", "package", "link"])
def test_an_environment_in_which_anything_is_another_s_is_refused(folder: Path, deep: str) -> None:
    tree = folder / "venv"
    (tree / "package").mkdir(parents=True)
    (tree / "site.py").touch()
    (tree / "package" / "module.py").touch()
    (folder / "elsewhere.py").touch()
    (tree / "link").symlink_to(folder / "elsewhere.py")
    service.check_tree(tree)
    os.chown(tree / deep, STRANGER, STRANGER)  # of a link: where it leads
    with pytest.raises(RefnetError, match="belongs to #4711"):
        service.check_tree(tree)


def test_programs_of_postgresql_that_are_another_s_are_refused(folder: Path) -> None:
    programs = folder / "pg"
    programs.mkdir()
    (programs / "pg_dump").touch()
    settings = settings_in(folder, REFNET_POSTGRES_BIN_DIR=str(programs))
    os.chown(programs / "pg_dump", STRANGER, 0)
    refused(folder, settings, Path("/bin/sh"), programs / "pg_dump")


def test_schedule_install_as_root_refuses_files_of_another_user(folder: Path) -> None:
    def install(*options: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [sys.executable, "-m", "refnet", *options, "schedule", "install", "--as", "root"],
            cwd=folder,
            env={"PATH": os.environ["PATH"], "REFNET_HOME": str(folder / "home")},
            capture_output=True,
            text=True,
            check=False,
        )

    (folder / "refnet.toml").write_text("jobs = 1\n")
    os.chown(folder / "refnet.toml", STRANGER, STRANGER)
    before = sorted(Path("/etc/systemd/system").glob("refnet-*"))
    done = install()
    assert (done.returncode, str(folder / "refnet.toml") in done.stderr) == (2, True)
    os.chown(folder / "refnet.toml", 0, 0)
    (folder / "pg").mkdir()
    (folder / "pg").chmod(0o777)
    (folder / "refnet.toml").write_text(f'[postgres]\nbin_dir = "{folder / "pg"}"\n')
    done = install()
    assert done.returncode == 2
    assert f"{folder / 'pg'} can be written by others" in done.stderr
    assert sorted(Path("/etc/systemd/system").glob("refnet-*")) == before
