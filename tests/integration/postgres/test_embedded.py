from __future__ import annotations

import multiprocessing
import os
import shutil
import signal
import subprocess
from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor
from contextlib import contextmanager
from pathlib import Path

import pytest
from tests.users import Ordinary, run

from refnet.core.errors import RefnetError
from refnet.core.processes import until
from refnet.postgres import embedded
from refnet.postgres.account import account
from refnet.postgres.binaries import Binaries, find, installed
from refnet.postgres.cluster import Cluster, start_embedded
from refnet.postgres.connect_error import ConnectError

START = """
import sys
from pathlib import Path
from refnet.postgres.cluster import start_embedded
cluster = start_embedded(Path(sys.argv[1]), None)
with cluster.target("refnet").connect() as session:
    print(cluster.pid(), session.execute("SELECT current_database()").fetchone()[0], cluster.binaries.folder)
"""


def _started(home: Path) -> Cluster:
    return start_embedded(home, None)


def _stopped(home: Path) -> Cluster:
    """The cluster of a home whose server has run."""
    folder, user = home / "postgres", account(home / "postgres" / "data")
    return Cluster(folder / "data", folder / "socket", user, find(None, None, server=True), "refnet")


def _pid(home: Path) -> int | None:
    return _started(home).pid()


def _one(cluster: Cluster, query: str, database: str = "refnet") -> object:
    with cluster.target(database).connect() as session:
        row = session.execute(query.encode()).fetchone()
    return row[0] if row else None


@pytest.fixture(scope="module")
def running(short_folder: Path, made_home: Path) -> Iterator[Path]:
    """A REFNET_HOME whose server runs, for tests that change nothing."""
    home = short_folder / "running"
    subprocess.run(["/bin/cp", "-a", made_home, home], check=True)
    _started(home)
    yield home
    embedded.remove(home)


def test_the_embedded_server_is_made_once_and_keeps_its_data(folder: Path) -> None:
    home = folder / "new"
    first = _started(home)
    assert _one(first, "SELECT current_user") == "refnet"
    with first.target("refnet").connect() as session:
        session.execute("CREATE TABLE kept AS SELECT 42 AS answer")
    assert _started(home).pid() == first.pid()
    assert embedded.stop(home)
    assert not embedded.stop(home)
    assert not embedded.status(home).running
    assert _one(_started(home), "SELECT answer FROM kept") == 42
    embedded.remove(home)


def test_it_listens_on_a_private_socket_alone(running: Path) -> None:
    cluster = _started(running)
    assert _one(cluster, "SHOW listen_addresses") == ""
    assert cluster.socket.stat().st_mode & 0o777 == 0o700
    assert cluster.data.stat().st_mode & 0o777 == 0o700
    rules = (cluster.data / "pg_hba.conf").read_text()
    assert {line.split()[-1] for line in rules.splitlines() if line.startswith("host")} == {"reject"}


