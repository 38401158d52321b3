"""The walls around a scratch server: what code that a restore brings along can reach, and what it cannot.

The server and initdb run in namespaces of their own: they see /usr, the programs and their own folders, no other
process, no network. Bubblewrap builds that where there is one, else util-linux's unshare and mount. The first way
that works on this machine is taken; `Walls` says which walls it has.
"""

from __future__ import annotations

import shlex
import shutil
import subprocess
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, fields
from pathlib import Path

from refnet.postgres.account import Account, environment
from refnet.postgres.binaries import Binaries

#: Links or folders of the root that lead to programs and libraries.
_SYSTEM = ("bin", "sbin", "lib", "lib32", "lib64", "libx32")
#: What PostgreSQL's programs read outside /usr, where it is there: libraries, Debian's dictionaries, the time zone.
_READ = (
    "/etc/ld.so.cache",
    "/etc/alternatives",
    "/etc/localtime",
    "/etc/timezone",
    "/var/cache/postgresql/dicts",
    "/nix/store",
    "/gnu/store",
)
_DEVICES = ("null", "zero", "full", "random", "urandom")
_TRIAL_SECONDS = 20


@dataclass(frozen=True)
class Walls:
    """Which walls stand around a server.

    files: it sees the system's programs and its own folders, nothing else. processes: it sees no process but its
    own, and none of its own outlives it. network: it reaches none. ipc: it shares no memory or semaphores with
    others. user: its user owns nothing else, or owns nothing that it could reach.
    """

    files: bool = False
    processes: bool = False
    network: bool = False
    ipc: bool = False
    user: bool = False

    @property
    def missing(self) -> tuple[str, ...]:
        """The names of those that do not stand."""
        return tuple(field.name for field in fields(self) if not getattr(self, field.name))


@dataclass(frozen=True)
class Rooms:
    """The folders of a scratch server: `folder` holds all of it; it may write in `writable` (absolute paths).

    `programs` are what it runs.
    """

    folder: Path
    writable: tuple[Path, ...]
    programs: Binaries


@dataclass(frozen=True)
class Enclosure:
    """One way to run programs as `account` behind `walls`: `prefix` before their command line.

    `drops`: the prefix begins as this process's own user and takes on `account` by itself.
    """

    walls: Walls
    account: Account
    prefix: tuple[str, ...] = ()
    drops: bool = False

    def start(self, command: Sequence[str], **streams: object) -> subprocess.Popen[str]:
        """Start `command` behind the walls; `streams` as subprocess.Popen takes them."""
        process: subprocess.Popen[str] = subprocess.Popen(
            [*self.prefix, *command],
            cwd="/",
            env=environment(),
            start_new_session=True,
            text=True,
            errors="replace",
            **streams,  # type: ignore[call-overload]
            **({} if self.drops else self.account.become),
        )
        return process


def enclosure(rooms: Rooms, account: Account) -> Enclosure:
    """The way with the most walls that works on this machine."""
    for one in _ways(rooms, account):
        if not one.prefix or _works(one, rooms.programs):
            return one
    raise AssertionError("the last way has no prefix")


def _ways(rooms: Rooms, account: Account) -> Iterator[Enclosure]:
    every = Walls(files=True, processes=True, network=True, ipc=True, user=True)
    apart = Walls(processes=True, network=True, ipc=True, user=account.other)
    passwd = rooms.folder / "passwd"
    passwd.write_text(f"refnet:x:{account.uid}:{account.gid}::/:/bin/false\n", encoding="ascii")
    passwd.chmod(0o644)
    if program := shutil.which("bwrap"):
        yield Enclosure(every, account, (program, *_bubblewrap(rooms, passwd)))
    unshare, setpriv = shutil.which("unshare"), shutil.which("setpriv")
    if unshare and setpriv:
        begin = (
            setpriv,
            "--pdeathsig=KILL",
            unshare,
            "--fork",
            "--kill-child=KILL",
            "--pid",
            "--ipc",
            "--net",
        )
        script = _script(rooms, passwd, _drop(account, setpriv, unshare))
        hidden = (*begin, "--uts", "--mount", *(() if account.other else ("--user", "--map-root-user")))
        yield Enclosure(every, account, (*hidden, "/bin/sh", "-c", script, "sh"), drops=True)
        plain = (
            f'{shlex.join(_drop(account, setpriv, ""))} "$@" || exit $?'
            if account.other
            else '"$@" || exit $?'
        )
        mapped = () if account.other else ("--user", "--map-current-user")
        yield Enclosure(apart, account, (*begin, *mapped, "/bin/sh", "-c", plain, "sh"), drops=True)
    yield Enclosure(Walls(user=account.other), account)


