"""A settings file that somebody else could have written is refused by name, and nothing of it runs."""

from __future__ import annotations

import os
import stat
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from tests import forked

from refnet.core import trust
from refnet.core.errors import Exit, RefnetError
from refnet.settings import load

STRANGER = 4711
as_root = pytest.mark.skipif(os.geteuid() != 0, reason="only root can give a file to somebody else")
Refnet = Callable[..., subprocess.CompletedProcess[str]]


@pytest.fixture
def here() -> Iterator[Path]:
    """A folder below the temporary one, which is sticky: safe for what this user owns in it."""
    with tempfile.TemporaryDirectory(dir="/tmp") as name:
        folder = Path(name) / "here"
        folder.mkdir(mode=0o755)
        yield folder


@pytest.fixture
def refnet(here: Path) -> Refnet:
    """Runs the command in `here`."""

    def run(*arguments: str, **environment: str) -> subprocess.CompletedProcess[str]:
        own = {"PATH": os.environ["PATH"], "HOME": str(here), "REFNET_HOME": str(here / "home")}
        return forked.text(*arguments, environment=own | environment, folder=here, seconds=60)

    return run


def plant(here: Path) -> Path:
    """A settings file that names programs of the attacker's; the file that shows that one of them ran."""
    programs, ran = here / "bin", here / "ran"
    programs.mkdir()
    for name in ("postgres", "initdb", "psql", "pg_dump", "pg_restore", "pg_ctl"):
        (programs / name).write_text(f"#!/bin/sh\nid > {ran}\necho 'postgres (PostgreSQL) 17.0'\n")
        (programs / name).chmod(0o755)
    (here / "refnet.toml").write_text(f'[postgres]\nbin_dir = "{programs}"\n')
    return ran


def refused(done: subprocess.CompletedProcess[str], *words: str) -> None:
    assert done.returncode == 2, done.stdout + done.stderr
    assert len(done.stderr.splitlines()) == 2, done.stderr
    for word in words:
        assert word in done.stderr


def loaded(folder: Path) -> object:
    return load({"REFNET_HOME": str(folder / "home")}, folder, root=False, cores=1)


@as_root
def test_a_planted_settings_file_of_another_user_runs_nothing(here: Path, refnet: Refnet) -> None:
    ran = plant(here)
    os.chown(here / "refnet.toml", STRANGER, STRANGER)
    for command in (["postgres", "status"], ["postgres", "start"], ["list"], ["backup", "database"]):
        refused(refnet(*command), str(here / "refnet.toml"), "belongs to #4711, not to root")
    assert not ran.exists()


@as_root
def test_root_believes_no_file_in_a_folder_of_an_ordinary_user(here: Path, refnet: Refnet) -> None:
    ran = plant(here)
    os.chown(here, STRANGER, STRANGER)
    refused(refnet("postgres", "status"), f"{here} belongs to #4711")
    assert not ran.exists()


@pytest.mark.parametrize("mode", [0o664, 0o646])
def test_a_file_that_others_can_write_is_refused_by_name(here: Path, refnet: Refnet, mode: int) -> None:
    ran = plant(here)
    (here / "refnet.toml").chmod(mode)
    refused(refnet("postgres", "status"), f"{here / 'refnet.toml'} can be written by others", "chmod go-w")
    assert not ran.exists()


def test_a_file_in_a_folder_that_others_can_write_is_refused(here: Path, refnet: Refnet) -> None:
    plant(here)
    here.chmod(0o777)
    refused(refnet("list"), f"{here} can be written by others (mode 0777)", f"chmod go-w {here}")
    here.chmod(0o755)
    here.parent.chmod(0o770)
    refused(refnet("list"), f"{here.parent} can be written by others")


def test_the_same_holds_for_the_home_for_config_and_for_links_on_the_way(here: Path, refnet: Refnet) -> None:
    plant(here)
    there = here / "there"
    there.mkdir()
    there.chmod(0o777)
    (here / "refnet.toml").rename(there / "refnet.toml")
    refused(refnet("list", REFNET_HOME=str(there)), f"{there} can be written by others")
    refused(refnet("--config", "there/refnet.toml", "list"), f"{there} can be written by others")
    refused(refnet("list", REFNET_CONFIG=str(there / "refnet.toml")), f"{there} can be written by others")
    (here / "refnet.toml").symlink_to("there/refnet.toml")
    refused(refnet("list"), f"{there} can be written by others")
    (here / "refnet.toml").unlink()
    (here / "way").symlink_to(there)
    refused(refnet("--config=way/refnet.toml", "list"), f"{there} can be written by others")


@as_root
def test_a_link_of_somebody_else_in_a_sticky_folder_is_not_followed(here: Path) -> None:
    (here / "true.toml").write_text("jobs = 2\n")
    sticky = here / "sticky"
    sticky.mkdir()
    sticky.chmod(0o1777)
    link = sticky / "refnet.toml"
    link.symlink_to(here / "true.toml")
    assert load({"REFNET_CONFIG": str(link)}, here, root=False, cores=1).jobs == 2
    os.chown(link, STRANGER, STRANGER, follow_symlinks=False)
    with pytest.raises(RefnetError, match="belongs to #4711") as error:
        load({"REFNET_CONFIG": str(link)}, here, root=False, cores=1)
    assert error.value.code is Exit.USAGE


def test_a_file_of_one_s_own_in_a_sticky_folder_is_believed(here: Path) -> None:
    (here / "refnet.toml").write_text("jobs = 3\n")
    here.chmod(0o1777)
    assert load({}, here, root=False, cores=1).jobs == 3
    with pytest.raises(RefnetError, match="belongs to"):
        trust.read(here / "refnet.toml", 100, {STRANGER})


