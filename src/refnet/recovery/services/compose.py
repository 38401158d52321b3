"""Services of a Compose project, by `docker compose` or `docker-compose` as a list of arguments."""

from __future__ import annotations

import re
import shlex
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from refnet.errors import RefnetError
from refnet.processes import run
from refnet.recovery.model import checked

#: What docker answers where `compose` is none of its commands.
_NO_PLUGIN = re.compile(r"unknown (?:shorthand )?flag|is not a docker command")
#: `up` may have to fetch images.
_UP_SECONDS = 3600.0
_PLUGIN, _ALONE = ("docker", "compose"), ("docker-compose",)


class _RanError(Exception):
    """A program that is not there (`code` None) or that failed, with the lines that it said."""

    def __init__(self, command: Sequence[str], code: int | None, said: list[str]) -> None:
        super().__init__(command, code, said)
        self.command, self.code, self.said = command, code, said

    @property
    def lacks_plugin(self) -> bool:
        return self.code is None or bool(self.said and _NO_PLUGIN.search(self.said[0]))


@dataclass(frozen=True)
class Compose:
    """The project of `file`, by the program `docker` with its Compose plugin, or else `docker-compose`."""

    file: Path

    def start(self, names: Sequence[str]) -> None:
        self._told("up", "--detach", "--no-recreate", *names)

    def waiting(self, names: Sequence[str]) -> tuple[str, ...]:
        """A service is up when it runs and, where it has a health check, is healthy."""
        try:
            program, told = self._run("ps", "--all", "--format", "json", *names)
        except _RanError as error:
            if error.command[0] != _ALONE[0]:
                raise self._failure(error) from None
            return self._waiting_old(names)  # its first version knows no --format
        try:
            services = _services(told)
        except ValueError:
            raise _no_json(program) from None
        up = {one["Service"] for one in services if _is_up(one.get("State", ""), one.get("Health"))}
        return tuple(name for name in names if name not in up)

    def _waiting_old(self, names: Sequence[str]) -> tuple[str, ...]:
        return tuple(name for name in names if not self._is_up_old(name))

    def _is_up_old(self, name: str) -> bool:
        containers = self._told("ps", "-q", name).split()
        try:
            told = [_ran(["docker", "inspect", "--format", "{{json .State}}", one]) for one in containers]
            states = [_STATE(checked.document(text)) for text in told]
        except _RanError as error:
            raise self._failure(error) from None
        except ValueError:
            raise _no_json("docker inspect") from None
        return bool(states) and all(
            _is_up(state["Status"], (state.get("Health") or {}).get("Status")) for state in states
        )

    def _told(self, *arguments: str) -> str:
        try:
            return self._run(*arguments)[1]
        except _RanError as error:
            raise self._failure(error) from None

    def _run(self, *arguments: str) -> tuple[str, str]:
        """The program that is there, and what it printed; _RanError of the plugin where there is neither."""
        project = ["--file", str(self.file), *arguments]
        try:
            return _PLUGIN[0], _ran([*_PLUGIN, *project])
        except _RanError as error:
            if not error.lacks_plugin:
                raise
            lacking = error
        try:
            return _ALONE[0], _ran([*_ALONE, *project])
        except _RanError as error:
            raise (lacking if error.code is None else error) from None

    def _failure(self, error: _RanError) -> RefnetError:
        if error.code is None:
            return RefnetError(
                f"{error.command[0]} is not on PATH", "Install Docker with its Compose plugin."
            )
        if error.command[0] == _PLUGIN[0] and error.lacks_plugin:
            return RefnetError(
                "docker has no Compose plugin",
                "Install it (Debian: docker-compose, Ubuntu: docker-compose-v2, Docker's own: docker-compose-plugin).",
            )
        words = [word for word in error.command if word not in {"--file", str(self.file)}]
        program = " ".join(words[: 3 if words[0] == _PLUGIN[0] else 2])
        return RefnetError(
            f"{program} failed: {error.said[-1] if error.said else 'it said nothing'}",
            f"Run it by hand: `{shlex.join(error.command)}`.",
        )


def _ran(command: Sequence[str]) -> str:
    try:
        ran = run(command, _UP_SECONDS, capture_output=True, text=True, errors="replace")
    except (FileNotFoundError, PermissionError):  # the latter: a folder on PATH may not be entered
        raise _RanError(command, None, []) from None
    if ran.returncode:
        raise _RanError(command, ran.returncode, ran.stderr.strip().splitlines())
    return str(ran.stdout)


def _services(text: str) -> list[dict[str, Any]]:
    """What Compose prints of each service: in a JSON array, or since 2.21 an object a line; ValueError else."""
    if text.lstrip().startswith("["):
        found = checked.parsed(text)
    else:
        found = [checked.parsed(line) for line in text.splitlines() if line.strip()]
    services: list[dict[str, Any]] = _SERVICES(found)
    return services


def _no_json(program: str) -> RefnetError:
    return RefnetError(
        f"what {program} says of its services is not JSON",
        "Run it by hand: `docker compose ps --format json`.",
    )


_WORD = checked.text(1000)
_SERVICE = checked.record(
    {"Service": _WORD, "State": _WORD, "Health": checked.or_none(_WORD)},
    may_lack=("State", "Health"),
    more=True,
)
_SERVICES = checked.each(_SERVICE, 10_000)
#: What docker says of a container.
_STATE = checked.record(
    {"Status": _WORD, "Health": checked.or_none(checked.record({"Status": _WORD}, more=True))},
    may_lack=("Health",),
    more=True,
)


def _is_up(state: str, health: str | None) -> bool:
    return state == "running" and (health or "") in {"", "healthy"}
