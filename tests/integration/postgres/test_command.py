from __future__ import annotations

import json
import os
import shlex
import subprocess
from pathlib import Path

from tests import forked

from refnet.postgres import embedded


def _refnet(home: Path, *arguments: str, **variables: str) -> subprocess.CompletedProcess[str]:
    environment = {**os.environ, "REFNET_HOME": str(home), **variables}
    return forked.text("postgres", *arguments, environment=environment, folder=Path("/"))


def test_the_line_that_status_prints_connects(home: Path) -> None:
    assert "running (pid" in _refnet(home, "start").stdout
    now = json.loads(_refnet(home, "status", "--json").stdout)
    assert now["running"]
    command = [*shlex.split(now["connect"]), "-XAtc", "SELECT current_database(), current_user"]
    environment = {**os.environ, "PATH": f"{now['programs']}:{os.environ['PATH']}"}
    assert (
        subprocess.run(command, env=environment, capture_output=True, text=True, check=True).stdout
        == "refnet|refnet\n"
    )
    assert now["connect"] in _refnet(home, "status").stdout


def test_stop_says_whether_there_was_anything_to_stop(home: Path) -> None:
    assert _refnet(home, "start").returncode == 0
    assert _refnet(home, "stop").stdout == "PostgreSQL is stopped; its data stays.\n"
    again = _refnet(home, "stop")
    assert (again.returncode, again.stdout) == (0, "PostgreSQL was not running.\n")


def test_a_folder_on_path_that_may_not_be_entered_is_passed_over(home: Path, folder: Path) -> None:
    (folder / "closed").mkdir(mode=0)
    done = _refnet(home, "start", PATH=f"{folder / 'closed'}:{os.environ['PATH']}")
    assert (done.returncode, done.stderr) == (0, "")


def test_status_makes_nothing(folder: Path) -> None:
    done = _refnet(folder / "none", "status")
    assert done.returncode == 0
    assert "not created yet; `refnet postgres start` creates it" in done.stdout
    assert not (folder / "none").exists()


def test_status_says_when_another_server_is_in_use(home: Path) -> None:
    done = _refnet(home, "status", REFNET_DATABASE_URL="postgresql://u:sEcret@h/db")
    assert "backups and restores use that server, not this one" in done.stdout
    assert "sEcret" not in done.stdout


def test_a_home_that_cannot_be_written_ends_in_two_lines(folder: Path) -> None:
    (folder / "file").write_text("")
    done = _refnet(folder / "file" / "home", "start")
    assert done.returncode == 1
    assert len(done.stderr.splitlines()) == 2
    assert done.stderr.startswith(f"refnet: {folder}/file is a file, not a folder")
    assert not embedded.status(folder / "file" / "home").running
