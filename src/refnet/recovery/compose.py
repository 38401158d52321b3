"""Services of a Compose project, and the program that runs it: Docker's, or podman's, whichever works on this machine.

The programs differ in what their `ps` says, and agree in what `docker inspect` and `podman inspect` say.
"""

import os
import re
import shlex
import signal
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from functools import cache
from itertools import takewhile
from pathlib import Path
from subprocess import DEVNULL, Popen, TimeoutExpired
from tempfile import TemporaryFile
from typing import IO, Any

from refnet.core import checked
from refnet.core.errors import RefnetError
from refnet.core.processes import QUICK_SECONDS, run_bounded
from refnet.recovery.services import LOG_LINES, log_end, not_up

#: In the order of preference.
_PROGRAMS = (("docker", "compose"), ("docker-compose",), ("podman", "compose"), ("podman-compose",))
#: The answers of docker without the Compose plugin.
_NO_PLUGIN = re.compile(r"unknown (?:shorthand )?flag|unknown command|is not a docker command")
#: Versions whose `ps` lists stopped containers by itself, and does not accept --all.
_LISTS_ALL = re.compile(r"podman-compose|docker-compose version 1\.")
#: Bytes of an answer.
_LONGEST = 4 << 20
#: podman would name the program that it calls in each output.
_ENVIRONMENT = {"PODMAN_COMPOSE_WARNING_LOGS": "false"}
#: Long enough for `up` to pull images.
_UP_SECONDS = 3600.0
#: While `up` runs, its containers are looked at so often.
_LOOK_SECONDS = 1.0
#: The end of the messages of `up`, and of a log, in bytes.
_MESSAGES, _LOG = 4000, 64 << 10
#: It is there where systemd runs, whose timers podman needs for health checks.
_SYSTEMD = Path("/run/systemd/system")
_ENDED = {"exited", "stopped"}
_SERVICE = "com.docker.compose.service"


class CommandError(Exception):
    """A command is missing (`code` None) or failed; `lines` are those of its stderr."""

    def __init__(self, command: Sequence[str], code: int | None, lines: Sequence[str]) -> None:
        super().__init__(command, code, lines)
        self.command, self.code, self.lines = command, code, lines

    def as_error(self, why: str = "") -> RefnetError:
        """Return the error for a user; why: instead of the last of the lines."""
        words = list(self.command)
        if self.code is None:
            hint = "Install Docker with its Compose plugin, or podman and podman-compose."
            return RefnetError(f"{words[0]} is not on PATH", hint)
        if tuple(words[:2]) == _PROGRAMS[0] and self.lines and _NO_PLUGIN.search(self.lines[0]):
            return RefnetError(
                "docker has no Compose plugin",
                "Install it (Debian: docker-compose, Ubuntu: docker-compose-v2, Docker's own: docker-compose-plugin).",
            )
        if "--file" in words:
            at = words.index("--file")
            del words[at : at + 2]
        title = " ".join(takewhile(lambda word: not word.startswith("-"), words))
        why = why or (self.lines[-1] if self.lines else "no message")
        return RefnetError(f"{title} failed: {why}", f"Run it yourself: `{shlex.join(self.command)}`.")


@dataclass(frozen=True)
class Program:
    """A program for Compose projects that works here."""

    #: The beginning of its command lines.
    words: tuple[str, ...]
    #: The options with which its `ps` lists stopped containers, too.
    listing: tuple[str, ...] = ("--all",)

    @property
    def engine(self) -> str:
        """The program for single containers: docker or podman."""
        return self.words[0].removesuffix("-compose")

    def __str__(self) -> str:
        return " ".join(self.words)


def working_program() -> Program:
    """Return the first program that works here; RefnetError with what is wrong with the first that exists."""
    return _found(os.environ.get("PATH", ""))


def program_words() -> tuple[str, ...]:
    """Return the command of the program that works here; that of Docker if none does."""
    try:
        return working_program().words
    except RefnetError:
        return _PROGRAMS[0]


@cache
def _found(_path: str) -> Program:
    failed = list[CommandError]()
    for words in _PROGRAMS:
        try:
            _execute([Program(words).engine, "version"])
            version = _execute([*words, "version"])
        except CommandError as error:
            failed.append(error)
        else:
            return Program(words, () if _LISTS_ALL.search(version) else ("--all",))
    raise next((error for error in failed if error.code is not None), failed[0]).as_error()


