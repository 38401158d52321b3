"""The runs that the dashboard starts: child processes that run `refnet`, with files in `REFNET_HOME/web`.

So hostile artifacts are isolated as in a terminal, a crash harms no page, and a child survives browser and server: the
next server finds its result. A child inherits a lock that shows whether it lives.
"""

from __future__ import annotations

import heapq
import os
import secrets
import shlex
import signal
import subprocess
import threading
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from typing import Any

from anyio import CapacityLimiter

from refnet.core.errors import Exit, RefnetError
from refnet.core.files import explained, make_folder, open_file, read_regular, replace_file
from refnet.core.formatting import plain
from refnet.core.locks import PROBE_SECONDS, is_locked, locked, take
from refnet.core.processes import EndedProgram, run_bounded
from refnet.settings import PROGRESS, STARTED_BY, Settings
from refnet.web import child_process
from refnet.web.answers import threaded
from refnet.web.child_process import End, LastStep, Reported, Started, around, command

#: The number of newest children whose files are kept; running children are always kept.
KEPT = 200
#: Limits: characters of a line, bytes of messages in one answer, bytes of a short command's output.
_LINE, _MESSAGES, _OUTPUT = 2000, 64 << 10, 4 << 20
#: Commands break no line: pages do.
_ENVIRONMENT = {"COLUMNS": "500", "NO_COLOR": "1"}
_STATES: dict[int, str] = {Exit.DONE: "done", Exit.UNVERIFIED: "could not verify", Exit.DAMAGED: "damaged"}


class BusyError(RefnetError):
    """A running child excludes the new one."""

    def __init__(self, child: Child) -> None:
        super().__init__(
            f"{child.title} is still running", "Wait until it ends, or stop it.", Exit.LOCKED, transient=True
        )
        self.child = child


@dataclass(frozen=True)
class CommandOutput:
    """How a short command ended: exit code and output."""

    code: int
    stdout: str
    #: The end of stderr.
    stderr: str

    def error(self, message: str, hint: str, code: Exit = Exit.FAILED) -> RefnetError:
        """The error that it printed; `message` and `hint` if it printed none."""
        return RefnetError(*(child_process.last_error(self.stderr) or (message, hint)), code)


@dataclass(frozen=True)
class Child:
    """A run that a dashboard started; a snapshot."""

    #: The id, see `child_process.ID`.
    id: str
    #: The command: backup, verify, drill, restore, undo, …
    kind: str
    #: The source of the run; "": all.
    source: str
    title: str
    #: The command line after `refnet`.
    words: tuple[str, ...]
    #: With a time zone.
    started: datetime
    #: A key that no two running children share; "": none.
    exclusive: str
    running: bool
    #: The exit code; None: running, or the process was lost.
    code: int | None
    #: The duration, in seconds; None: as for `code`.
    seconds: float | None
    #: The last reported step.
    progress: Reported | None
    _folder: Path

    @property
    def command(self) -> str:
        """The command for a shell: a word may be of somebody else, such as the name of a file."""
        return shlex.join(["refnet", *self.words])

    @property
    def state(self) -> str:
        """One of running, done, failed, damaged, could not verify, stopped, lost."""
        if self.running:
            return "running"
        if self.stopped:
            return "stopped"
        return "lost" if self.code is None else _STATES.get(self.code, "failed")

    @property
    def stopped(self) -> bool:
        """Whether somebody stopped it in the browser, and it had not ended by itself."""
        return (
            self.code in {Exit.FAILED, -signal.SIGINT}
            and (self._folder / (self.id + child_process.STOP)).exists()
        )

    @property
    def said(self) -> tuple[str, str] | None:
        """The two lines of the last printed error; None if there is none."""
        text = _read(self._folder, self.id + child_process.MESSAGES, 2 * child_process.LONGEST_MESSAGES)
        return child_process.last_error((text or b"").decode(errors="replace"))

    @property
    def error(self) -> tuple[str, str] | None:
        """The reason of a failure and a hint; None: running or successful."""
        if self.running or self.code == Exit.DONE:
            return None
        if self.code is None:
            lost = "Was it killed, or the machine switched off? Retry."
            return f"{self.title}: its process ended early", lost
        generic = f"{self.title} ended with exit code {self.code}"
        return self.said or (generic, "See its result and its messages.")

    @property
    def result(self) -> dict[str, Any] | None:
        """The printed JSON document; None if there is none, or it is too long."""
        text = _read(self._folder, self.id + child_process.RESULT, child_process.LONGEST_RESULT)
        if not text or self.running:
            return None
        with suppress(ValueError):
            return child_process.printed(text)
        return None

    def log(self, after: int = 0) -> tuple[tuple[str, ...], int]:
        """Return complete lines of messages from byte `after` on, and `after` for the next call."""
        try:
            handle = open_file(self._folder / (self.id + child_process.MESSAGES))
        except OSError:
            return (), after
        try:
            data = os.pread(handle, _MESSAGES, max(0, min(after, 1 << 40)))
        finally:
            os.close(handle)
        complete = data[: data.rfind(b"\n") + 1]
        lines = complete.decode(errors="replace").splitlines()
        return tuple(plain(line)[:_LINE] for line in lines), after + len(complete)


