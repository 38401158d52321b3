"""A machine by the words of the documents, its loss, and an empty machine: each a set of namespaces of its own.

`python -m tests.worst_day before FOLDER STORE INSTALLER` and `… after FOLDER STORE VARIANT KILLS SEED`, run by `isolated`: what they write
outside of FOLDER is in memory and ends with them, no process outlives them, and their network is the loopback device alone.
"""

from __future__ import annotations

import hashlib
import os
import random
import re
import shlex
import shutil
import signal
import sqlite3
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from tests import installers, worst_stores
from tests.documents import ROOT, blocks

_DOCS = ROOT / "docs"
#: Disks in memory: what an empty machine does not have, and what nothing may write outside of the namespace.
_EMPTY = ("/opt", "/usr/local", "/root", "/srv", "/mnt", "/run", "/var", "/dev/shm")
#: Folders that an empty machine has there.
_THERE = (
    "/etc/systemd/system",
    "/run/postgresql",
    "/usr/local/bin",
    "/var/lib/postgresql",
    "/var/backups",
    "/var/log",
    "/var/tmp",
)
_NEEDED = ("unshare", "mount", "ip", "rsync", "runuser")
#: systemd is not booted: a unit is enabled where its file is. $1 is --no-ask-password.
_SYSTEMCTL = """\
#!/bin/sh
for last; do :; done
case $2 in
    show) echo "Version=252" ;;
    is-enabled) [ -e "/etc/systemd/system/$last" ] && echo enabled ;;
    is-active) [ -e "/etc/systemd/system/$last" ] && echo active ;;
esac
"""
_PASSWORD, _ADDRESS = "made-up", "192.0.2.7"
DATABASES = ("shop", "blog", "stock")
FOLDERS = ("notes", "papers")
_ROWS = 2000
_SECONDS = 300
#: When a run is killed, in seconds; the first before a recovery of so little can end.
_FIRST, _MOMENTS = (0.4, 1.2), (0.4, 2.6)


def programs() -> Path:
    """The programs of the newest PostgreSQL of this machine's packages, 17 or newer."""
    found = sorted(
        Path("/usr/lib/postgresql").glob("*/bin/pg_combinebackup"), key=lambda one: int(one.parts[4])
    )
    return found[-1].parent if found else Path("/nonexistent")


def missing() -> str:
    """Why no worst day can be had here; "": it can."""
    if os.geteuid() != 0:
        return "only root makes the namespaces of two machines"
    if lacking := [one for one in _NEEDED if not shutil.which(one)]:
        return f"needs {', '.join(lacking)}"
    if not programs().exists():
        return "needs PostgreSQL 17 of this machine's packages"
    tried = subprocess.run(isolated("true"), capture_output=True, text=True, check=False)
    return "" if tried.returncode == 0 else f"no namespaces here: {tried.stderr.strip()}"


def isolated(*command: str) -> list[str]:
    """`command` on a machine of its own, whose processes all end with it."""
    own = ("--mount", "--net", "--pid", "--uts", "--ipc", "--fork", "--kill-child", "--mount-proc")
    return ["unshare", *own, "bash", "-c", '"$@"; exit $?', "init", *command]  # bash reaps the orphans


def _run(*command: str | Path, **more: object) -> subprocess.CompletedProcess[str]:
    words = [*map(str, command)]
    return subprocess.run(words, check=True, text=True, timeout=_SECONDS, stdin=subprocess.DEVNULL, **more)  # type: ignore[call-overload,no-any-return]