def _works(one: Enclosure, programs: Binaries) -> bool:
    """Whether the server's program runs there."""
    try:
        trial = one.start(
            [str(programs.tool("postgres")), "--version"],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
        )
    except OSError:
        return False
    try:
        said, _ = trial.communicate(timeout=_TRIAL_SECONDS)
    except subprocess.TimeoutExpired:
        return False
    finally:
        if trial.poll() is None:
            trial.kill()
            trial.wait()
    return trial.returncode == 0 and programs.version in said


def _bubblewrap(rooms: Rooms, passwd: Path) -> Iterator[str]:
    yield from ("--unshare-all", "--die-with-parent", "--new-session")
    yield from ("--proc", "/proc", "--dev", "/dev", "--tmpfs", "/tmp")  # noqa: S108  # a fresh one, inside
    for name, target in _links():
        yield from ("--symlink", target, f"/{name}")
    for path in _readable(rooms.programs):
        yield from ("--ro-bind", str(path), str(path))
    yield from ("--ro-bind", str(passwd), "/etc/passwd")
    for path in rooms.writable:
        yield from ("--bind", str(path), str(path))
    yield from ("--remount-ro", "/", "--chdir", "/", "--")


def _links() -> Iterator[tuple[str, str]]:
    for name in _SYSTEM:
        if (path := Path("/") / name).is_symlink():
            yield name, str(path.readlink())


def _readable(programs: Binaries) -> Iterator[Path]:
    """What the server may read: the system's programs, those that it runs, a few files."""
    folders = [Path("/usr"), *(Path("/") / name for name in _SYSTEM)]
    yield from (folder for folder in folders if folder.is_dir() and not folder.is_symlink())
    yield from (path for path in map(Path, _READ) if path.exists() and not path.is_symlink())
    if not programs.folder.resolve().is_relative_to("/usr"):
        yield from programs.parts


def _drop(account: Account, setpriv: str, unshare: str) -> tuple[str, ...]:
    """The command that takes on `account` for the rest of its arguments."""
    if not account.other:
        return (unshare, "--user", f"--map-user={account.uid}", f"--map-group={account.gid}")
    ids = (f"--reuid={account.uid}", f"--regid={account.gid}", "--clear-groups", "--no-new-privs")
    return (setpriv, *ids, "--bounding-set=-all", "--inh-caps=-all")


def _script(rooms: Rooms, passwd: Path, drop: Sequence[str]) -> str:
    """For the shell that is root in new namespaces: build a root folder, move into it, run the rest as the user.

    The shell stays, as the first process: with it end all the others.
    """
    root = rooms.folder / "root"
    root.mkdir(exist_ok=True)
    quoted = shlex.quote

    def bind(source: Path, target: str, *, writable: bool = False) -> Iterator[str]:
        inside = quoted(f".{target}")
        yield (
            f"mkdir -p {inside}"
            if source.is_dir()
            else f"mkdir -p {quoted(str(Path(f'.{target}').parent))}; : > {inside}"
        )
        yield f"mount --bind {quoted(str(source))} {inside}"
        if not writable:
            yield f"mount -o remount,bind,ro {inside} || mount -o remount,bind,ro,nosuid,nodev {inside}"

    lines = [
        "set -e",
        f"mount -t tmpfs -o mode=0755,nosuid,nodev refnet {quoted(str(root))}",
        f"cd {quoted(str(root))}",
        "mkdir proc dev dev/shm tmp etc old",
        "mount -t tmpfs -o mode=1777,nosuid,nodev refnet tmp",
        "mount -t tmpfs -o mode=1777,nosuid,nodev refnet dev/shm",
        *(f"ln -s {quoted(target)} {name}" for name, target in _links()),
        *(f": > dev/{name}; mount --bind /dev/{name} dev/{name}" for name in _DEVICES),
        *(line for path in _readable(rooms.programs) for line in bind(path, str(path))),
        *bind(passwd, "/etc/passwd"),
        *(line for path in rooms.writable for line in bind(path, str(path), writable=True)),
        "mount -t proc -o nosuid,nodev,noexec proc proc",
        "pivot_root . old",
        "cd /",
        "umount -l /old",
        "rmdir /old",
        "mount -o remount,bind,ro /",
        f'{shlex.join(drop)} -- "$@" || exit $?',
    ]
    return "\n".join(lines)
