"""The programs that run Compose projects: Docker's, or podman's, whichever works on this machine."""

import os
import re
import shlex
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from itertools import takewhile

from refnet.core.errors import RefnetError
from refnet.core.processes import QUICK_SECONDS, run_bounded

#: In the order of preference.
_PROGRAMS = (("docker", "compose"), ("docker-compose",), ("podman", "compose"), ("podman-compose",))
#: The answers of docker without the Compose plugin.
_NO_PLUGIN = re.compile(r"unknown (?:shorthand )?flag|unknown command|is not a docker command")
#: Versions whose `ps` lists stopped containers by itself, and does not accept --all.
_LISTS_ALL = re.compile(r"podman-compose|docker-compose version 1\.")
#: Bytes of an answer.
_LONGEST = 4 << 20
#: podman would name the program that it calls in each output.
ENVIRONMENT = {"PODMAN_COMPOSE_WARNING_LOGS": "false"}


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


def words() -> tuple[str, ...]:
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
            execute([Program(words).engine, "version"])
            version = execute([*words, "version"])
        except CommandError as error:
            failed.append(error)
        else:
            return Program(words, () if _LISTS_ALL.search(version) else ("--all",))
    raise next((error for error in failed if error.code is not None), failed[0]).as_error()


def execute(
    command: Sequence[str], seconds: float = QUICK_SECONDS, variables: Mapping[str, str] | None = None
) -> str:
    """Return the output of `command`; CommandError where it is missing, fails, or takes longer than `seconds`."""
    try:
        ran = run_bounded(command, seconds, _LONGEST, environment={**(variables or {}), **ENVIRONMENT})
    except OSError:  # not there, not a program, or a folder on PATH may not be entered
        raise CommandError(command, None, []) from None
    if ran.code or ran.cut:
        lines = ran.messages.strip().splitlines() or [f"it took longer than {seconds:.0f} s"] * (ran.code < 0)
        raise CommandError(command, ran.code, lines)
    return ran.output.decode(errors="replace")
