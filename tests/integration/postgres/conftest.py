"""Other processes and other users, for the tests of our own servers."""

from __future__ import annotations

import os
import pwd
import shutil
import subprocess
import sys
import tempfile
import traceback
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest
from tests.memory import in_memory

from refnet.postgres import embedded
from refnet.postgres.account import Account
from refnet.postgres.binaries import Binaries


def run(code: str, *arguments: object, **options: object) -> subprocess.Popen[str]:
    """A Python process of its own that runs `code` with our package."""
    command = [sys.executable, "-c", code, *map(str, arguments)]
    return subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, **options)  # type: ignore[call-overload,no-any-return]


@pytest.fixture
def folder() -> Iterator[Path]:
    """A fresh folder with a short path that every system user can pass through."""
    path = Path(tempfile.mkdtemp(prefix="rn-", dir=in_memory()))
    path.chmod(0o711)
    yield path
    shutil.rmtree(path, ignore_errors=True)


@pytest.fixture(scope="session")
def made_home(short_folder: Path) -> Path:
    """A REFNET_HOME with a cluster that is stopped, to be copied."""
    home = short_folder / "made"
    embedded.start(home, None)
    embedded.stop(home)
    return home


@pytest.fixture
def home(folder: Path, made_home: Path) -> Iterator[Path]:
    """A REFNET_HOME with a cluster that does not run yet; its server is stopped at the end."""
    subprocess.run(["/bin/cp", "-a", made_home, folder / "home"], check=True)
    yield folder / "home"
    embedded.remove(folder / "home")


@pytest.fixture
def root() -> None:
    """Skip where the tests do not run as root."""
    if os.geteuid() != 0:
        pytest.skip("only root can act as another user")


@dataclass(frozen=True)
class Ordinary:
    """An ordinary user, and a way to act as one."""

    uid: int
    gid: int

    def does(self, act: Callable[[], str]) -> str:
        """What `act` returns, or the name and the lines of what it raises, done by a child that is this user."""
        reading, writing = os.pipe()
        child = os.fork()
        if child == 0:
            os.close(reading)
            try:
                os.chdir("/")
                os.setgroups([])
                os.setgid(self.gid)
                os.setuid(self.uid)
                said = act()
            except BaseException:  # noqa: BLE001  # nothing of the child may go on with the parent's tests
                said = traceback.format_exc()
            os.write(writing, said.encode())
            os._exit(0)
        os.close(writing)
        with os.fdopen(reading) as pipe:
            said = pipe.read()
        os.waitpid(child, 0)
        return said


@pytest.fixture
def ordinary(root: None, wheel: Binaries) -> Ordinary:
    """An ordinary user; skipped where it cannot run the wheel's programs."""
    user = pwd.getpwnam("nobody")
    if not Account(user.pw_name, user.pw_uid, user.pw_gid, other=True).can_enter(wheel.folder):
        pytest.skip("an ordinary user cannot enter this checkout")
    return Ordinary(user.pw_uid, user.pw_gid)