def test_its_server_sees_none_of_our_variables(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("REFNET_DATABASE_URL", "postgresql://u:sEcret@h/db")
    cluster = _started(home)
    with cluster.target("refnet").connect() as session:
        session.execute("CREATE TABLE seen (line text)")
        session.execute("COPY seen FROM PROGRAM 'env'")
        lines = [line for (line,) in session.execute("SELECT line FROM seen")]
    assert not [line for line in lines if "REFNET" in line or "sEcret" in line]
    assert any(line.startswith("PATH=") for line in lines)


def test_many_starts_at_once_make_one_server(folder: Path) -> None:
    with ProcessPoolExecutor(4, multiprocessing.get_context("fork")) as pool:
        starts = [pool.submit(_pid, folder / "new") for _ in range(4)]
        pids = {start.result() for start in starts}
    embedded.remove(folder / "new")
    assert len(pids) == 1
    assert None not in pids


def test_it_outlives_the_process_that_started_it(home: Path) -> None:
    start = run(START, home, start_new_session=True)
    out, err = start.communicate()
    assert start.returncode == 0, err
    assert embedded.status(home).pid == int(out.split()[0])


def test_a_killed_server_just_starts_again(home: Path) -> None:
    first = _started(home)
    pid = first.pid()
    assert pid
    os.kill(pid, signal.SIGKILL)
    assert until(lambda: not first.is_ready(), 10)  # its children may live on for a moment
    again = _started(home)
    assert again.pid() != pid
    assert _one(again, "SELECT 1") == 1


def test_a_stale_pid_that_another_process_has_taken_is_no_obstacle(home: Path) -> None:
    cluster = _stopped(home)
    stranger = subprocess.Popen(["/bin/sleep", "600"], cwd="/", **account().become)
    try:
        stale = [str(stranger.pid), str(cluster.data), "1", "5432", str(cluster.socket), "", "", "ready"]
        (cluster.data / "postmaster.pid").write_text("\n".join(stale))
        (cluster.socket / ".s.PGSQL.5432.lock").write_text(f"{stranger.pid}\n")
        assert not embedded.status(home).running
        assert not embedded.stop(home)
        assert _one(_started(home), "SELECT 1") == 1
        assert stranger.poll() is None
    finally:
        stranger.kill()
        stranger.wait()


def test_a_start_that_was_cut_short_is_begun_anew(home: Path) -> None:
    cluster = _stopped(home)
    cluster.data.rename(cluster.data.with_name("data.new"))
    (cluster.data.with_name("data.new") / "global" / "pg_control").unlink()
    assert _one(_started(home), "SELECT 1") == 1


def test_a_database_that_was_dropped_is_not_silently_made_again(home: Path) -> None:
    cluster = _started(home)
    with cluster.target().connect() as session:
        session.execute("DROP DATABASE refnet")
    embedded.stop(home)
    with pytest.raises(ConnectError) as raised:
        _started(home).target("refnet").connect()
    assert raised.value.no_such_database


def test_a_home_too_deep_for_a_socket_gets_a_short_private_folder(folder: Path, made_home: Path) -> None:
    home = folder / ("deep" * 25) / "home"
    home.parent.mkdir()
    subprocess.run(["/bin/cp", "-a", made_home, home], check=True)
    try:
        cluster = _started(home)
        assert cluster.data.is_relative_to(home)
        assert len(str(cluster.socket)) < 90
        assert cluster.socket.stat().st_mode & 0o777 == 0o700
        assert _one(cluster, "SELECT 1") == 1
        embedded.stop(home)
        cluster.socket.chmod(0o777)
        with pytest.raises(RefnetError, match="is not a private folder"):
            _started(home)
    finally:
        embedded.remove(home)
    assert not cluster.socket.exists()


def test_data_of_another_major_is_told_before_anything_is_tried(home: Path, wheel: Binaries) -> None:
    data = _stopped(home).data
    here = {each.major for each in installed(None)}
    other = next(major for major in range(wheel.major - 1, 0, -1) if major not in here)
    (data / "PG_VERSION").write_text(f"{other}\n")
    version = find(other, wheel.folder, server=True).version
    with pytest.raises(RefnetError, match=f"is of PostgreSQL {other}, but the programs are {version}"):
        start_embedded(home, wheel.folder)


def test_the_systems_programs_serve_as_well(folder: Path, system_server: Cluster) -> None:
    home = folder / "new"
    try:
        cluster = start_embedded(home, system_server.binaries.folder)
        assert str(_one(cluster, "SHOW server_version")).startswith(f"{system_server.binaries.major}.")
        embedded.stop(home)
        assert start_embedded(home, None).binaries.major == system_server.binaries.major
    finally:
        embedded.remove(home)


def test_a_server_that_cannot_start_says_why(home: Path) -> None:
    cluster = _stopped(home)
    with (cluster.data / "postgresql.conf").open("a") as file:
        file.write("shared_buffers = nonsense\n")
    with pytest.raises(RefnetError, match=r"did not start: configuration file .* contains errors") as raised:
        _started(home)
    assert "server.log" in raised.value.hint


def test_a_server_started_by_hand_is_found_and_stopped(home: Path) -> None:
    cluster = _stopped(home)
    command = [
        cluster.binaries.tool("postgres"),
        "-D",
        cluster.data,
        "-k",
        cluster.socket,
        "-c",
        "listen_addresses=",
    ]
    by_hand = subprocess.Popen(command, cwd="/", stderr=subprocess.DEVNULL, **account().become)
    try:
        assert until(cluster.is_ready, 30)
        assert _started(home).pid() == by_hand.pid
        assert embedded.stop(home)
        assert by_hand.wait(30) == 0
    finally:
        by_hand.kill()
        by_hand.wait()


def test_nothing_is_left_of_a_home_that_is_removed(home: Path) -> None:
    cluster = _started(home)
    embedded.remove(home)
    assert not cluster.is_running()
    assert list(home.iterdir()) == []


# As root, whose server another user runs; and as an ordinary user.


@contextmanager
def _rootonly(folder: Path):  # type: ignore[no-untyped-def]
    folder.mkdir(mode=0o700)
    try:
        yield folder
    finally:
        embedded.remove(folder / "home")


@pytest.mark.usefixtures("root")
def test_roots_server_runs_as_an_unprivileged_user(running: Path) -> None:
    pid = _started(running).pid()
    assert Path(f"/proc/{pid}").stat().st_uid == account().uid != 0
    groups = Path(f"/proc/{pid}/status").read_text().split("Groups:", 1)[1].splitlines()[0]
    assert "0" not in groups.split()


@pytest.mark.usefixtures("root")
def test_a_root_only_home_keeps_its_mode_and_its_data_go_elsewhere(
    folder: Path,
) -> None:
    with _rootonly(folder / "closed") as closed:
        cluster = _started(closed / "home")
        assert _one(cluster, "SELECT 1") == 1
        assert cluster.data.is_relative_to("/var/lib")
        assert closed.stat().st_mode & 0o777 == 0o700
        embedded.stop(closed / "home")
        closed.chmod(0o755)  # where it was is remembered, not worked out again
        assert _started(closed / "home").data == cluster.data
    assert not cluster.data.parent.exists()


@pytest.mark.usefixtures("root")
def test_a_home_that_was_closed_afterwards_is_told_and_not_made_anew(home: Path) -> None:
    home.parent.chmod(0o700)
    try:
        with pytest.raises(RefnetError, match="can no longer enter"):
            _started(home)
    finally:
        home.parent.chmod(0o711)


@pytest.mark.usefixtures("root")
def test_programs_in_a_folder_that_only_root_may_enter_are_copied(folder: Path, wheel: Binaries) -> None:
    with _rootonly(folder / "clone") as clone:
        package = wheel.folder.parent.parent
        for part in (package, package.with_name(f"{package.name}.libs")):
            shutil.copytree(part, clone / part.name, ignore=shutil.ignore_patterns("include"))
        environment = {**os.environ, "PYTHONPATH": str(clone), "PATH": "/usr/bin:/bin"}
        only_wheel = "from refnet.postgres import binaries\nbinaries.SYSTEM_FOLDERS = ()\n"
        start = run(only_wheel + START, folder / "home", env=environment)
        out, err = start.communicate()
        try:
            assert start.returncode == 0, err
            assert out.split()[2].startswith(str(folder / "home"))
            assert clone.stat().st_mode & 0o777 == 0o700
        finally:
            embedded.remove(folder / "home")


def test_an_ordinary_user_has_a_server_of_its_own(folder: Path, ordinary: Ordinary) -> None:
    os.chown(folder, ordinary.uid, ordinary.gid)
    home = folder / "home"
    try:
        said = ordinary.does(lambda: f"{_one(_started(home), 'SELECT current_user')} {_started(home).pid()}")
        assert said.startswith("refnet "), said
        pid = int(said.split()[1])
        assert Path(f"/proc/{pid}").stat().st_uid == ordinary.uid
        # Root, asked to use the same home, finds that server and would start it as its owner.
        assert embedded.status(home).pid == pid
        assert embedded.stop(home)
        assert Path(f"/proc/{_started(home).pid()}").stat().st_uid == ordinary.uid
    finally:
        embedded.remove(home)


@pytest.mark.parametrize("verb", ["status", "stop", "start"])
def test_another_users_home_is_refused(running: Path, ordinary: Ordinary, verb: str) -> None:
    pid = _started(running).pid()
    verbs = {"status": embedded.status, "stop": embedded.stop, "start": _started}
    said = ordinary.does(lambda: str(verbs[verb](running)))
    assert "RefnetError" in said
    assert "another user" in said
    assert embedded.status(running).pid == pid


@pytest.mark.usefixtures("root")
def test_a_user_id_without_a_name_is_told_what_postgresql_needs(folder: Path) -> None:
    said = Ordinary(54321, 54321).does(lambda: account().name)
    assert "the user id 54321 has no entry in the system's list of users" in said


def test_a_long_log_is_put_aside_at_the_next_start(home: Path) -> None:
    log = home / "postgres" / "server.log"
    with log.open("ab") as file:
        file.truncate(17 << 20)
    cluster = _started(home)
    assert cluster.log.stat().st_size < 1 << 20
    assert log.with_name("server.log.1").stat().st_size == 17 << 20


def test_the_embedded_database_is_sorted_by_code_point_and_knows_letters(running: Path) -> None:
    cluster = _started(running)
    with cluster.target("refnet").connect() as session:
        row = session.execute(
            "SELECT datlocprovider, datlocale, pg_encoding_to_char(encoding) FROM pg_database WHERE datname = 'refnet'"
        ).fetchone()
        assert row == ("b", "C.UTF-8", "UTF8")
        assert session.execute("SELECT upper('é'), 'a' > 'B'").fetchone() == ("É", True)
