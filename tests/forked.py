"""`refnet` in a process of its own that is forked from one that has loaded its modules: it starts in a few milliseconds.

The parent of these processes never runs a command. It imports, and forks one process for each request: the arguments,
the environment and the folder of the command, with its stdin, stdout and stderr.
"""

from __future__ import annotations

import atexit
import gc
import io
import json
import os
import select
import signal
import socket
import subprocess
import sys
import threading
import time
import traceback
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from functools import cache, partial
from importlib import import_module
from pathlib import Path
from pkgutil import walk_packages
from types import ModuleType
from typing import Any, NoReturn

_REQUEST_BYTES = 1 << 17
#: What a request says: arguments, environment, folder, mask. One more, and the process has a session of its own.
_RUN = 4
#: A child of this process can be another user: its commands are started afresh.
_OURS = os.getpid()
#: What Python and libraries read as they start: commands that differ in one are forked from different parents.
_AT_START = ("PYTHON", "LC_", "LANG", "LD_", "TERM", "NO_COLOR", "FORCE_COLOR", "TYPER_", "_TYPER")
#: But for these: one is what the streams of a process with a session of its own have, one is that of `module`.
_ENCODING, _PATH = "PYTHONIOENCODING", "PYTHONPATH"
#: Names the folder, in memory, that takes the place of /var/lib: servers of root whose users cannot enter REFNET_HOME.
_STATE = "PYTEST_DEBUG_TEMPROOT"
#: The packages whose modules it loads; what they load themselves comes with them.
_PACKAGES = ("actions", "catalog", "cli", "core", "postgres", "recovery", "sources", "store", "telemetry")
#: Further modules of the network, which take a third of a second; not those that load numpy.
_NETWORK = ("bibliography", "export", "find_papers", "report_update")
#: Where the tests' own modules are found.
_CLONE = Path(__file__).parents[1]


def run(
    arguments: list[str], environment: Mapping[str, str], folder: Path, stdin: bytes, seconds: float,
    before: tuple[str, ...] = (),
) -> subprocess.CompletedProcess[bytes]:  # fmt: skip
    """Run `refnet ARGUMENTS` to its end, which must come within `seconds`.

    `before`: the command with which its parent is started, as `nsenter`.
    """
    program = str(Path(sys.executable).parent / "refnet")
    if os.getpid() != _OURS:
        return subprocess.run(
            [program, *arguments], env=environment, cwd=folder, input=stdin, capture_output=True,
            timeout=seconds, check=False,
        )  # fmt: skip
    os.umask(mask := os.umask(0o022))
    request = json.dumps([[program, *arguments], dict(environment), str(folder), mask])
    given, out, err, ended = (os.pipe() for _ in range(4))
    theirs = (given[0], out[1], err[1], ended[1])
    try:
        socket.send_fds(_parent(_at_start(environment), "", before), [request.encode()], theirs)
    finally:
        for end in theirs:
            os.close(end)
    said: list[bytes] = [b"", b""]
    readers = [threading.Thread(target=_read, args=(said, n, end[0])) for n, end in enumerate((out, err))]
    for reader in readers:
        reader.start()
    with suppress(BrokenPipeError), os.fdopen(given[1], "wb") as pipe:
        pipe.write(stdin)
    until = time.monotonic() + seconds
    for reader in readers:
        reader.join(max(0.0, until - time.monotonic()))
        if reader.is_alive():
            raise subprocess.TimeoutExpired(arguments, seconds)
    with os.fdopen(ended[0], "rb") as pipe:
        status = pipe.read()
    return subprocess.CompletedProcess([program, *arguments], int(status), *said)