@dataclass
class Machine:
    """The machine that this process is on; `folder` is all that it shares with another."""

    folder: Path
    #: Kind of the store: file, sftp or s3, of `worst_stores`.
    kind: str = "file"
    #: Where the socket of the server is.
    socket: str = "/run/postgresql"

    def begin(self) -> None:
        """Make it empty, with a network of its own, the store, and a new server. There is no package registry."""
        for number, place in enumerate(_EMPTY):
            self._cover(Path(place), self.folder / "kept" / str(number))
        self._configure()
        for there in _THERE:
            Path(there).mkdir(parents=True, exist_ok=True)
        Path("/var/tmp").chmod(0o1777)
        Path("/var/run").symlink_to("/run")
        _run("ip", "link", "set", "lo", "up")
        _run("ip", "address", "add", f"{_ADDRESS}/32", "dev", "lo")
        (self.folder / "nas" / "refnet").mkdir(mode=0o700, parents=True, exist_ok=True)
        Path("/mnt/nas").mkdir()
        _run("mount", "--bind", self.folder / "nas", "/mnt/nas")
        systemctl = Path("/usr/local/bin/systemctl")
        systemctl.write_text(_SYSTEMCTL)
        systemctl.chmod(0o755)
        for name in [one for one in os.environ if one.startswith(("PG", "REFNET_", "PYTEST", "COV"))]:
            del os.environ[name]
        os.environ |= {
            "PATH": f"/usr/local/bin:{programs()}:/usr/sbin:/usr/bin:/sbin:/bin",
            "HOME": "/root",
            "LANG": "C.UTF-8",
            "COLUMNS": "200",
        }
        os.chdir("/root")
        self._server()
        self.store = worst_stores.serve(self.kind, self.folder)

    def _cover(self, place: Path, keep: Path) -> None:
        """Put an empty disk in memory over `place`; the interpreter and the code below it stay."""
        below = sorted(
            {Path(one) for one in (sys.base_prefix, sys.prefix, ROOT) if Path(one).is_relative_to(place)}
        )
        for number, one in enumerate(below):
            (keep / str(number)).mkdir(parents=True, exist_ok=True)
            _run("mount", "--rbind", one, keep / str(number))
        mode = {"/root": "0711", "/dev/shm": "1777"}.get(str(place), "0755")
        _run("mount", "-t", "tmpfs", "-o", f"mode={mode}", "tmpfs", place)
        for number, one in enumerate(below):
            one.mkdir(parents=True, exist_ok=True)
            _run("mount", "--rbind", keep / str(number), one)

    def _configure(self) -> None:
        """The files of this machine in /etc, in memory, without those of RefNet and its units."""
        etc = self.folder / "etc"
        etc.mkdir(exist_ok=True)
        _run("mount", "-t", "tmpfs", "-o", "mode=0755", "tmpfs", etc)
        left_out = [f"--exclude=/{one}" for one in ("refnet", "systemd/system/refnet*", "hosts")]
        _run("rsync", "-a", *left_out, "/etc/", f"{etc}/")
        (etc / "refnet").mkdir()
        (etc / "hosts").write_text(f"127.0.0.1 localhost\n{_ADDRESS} db\n")
        _run("mount", "--move", etc, "/etc")

    def _server(self) -> None:
        """A new, empty server; its administrator is the user postgres, by a socket."""
        for one in ("/var/lib/postgresql", "/run/postgresql"):
            _run("chown", "postgres", one)
        data, log = "/var/lib/postgresql/data", "/var/lib/postgresql/log"
        as_owner = ("runuser", "-u", "postgres", "--")
        options = ("-A", "trust", "-U", "postgres", "--no-sync", "--wal-segsize=4", "-D", data)
        _run(*as_owner, programs() / "initdb", *options, stdout=subprocess.DEVNULL)
        with Path(data, "pg_hba.conf").open("a") as rules:
            rules.write(f"host all all {_ADDRESS}/32 scram-sha-256\n")
        settings = "-c fsync=off -c unix_socket_directories=/run/postgresql -c listen_addresses=*"
        start = ("-w", "-D", data, "-l", log, "-o", settings, "start")
        _run(*as_owner, programs() / "pg_ctl", *start, stdout=subprocess.DEVNULL)
        self.sql(f"ALTER ROLE postgres PASSWORD '{_PASSWORD}'")
        self._may_log_in("postgres")

    def _may_log_in(self, role: str) -> None:
        file = Path("/root/.pgpass")
        with file.open("a") as passwords:
            passwords.write(f"db:*:*:{role}:{_PASSWORD}\n")
        file.chmod(0o600)

    def sql(self, *statements: str, database: str = "postgres") -> str:
        """What the administrator's psql prints, each statement in its transaction."""
        words = [word for one in statements for word in ("-c", one)]
        command = ("psql", "-XAtq", "-v", "ON_ERROR_STOP=1", "-h", self.socket, "-U", "postgres")
        return _run(*command, "-d", database, *words, stdout=subprocess.PIPE).stdout.strip()

    def password(self) -> None:
        """What the administrator keeps beside the page: the password of the role, and who may log in."""
        self._may_log_in("backup")
        [rule] = (
            one for one in blocks(_DOCS / "any-second.md", "text") if one.startswith("host  replication")
        )
        with Path("/var/lib/postgresql/data/pg_hba.conf").open("a") as rules:
            rules.write(rule)
        self.sql("SELECT pg_reload_conf()")

    def refnet(self, *words: str, codes: tuple[int, ...] = (0,)) -> str:
        """`refnet` with `words`; what it printed."""
        return self.shell(shlex.join(["refnet", *words]), codes)

    def shell(self, line: str, codes: tuple[int, ...] = (0,), typed: str = "") -> str:
        """Run a line of a document or a unit, while somebody types `typed`; what it printed."""
        done = subprocess.run(
            ["bash", "-c", line],
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            input=typed,
            text=True,
            check=False,
            timeout=_SECONDS,
        )
        print(f"$ {line}\n{done.stdout}", flush=True)
        if done.returncode not in codes:
            raise SystemExit(f"`{line}` ended with {done.returncode}, not {codes}")
        return done.stdout

    def judged(self, into: Path) -> None:
        """Write what stock tools say of everything that is live into the folder `into`."""
        into.mkdir()
        for name in DATABASES:
            dump = ("pg_dump", "-h", self.socket, "-U", "postgres", name)
            text = _run(*dump, stdout=subprocess.PIPE).stdout
            (into / f"{name}.sql").write_text(re.sub(r"^\\(un)?restrict .*$", "", text, flags=re.MULTILINE))
        with sqlite3.connect("/srv/app/app.db") as session:
            (into / "app.sql").write_text("\n".join(session.iterdump()))
        session.close()


