"""Run commands; measure their time and the memory of their processes.

Memory is the sum of the proportional set sizes (PSS: a shared page counts once) of the process tree, read from /proc
every 20 ms. A server that a command starts is counted by itself, with what is written to /dev/shm meanwhile; the server
that it connects to is left out: every way has the same. Sampling slows a run a little, so a run is either timed or sampled.
"""

from __future__ import annotations

import ctypes
import itertools
import os
import shutil
import subprocess
import threading
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

SAMPLE_SECONDS = 0.02
#: Reading what a server maps takes longer than 20 ms: it is done in every so many samples.
_SELDOM = 10
#: The server, and the program that starts it without network.
_SERVER = frozenset({"postgres", "unshare"})
_IN_MEMORY = Path("/dev/shm")  # noqa: S108
_C = ctypes.CDLL(None)
#: kcmp has no function in the C library; its number, by machine.
_KCMP, _KCMP_VM = {"x86_64": 312, "aarch64": 272}, 1


class FailedError(Exception):
    """A command that did not end with 0; the text is its exit code and the first line of its error."""


@dataclass(frozen=True)
class Run:
    """`seconds`: wall time; `cpu`: seconds of the commands. `stdout`: of the last command.

    Bytes, None if they were not sampled: `peak` of the commands; `beside` of the servers that they start, and in /dev/shm.
    """

    seconds: float
    cpu: float
    peak: int | None
    stdout: str
    beside: int | None = None


def inherited() -> dict[str, str]:
    """Return the variables of this process without those that change what a command does, or how Python runs it."""
    changing = ("REFNET_", "PG", "PYTHON")
    return {name: value for name, value in os.environ.items() if not name.startswith(changing)}


def pipeline(
    commands: Sequence[Sequence[str]],
    environment: Mapping[str, str],
    folder: Path,
    *,
    into: Path | None = None,
    sample: bool = False,
) -> Run:
    """Run `commands` as a pipeline; the last one writes `into` a file, or its output is returned.

    Raises FailedError if any of them does not end with 0: a pipe hides the exit codes of all but the last.
    """
    last = into or folder / "stdout"
    with last.open("wb") as out, (folder / "stderr").open("w+") as errors:
        begin = time.perf_counter()
        children: list[subprocess.Popen[bytes]] = []
        for number, command in enumerate(commands):
            previous = children[-1].stdout if children else subprocess.DEVNULL
            children.append(
                subprocess.Popen(
                    command,
                    env=environment,
                    cwd=folder,
                    stdin=previous,
                    stdout=out if number == len(commands) - 1 else subprocess.PIPE,
                    stderr=errors,
                )
            )
            if children[:-1] and children[-2].stdout:
                children[-2].stdout.close()
        with sampled([child.pid for child in children], sample) as peak:
            ended = [_wait(child) for child in children]
        seconds = time.perf_counter() - begin
        errors.seek(0)
        said = errors.read().strip().splitlines()
    if any(code for code, _ in ended):
        raise FailedError(_failure(max((code for code, _ in ended), key=abs), said))
    cpu = sum(one for _, one in ended)
    own, beside = peak if sample else (None, None)
    return Run(seconds, cpu, own, "" if into else last.read_text(), beside)


def _wait(child: subprocess.Popen[bytes]) -> tuple[int, float]:
    """Return the exit code of `child`, and the CPU seconds of it and the processes that it waited for."""
    _, status, usage = os.wait4(child.pid, 0)
    child.returncode = os.waitstatus_to_exitcode(status)
    return child.returncode, usage.ru_utime + usage.ru_stime


def _failure(code: int, said: Sequence[str]) -> str:
    """Return the exit code and the first line of the error, without the tool's name and the severity."""
    first = said[0] if said else "no message"
    return f"exit {code}: {first.split(': error: ')[-1]}"


@contextmanager
def sampled(roots: Sequence[int], wanted: bool = True) -> Iterator[list[int]]:
    """Yield the largest sums so far, in bytes: of the processes; of the servers that they start and in /dev/shm."""
    peak = [0, 0]
    if not wanted:
        yield peak
        return
    done = threading.Event()

    before = _in_memory()

    def sample() -> None:
        for number in itertools.count():
            if done.wait(SAMPLE_SECONDS):
                return
            tree = dict(_tree(roots))
            peak[0] = max(peak[0], sum(_pss(pid) for pid, of_server in tree.items() if not of_server))
            if number % _SELDOM == 0:
                servers = sum(_pss(pid) for pid, of_server in tree.items() if of_server)
                peak[1] = max(peak[1], servers + max(0, _in_memory() - before))

    sampler = threading.Thread(target=sample)
    sampler.start()
    try:
        yield peak
    finally:
        done.set()
        sampler.join()


def _tree(roots: Sequence[int]) -> Iterator[tuple[int, bool]]:
    """Yield the processes in the trees of `roots`, and whether each belongs to a server.

    One that was made by vfork is its parent's memory until it runs a program: it is left out.
    """
    waiting = [(pid, False) for pid in roots]
    while waiting:
        pid, of_server = waiting.pop()
        try:
            of_server |= Path(f"/proc/{pid}/comm").read_text().strip() in _SERVER
            for task in Path(f"/proc/{pid}/task").iterdir():
                children = map(int, (task / "children").read_text().split())
                waiting += ((child, of_server) for child in children if not _shares_memory(child, pid))
        except OSError:
            continue  # it has just ended
        yield pid, of_server


def _shares_memory(one: int, other: int) -> bool:
    """Whether two processes have the same memory, not two copies of it (kcmp(2))."""
    return bool(_C.syscall(_KCMP[os.uname().machine], one, other, _KCMP_VM, 0, 0) == 0)


def _in_memory() -> int:
    """Return the bytes of the files in /dev/shm, also those of others."""
    return shutil.disk_usage(_IN_MEMORY).used if _IN_MEMORY.exists() else 0


def _pss(pid: int) -> int:
    try:
        lines = Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines()
    except OSError:
        return 0  # it has just ended
    return next((int(line.split()[1]) * 1024 for line in lines if line.startswith("Pss:")), 0)
