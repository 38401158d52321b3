"""hooks: command lines of the settings, run before and after a backup or a restore. No shell is involved.

A command has limits of time and output, and all processes that it started are killed at its end.
Exactly one of `after_…` and `on_error` follows `before_…`, unless `after_…` itself fails: then `on_error` runs too.
"""

from __future__ import annotations

import os
import secrets
import select
import shlex
import shutil
import signal
import subprocess
import time
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path
from typing import Any

from refnet.catalog.source_name import SourceName
from refnet.context import Context
from refnet.core import processes
from refnet.core.errors import RefnetError
from refnet.core.formatting import plain
from refnet.core.processes import until
from refnet.settings import Settings
from refnet.sources.restored_places import runs
from refnet.telemetry.logging import open_log
from refnet.telemetry.redact import redactor, secrets_of

#: Variables of RefNet that a hook inherits: they name no secret, and a `refnet` in a hook needs them.
_INHERITED = frozenset({"REFNET_HOME", "REFNET_CONFIG", "REFNET_BACKUP_DIR"})
#: The most characters of an error, or of a command line, that are passed on or shown.
_LONGEST = 2000
#: Limits of the output that is passed on, in bytes and lines; the rest is read and dropped.
MOST_BYTES, MOST_LINES = 1 << 20, 10_000
_CHUNK = 1 << 16
#: Time for what a command has left running to write its last words, and to end, in seconds.
_LAST_WORDS, _ENDING = 0.5, 10.0
#: Marks every process that a command starts, also one that left its session.
_MARK = "REFNET_HOOK_RUN"

MOMENTS = ("before_backup", "after_backup", "before_restore", "after_restore", "on_error")


class HookAction(StrEnum):
    """The actions that have hooks."""

    BACKUP = "backup"
    RESTORE = "restore"


@dataclass
class Doing:
    """State between hooks, recorded by the caller for later hooks."""

    artifact: str = ""
    #: Why the artifact is damaged; "": it is not.
    damaged: str = ""


@contextmanager
def around(context: Context, source: SourceName, action: HookAction, artifact: str = "") -> Iterator[Doing]:
    """Run the hooks of `source` around the block. RefnetError, before the block, if one of `before_…` fails.

    A failed hook after the block raises too, but the block's result stays.
    """
    doing, hooks = Doing(artifact), _Hooks(context, source, action)
    try:
        hooks.run(f"before_{action}", doing)
        yield doing
        if action is HookAction.RESTORE:
            context.restored()  # a recovery records it before a hook that may fail
        if not doing.damaged:
            hooks.run(f"after_{action}", doing, "done")
    except BaseException as error:
        unknown = type(error).__name__ if isinstance(error, Exception) else "interrupted"
        message = error.message if isinstance(error, RefnetError) else unknown
        hooks.run_on_error(doing, "failed", message)
        raise
    if doing.damaged:
        hooks.run_on_error(doing, "damaged", doing.damaged)


def repeat(context: Context, source: SourceName, action: HookAction, artifact: str) -> None:
    """Run the hooks that follow `action` once more; RefnetError at the first that fails."""
    _Hooks(context, source, action).run(f"after_{action}", Doing(artifact), "done")


def listed(settings: Settings, source: SourceName, action: HookAction) -> list[str]:
    """Hooks that `around` runs, for a plan: `before_backup: COMMAND`."""
    moments = (f"before_{action}", f"after_{action}", "on_error")
    return [f"{moment}: {line}" for moment in moments for line in lines(settings, source, moment)]


def not_runnable(settings: Settings) -> set[str]:
    """Programs of hooks that this user cannot run."""
    found = {words[0] for words in _all(settings)}
    folder = current_folder(settings)
    return {one for one in found if not shutil.which(folder / one if "/" in one else one)}


def in_folders(settings: Settings, folders: Collection[Path]) -> tuple[str, ...]:
    """Command lines of hooks that run code from `folders`, which a restore replaces by code from a backup."""
    found = (words for words in _all(settings) if runs(words, current_folder(settings), folders))
    return tuple(dict.fromkeys(map(line, found)))


