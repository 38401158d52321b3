"""`refnet` in a process of its own that is forked from one that has loaded its modules: it starts in a few milliseconds.

The parent of these processes never runs a command. It imports, and forks one process for each request: the arguments,
the environment and the folder of the command, with its stdin, stdout and stderr.
"""

from __future__ import annotations

import atexit
import gc
import json
import os
import socket
import subprocess
import sys
import threading
import time
import traceback
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from functools import cache
from importlib import import_module
from pathlib import Path
from typing import NoReturn

_REQUEST_BYTES = 1 << 17
#: A child of this process can be another user: its commands are started afresh.
_OURS = os.getpid()
#: What Python and libraries read as they start: commands that differ in one are forked from different parents.
_AT_START = ("PYTHON", "LC_", "LANG", "LD_", "TERM", "NO_COLOR", "FORCE_COLOR", "TYPER_", "_TYPER")
_MODULES = (
    "psycopg", "refnet.actions.backup", "refnet.actions.monitor", "refnet.actions.recover", "refnet.cli.backup",
    "refnet.cli.catalog", "refnet.cli.completion", "refnet.cli.diff", "refnet.cli.drill", "refnet.cli.look",
    "refnet.cli.monitor", "refnet.cli.network", "refnet.cli.prune", "refnet.cli.recover", "refnet.cli.restore",
    "refnet.cli.restore_table", "refnet.cli.show", "refnet.cli.verify", "refnet.postgres.embedded",
    "refnet.recovery.sources.database.database_maker", "refnet.recovery.sources.files.files_maker", "refnet.telemetry.logging",
)  # fmt: skip


def run(
    arguments: list[str], environment: Mapping[str, str], folder: Path, stdin: bytes, seconds: float
) -> subprocess.CompletedProcess[bytes]:
    """Run `refnet ARGUMENTS` to its end, which must come within `seconds`."""
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
        socket.send_fds(_parent(_at_start(environment)), [request.encode()], theirs)
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


#: A program that has another process be `refnet`, with its own arguments, environment, folder, stdin, stdout and stderr.
_CLIENT = """#!{python} -IS
import json, os, socket, sys
given = json.dumps([["refnet", *sys.argv[1:]], dict(os.environ), os.getcwd(), os.umask(0o077)])
status, ended = os.pipe()
server = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET)
server.connect({address!r})
socket.send_fds(server, [given.encode()], [0, 1, 2, ended])
os.close(ended)
code = int(os.read(status, 9))
sys.exit(code if code >= 0 else 128 - code)
"""


@contextmanager
def program(folder: Path) -> Iterator[None]:
    """Put a program `refnet` into `folder`, for shells, which starts in a few milliseconds while the block runs.

    A signal to it does not reach the process that is `refnet`.
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
            try:
                socket.send_fds(_parent(_at_start(json.loads(request)[1])), [request], ends)
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
    return frozenset((name, value) for name, value in environment.items() if name.startswith(_AT_START))


def _read(said: list[bytes], number: int, end: int) -> None:
    with os.fdopen(end, "rb") as pipe:
        said[number] = pipe.read()


@cache
def _parent(at_start: frozenset[tuple[str, str]]) -> socket.socket:
    """Start the process that forks, in this environment; it ends when this one does."""
    ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    with theirs:
        number = theirs.fileno()
        parent = subprocess.Popen(
            [sys.executable, "-P", __file__, str(number)], env=dict(at_start), cwd="/", pass_fds=[number],
            stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL,
        )  # fmt: skip

    def end() -> None:
        ours.close()
        parent.terminate()  # a child of this process can still hold the socket
        parent.wait()

    atexit.register(end)
    return ours


def _serve(requests: socket.socket) -> None:
    from refnet.cli import main

    for name in _MODULES:
        import_module(name)
    gc.collect()
    gc.freeze()
    while True:
        message, ends, _, _ = socket.recv_fds(requests, _REQUEST_BYTES, 4)
        if not message:
            return
        if os.fork() == 0:
            requests.close()
            _watch(ends, lambda: _refnet(main.run, *json.loads(message)))  # noqa: B023  # called at once
        for end in ends:
            os.close(end)
        with suppress(ChildProcessError):
            while os.waitpid(-1, os.WNOHANG)[0]:
                pass


def _watch(ends: list[int], act: Callable[[], None]) -> NoReturn:
    """Let a child `act` with the first three of `ends` as its stdin, stdout and stderr; tell the last how it ended."""
    if (child := os.fork()) == 0:
        for number, end in enumerate(ends[:3]):
            os.dup2(end, number)
        for end in ends:
            os.close(end)
        act()
    for end in ends[:3]:
        os.close(end)
    _, status = os.waitpid(child, 0)
    os.write(ends[3], str(os.waitstatus_to_exitcode(status)).encode())
    os._exit(0)


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
        _serve(socket.socket(fileno=int(sys.argv[1])))
