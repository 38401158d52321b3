"""Everything is lost but the store and the page: its command, verbatim, brings all back, however often it is killed."""

from __future__ import annotations

import os
import secrets
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from functools import cache
from pathlib import Path

import pytest
from tests import worst_stores
from tests.documents import ROOT
from tests.installers import built
from tests.worst_day import isolated, missing

_SECONDS = 170
#: Where the two machines write, and this one must not.
_PLACES = ("/etc", "/etc/refnet", "/etc/hosts", "/etc/systemd/system", "/srv", "/var/lib", "/root/.pgpass")


@pytest.fixture(scope="module")
def place() -> Iterator[Path]:
    if why := missing():
        pytest.skip(why)
    with tempfile.TemporaryDirectory(
        prefix="rn-", dir="/tmp"
    ) as place:  # no folder that an empty machine lacks
        folder = Path(place)
        folder.chmod(0o711)
        (folder / "begun").touch()
        (folder / "installer").mkdir()
        built(folder / "installer")
        yield folder


@cache
def _lost(place: Path, kind: str) -> Path:
    """What a machine with a store of this kind left behind: its store, its page, and what stock tools said of its data."""
    [installer] = (place / "installer").glob("*.pyz")
    _on_a_machine("before", str(place / kind), kind, str(installer))
    return place / kind


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


@pytest.mark.parametrize(
    ("kind", "variant", "kills"),
    [
        ("file", "page", 3),
        pytest.param("file", "page", 10, marks=pytest.mark.thorough),
        pytest.param("file", "gone", 3, marks=pytest.mark.thorough),
        pytest.param("file", "first", 3, marks=pytest.mark.thorough),
        pytest.param("file", "physical", 0, marks=pytest.mark.thorough),
        pytest.param("sftp", "page", 3, marks=pytest.mark.thorough),
        pytest.param("s3", "gone", 3, marks=pytest.mark.thorough),
    ],
)
def test_the_page_s_command_brings_everything_back_once_after_kills(
    place: Path, kind: str, variant: str, kills: int
) -> None:
    if why := worst_stores.missing(kind):
        pytest.skip(why)
    seed = secrets.randbelow(1_000_000)
    own = place / f"{kind}-{variant}-{kills}"
    subprocess.run(["cp", "-a", _lost(place, kind), own], check=True)
    said = _on_a_machine("after", str(own), kind, variant, str(kills), str(seed))

    assert min(1, kills) <= said.count("KILLED") <= kills, said


def test_the_machine_of_the_tests_stays_as_it_was(place: Path) -> None:
    assert [one for one in _PLACES if _newer(Path(one), place / "begun")] == []
    assert [line for line in Path("/proc/mounts").read_text().splitlines() if str(place) in line] == []
    processes = (
        path for path in Path("/proc").iterdir() if path.name.isdecimal() and path.name != str(os.getpid())
    )
    assert [path.name for path in processes if str(place).encode() in _arguments(path)] == []


def _newer(path: Path, than: Path) -> bool:
    return path.exists() and path.stat().st_mtime >= than.stat().st_mtime


def _arguments(process: Path) -> bytes:
    try:
        return (process / "cmdline").read_bytes()
    except (FileNotFoundError, ProcessLookupError):
        return b""