def _execute(command: Sequence[str], variables: Mapping[str, str] | None = None) -> str:
    """Return the output of `command`; CommandError where it is missing, fails, or takes longer than QUICK_SECONDS."""
    environment = {**(variables or {}), **_ENVIRONMENT}
    try:
        ran = run_bounded(command, QUICK_SECONDS, _LONGEST, environment=environment)
    except OSError:  # not there, not a program, or a folder on PATH may not be entered
        raise CommandError(command, None, []) from None
    if ran.code or ran.cut:
        lines = ran.messages.strip().splitlines() or [f"it took longer than {QUICK_SECONDS:.0f} s"] * (
            ran.code < 0
        )
        raise CommandError(command, ran.code, lines)
    return ran.output.decode(errors="replace")


@dataclass(frozen=True)
class Container:
    """A container of a service."""

    id: str
    service: str
    #: created, running, exited, …
    status: str
    #: "" without a health check; starting, healthy, unhealthy.
    health: str = ""
    #: Its exit code.
    code: int = 0
    #: Whether it is started again where it ends: it is not a service that does its work once.
    restarts: bool = False
    #: The output of its last health check.
    check: str = ""

    @property
    def is_up(self) -> bool:
        """True if it runs and is healthy, or has done its work."""
        if self.status in _ENDED:
            return self.code == 0 and not self.restarts
        return self.status == "running" and self.health in {"", "healthy"}

    @property
    def state(self) -> str:
        """The rest of a sentence that begins with the service."""
        if self.status in _ENDED:
            return f"exited with {self.code}"
        return f"is {self.health if self.status == 'running' and self.health else self.status}"


@dataclass(frozen=True)
class Compose:
    """The project of `file`."""

    file: Path
    program: Program
    #: How long `up` may wait for a container that is not up, in seconds.
    seconds: float = 120.0
    #: Hides secrets in what a log says.
    hide: Callable[[str], str] = str
    #: Variables beside those of the environment, which the file may name.
    variables: Mapping[str, str] = field(default_factory=dict)

    def start(self, names: Sequence[str]) -> None:
        command = self._command("up", "--detach", "--no-recreate", *names)
        with _failures(), TemporaryFile() as messages:
            code = self._up(command, messages)
            messages.seek(max(0, messages.seek(0, os.SEEK_END) - _MESSAGES))
            lines = self.hide(messages.read().decode(errors="replace")).strip().splitlines()
            if code:
                raise CommandError(command, code, lines).as_error("; ".join([*lines[-1:], *self._broken()]))
            found = self._containers()
            # podman-compose ends with 0 whatever happens.
            if left := [name for name in names if all(one.status == "created" for one in _of(found, name))]:
                errors = [line for line in lines if line.startswith("Error")] or lines
                raise CommandError(command, code, lines).as_error(
                    ": ".join([f"{', '.join(left)} was not started", *errors[-1:]])
                )

    def waiting(self, names: Sequence[str]) -> tuple[str, ...]:
        """Return those of `names` without a container, or with one that is neither running well nor done."""
        with _failures():
            found = self._containers()
        return tuple(
            name for name in names if not (of := _of(found, name)) or not all(one.is_up for one in of)
        )

    def running(self, name: str) -> str:
        """Return the id of the container of a service that runs; "" if none does."""
        with _failures():
            return next((one.id for one in _of(self._inspected(), name) if one.status == "running"), "")

    def why(self, name: str) -> str:
        with _failures():
            down = [one for one in _of(self._containers(), name) if not one.is_up]
            return self._known(down[0]) if down else "has no container"

    def _known(self, one: Container) -> str:
        """Return the state of a container, the output of its health check and the end of its log."""
        asked = [self.program.engine, "logs", "--tail", str(LOG_LINES), one.id]
        log = run_bounded(asked, QUICK_SECONDS, _LOG)
        says = log_end(one.check, self.hide) if one.health else ""
        check = f" (health check: {says})" if says else ""
        text = log.output.decode(errors="replace") + log.messages
        return f"{one.state}{check}, last log lines: {log_end(text, self.hide) or 'none'}"

    def _broken(self) -> list[str]:
        """Return what is known of a container that has failed, if one has."""
        with suppress(CommandError):
            failed = [one for one in self._containers() if one.health == "unhealthy" or one.code]
            return [f"{one.service} {self._known(one)}" for one in failed[:1]]
        return []

    def _up(self, command: Sequence[str], messages: IO[bytes]) -> int:
        """Run `up`, and return its exit code. RefnetError where it waits too long for a container that is not up."""
        with _started(command, messages, self.variables) as up:
            began = since = time.monotonic()
            before: set[str] = set()
            while True:
                with suppress(TimeoutExpired):
                    return up.wait(_LOOK_SECONDS)
                with suppress(CommandError):  # `up` may just have removed one
                    found = self._containers()
                    down = [one for one in found if not one.is_up]
                    now, there = time.monotonic(), {one.id for one in found}
                    since = since if down and there == before else now
                    before = there
                    if now - since > self.seconds or now - began > _UP_SECONDS:
                        raise not_up(self, list(dict.fromkeys(one.service for one in down)), now - since)

    def _containers(self) -> list[Container]:
        """Return the containers of the project."""
        found = self._inspected()
        if self.program.engine == "podman" and not _SYSTEMD.is_dir():
            for one in found:
                if one.status == "running" and one.health in {"starting", "unhealthy"}:
                    run_bounded([self.program.engine, "healthcheck", "run", one.id], QUICK_SECONDS, _LOG)
            found = self._inspected()
        return found

    def _inspected(self) -> list[Container]:
        listed = self._command("ps", *self.program.listing, "--quiet")
        names = _execute(listed, variables=self.variables).split()
        if not names:
            return []
        command = [self.program.engine, "inspect", "--type", "container", *names]
        try:
            return containers(_execute(command))
        except ValueError as error:
            raise CommandError(command, 0, [f"unexpected output: {error}"]) from None

    def _command(self, *arguments: str) -> list[str]:
        return [*self.program.words, "--file", str(self.file), *arguments]


