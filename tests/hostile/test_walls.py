"""What code in a scratch server can reach: as root and as an ordinary user, with bubblewrap and without."""

from __future__ import annotations

import os
import shutil
import socket
import subprocess
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from tests.users import Ordinary, run

from refnet.core.errors import RefnetError
from refnet.core.processes import until
from refnet.postgres import walls
from refnet.postgres.binaries import Binaries
from refnet.postgres.cluster import Cluster
from refnet.postgres.scratch import scratch
from refnet.postgres.scratch_resources import FIRST, LAST
from refnet.postgres.tempdirs import private_folder

#: Programs that are hidden, and the walls that then cannot be built.
WAYS = {
    "with bubblewrap": ((), ()),
    "without bubblewrap": (("bwrap",), ()),
    "without any": (("bwrap", "unshare"), ("files", "processes", "network", "ipc")),
}


#: What a scratch server may see beside the folder that holds its programs.
SYSTEM = {"bin", "sbin", "lib", "lib32", "lib64", "libx32", "usr", "etc", "proc", "dev", "tmp", "var"}


@pytest.fixture(params=WAYS)
def missing(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> tuple[str, ...]:
    """One of WAYS, put in force; the walls that it lacks."""
    hidden, missing = WAYS[request.param]
    which = shutil.which
    monkeypatch.setattr(walls.shutil, "which", lambda name: None if name in hidden else which(name))
    monkeypatch.setenv("PATH", "/usr/local/bin:/usr/bin:/bin")  # an ordinary user's has no sbin
    return missing


@pytest.fixture(params=["as root", "as an ordinary user"])
def act(request: pytest.FixtureRequest, folder: Path) -> Callable[[Callable[[], str]], str]:
    """Runs a function as one of the two, which owns `folder`; what it returns."""
    if request.param == "as an ordinary user":
        if os.geteuid() != 0:
            return lambda function: function()
        user: Ordinary = request.getfixturevalue("ordinary")
        os.chown(folder, user.uid, user.gid)
        return user.does
    if os.geteuid() != 0:
        pytest.skip("only root can act as root")
    return lambda function: function()


def _said(cluster: Cluster, command: str) -> list[str]:
    """What a program says that code in the server starts."""
    with cluster.target().connect() as session:
        session.execute("CREATE TEMPORARY TABLE said (line text)")
        options = "WITH (FORMAT csv, DELIMITER e'\\x01', QUOTE e'\\x02')"
        session.execute(f"COPY said FROM PROGRAM $${command} 2>&1 || true$$ {options}".encode())
        return [line or "" for (line,) in session.execute("SELECT line FROM said").fetchall()]


def test_code_in_a_scratch_server_sees_and_leaves_nothing_beyond_it(
    wheel: Binaries,
    folder: Path,
    missing: tuple[str, ...],
    act: Callable[[Callable[[], str]], str],
) -> None:
    secret = folder / "artifacts"
    secret.mkdir()
    (secret / "refnet_20260101_000000.sql.gz").write_bytes(b"x")
    secret.chmod(0o777)
    mark = f"sleep 86{os.getpid() % 1000:03}"

    def attack() -> str:
        with scratch(wheel, base=folder / "base") as cluster:
            lacking = cluster.walls.missing
            own = () if os.geteuid() == 0 else ("user",) if missing else ()
            assert lacking == (*missing, *own), lacking
            if "files" not in lacking:
                _see_nothing(cluster, wheel, secret)
            if not missing:
                _reach_no_socket(cluster)
            if not _UNBOUNDED.issubset(lacking):
                _leave(cluster, mark)
            return f"{cluster.account.uid} {' '.join(lacking)}"

    said = act(attack)
    assert said.count("\n") == 0, said
    user, *lacking = said.split()
    assert (secret / "refnet_20260101_000000.sql.gz").exists()
    assert os.geteuid() != 0 or int(user) == 65534 or FIRST <= int(user) <= LAST
    if _UNBOUNDED.issubset(lacking):
        return  # nothing bounds a process of an ordinary user that leaves its folder
    assert subprocess.run(["pgrep", "-f", mark], capture_output=True, check=False).stdout == b""


#: Without these walls, what code has started may live on.
_UNBOUNDED = {"processes", "user"}


def _see_nothing(cluster: Cluster, wheel: Binaries, secret: Path) -> None:
    """Code sees its own folders and the system's programs alone, and changes nothing."""
    first = wheel.folder.parts[1]
    assert set(_said(cluster, "ls -A /")) <= SYSTEM | {first}
    beside = wheel.folder.parents[1]
    if beside.parts[1] != "usr":
        libraries = f"{beside.name}.libs"
        assert set(_said(cluster, f"ls -A {beside.parent}")) <= {beside.name, libraries}
    assert "cannot open" in _said(cluster, "cat /etc/shadow || echo cannot open")[-1]
    assert _said(cluster, f"ls {secret} || echo hidden")[-1] == "hidden"
    assert _said(cluster, f"rm -rf {secret}; ls /home /root /run || echo hidden")[-1] == "hidden"
    assert _said(cluster, "touch /usr/mine /mine /etc/mine || echo refused")[-1] == "refused"


def _reach_no_socket(cluster: Cluster) -> None:
    """Code reaches no socket of this machine."""
    with socket.socket() as tcp, socket.socket(socket.AF_UNIX) as local:
        tcp.bind(("127.0.0.1", 0))
        tcp.listen()
        place = Path(tempfile.mkdtemp(prefix="rn-", dir="/tmp"))
        place.chmod(0o777)
        local.bind(str(place / "s"))
        (place / "s").chmod(0o777)
        local.listen()
        reach = (
            f"perl -MIO::Socket -e 'print IO::Socket::INET->new(q(127.0.0.1:{tcp.getsockname()[1]})) ? q(reached) : q(no)'; echo;"
            f" ls {place} || echo hidden; tail -n +3 /proc/net/dev | cut -d: -f1 | tr -d ' '"
        )
        said = " ".join(_said(cluster, reach))
        shutil.rmtree(place)
    assert "reached" not in said
    assert said.endswith("hidden lo"), said


def _leave(cluster: Cluster, mark: str) -> None:
    """Code leaves programs behind, which end with the server."""
    leave = f'setsid -f {mark} > /dev/null 2>&1 < /dev/null; setsid -f sh -c "cd /; {mark}; :" > /dev/null 2>&1 < /dev/null; echo started'
    assert _said(cluster, leave) == ["started"]


def test_nothing_lives_on_when_the_run_is_killed(wheel: Binaries, folder: Path) -> None:
    process = run(_KILLED, folder)
    assert process.stdout
    mark = process.stdout.readline().strip()
    assert subprocess.run(["pgrep", "-f", mark], capture_output=True, check=False).stdout
    process.kill()
    process.communicate()
    assert until(
        lambda: not subprocess.run(["pgrep", "-f", mark], capture_output=True, check=False).stdout, 10
    )
    with scratch(wheel, base=folder) as cluster:
        assert [path.name for path in folder.glob("scratch-*")] == [cluster.data.parent.name]


_KILLED = """
import os, sys, time
from pathlib import Path
from refnet.postgres.binaries import find
from refnet.postgres.scratch import scratch
with scratch(find(None, None, server=True), base=Path(sys.argv[1])) as cluster:
    mark = f"sleep 87{os.getpid() % 1000:03}"
    with cluster.target().connect() as session:
        session.execute(f"COPY (SELECT 1) TO PROGRAM 'setsid -f {mark} > /dev/null 2>&1'".encode())
    print(mark, flush=True)
    time.sleep(600)
"""


def test_a_role_comes_in_with_the_password_of_this_run_alone(wheel: Binaries, folder: Path) -> None:
    with scratch(wheel, base=folder) as cluster:
        command = [
            wheel.tool("psql"),
            "-XAtc",
            "SELECT 1",
            "-h",
            cluster.socket,
            "-U",
            cluster.superuser,
            "postgres",
        ]
        come_in = {"env": {"PGPASSWORD": "guessed"}, "capture_output": True, "text": True}
        assert "password authentication failed" in subprocess.run(command, check=False, **come_in).stderr  # type: ignore[call-overload]
        within = (
            f"{wheel.tool('psql')} -XAtc 'SELECT 1' -h {cluster.socket} -U {cluster.superuser} -w postgres"
        )
        assert "no password supplied" in _said(cluster, within)[-1]
        assert cluster.password not in repr(cluster)
        with cluster.target().connect() as session:
            (stored,) = session.execute(
                "SELECT rolpassword FROM pg_authid WHERE rolpassword IS NOT NULL"
            ).fetchone() or ("",)
        assert cluster.password not in str(stored)
        assert not any(
            cluster.password in path.read_text(errors="replace") for path in _files(cluster.data.parent)
        )


def _files(folder: Path) -> Iterator[Path]:
    return (path for path in folder.rglob("*") if path.is_file() and not path.is_symlink())


@pytest.fixture
def victim(tmp_path: Path) -> Path:
    """A folder that nothing may touch."""
    folder = tmp_path / "victim"
    folder.mkdir()
    (folder / "file").write_bytes(b"precious")
    return folder


def test_a_link_among_the_leftovers_leads_nowhere(wheel: Binaries, folder: Path, victim: Path) -> None:
    left = folder / "scratch-left"
    left.mkdir()
    (left / "socket").symlink_to(victim)
    (left / "data").symlink_to(victim)
    (left / "owner").symlink_to(victim / "made")
    (folder / "scratch-link").symlink_to(victim)
    with scratch(wheel, base=folder):
        pass
    assert [path.name for path in victim.iterdir()] == ["file"]


def test_a_private_folder_that_is_a_link_leads_nowhere(
    victim: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    for name in ("refnet-private-link", "refnet-private-old"):
        (tmp_path / name).symlink_to(victim)
        os.utime(tmp_path / name, (0, 0), follow_symlinks=False)
    with private_folder():
        pass
    assert [path.name for path in victim.iterdir()] == ["file"]


def test_a_short_folder_for_the_socket_goes_with_the_next_run(
    wheel: Binaries, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    old = tmp_path / "refnet-private-old"
    (old / "socket").mkdir(parents=True)
    os.utime(old, (0, 0))
    with private_folder():
        assert not old.exists()


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can give a folder away")
def test_a_folder_of_scratch_servers_of_another_user_is_refused(
    wheel: Binaries,
    folder: Path,
) -> None:
    base = folder / "scratch"
    base.mkdir()
    os.chown(base, 65534, 65534)
    with pytest.raises(RefnetError, match="belongs to nobody"), scratch(wheel, base=base):
        pass