def _all(settings: Settings) -> Iterator[tuple[str, ...]]:
    owners = [(settings, "hooks_"), *((one, "") for one in settings.sources.values())]
    for owner, lead in owners:
        for moment in MOMENTS:
            yield from getattr(owner, lead + moment) or ()


def current_folder(settings: Settings) -> Path:
    """Working directory of commands in the settings."""
    return settings.file.parent if settings.file else Path("/")


def lines(settings: Settings, source: SourceName, moment: str) -> list[str]:
    """Return the command lines of `source` at `moment`, for a display."""
    return [line(words) for words in commands(settings, source, moment)]


def line(words: Sequence[str]) -> str:
    """Return a command as a line for a display."""
    return plain(shlex.join(words))


def commands(settings: Settings, source: SourceName, moment: str) -> tuple[tuple[str, ...], ...]:
    """Commands of the source, else the common ones."""
    own = settings.sources.get(source)
    found: tuple[tuple[str, ...], ...] | None = getattr(own, moment) if own else None
    every: tuple[tuple[str, ...], ...] = getattr(settings, f"hooks_{moment}")
    return every if found is None else found


@dataclass(frozen=True)
class _Hooks:
    context: Context
    source: SourceName
    action: HookAction

    def run(self, moment: str, doing: Doing, outcome: str = "", error: str = "") -> None:
        """Run the hooks of `moment` in their order; RefnetError at the first that fails."""
        settings = self.context.settings
        found = commands(settings, self.source, moment)
        if not found:
            return

        redact = redactor(secrets_of(settings))
        log = open_log(settings, self.action, service=self.context.service)
        log = log.bind(hook=moment, source=str(self.source))
        environment = {
            **_inherited({**settings.variables, **self.context.variables}),
            "REFNET_SOURCE": str(self.source),
            "REFNET_ACTION": self.action.value,
            "REFNET_HOOK": moment,
            "REFNET_OUTCOME": outcome,
            "REFNET_ARTIFACT": doing.artifact,
            "REFNET_ERROR": plain(redact(error))[:_LONGEST],
        }
        for words in found:
            line = redact(plain(shlex.join(words)))[:_LONGEST]
            if why := self._one(words, environment, log.bind(command=line), redact):
                raise RefnetError(
                    f"the hook {moment} of {self.source} failed: {line}: {why}",
                    f"{_HINTS[moment].format(artifact=doing.artifact or 'the restored data')} {self._output()}",
                )

    def _one(
        self, words: Sequence[str], environment: dict[str, str], log: Any, redact: Callable[[str], str]
    ) -> str:
        """Run one command; return why it failed, or ""."""
        settings, last = self.context.settings, list[str]()
        log.info("hook began")

        def tell(text: str) -> None:
            last[:] = [redact(text)[:_LONGEST]]
            log.info("hook output", output=last[0])

        why = run_command(
            words, seconds=settings.hooks_timeout, tell=tell, env=environment, cwd=current_folder(settings)
        )
        (log.error if why else log.info)("hook ended", **({"message": why} if why else {}))
        return f"{why}: {plain(last[0])}" if why and last else why

    def _output(self) -> str:
        folder = self.context.settings.log_folder
        kept = f"Its output is in {folder}/refnet-{self.action}.log."
        return kept if folder else "Set log.folder to see its output."

    def run_on_error(self, doing: Doing, outcome: str, error: str) -> None:
        """Run the hooks `on_error`; their failures become notes, as the first error matters more."""
        try:
            self.run("on_error", doing, outcome, error)
        except RefnetError as failed:
            self.context.note(failed.message)


_HINTS = {
    "before_backup": "Nothing was backed up.",
    "before_restore": "Nothing was restored.",
    "after_backup": "{artifact} is complete.",
    "after_restore": "{artifact} is live.",
    "on_error": "The first error is reported.",
}


def _inherited(variables: Mapping[str, str]) -> dict[str, str]:
    """Environment without RefNet's settings (possibly secrets) and PGPASSWORD."""
    return {
        name: value
        for name, value in {**os.environ, **variables}.items()
        if name in _INHERITED or not (name.startswith("REFNET_") or name == "PGPASSWORD")
    }