@contextmanager
def _started(
    command: Sequence[str], messages: IO[bytes], variables: Mapping[str, str]
) -> Iterator[Popen[bytes]]:
    """Run `command` in a session of its own, which ends with the block."""
    environment = {**os.environ, **variables, **_ENVIRONMENT}
    try:
        process = Popen(
            command, stdin=DEVNULL, stdout=DEVNULL, stderr=messages, env=environment, start_new_session=True
        )
    except OSError:
        raise CommandError(command, None, []) from None
    with process:
        try:
            yield process
        finally:
            if process.poll() is None:
                os.killpg(process.pid, signal.SIGKILL)


def _of(found: Sequence[Container], service: str) -> list[Container]:
    return [one for one in found if one.service == service]


def containers(text: str) -> list[Container]:
    """Parse what `inspect` says of containers; ValueError if it is something else."""
    return [_container(one) for one in _CONTAINERS(checked.parsed(text))]


def _container(found: dict[str, Any]) -> Container:
    state, labels = found["State"], found["Config"].get("Labels") or {}
    health = state.get("Health") or {}
    policy = found.get("HostConfig", {}).get("RestartPolicy", {}).get("Name", "")
    last = (health.get("Log") or [None])[-1]
    said = last.get("Output") if type(last) is dict else ""
    return Container(
        found["Id"],
        labels.get(_SERVICE, ""),
        state["Status"],
        health.get("Status", ""),
        state.get("ExitCode", 0),
        policy not in {"", "no"},
        said if type(said) is str else "",
    )


_WORD = checked.text(1000)
_LABEL = checked.text(1 << 16)
_HEALTH = checked.record(
    {}, {"Status": _WORD, "Log": checked.or_none(checked.each(lambda value: value, 1000))}, more=True
)
_STATE = checked.record(
    {"Status": _WORD},
    {"ExitCode": checked.integer(-(1 << 31), 1 << 32), "Health": checked.or_none(_HEALTH)},
    more=True,
)
_POLICY = checked.record({}, {"Name": _WORD}, more=True)
_CONTAINERS = checked.each(
    checked.record(
        {
            "Id": checked.text(64, like="[0-9a-f]{12,64}"),
            "State": _STATE,
            "Config": checked.record(
                {}, {"Labels": checked.or_none(checked.mapping(_WORD, _LABEL, 1000))}, more=True
            ),
        },
        {"HostConfig": checked.record({}, {"RestartPolicy": _POLICY}, more=True)},
        more=True,
    ),
    1000,
)


@contextmanager
def _failures() -> Iterator[None]:
    """Raise a CommandError as a RefnetError."""
    try:
        yield
    except CommandError as error:
        raise error.as_error() from None