def before(folder: Path, kind: str, installer: Path) -> None:
    """Set a machine up by the documents, back it up, print its page, and write once more."""
    machine = Machine(folder, kind)
    machine.begin()
    os.environ["PATH"] += f":{Path(sys.executable).parent}"  # RefNet, installed from the package registry
    [statements] = [one for one in blocks(_DOCS / "any-second.md", "sql") if "CREATE ROLE backup" in one]
    for one in re.sub(r"--.*", "", statements.replace("…", _PASSWORD)).split(";")[:-1]:
        machine.sql(one.strip())
    machine.password()
    for name in DATABASES:
        machine.sql(f"CREATE DATABASE {name}")
        machine.sql(
            f"CREATE TABLE orders AS SELECT n, repeat(md5(n::text), 4) AS what FROM generate_series(1, {_ROWS}) n",
            "ALTER TABLE orders ADD PRIMARY KEY (n)",
            database=name,
        )
    for name in FOLDERS:
        Path("/srv", name, "more").mkdir(parents=True)
        for number in range(60):
            Path("/srv", name, "more", f"{number}.md").write_text(f"{name} {number}\n" * 50)
    Path("/srv/app").mkdir()
    with sqlite3.connect("/srv/app/app.db") as session:
        session.execute("CREATE TABLE words (word TEXT)")
        session.executemany("INSERT INTO words VALUES (?)", [(str(one),) for one in range(500)])
    session.close()
    _settings(machine, installer)
    shutil.copy("/dev/shm/page.txt", folder / "page.txt")
    machine.refnet("schedule", "install")
    receiver = subprocess.Popen(["refnet", "wal", "run"], stdin=subprocess.DEVNULL)
    machine.refnet("check", codes=(0, 1, 2))  # nothing is backed up yet
    machine.refnet("backup")
    for name in DATABASES:
        machine.sql("INSERT INTO orders VALUES (-1, 'after the last backup')", database=name)
    machine.sql("SELECT pg_switch_wal()")
    arrived = "SELECT bool_and(flush_lsn >= pg_current_wal_flush_lsn()) FROM pg_stat_replication"
    wait(lambda: machine.sql(arrived) == "t")
    machine.refnet("copy")
    _drilled(machine)
    machine.judged(folder / "judge")
    _run("rsync", "-a", *(f"/srv/{name}" for name in FOLDERS), folder / "judge")
    receiver.send_signal(signal.SIGTERM)
    receiver.wait(60)


def _drilled(machine: Machine) -> None:
    """Drill the recovery from the store with the key of the page; it finds nothing missing, and touches nothing live."""
    key = Path("/dev/shm/key")
    live = "SELECT oid, datname FROM pg_database UNION SELECT oid, rolname FROM pg_roles"
    slots = "SELECT slot_name, active FROM pg_replication_slots"
    before = machine.sql(live, slots)
    said = machine.refnet("drill", "--recovery", "--store", "nas", "--identity-file", str(key))
    key.unlink()
    assert machine.sql(live, slots) == before
    assert "MISSES" not in said, said
    assert "asks for passwords of roles" in said, said
    assert "never drilled" not in machine.refnet("monitor", codes=(0, 1, 2))