class Children:
    """The children of one REFNET_HOME, including those of earlier servers."""

    def __init__(self, settings: Settings) -> None:
        self.folder = settings.home / "web"
        self._environment = {**_ENVIRONMENT, **settings.variables}
        self._threads = CapacityLimiter(4)

    def start(
        self, words: Sequence[str], *, kind: str, source: str, title: str, exclusive: str = ""
    ) -> Child:
        """Start `refnet WORDS --json` in a new process session.

        Args:
            kind: the command, one lower-case word.
            source: the source of the run; "": all.
            title: the name of the run in pages and errors.
            exclusive: BusyError (LOCKED) while a child with the same key runs.
        """
        now = datetime.now(UTC)
        started = Started(kind, source, title, tuple(words), now, exclusive)
        try:
            Started.from_values(started.values())
        except ValueError as error:
            raise RefnetError(f"{title[:100]}: {error}", "Choose other values.", Exit.USAGE) from None
        make_folder(self.folder)
        name = f"{now:%Y%m%dT%H%M%S}-{secrets.token_hex(6)}"
        with locked(self.folder / "lock"):  # shared by all servers, for milliseconds
            for one in self.all():
                if exclusive and one.running and one.exclusive == exclusive:
                    raise BusyError(one)
            with explained(self.folder / name):
                self._spawn(name, started)
                self._remove_old()
        return self.one(name)

    async def output(
        self, words: Sequence[str], *, seconds: float = 60, variables: Mapping[str, str] | None = None
    ) -> CommandOutput:
        """Run a short read-only command; RefnetError if it takes longer than `seconds` or prints over 4 MiB.

        variables: more of its environment, such as settings that are only tried.
        """
        environment = {**self._environment, **(variables or {})}
        work = partial(run_bounded, command(words), seconds, _OUTPUT, environment=environment)
        ended = await threaded(work, self._threads)
        shown = f"`refnet {' '.join(words[:2])}`"
        if ended.cut:
            raise RefnetError(f"{shown} printed more than {_OUTPUT >> 20} MiB", "Run it in a terminal.")
        if ended.code < 0:
            raise RefnetError(
                f"{shown} did not end within {seconds:.0f} s", "Run it in a terminal.", transient=True
            )
        return CommandOutput(ended.code, ended.output.decode(errors="replace"), ended.messages)

    async def raw(
        self, words: Sequence[str], *, most: int, given: bytes = b"", seconds: float = 60
    ) -> EndedProgram:
        """Run a short read-only command with `given` as its input; of its output, at most `most` bytes are read."""
        work = partial(run_bounded, command(words), seconds, most, given, self._environment)
        return await threaded(work, self._threads)

    def stream(self, words: Sequence[str]) -> subprocess.Popen[bytes]:
        """Start a read-only command whose output, and messages, the caller reads."""
        return subprocess.Popen(
            command(words),
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            env={**os.environ, **self._environment},
        )

    def all(self) -> list[Child]:
        """Return the `KEPT` newest children, newest first; malformed files are skipped."""
        return [child for name in heapq.nlargest(KEPT, self._names()) if (child := self._read(name))]

    def one(self, name: str) -> Child:
        """Return the child with the id `name`; RefnetError if it does not exist."""
        child = self._read(name) if child_process.ID.fullmatch(name) else None
        if not child:
            raise RefnetError(
                f"there is no run {plain(name[:40])}", "The page Runs lists all stored runs.", Exit.USAGE
            )
        return child

    def stop(self, child: Child) -> None:
        """Interrupt a running child, as Ctrl-C does."""
        path = self.folder / (child.id + child_process.STOP)
        with explained(path):
            os.close(open_file(path, os.O_WRONLY | os.O_CREAT))

    def _spawn(self, name: str, started: Started) -> None:
        path = self.folder / (name + child_process.STARTED)
        messages = open_file(
            self.folder / (name + child_process.MESSAGES), os.O_WRONLY | os.O_CREAT | os.O_APPEND
        )
        lock = open_file(self.folder / (name + child_process.LOCK), os.O_RDWR | os.O_CREAT)
        try:
            take(lock, seconds=PROBE_SECONDS)
            replace_file(path, started.to_json().encode())
            process = subprocess.Popen(
                (*around(self.folder, name, lock), *started.words, "--json"),
                stdin=subprocess.DEVNULL,
                stdout=messages,
                stderr=messages,  # only for an error of that process
                env={**os.environ, **self._environment, PROGRESS: "json", STARTED_BY: f"browser {name}"},
                start_new_session=True,
                pass_fds=(lock,),
            )
        except OSError:
            path.unlink(missing_ok=True)
            raise
        finally:
            os.close(messages)
            os.close(lock)
        threading.Thread(target=process.wait, daemon=True).start()  # otherwise a zombie remains

    def _names(self) -> set[str]:
        with explained(self.folder):
            try:
                found = {file.name.partition(".")[0] for file in self.folder.iterdir()}
            except FileNotFoundError:
                return set()
        return {name for name in found if child_process.ID.fullmatch(name)}

    def _read(self, name: str) -> Child | None:
        alive = self._is_locked(name)  # before reading its end
        text, ended, step = (
            _read(self.folder, name + kind, child_process.SMALL)
            for kind in (child_process.STARTED, child_process.END, child_process.STEP)
        )
        try:
            started = Started.from_json(text or b"")
            end = End.from_json(ended) if ended is not None else None
        except ValueError:
            return None
        last = None
        with suppress(ValueError):
            last = LastStep.from_json(step).report if step else None
        return Child(
            **vars(started),
            id=name,
            running=end is None and alive,
            code=end.code if end else None,
            seconds=end.seconds if end else None,
            progress=last,
            _folder=self.folder,
        )

    def _is_locked(self, name: str) -> bool:
        with suppress(RefnetError):  # a file that RefNet did not create
            return is_locked(self.folder / (name + child_process.LOCK))
        return False

    def _remove_old(self) -> None:
        """Remove the files of all children except the newest and the running ones."""
        kept = {*heapq.nlargest(KEPT, self._names())}
        for file in self.folder.iterdir():
            name = file.name.partition(".")[0]
            if child_process.ID.fullmatch(name) and name not in kept:
                with suppress(OSError):
                    if not self._is_locked(name):
                        file.unlink()


def _read(folder: Path, name: str, longest: int) -> bytes | None:
    """Read a file that only this user can write to; None if it is missing, too long or not such a file."""
    with suppress(OSError):
        return read_regular(folder / name, longest, owner=os.geteuid())
    return None
