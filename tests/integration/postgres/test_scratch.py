from __future__ import annotations

import errno
import os
import signal
import subprocess
import tempfile
from contextlib import ExitStack
from pathlib import Path

import pytest
from tests.users import Ordinary, run

from refnet.core.errors import RefnetError
from refnet.core.processes import until
from refnet.postgres import scratch as place
from refnet.postgres import scratch_resources
from refnet.postgres.account import account
from refnet.postgres.binaries import Binaries
from refnet.postgres.cluster import Cluster
from refnet.postgres.scratch import scratch
from refnet.postgres.scratch_resources import new_folder
from refnet.postgres.session import Target

HOLD = """
import os, sys, time
from pathlib import Path
from refnet.postgres.binaries import find
from refnet.postgres.scratch import scratch
from refnet.core.signals import interruptible
with interruptible(), scratch(find(None, None, server=True), base=Path(sys.argv[1])) as cluster:
    first = Path(f"/proc/{os.getpid()}/task/{os.getpid()}/children").read_text().split()[0]
    print(first, cluster.data, flush=True)
    time.sleep(600)
"""
#: The same run, which gets a signal when the program has just been started.
#: Each server runs initdb.
WITHOUT_TEMPLATE = """
from refnet.postgres import scratch as servers
def fill(cluster, _place, make):
    make(cluster)
    return cluster
servers.fill = fill
"""
INTERRUPTED = (
    """
import os, signal, subprocess
Popen = subprocess.Popen
class Interrupted(Popen):
    def __init__(self, command, *arguments, **options):
        super().__init__(command, *arguments, **options)
        if "PROGRAM" in " ".join(map(str, command)):
            os.kill(os.getpid(), signal.SIGINT)
subprocess.Popen = Interrupted
"""
    + HOLD
)


def _held(base: Path) -> tuple[subprocess.Popen[str], int, Path]:
    """A process that keeps a scratch server until it is ended; a pid that stands for the server; its data folder."""
    process = run(HOLD, base)
    assert process.stdout
    pid, data = process.stdout.readline().split()
    return process, int(pid), Path(data)