def _settings(machine: Machine, installer: Path) -> None:
    """Write refnet.toml out of the documents, make the key, put the installer into the store, and print the page."""
    settings = Path("/etc/refnet/refnet.toml")
    [cluster] = [one for one in blocks(_DOCS / "any-second.md", "toml") if "[clusters.main]" in one]
    tables = [
        cluster,
        *(f'[folders.{name}]\npath = "/srv/{name}"' for name in FOLDERS),
        '[databases.app]\npath = "/srv/app/app.db"',
        machine.store,
    ]
    settings.write_text("\n".join(tables) + "\n")
    settings.chmod(0o600)
    printed = machine.refnet("key", "new", "--page", "/dev/shm/first.txt")
    recipient = re.search(r"age1[0-9a-z]+", printed)
    assert recipient, printed
    settings.write_text(settings.read_text() + f'[encryption]\nrecipients = ["{recipient[0]}"]\n')
    key = Path("/dev/shm/key")
    key.write_text(_key(Path("/dev/shm/first.txt").read_text()))
    key.chmod(0o600)
    digest = hashlib.sha256(installer.read_bytes()).hexdigest()
    machine.refnet("store", "installer", str(installer), "--sha256", digest)
    machine.refnet("key", "page", "--page", "/dev/shm/page.txt", "--identity-file", str(key))


def wait(condition: Callable[[], bool], seconds: float = 60) -> None:
    """Wait until `condition` holds."""
    end = time.monotonic() + seconds
    while not condition():
        if time.monotonic() > end:
            raise SystemExit("what the test waits for never came")
        time.sleep(0.1)


def _key(page: str) -> str:
    """The recovery key, as somebody types it from the page."""
    [key] = re.findall(r"^recovery key +(AGE.*)$", page, re.MULTILINE)
    return str(key).replace(" ", "")


def command_of(page: str) -> str:
    """The lines of the page that recover with RefNet, verbatim."""
    [section] = re.findall(r"^Recover with RefNet\n-+\n(.*?)\n\n", page, re.MULTILINE | re.DOTALL)
    return "\n".join(one for one in str(section).splitlines() if one.startswith("  "))


def _first_page(page: str) -> tuple[str, ...]:
    """The command of a page that 2f52aefa printed, which has no digest, and its powers, confirmed by name."""
    command = re.sub(r" *--permit SHA256:\w+", "", command_of(page).strip()).rstrip(" \\\n")
    powers = re.findall(r"^main-globals +(\S+: .+)$", page, re.MULTILINE)
    assert powers, page
    return command, *(word for power in powers for word in ("--permit", shlex.quote(power)))


def after(folder: Path, kind: str, variant: str, kills: int, seed: int) -> None:
    """Recover by the page on an empty machine, killed up to `kills` times.

    Args:
        variant: `page`: its command verbatim; `gone`: it also takes the copies over; `first`: the command of the first pages;
            `physical`: the server comes back as a whole, by the commands of the plan.
    """
    machine = Machine(folder, kind)
    machine.begin()
    page = (folder / "page.txt").read_text()
    Path("/dev/shm/key").write_text(_key(page))
    Path("/dev/shm/key").chmod(0o600)
    os.environ["REFNET_IDENTITY_FILE"] = "/dev/shm/key"
    Path("/usr/local/bin/python3").symlink_to(os.path.realpath(sys.executable))  # the Python of the installer
    machine.shell(installers.commands(page), typed=worst_stores.TYPED)
    words = _first_page(page) if variant == "first" else (command_of(page).strip(),)
    command = " ".join((*words, *(("--old-machine", "gone") if variant == "gone" else ())))
    if variant == "physical":
        _physical(machine, command)
        _assert_recovered(machine, folder)
        return
    chance = random.Random(seed)
    print(f"seed {seed}", flush=True)
    began = time.monotonic()
    moments = [chance.uniform(*(_MOMENTS if number else _FIRST)) for number in range(kills)]
    ended = filter(None, (_killed(command, seconds) for seconds in moments))
    said = next(ended, "") or machine.shell(command)
    print(f"recovered in {time.monotonic() - began:.1f} s", flush=True)
    _assert_recovered(machine, folder)
    _next_night(machine, said)
    stats = machine.refnet("store", "stats", "nas")
    assert ("copies of other machines: " in stats) == (variant != "gone"), stats


def _physical(machine: Machine, command: str) -> None:
    """Bring the server back from its base backup and WAL, with its passwords, and then everything else."""
    plan = machine.shell(f"{command} --plan")
    assert "Another way for main-cluster" in plan, plan
    assert "its server" not in plan, plan  # this machine fits; only a cross-proof is missing
    [restore] = re.findall(r"^ +(refnet restore .*)$", plan, re.MULTILINE)
    [rest] = re.findall(r"then recover the rest.*: (.*)$", plan, re.MULTILINE)
    machine.shell(re.sub(r" *\\\n *--permit \S+", "", command).replace("refnet recover", "refnet fetch"))
    said = machine.shell(restore.replace("DIR", "/var/lib/postgresql/back"))
    [start] = re.findall(r"^start: +(.*)$", said, re.MULTILINE)
    machine.shell(f"{start} > /dev/null")
    machine.socket = "/var/lib/postgresql/back"
    assert machine.sql("SELECT rolpassword IS NOT NULL FROM pg_authid WHERE rolname = 'backup'") == "t"
    left = machine.shell(f"{command} {rest}", codes=(1,))
    missed = re.findall(r"^NOT RESTORED: (.*)$", left, re.MULTILINE)
    assert all(one.endswith("left out by --skip") for one in missed), missed


