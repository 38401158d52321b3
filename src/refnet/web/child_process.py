"""The process around a child: `python -m refnet.web.child_process FOLDER ID LOCK WORDS…` runs `refnet WORDS`.

It stores the start, a bounded part of the output, the last step and the exit code in `REFNET_HOME/web`, so no server has
to wait for a child; each file is checked when read. Both inherit the lock. A request to stop is a file, not a signal:
the process id may meanwhile belong to another process.
"""

from __future__ import annotations

import hashlib
import json
import math
import os
import re
import selectors
import signal
import subprocess
import sys
import time
from collections import deque
from collections.abc import Collection, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated, Any

from refnet.core import checked
from refnet.core.files import NEW_FILE, explained, open_file, opened, replace_file, write_all
from refnet.core.formatting import plain, utf8
from refnet.core.records import Layout, Most, Rare, Record

#: The suffixes of a child's files: start, lock, result, messages, last step, end, request to stop.
STARTED, LOCK, RESULT, MESSAGES, STEP, END, STOP = ".json", ".lock", ".out", ".err", ".step", ".end", ".stop"
#: Size limits of small files, results and kept messages, in bytes.
SMALL, LONGEST_RESULT, LONGEST_MESSAGES = 64 << 10, 1 << 20, 512 << 10
#: An id: the start in UTC, so that names sort by time, and a random part.
ID = re.compile(r"[0-9]{8}T[0-9]{6}-[0-9a-f]{12}", re.ASCII)
#: The longest line of an error, in characters.
_LONGEST_ERROR = 2000
_ERROR = re.compile(r"^refnet: (?!note: |warning: )(.+)\n {8}(.+)$", re.MULTILINE)
_Count = Annotated[int, checked.integer(0, 1 << 63)]
_Text = Annotated[str, checked.text(300, errors="strict")]
#: The interval of checks for a request to stop, and between two written steps, in seconds.
_TICK = 0.25
#: How long to read output after the child's end, in seconds: programs left behind may have the pipe open.
_REST = 2.0
#: The longest line, in bytes, and the number of last lines that are always kept: they name the reason of a failure.
_LINE, _LAST_LINES = 8 << 10, 20


@dataclass(frozen=True)
class Started(Record):
    """The record of a child's start."""

    LAYOUT = Layout(longest=SMALL)

    #: The command: backup, verify, drill, restore, undo, …
    kind: Annotated[str, checked.text(20, like="[a-z]+")]
    #: The source of the run; "": all.
    source: Annotated[str, checked.text(200, errors="strict")]
    title: _Text
    #: The command line after `refnet`.
    words: Annotated[tuple[Annotated[str, checked.text(4096, errors="strict")], ...], Most(100)]
    #: With a time zone.
    started: datetime
    #: A key that no two running children share; "": none.
    exclusive: _Text


@dataclass(frozen=True)
class Reported(Record):
    """A line of REFNET_PROGRESS=json."""

    LAYOUT = Layout(longest=SMALL)

    step: Annotated[str, checked.text(1000, errors="strict")]
    #: Bytes or items: done so far, total (None: unknown).
    done: _Count
    total: _Count | None
    #: What the items are; "": bytes.
    unit: Rare[Annotated[str, checked.text(100, errors="strict")]] = ""


@dataclass(frozen=True)
class LastStep(Record):
    """The last step that a child reported, and its time (with a time zone)."""

    LAYOUT = Layout(longest=SMALL)

    report: Reported
    at: datetime


@dataclass(frozen=True)
class End(Record):
    """The end of a child."""

    LAYOUT = Layout(longest=SMALL)

    #: The exit code; negative: the signal that ended the child.
    code: Annotated[int, checked.integer(-64, 255)]
    #: The duration, in seconds.
    seconds: Annotated[float, checked.seconds]


def last_error(messages: str) -> tuple[str, str] | None:
    """Return the two lines of the last error that `refnet` printed on stderr; None if there is none."""
    if found := _ERROR.findall(messages):
        reason, advice = found[-1]
        return plain(reason)[:_LONGEST_ERROR], plain(advice)[:_LONGEST_ERROR]
    return None


def printed(text: str | bytes) -> dict[str, Any]:
    """Parse the JSON document that a command printed; ValueError if it is malformed.

    Undecodable bytes of names become question marks, as pages are in UTF-8.
    """
    try:
        return checked.document(utf8(json.dumps(checked.document(text), ensure_ascii=False)))
    except RecursionError:
        raise ValueError("too many levels") from None


def fingerprint(words: Sequence[str], plan: Any, volatile: Collection[str]) -> str:
    """SHA-256 of a command and its plan, without the values of `volatile`, which change by themselves."""

    def decided(values: Any) -> Any:
        if isinstance(values, Mapping):
            return {key: decided(one) for key, one in values.items() if key not in volatile}
        return [decided(one) for one in values] if isinstance(values, list) else values

    known = json.dumps([*words, decided(plan)], sort_keys=True)
    return hashlib.sha256(known.encode()).hexdigest()


