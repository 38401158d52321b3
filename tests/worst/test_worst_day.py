"""Everything is lost but the store and the page: its command, verbatim, brings all back, however often it is killed."""

from __future__ import annotations

import os
import secrets
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest
from tests.documents import ROOT
from tests.worst_day import isolated, missing

_SECONDS = 170
#: Where the two machines write, and this one must not.
_PLACES = ("/etc", "/etc/refnet", "/etc/hosts", "/etc/systemd/system", "/srv", "/var/lib", "/root/.pgpass")


@pytest.fixture(scope="module")
def store() -> Iterator[Path]:
    """A folder with `lost`, which a machine left behind: its store, its page, and what stock tools said of its data."""
    if why := missing():
        pytest.skip(why)
    with tempfile.TemporaryDirectory(
        prefix="rn-", dir="/tmp"
    ) as place:  # no folder that an empty machine lacks
        folder = Path(place)
        folder.chmod(0o711)
        (folder / "begun").touch()
        _on_a_machine("before", f"{folder}/lost")
        yield folder


def _on_a_machine(*words: str) -> str:
    done = subprocess.run(
        isolated(sys.executable, "-m", "tests.worst_day", *words),
        cwd=ROOT,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        timeout=_SECONDS,
        check=False,
    )
    assert done.returncode == 0, done.stdout
    return done.stdout


@pytest.mark.parametrize("kills", [3, pytest.param(10, marks=pytest.mark.thorough)])
def test_the_page_s_command_brings_everything_back_once_after_kills(store: Path, kills: int) -> None:
    seed = secrets.randbelow(1_000_000)
    own = store / str(kills)
    subprocess.run(["cp", "-a", store / "lost", own], check=True)
    said = _on_a_machine("after", str(own), str(kills), str(seed))

    assert 1 <= said.count("KILLED") <= kills, said


def test_the_machine_of_the_tests_stays_as_it_was(store: Path) -> None:
    assert [place for place in _PLACES if _newer(Path(place), store / "begun")] == []
    assert [line for line in Path("/proc/mounts").read_text().splitlines() if str(store) in line] == []
    processes = (
        path for path in Path("/proc").iterdir() if path.name.isdecimal() and path.name != str(os.getpid())
    )
    assert [path.name for path in processes if str(store).encode() in _arguments(path)] == []


def _newer(path: Path, than: Path) -> bool:
    return path.exists() and path.stat().st_mtime >= than.stat().st_mtime


def _arguments(process: Path) -> bytes:
    try:
        return (process / "cmdline").read_bytes()
    except (FileNotFoundError, ProcessLookupError):
        return b""