def test_what_is_no_file_or_is_endless_ends_at_once(here: Path) -> None:
    began, planted = time.process_time(), here / "refnet.toml"
    os.mkfifo(planted)
    with pytest.raises(RefnetError, match="is not a file"):
        loaded(here)
    planted.unlink()
    planted.symlink_to("refnet.toml")
    with pytest.raises(RefnetError, match="cannot be read"):
        loaded(here)
    planted.unlink()
    planted.symlink_to("/dev/zero")
    with pytest.raises(RefnetError, match="/dev/zero is not a file") as raised:
        loaded(here)
    assert "chmod" not in raised.value.hint  # of a device of the system
    planted.unlink()
    with planted.open("wb") as file:
        file.truncate(1 << 40)
    with pytest.raises(RefnetError, match="larger than"):
        loaded(here)
    assert time.process_time() - began < 5


@pytest.mark.parametrize(
    "text",
    [
        "jobs = " + "[" * 30_000,
        "a = " + "{a=" * 20_000,
        ".".join(["a"] * 20_000) + " = 1",
        "\n".join(f"x{n}." + ".".join(["a"] * 90) + " = 1" for n in range(300)),
        "jobs = " + "9" * 60_000,
        "jobs = inf",
        "jobs = 2.5",
        "jobs = 1979-05-27",
        "jobs = [2]",
        'vault_dir = "/a\\u0000b"',
        'vault_dir = "/a\\u001b[31m"',
        "backup_dir = {x = 1}",
        "[retention]\ndatabase = 1979-05-27",
        "[retention]\ndatabase = 'days=٣'",
        "[recover]\nstorage = [['x']]",
        "[recover]\nseconds = 99999999999999999999",
        "[monitor]\nmin_bytes = '٣'",
        "\ud800".encode("utf-8", "surrogatepass").decode("latin-1"),
        "schedule = 3",
        "\n".join(f"a{number:x}=1" for number in range(8000)),
        "\n".join(f"[a{number:x}]" for number in range(8000)),
        "jobs = 0\nx = [\n" + "1,\n" * 20_000 + "]",
    ],
    ids=lambda text: text[:20],
)
def test_whatever_a_settings_file_holds_is_a_value_or_one_clear_error(here: Path, text: str) -> None:
    (here / "refnet.toml").write_text(text)
    began = time.process_time()
    with pytest.raises(RefnetError) as error:
        loaded(here)
    assert error.value.code is Exit.USAGE
    assert time.process_time() - began < 5


def test_a_file_with_secrets_that_others_can_read_is_told_at_every_run(here: Path, refnet: Refnet) -> None:
    planted = here / "refnet.toml"
    for secret in (
        'database_url = "postgresql://me:hunter2@localhost/x"',
        '[notify]\nurls = ["json://token@localhost"]',
        '[notify]\nbackup_ping = "https://hc-ping.com/KEY"',
    ):
        planted.write_text(f"{secret}\n")
        planted.chmod(0o644)
        for _ in range(2):
            told = refnet("settings")
            assert told.returncode == 0, told.stderr
            assert told.stderr.count(f"chmod 600 {planted}") == 1
            assert "hunter2" not in told.stdout + told.stderr
        planted.chmod(0o640)
        told = refnet("settings")
        assert f"chmod 600 {planted}, unless a service of RefNet reads it by that group" in told.stderr
        planted.chmod(0o600)
        assert refnet("settings").stderr == ""
    planted.write_text('database_url = "postgresql://me@localhost/x"\n')
    planted.chmod(0o644)
    assert refnet("settings").stderr == ""


def test_a_secret_comes_from_a_file_that_nobody_else_can_write(here: Path, refnet: Refnet) -> None:
    secret = here / "url"
    secret.write_text("postgresql://me:hunter2@localhost/x\n")
    secret.chmod(0o600)
    settings = load({"REFNET_DATABASE_URL_FILE": str(secret)}, here, root=False, cores=1)
    assert settings.database_url == "postgresql://me:hunter2@localhost/x"
    assert settings.origins["database_url"] == f"the file {secret}"
    secret.chmod(0o644)
    assert f"chmod 600 {secret}" in refnet("settings", REFNET_DATABASE_URL_FILE=str(secret)).stderr
    secret.chmod(0o622)
    refused(refnet("settings", REFNET_DATABASE_URL_FILE=str(secret)), "can be written by others")
    missing = refnet("settings", REFNET_DATABASE_URL_FILE=str(here / "none"))
    refused(missing, f"{here / 'none'} (from REFNET_DATABASE_URL_FILE) is not read")
    secret.chmod(0o600)
    both = refnet("list", REFNET_DATABASE_URL_FILE=str(secret), REFNET_DATABASE_URL="postgresql://x/y")
    refused(both, "REFNET_DATABASE_URL and REFNET_DATABASE_URL_FILE are both set")
    refused(refnet("list", REFNET_JOBS_FILE=str(secret)), "REFNET_JOBS_FILE")


def test_what_the_command_writes_others_cannot_write(here: Path) -> None:
    code = (
        "import os, sys; from refnet.cli.main import run; os.umask(0); sys.argv = ['refnet', 'settings'];"
        "import atexit; atexit.register(lambda: os.mkdir(sys.argv[0] + '-made')); run()"
    )
    subprocess.run([sys.executable, "-c", code], cwd=here, check=True, capture_output=True)
    assert not (here / "refnet-made").stat().st_mode & (stat.S_IWGRP | stat.S_IWOTH)