@dataclass
class Started:
    """A process that was forked, in a session of its own; it is asked for as one of subprocess is."""

    pid: int
    _ended: int
    returncode: int | None = None

    def poll(self) -> int | None:
        with suppress(subprocess.TimeoutExpired):
            self.wait(0)
        return self.returncode

    def wait(self, timeout: float | None = None) -> int:
        if self.returncode is None:
            if not select.select([self._ended], [], [], timeout)[0]:
                raise subprocess.TimeoutExpired(str(self.pid), timeout or 0)
            with os.fdopen(self._ended, "rb") as pipe:
                self.returncode = int(pipe.read())
        return self.returncode

    def send_signal(self, number: int) -> None:
        if self.poll() is None:
            os.kill(self.pid, number)

    def terminate(self) -> None:
        self.send_signal(signal.SIGTERM)

    def kill(self) -> None:
        self.send_signal(signal.SIGKILL)


def start(
    arguments: Sequence[str], environment: Mapping[str, str], folder: Path, streams: Sequence[int],
    module: str = "", closed: Sequence[int] = (),
) -> Started:  # fmt: skip
    """Start `refnet ARGUMENTS` with these stdin, stdout and stderr, or without those that are `closed`.

    Its parent has loaded `module` too.
    """
    assert os.getpid() == _OURS
    os.umask(mask := os.umask(0o022))
    request = json.dumps([["refnet", *arguments], dict(environment), str(folder), mask, [*closed]])
    at_start = frozenset(one for one in _at_start(environment) if one[0] not in {_ENCODING, _PATH})
    told, ended = os.pipe()
    try:
        socket.send_fds(_parent(at_start, module, ()), [request.encode()], [*streams, ended])
    finally:
        os.close(ended)
    pid = b""
    while not pid.endswith(b"\n"):
        pid += os.read(told, 1) or b"no process: its parent has ended\n"
    return Started(int(pid), told)


class Heard:
    """`refnet ARGUMENTS` with nothing on stdin, in a session of its own; what it prints is read while it runs."""

    def __init__(self, arguments: Sequence[str], environment: Mapping[str, str], folder: Path) -> None:
        out, err = os.pipe(), os.pipe()
        theirs = (os.open(os.devnull, os.O_RDONLY), out[1], err[1])
        try:
            self._started = start(arguments, environment, folder, theirs)
        finally:
            for end in theirs:
                os.close(end)
        self._arguments, self._said = arguments, [b"", b""]
        self._readers = [
            threading.Thread(target=_read, args=(self._said, number, end[0]), daemon=True)
            for number, end in enumerate((out, err))
        ]
        for reader in self._readers:
            reader.start()

    @property
    def pid(self) -> int:
        return self._started.pid

    @property
    def returncode(self) -> int | None:
        return self._started.returncode

    def poll(self) -> int | None:
        return self._started.poll()

    def send_signal(self, number: int) -> None:
        self._started.send_signal(number)

    def communicate(self, timeout: float) -> tuple[bytes, bytes]:
        """Wait for its end; return what it and its children printed."""
        until = time.monotonic() + timeout
        for reader in self._readers:
            reader.join(max(0.0, until - time.monotonic()))
            if reader.is_alive():
                raise subprocess.TimeoutExpired(str(self._arguments), timeout)
        self._started.wait(max(0.0, until - time.monotonic()))
        return self._said[0], self._said[1]


#: A program that has another process be `refnet`, with its own arguments, environment, folder, stdin, stdout and stderr.
_CLIENT = """#!{python} -IS
import json, os, signal, socket, sys
SIGNALS = {{signal.SIGHUP, signal.SIGINT, signal.SIGTERM}}
signal.pthread_sigmask(signal.SIG_BLOCK, SIGNALS)
given = json.dumps([["refnet", *sys.argv[1:]], dict(os.environ), os.getcwd(), os.umask(0o077), []])
status, ended = os.pipe()
server = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET)
server.connect({address!r})
socket.send_fds(server, [given.encode()], [0, 1, 2, ended])
os.close(ended)
told = open(status)
pid = int(told.readline())
for number in SIGNALS:
    signal.signal(number, lambda number, frame: os.kill(pid, number))
signal.pthread_sigmask(signal.SIG_UNBLOCK, SIGNALS)
code = int(told.read())
sys.exit(code if code >= 0 else 128 - code)
"""