def _runs(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()[0] != "Z"
    except (FileNotFoundError, ProcessLookupError):
        return False


def _left(base: Path) -> list[str]:
    return [path.name for path in base.glob("scratch-*")]


def test_a_scratch_server_is_gone_with_all_its_data_at_the_end(wheel: Binaries, folder: Path) -> None:
    with scratch(wheel, base=folder / "base") as cluster:
        with cluster.target().connect() as session:
            names = ("fsync", "full_page_writes", "autovacuum", "wal_level", "listen_addresses")
            found = [session.execute("SELECT current_setting(%s)", [name]).fetchone() for name in names]
        assert found == [("off",), ("off",), ("off",), ("minimal",), ("",)]
        assert cluster.is_running()
    assert not cluster.is_running()
    assert _left(folder / "base") == []


def test_it_is_gone_after_an_error_as_well(wheel: Binaries, folder: Path) -> None:
    with pytest.raises(ZeroDivisionError), scratch(wheel, base=folder) as cluster:
        raise ZeroDivisionError
    assert not cluster.is_running()
    assert _left(folder) == []


@pytest.mark.parametrize("ending", [signal.SIGTERM, signal.SIGHUP, signal.SIGINT])
def test_it_is_gone_when_the_run_is_told_to_end(folder: Path, ending: signal.Signals) -> None:
    process, pid, _ = _held(folder)
    process.send_signal(ending)
    process.communicate(timeout=120)
    assert process.returncode != 0
    assert not _runs(pid)
    assert _left(folder) == []


def test_a_killed_runs_server_ends_and_the_next_run_removes_its_files(wheel: Binaries, folder: Path) -> None:
    process, pid, data = _held(folder)
    process.kill()
    process.communicate()
    assert until(lambda: not _runs(pid), 10)
    assert data.exists()
    with scratch(wheel, base=folder) as cluster:
        assert not data.exists()
        assert _left(folder) == [cluster.data.parent.name]


def test_a_run_killed_while_making_its_cluster_leaves_nothing_behind(wheel: Binaries, folder: Path) -> None:
    seen: set[str] = set()
    for reached in ("PG_VERSION", "global/pg_control", "base/1/PG_VERSION", "base/4/PG_VERSION"):
        process = run(WITHOUT_TEMPLATE + HOLD, folder)
        assert until(lambda: {*_left(folder)} - seen, 30)
        assert until(lambda: any(folder.glob(f"scratch-*/data/{reached}")), 30)  # noqa: B023
        process.kill()
        process.communicate()
        [left] = _left(folder)  # the next run has removed what the one before it left
        assert left not in seen
        seen.add(left)
    with scratch(wheel, base=folder) as cluster:
        assert _left(folder) == [cluster.data.parent.name]


@pytest.mark.parametrize("program", ["postgres --version", "initdb --pgdata", "postgres -D"])
def test_a_run_interrupted_while_a_program_starts_leaves_nothing(folder: Path, program: str) -> None:
    process = run(WITHOUT_TEMPLATE + INTERRUPTED.replace("PROGRAM", program), folder)
    _, errors = process.communicate(timeout=120)
    assert "KeyboardInterrupt" in errors
    assert _left(folder) == []


def test_a_leftover_without_a_server_is_removed_too(wheel: Binaries, folder: Path) -> None:
    (folder / "scratch-broken" / "data").mkdir(parents=True)
    (folder / "other").mkdir()
    with scratch(wheel, base=folder) as cluster:
        assert _left(folder) == [cluster.data.parent.name]
    assert (folder / "other").is_dir()


def test_the_server_of_another_run_is_left_alone(wheel: Binaries, folder: Path) -> None:
    process, pid, data = _held(folder)
    try:
        with scratch(wheel, base=folder):
            assert _runs(pid)
            assert data.is_dir()
    finally:
        process.terminate()
        process.communicate()


def test_a_base_too_deep_for_a_sockets_address_serves(wheel: Binaries, folder: Path) -> None:
    with scratch(wheel, base=folder / ("deep" * 25)) as cluster, cluster.target().connect() as session:
        assert session.execute("SELECT 1").fetchone() == (1,)
    assert not cluster.socket.exists()


@pytest.mark.usefixtures("root")
def test_a_base_that_only_root_may_enter_keeps_its_permissions(wheel: Binaries, folder: Path) -> None:
    folder.chmod(0o700)
    with scratch(wheel, base=folder / "base") as cluster, cluster.target().connect() as session:
        assert session.execute("SELECT 1").fetchone() == (1,)
        assert cluster.data.is_relative_to("/var/lib/refnet-scratch")
    assert folder.stat().st_mode & 0o777 == 0o700
    assert not cluster.data.parent.exists()


@pytest.mark.usefixtures("root")
def test_where_templates_came_first_the_servers_user_can_enter(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(place, "STATE", folder / "lib")
    monkeypatch.setattr(scratch_resources, "STATE", folder / "lib")
    place._templates(folder)
    folder.chmod(0o711)
    (folder / "closed").mkdir(mode=0o700)
    with ExitStack() as stack:
        made = new_folder(folder / "closed" / "base", account(), stack)
        assert made.is_relative_to(folder / "lib")


@pytest.mark.usefixtures("root")
def test_a_full_disk_is_told_in_two_lines_and_leaves_nothing(wheel: Binaries, folder: Path) -> None:
    disk = folder / "disk"
    disk.mkdir()
    command = ["mount", "-t", "tmpfs", "-o", "size=8m,mode=0711", "none", disk]
    if subprocess.run(command, capture_output=True, check=False).returncode != 0:
        pytest.skip("nothing can be mounted here")
    try:
        with (
            pytest.raises(RefnetError, match=r"(?i)no space (is )?left"),
            scratch(wheel, base=disk),
        ):
            pass
        assert _left(disk) == []
        (disk / "filler").write_bytes(b"x" * _free_bytes(disk))
        with (
            pytest.raises(RefnetError, match=r"(?i)no space (is )?left"),
            scratch(wheel, base=disk / "a" / "b"),
        ):
            pass
    finally:
        subprocess.run(["umount", disk], check=True)


def _free_bytes(folder: Path) -> int:
    free = os.statvfs(folder)
    return free.f_bavail * free.f_frsize


def test_an_ordinary_user_has_scratch_servers_too(wheel: Binaries, folder: Path, ordinary: Ordinary) -> None:
    os.chown(folder, ordinary.uid, ordinary.gid)

    def act() -> str:
        with scratch(wheel, base=folder / "base") as cluster, cluster.target().connect() as session:
            return f"{session.execute('SELECT 1').fetchone()} {cluster.data.stat().st_uid}"

    assert ordinary.does(act) == f"(1,) {ordinary.uid}"
    assert _left(folder / "base") == []


def test_each_test_gets_an_empty_database_of_its_own(database: Target) -> None:
    with database.connect() as session:
        assert session.execute("SELECT current_database()").fetchone() == (database.name,)
        query = "SELECT count(*) FROM pg_class WHERE relnamespace = 'public'::regnamespace"
        assert session.execute(query).fetchone() == (0,)


def test_the_systems_own_server_serves_as_well(system_server: Cluster) -> None:
    with system_server.target().connect() as session:
        assert session.info.server_version // 10000 == system_server.binaries.major


def test_scratch_servers_are_spread_over_the_disk_where_the_file_system_can() -> None:
    with tempfile.TemporaryDirectory(dir="/var/tmp") as beside, ExitStack() as stack:
        if subprocess.run(["/usr/bin/chattr", "+T", beside], check=False, capture_output=True).returncode:
            pytest.skip("the file system of /var/tmp is not ext4")
        Path(beside).chmod(0o755)
        base = Path(beside) / "base"
        new_folder(base, account(), stack)
        found = subprocess.run(["/usr/bin/lsattr", "-d", base], check=True, capture_output=True, text=True)
        assert "T" in found.stdout.split()[0]


def test_a_file_system_without_that_flag_is_no_problem(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refused(*_: object) -> bytes:
        raise OSError(errno.ENOTTY, "Inappropriate ioctl for device")

    monkeypatch.setattr(scratch_resources.fcntl, "ioctl", refused)
    with ExitStack() as stack:
        assert new_folder(folder / "base", account(), stack).is_dir()