def _next_night(machine: Machine, said: str) -> None:
    """Follow the steps that the recovery printed, and run what the timers then start."""
    listed = said.partition("left to do on this machine:\n")[2]
    steps = re.findall(r"^  \d+\. (.*)$", listed, re.MULTILINE)
    assert Path("/etc/refnet/refnet.toml").stat().st_mode & 0o777 == 0o600
    assert [one for one in steps if one.startswith("set the passwords of roles")], steps
    machine.sql(f"ALTER ROLE backup PASSWORD '{_PASSWORD}'")
    machine.password()
    commands = [one for one in steps if one.startswith("refnet ") and "key page" not in one]
    assert [" ".join(one.split()[1:3]).removesuffix(" #") for one in commands] == [
        "check",
        "schedule install",
        "backup",
    ]
    for one in commands:
        machine.shell(one, codes=(0, 1) if "check" in one else (0,))  # it warns until the timers are there
    units = Path("/etc/systemd/system").glob("refnet-*.service")
    assert "refnet-wal.service" in {unit.name for unit in units}
    receiver = subprocess.Popen(["refnet", "wal", "run"], stdin=subprocess.DEVNULL)
    try:
        machine.refnet("backup")
        wait(lambda: "CRITICAL" not in machine.refnet("monitor", codes=(0, 1, 2)))
        machine.refnet("check", codes=(0, 1))  # warnings, such as of the page that is to be printed; no error
        copies = machine.refnet("list", "--store", "nas")
        assert {*DATABASES} <= {word.removeprefix("main-") for word in copies.split()}, copies
    finally:
        receiver.terminate()
        receiver.wait(60)


def _killed(command: str, seconds: float) -> str:
    """Run the page's command and kill it, and all that it started, after `seconds`.

    Return what it printed if it had ended well by then, else "".
    """
    run = subprocess.Popen(
        ["bash", "-c", command],
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        start_new_session=True,
    )
    try:
        said, _ = run.communicate(timeout=seconds)
    except subprocess.TimeoutExpired:
        os.killpg(run.pid, signal.SIGKILL)
        said, _ = run.communicate()
        print(f"{said}KILLED after {seconds:.1f} s", flush=True)
        return ""
    print(f"{said}ended with {run.returncode} before {seconds:.1f} s", flush=True)
    if run.returncode:
        raise SystemExit("a run that nobody killed has failed")
    return str(said)


def _assert_recovered(machine: Machine, folder: Path) -> None:
    """Everything is as it was, once."""
    found = folder / "found"
    machine.judged(found)
    for dump in sorted(found.iterdir()):
        assert dump.read_text() == (folder / "judge" / dump.name).read_text(), f"{dump.name} differs"
    for name in FOLDERS:
        compare = ("rsync", "-n", "-a", "--checksum", "--delete", "--itemize-changes")
        differs = _run(*compare, f"{folder}/judge/{name}/", f"/srv/{name}/", stdout=subprocess.PIPE).stdout
        assert not differs, differs
    databases = machine.sql("SELECT datname FROM pg_database WHERE NOT datistemplate").split()
    # The server's own database was there, so its previous version is kept, once.
    previous = [one for one in databases if one.startswith("postgres_before_")]
    assert len(previous) <= 1, previous
    assert sorted({*databases} - {*previous}) == sorted((*DATABASES, "postgres")), databases
    beside = sorted(one.name for one in Path("/srv").iterdir())
    assert beside == sorted((*FOLDERS, "app")), beside
    assert [one.name for one in Path("/srv/app").iterdir()] == ["app.db"]
    powers = machine.sql(
        "SELECT rolreplication, pg_has_role('backup', 'pg_read_all_data', 'MEMBER') FROM pg_roles WHERE rolname = 'backup'"
    )
    assert powers == "t|t", powers


if __name__ == "__main__":
    what, place, *rest = sys.argv[1:]
    if what == "before":
        before(Path(place), rest[0], Path(rest[1]))
    else:
        after(Path(place), rest[0], rest[1], int(rest[2]), int(rest[3]))