#: Has each `python -m refnet` be that program instead, in the environment of `module`, which its children inherit.
_MODULE = """
import os, sys
given = [one for one in sys.orig_argv[1:] if one != "-P"]
if given[:2] == ["-m", "refnet"]:
    os.execv({client!r}, ["refnet", *given[2:]])
"""


@contextmanager
def module(folder: Path) -> Iterator[dict[str, str]]:
    """Have each `python -m refnet` start in a few milliseconds while the block runs, in an environment that this gives."""
    with program(folder):
        (folder / "sitecustomize.py").write_text(_MODULE.format(client=str(folder / "refnet")))
        yield {"PYTHONPATH": str(folder)}


@contextmanager
def program(folder: Path) -> Iterator[None]:
    """Put a program `refnet` into `folder`, for shells, which starts in a few milliseconds while the block runs.

    SIGHUP, SIGINT and SIGTERM to it reach the process that is `refnet`.
    """
    client = folder / "refnet"
    with socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET) as listener:
        listener.bind(str(folder / "forked"))
        listener.listen()
        client.write_text(_CLIENT.format(python=sys.executable, address=listener.getsockname()))
        client.chmod(0o755)
        thread = threading.Thread(target=_pass_on, args=(listener,))
        thread.start()
        try:
            yield
        finally:
            listener.shutdown(socket.SHUT_RDWR)
            thread.join()


def _pass_on(listener: socket.socket) -> None:
    """Send what each client asks for to the process that forks, until the listener is shut down."""
    while True:
        try:
            client, _ = listener.accept()
        except OSError:
            return
        with client:
            request, ends, _, _ = socket.recv_fds(client, _REQUEST_BYTES, 4)
            at_start = frozenset(one for one in _at_start(json.loads(request)[1]) if one[0] != _PATH)
            try:
                socket.send_fds(_parent(at_start, "", ()), [request], ends)
            finally:
                for end in ends:
                    os.close(end)


def text(
    *arguments: str, environment: Mapping[str, str], folder: Path, seconds: float = 900
) -> subprocess.CompletedProcess[str]:
    """Run `refnet ARGUMENTS` with nothing on stdin; what it printed, as text."""
    done = run([*arguments], environment, folder, b"", seconds)
    return subprocess.CompletedProcess(done.args, done.returncode, done.stdout.decode(), done.stderr.decode())


def _at_start(environment: Mapping[str, str]) -> frozenset[tuple[str, str]]:
    return frozenset(
        (name, value)
        for name, value in environment.items()
        if name.startswith(_AT_START) and name != "PYTHON"  # which is for ./dev alone
    )


def _read(said: list[bytes], number: int, end: int) -> None:
    with os.fdopen(end, "rb") as pipe:
        said[number] = pipe.read()


@cache
def _parent(at_start: frozenset[tuple[str, str]], module: str, before: tuple[str, ...]) -> socket.socket:
    """Start the process that forks, in this environment; it ends when this one does.

    There are no defaults: `cache` takes a call with one for another call.
    """
    ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    state = "" if before else os.environ.get(_STATE, "")  # beside a systemd it is where units have it
    with theirs:
        number = theirs.fileno()
        parent = subprocess.Popen(
            [*before, sys.executable, "-P", __file__, str(number), module, state], env=dict(at_start), cwd="/",
            pass_fds=[number], stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL,
        )  # fmt: skip

    def end() -> None:
        ours.close()
        parent.terminate()  # a child of this process can still hold the socket
        parent.wait()

    atexit.register(end)
    return ours