class _Result:
    """The result, stored completely or not at all: half of a JSON document is useless."""

    def __init__(self, path: Path) -> None:
        self._path, self._size = path, 0
        self._handle = os.open(path, NEW_FILE, 0o600)

    def add(self, data: bytes) -> None:
        self._size += len(data)
        with suppress(OSError):  # a full disk ends no child
            if self._size <= LONGEST_RESULT:
                write_all(self._handle, data)
            else:
                os.ftruncate(self._handle, 0)

    def close(self) -> None:
        os.close(self._handle)


class _Messages:
    """The messages: the first ones are written at once, the last ones at the end; steps go to a separate file."""

    def __init__(self, folder: Path, name: str) -> None:
        self._handle = open_file(folder / (name + MESSAGES), os.O_WRONLY | os.O_CREAT | os.O_APPEND)
        self._step = folder / (name + STEP)
        self._size, self._left_out, self._rest, self._cut = 0, 0, b"", False
        self._last: deque[bytes] = deque(maxlen=_LAST_LINES)
        self._reported: Reported | None = None
        self._written = 0.0

    def add(self, data: bytes) -> None:
        *lines, rest = (self._rest + data).split(b"\n")
        for line in lines:
            self._line(line[:_LINE])
        self._rest = rest[:_LINE]
        self.write_step()

    def _line(self, line: bytes) -> None:
        if line.startswith(b'{"step"'):
            with suppress(ValueError):
                self._reported = Reported.from_json(line)
                return
        self._size += len(line) + 1
        if self._size <= LONGEST_MESSAGES:
            self._write(line + b"\n")
        else:
            self._left_out += len(self._last) == self._last.maxlen
            self._last.append(line)

    def write_step(self) -> None:
        """Write the last step, at most once per tick."""
        if self._reported and time.monotonic() - self._written >= _TICK:
            text = LastStep(self._reported, datetime.now(UTC)).to_json()
            self._written, self._reported = time.monotonic(), None
            new = self._step.with_suffix(".new")
            with (
                suppress(OSError),
                opened(new, NEW_FILE) as handle,
            ):  # not flushed to the disk: it is soon replaced
                write_all(handle, text.encode())
                new.replace(self._step)

    def close(self) -> None:
        if self._rest:
            self._line(self._rest)
        if self._left_out:
            self._write(f"({self._left_out} lines are left out here)\n".encode())
        for line in self._last:
            self._write(line + b"\n")
        self._written = 0.0
        self.write_step()
        os.close(self._handle)

    def _write(self, data: bytes) -> None:
        with suppress(OSError):
            write_all(self._handle, data)


def supervise(folder: Path, name: str, lock: int, words: Sequence[str]) -> None:
    """Run `refnet WORDS` as the child `name`, and write how it ended. `lock`: a handle for the child to inherit."""
    began = time.monotonic()
    result, messages = _Result(folder / (name + RESULT)), _Messages(folder, name)
    with subprocess.Popen(
        command(words),
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        pass_fds=(lock,),
    ) as process:
        for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
            signal.signal(number, lambda number, _: process.send_signal(number))
        _drain(process, result, messages, folder / (name + STOP))
    result.close()
    messages.close()
    path = folder / (name + END)
    end = End(process.returncode, round(time.monotonic() - began, 3))
    with explained(path):
        replace_file(path, end.to_json().encode())


def command(words: Sequence[str]) -> tuple[str, ...]:
    """Return the command line of `refnet WORDS`. -P: no module of the current folder is imported."""
    return (sys.executable, "-P", "-m", "refnet", *words)


def around(folder: Path, name: str, lock: int) -> tuple[str, ...]:
    """Return the command line of this module for the child `name`; append the child's words."""
    return (sys.executable, "-P", "-m", "refnet.web.child_process", str(folder), name, str(lock))


def _drain(process: subprocess.Popen[bytes], result: _Result, messages: _Messages, stop: Path) -> None:
    """Store the output until it ends; send the child SIGINT once the file `stop` exists."""
    ends_at, stopped = math.inf, False
    with selectors.DefaultSelector() as selector:
        for pipe, into in ((process.stdout, result), (process.stderr, messages)):
            if pipe:
                selector.register(pipe, selectors.EVENT_READ, into)
        while selector.get_map() and time.monotonic() < ends_at:
            for key, _ in selector.select(_TICK):
                if data := os.read(key.fd, 1 << 16):
                    key.data.add(data)
                else:
                    selector.unregister(key.fileobj)
            messages.write_step()
            if process.poll() is not None:
                ends_at = min(ends_at, time.monotonic() + _REST)
            elif not stopped and stop.exists():
                stopped = True
                process.send_signal(signal.SIGINT)


if __name__ == "__main__":
    supervise(Path(sys.argv[1]), sys.argv[2], int(sys.argv[3]), sys.argv[4:])
