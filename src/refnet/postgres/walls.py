"""The isolation layers of a scratch server, which limit the reach of code in a dump.

The server and initdb run in separate namespaces: they see /usr, PostgreSQL's programs and their own folders, no other
processes, no network. Bubblewrap builds these if it is installed, else util-linux's unshare and mount. The first way
that works on this machine is used; `Walls` names its layers.
"""

import os
import shlex
import shutil
import signal
import subprocess
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, suppress
from dataclasses import dataclass, fields
from pathlib import Path

from refnet.core.signals import delayed
from refnet.postgres.account import Account, environment
from refnet.postgres.binaries import Binaries

#: Links or folders of the root that lead to programs and libraries.
_SYSTEM = ("bin", "sbin", "lib", "lib32", "lib64", "libx32")
#: Files outside /usr that PostgreSQL's programs read if they exist: libraries, Debian's dictionaries, the time zone.
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
    """The isolation layers that a server has."""

    #: The server sees only the system's programs and its own folders.
    files: bool = False
    #: The server sees only its own processes, and none of them outlives it.
    processes: bool = False
    #: The server has no network.
    network: bool = False
    #: The server shares no memory or semaphores with others.
    ipc: bool = False
    #: The server's user owns nothing else that the server could reach.
    user: bool = False

    @property
    def missing(self) -> tuple[str, ...]:
        """The names of the missing layers."""
        return tuple(field.name for field in fields(self) if not getattr(self, field.name))


def advice() -> str:
    """Return the remedy for missing layers, as the beginning of a sentence."""
    if shutil.which("bwrap") is None:
        return "Install bubblewrap"
    return (
        "Allow bubblewrap to create user namespaces, which this kernel or container forbids "
        "(sysctl user.max_user_namespaces, kernel.apparmor_restrict_unprivileged_userns; in a container its seccomp profile)"
    )


@dataclass(frozen=True)
class ServerFolders:
    """The folders of a scratch server (absolute paths)."""

    #: Contains all files that the server leaves behind.
    folder: Path
    #: The folder of the socket; not in `folder` if that path is too long.
    socket: Path
    programs: Binaries

    @property
    def data(self) -> Path:
        return self.folder / "data"

    @property
    def writable(self) -> tuple[Path, ...]:
        """The folders that the server may write to."""
        return (self.data, self.socket)


@dataclass(frozen=True)
class Enclosure:
    """A way to run programs as `account`, isolated by `walls`."""

    walls: Walls
    account: Account
    #: Precedes each command line.
    prefix: tuple[str, ...] = ()
    #: The prefix begins as this process's user, and switches to `account` itself.
    drops: bool = False

    def start(self, command: Sequence[str], **streams: object) -> subprocess.Popen[str]:
        """Start `command` isolated; `streams` as subprocess.Popen takes them."""
        process: subprocess.Popen[str] = subprocess.Popen(
            [*self.prefix, *command],
            cwd="/",
            env=({} if _has_zone() or not self.walls.files else {"TZ": "UTC"}) | environment(),
            start_new_session=True,
            text=True,
            errors="replace",
            **streams,  # type: ignore[call-overload]
            **({} if self.drops else self.account.become),
        )
        return process

    def run(self, command: Sequence[str], seconds: float, **streams: object) -> tuple[int, str, str]:
        """Run `command` as `start` does; return its exit code, stdout and stderr (as far as these are pipes).

        After `seconds` it is killed: subprocess.TimeoutExpired. Its stdin is empty, unless `streams` has one.
        """
        with ExitStack() as stack:
            with delayed():  # after an interrupt during the start, nobody would end the process
                process = stack.enter_context(self.start(command, **{"stdin": subprocess.DEVNULL, **streams}))
                stack.callback(_kill, process)
            out, errors = process.communicate(timeout=seconds)
        return process.returncode, out, errors


def _has_zone() -> bool:
    """Whether the walls show /etc/localtime. Otherwise TZ=UTC is set, so that initdb does not search all zones."""
    return Path("/etc/localtime") in _read()


def _kill(process: subprocess.Popen[str]) -> None:
    """Kill a running program and its process group: while it starts, no namespace ties its children to it yet."""
    if process.poll() is None:
        with suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)


def enclosure(folders: ServerFolders, account: Account) -> Enclosure:
    """Return the way with the most layers that works on this machine."""
    for one in _ways(folders, account):
        if not one.prefix or _works(one, folders.programs):
            return one
    raise AssertionError("the last enclosure has no prefix")