def run_command(
    words: Sequence[str],
    *,
    seconds: float,
    tell: Callable[[str], None],
    env: Mapping[str, str],
    cwd: str | Path,
) -> str:
    """Run the command `words`, then kill what it left running; return why it failed, or "".

    Args:
        seconds: time limit.
        tell: called with each line of its output, at most MOST_LINES of them and MOST_BYTES.
        env: its environment.
    """
    token = secrets.token_hex(16)
    try:
        process = subprocess.Popen(
            words,
            env={**env, _MARK: token},
            cwd=cwd,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )
    except (OSError, ValueError) as error:
        reason = error.strerror if isinstance(error, OSError) else error
        return f"it cannot be started: {reason}"
    output, why = _Output(tell), f"it did not end within {seconds:.0f} s"
    try:
        if _ends(process, output, time.monotonic() + seconds):
            why = _ended(process.returncode)
    finally:
        left = _end(process, token)
    output.close()
    if left:
        tell("(processes that it left running were killed)")
    return why


def _ends(process: subprocess.Popen[bytes], output: _Output, end: float) -> bool:
    """Read the output until the process ends; False if the time `end` comes first."""
    assert process.stdout is not None  # noqa: S101  # it is a pipe
    pipe, open_pipe, ended = process.stdout.fileno(), True, False
    while open_pipe or not ended:
        if not ended and process.poll() is not None:
            ended, end = True, min(end, time.monotonic() + _LAST_WORDS)
        left = end - time.monotonic()
        if left <= 0:
            break
        if open_pipe and select.select([pipe], [], [], min(left, 0.1))[0]:
            data = os.read(pipe, _CHUNK)
            open_pipe = bool(data)
            output.add(data)
        elif not open_pipe:
            with suppress(subprocess.TimeoutExpired):
                process.wait(left)
    return ended


def _end(process: subprocess.Popen[bytes], token: str) -> bool:
    """Kill the process and everything it started; return whether anything was still running."""
    found = process.poll() is None
    with suppress(ProcessLookupError, PermissionError):
        os.killpg(process.pid, signal.SIGKILL)
    strays = _marked(token)
    if strays:
        until(lambda: not _kill(_marked(token)), _ENDING)
    process.wait()
    if process.stdout:
        process.stdout.close()
    return found or bool(strays)


def _kill(pids: Sequence[int]) -> bool:
    """Kill `pids`; return whether there are any."""
    for pid in pids:
        with suppress(ProcessLookupError, PermissionError):
            os.kill(pid, signal.SIGKILL)
    return bool(pids)


def _marked(token: str) -> list[int]:
    """Return the processes whose environment has the mark `token`."""
    wanted = f"{_MARK}={token}".encode()
    return processes.found(lambda one: wanted in (one / "environ").read_bytes().split(b"\0"))


def _ended(code: int) -> str:
    if code < 0:
        with suppress(ValueError):
            return f"it was ended by {signal.Signals(-code).name}"
    return f"it ended with {code}" if code else ""


@dataclass
class _Output:
    """Passes on a command's output line by line; drops a line cut by a limit, which may be half a secret."""

    tell: Callable[[str], None]
    rest: bytes = b""
    read: int = 0
    count: int = 0
    cut: bool = False

    def add(self, data: bytes) -> None:
        self.read += len(data)
        if self.cut:
            return
        *lines, self.rest = (self.rest + data).split(b"\n")
        for line in lines:
            if self.count >= MOST_LINES:
                break
            self._tell(line)
        self.cut = self.read > MOST_BYTES or self.count >= MOST_LINES

    def close(self) -> None:
        if self.cut:
            self.tell(f"(the output has {self.read:,} bytes; the rest was dropped)")
        else:
            self._tell(self.rest)

    def _tell(self, line: bytes) -> None:
        if text := line.decode(errors="replace").rstrip():
            self.count += 1
            self.tell(text)