def _serve(requests: socket.socket, module: str, state: str) -> None:
    import psycopg  # noqa: F401  # loaded before the first fork

    from refnet.cli import main
    from refnet.postgres import account, scratch

    for package in _PACKAGES:
        for found in walk_packages(import_module(f"refnet.{package}").__path__, f"refnet.{package}."):
            import_module(found.name)
    for name in _NETWORK:
        import_module(f"refnet.network.{name}")
    if module:
        sys.path.insert(0, str(_CLONE))
        import_module(module)
    if state:
        account.STATE = scratch.STATE = Path(state)
    _prepare(main)
    gc.collect()
    gc.freeze()
    running: dict[
        int, tuple[int, int]
    ] = {}  # of each child: the handle that says its end → its id, where to tell it
    ready = select.poll()
    ready.register(requests, select.POLLIN)
    while True:
        for handle, _ in ready.poll():
            if handle != requests.fileno():
                ready.unregister(handle)
                _tell(handle, *running.pop(handle))
                continue
            message, ends, _, _ = socket.recv_fds(requests, _REQUEST_BYTES, 4)
            if not message:
                return
            if (child := os.fork()) == 0:
                requests.close()
                run, started = main.run, json.loads(message)
                if len(started) > _RUN:
                    os.setsid()
                    os.write(ends[3], f"{os.getpid()}\n".encode())
                    run = partial(_begun_anew, started[_RUN])
                _become(ends[:3], (*ends, *running, *(told for _, told in running.values())))
                _refnet(run, *started[:_RUN])
            for end in ends[:3]:
                os.close(end)
            ready.register(ended := os.pidfd_open(child), select.POLLIN)
            running[ended] = (child, ends[3])


def _prepare(main: ModuleType) -> None:
    """Build and ask once what each command builds and asks anew: its declarations, programs for their versions."""
    import typer

    from refnet.core import records
    from refnet.core.errors import RefnetError
    from refnet.postgres.binaries import CLIENT, installed
    from refnet.settings import examine

    typer.main.get_command = cache(typer.main.get_command)
    main._imported = cache(main._imported)
    typer.main.get_command(main.app)
    for name in main._COMMANDS:
        main._imported(name)
    examine({}, Path("/"), root=True, cores=1)
    kinds: list[Any] = records.Record.__subclasses__()
    for kind in kinds:
        kinds += kind.__subclasses__()
        records._plan(kind)
    for found in installed(None):
        for program in CLIENT:
            with suppress(RefnetError):  # too old
                found.tool(program)


def _tell(ended: int, child: int, told: int) -> None:
    """Tell how `child` ended."""
    _, status = os.waitpid(child, 0)
    with suppress(BrokenPipeError):
        os.write(told, str(os.waitstatus_to_exitcode(status)).encode())
    os.close(told)
    os.close(ended)


def _become(streams: Sequence[int], handles: Iterable[int]) -> None:
    for number, end in enumerate(streams):
        os.dup2(end, number)
    for handle in handles:
        os.close(handle)


def _begun_anew(closed: Sequence[int]) -> None:
    """What Python and `refnet` do first where the streams are not pipes, and then `refnet`."""
    from refnet.__main__ import run

    encoding, _, errors = os.environ.get(_ENCODING, "").partition(":")
    for number in closed:
        os.close(number)
    sys.stdin = None if 0 in closed else open(0, closefd=False)  # type: ignore[assignment]  # noqa: SIM115
    sys.stdout, sys.stderr = (
        None if number in closed else io.TextIOWrapper(
            open(number, "wb", closefd=False), encoding or old.encoding, errors or old.errors,  # noqa: SIM115
            line_buffering=number == 2 or os.isatty(number), write_through=old.write_through,
        )
        for number, old in ((1, sys.stdout), (2, sys.stderr))
    )  # type: ignore[assignment]  # fmt: skip
    run()


def _refnet(
    run: Callable[[], None], arguments: list[str], environment: dict[str, str], folder: str, mask: int
) -> NoReturn:
    """Be `refnet ARGUMENTS` to its end."""
    code = 1
    try:
        os.environ.clear()
        os.environ.update(environment)
        time.tzset()
        os.chdir(folder)
        os.umask(mask)
        sys.argv[:] = arguments
        run()
        code = 0
    except SystemExit as ended:
        code = int(ended.code or 0)
    except BaseException:  # noqa: BLE001  # as Python itself does at the end of a program
        traceback.print_exc()
    finally:
        threading._shutdown()  # type: ignore[attr-defined]
        atexit._run_exitfuncs()
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(code)


if __name__ == "__main__":
    with suppress(KeyboardInterrupt):
        _serve(socket.socket(fileno=int(sys.argv[1])), *sys.argv[2:])