def _ways(folders: ServerFolders, account: Account) -> Iterator[Enclosure]:
    every = Walls(files=True, processes=True, network=True, ipc=True, user=True)
    apart = Walls(processes=True, network=True, ipc=True, user=account.other)
    passwd = folders.folder / "passwd"
    passwd.write_text(f"refnet:x:{account.uid}:{account.gid}::/:/bin/false\n", encoding="ascii")
    passwd.chmod(0o644)
    if program := shutil.which("bwrap"):
        yield Enclosure(every, account, (program, *_bubblewrap(folders, passwd)))
    unshare, setpriv = shutil.which("unshare"), shutil.which("setpriv")
    if unshare and setpriv:
        namespaces = ("--fork", "--kill-child=KILL", "--pid", "--ipc", "--net")
        begin = (setpriv, "--pdeathsig=KILL", unshare, *namespaces)
        script = _script(folders, passwd, _drop(account, setpriv, unshare))
        hidden = (*begin, "--uts", "--mount", *(() if account.other else ("--user", "--map-root-user")))
        yield Enclosure(every, account, (*hidden, "/bin/sh", "-c", script, "sh"), drops=True)
        drop = f"{shlex.join(_drop(account, setpriv, ''))} " if account.other else ""
        plain = f'{drop}"$@" || exit $?'
        mapped = () if account.other else ("--user", "--map-current-user")
        yield Enclosure(apart, account, (*begin, *mapped, "/bin/sh", "-c", plain, "sh"), drops=True)
    yield Enclosure(Walls(user=account.other), account)


def _works(one: Enclosure, programs: Binaries) -> bool:
    command = [str(programs.tool("postgres")), "--version"]
    try:
        code, said, _ = one.run(command, _TRIAL_SECONDS, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL)
    except (OSError, subprocess.TimeoutExpired):
        return False
    return code == 0 and programs.version in said


def _bubblewrap(folders: ServerFolders, passwd: Path) -> Iterator[str]:
    yield from ("--unshare-all", "--die-with-parent", "--new-session")
    yield from ("--proc", "/proc", "--dev", "/dev", "--tmpfs", "/tmp")  # noqa: S108  # a fresh one, inside
    for name, target in _links():
        yield from ("--symlink", target, f"/{name}")
    for path in _readable(folders.programs):
        yield from ("--ro-bind", str(path), str(path))
    yield from ("--ro-bind", str(passwd), "/etc/passwd")
    for path in folders.writable:
        yield from ("--bind", str(path), str(path))
    yield from ("--remount-ro", "/", "--chdir", "/", "--")


def _links() -> Iterator[tuple[str, str]]:
    for name in _SYSTEM:
        if (path := Path("/") / name).is_symlink():
            yield name, str(path.readlink())


def _readable(programs: Binaries) -> Iterator[Path]:
    """Yield the paths that the server may read: the system's programs, PostgreSQL's, a few files."""
    system = [Path("/usr"), *(Path("/") / name for name in _SYSTEM)]
    yield from (folder for folder in system if folder.is_dir() and not folder.is_symlink())
    yield from _read()
    if not programs.folder.resolve().is_relative_to("/usr"):
        yield from programs.parts


def _read() -> list[Path]:
    """Return the files of _READ that exist, without links."""
    return [path for path in map(Path, _READ) if path.exists() and not path.is_symlink()]


def _drop(account: Account, setpriv: str, unshare: str) -> tuple[str, ...]:
    """Return the command that runs the rest of its arguments as `account`."""
    if not account.other:
        return (unshare, "--user", f"--map-user={account.uid}", f"--map-group={account.gid}")
    ids = (f"--reuid={account.uid}", f"--regid={account.gid}", "--clear-groups", "--no-new-privs")
    return (setpriv, *ids, "--bounding-set=-all", "--inh-caps=-all")


def _script(folders: ServerFolders, passwd: Path, drop: Sequence[str]) -> str:
    """Return the script of the shell that is root in new namespaces.

    It builds a root folder, moves into it and runs its arguments as the user. The shell remains as the first process:
    all others end with it.
    """
    root = folders.folder / "root"
    root.mkdir(exist_ok=True)
    quoted = shlex.quote

    lines = [
        "set -e",
        f"mount -t tmpfs -o mode=0755,nosuid,nodev refnet {quoted(str(root))}",
        f"cd {quoted(str(root))}",
        "mkdir proc dev dev/shm tmp etc old",
        "mount -t tmpfs -o mode=1777,nosuid,nodev refnet tmp",
        "mount -t tmpfs -o mode=1777,nosuid,nodev refnet dev/shm",
        *(f"ln -s {quoted(target)} {name}" for name, target in _links()),
        *(f": > dev/{name}; mount --bind /dev/{name} dev/{name}" for name in _DEVICES),
        *(line for path in _readable(folders.programs) for line in _bind(path, str(path))),
        *_bind(passwd, "/etc/passwd"),
        *(line for path in folders.writable for line in _bind(path, str(path), writable=True)),
        "mount -t proc -o nosuid,nodev,noexec proc proc",
        "(PATH=$PATH:/usr/sbin:/sbin; pivot_root . old)",  # which an ordinary user's PATH may lack
        "cd /",
        "umount -l /old",
        "rmdir /old",
        "mount -o remount,bind,ro /",
        f'{shlex.join(drop)} -- "$@" || exit $?',
    ]
    return "\n".join(lines)


def _bind(source: Path, target: str, *, writable: bool = False) -> Iterator[str]:
    """Yield the commands that mount `source` as `target` below the current folder."""
    inside = shlex.quote(f".{target}")
    parent = shlex.quote(str(Path(f".{target}").parent))
    yield f"mkdir -p {inside}" if source.is_dir() else f"mkdir -p {parent}; : > {inside}"
    yield f"mount --bind {shlex.quote(str(source))} {inside}"
    if not writable:
        yield f"mount -o remount,bind,ro {inside} || mount -o remount,bind,ro,nosuid,nodev {inside}"
