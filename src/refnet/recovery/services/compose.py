"""Services of a Compose project, by `docker compose` or `docker-compose`."""

import re
import shlex
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from refnet.errors import RefnetError
from refnet.processes import run
from refnet.recovery.model import checked

#: The answers of docker without the Compose plugin.
_NO_PLUGIN = re.compile(r"unknown (?:shorthand )?flag|is not a docker command")
#: Long enough for `up` to pull images.
_UP_SECONDS = 3600.0
_PLUGIN, _STANDALONE = ("docker", "compose"), ("docker-compose",)


class _CommandError(Exception):
    """A command is missing (`code` None) or failed; `lines` are those of its stderr."""

    def __init__(self, command: Sequence[str], code: int | None, lines: list[str]) -> None:
        super().__init__(command, code, lines)
        self.command, self.code, self.lines = command, code, lines

    @property
    def no_plugin(self) -> bool:
        return self.code is None or bool(self.lines and _NO_PLUGIN.search(self.lines[0]))


@dataclass(frozen=True)
class Compose:
    """The project of `file`, by `docker` with its Compose plugin, or by `docker-compose`."""

    file: Path

    def start(self, names: Sequence[str]) -> None:
        self._output("up", "--detach", "--no-recreate", *names)

    def waiting(self, names: Sequence[str]) -> tuple[str, ...]:
        """Return those of `names` that are not running, or not healthy if they have a health check."""
        try:
            program, output = self._run("ps", "--all", "--format", "json", *names)
        except _CommandError as error:
            if error.command[0] != _STANDALONE[0]:
                raise self._failure(error) from None
            return self._waiting_old(names)  # its first version does not support --format
        try:
            services = _services(output)
        except ValueError:
            raise _not_json(program) from None
        up = {one["Service"] for one in services if _is_up(one.get("State", ""), one.get("Health"))}
        return tuple(name for name in names if name not in up)

    def _waiting_old(self, names: Sequence[str]) -> tuple[str, ...]:
        return tuple(name for name in names if not self._is_up_old(name))

    def _is_up_old(self, name: str) -> bool:
        containers = self._output("ps", "-q", name).split()
        try:
            found = [
                _execute(["docker", "inspect", "--format", "{{json .State}}", one]) for one in containers
            ]
            states = [_STATE(checked.document(text)) for text in found]
        except _CommandError as error:
            raise self._failure(error) from None
        except ValueError:
            raise _not_json("docker inspect") from None
        return bool(states) and all(
            _is_up(state["Status"], (state.get("Health") or {}).get("Status")) for state in states
        )

    def _output(self, *arguments: str) -> str:
        try:
            return self._run(*arguments)[1]
        except _CommandError as error:
            raise self._failure(error) from None

    def _run(self, *arguments: str) -> tuple[str, str]:
        """Return the program that exists, and its output. _CommandError of the plugin if neither exists."""
        project = ["--file", str(self.file), *arguments]
        try:
            return _PLUGIN[0], _execute([*_PLUGIN, *project])
        except _CommandError as error:
            if not error.no_plugin:
                raise
            missing = error
        try:
            return _STANDALONE[0], _execute([*_STANDALONE, *project])
        except _CommandError as error:
            raise (missing if error.code is None else error) from None

    def _failure(self, error: _CommandError) -> RefnetError:
        if error.code is None:
            return RefnetError(
                f"{error.command[0]} is not on PATH", "Install Docker with its Compose plugin."
            )
        if error.command[0] == _PLUGIN[0] and error.no_plugin:
            return RefnetError(
                "docker has no Compose plugin",
                "Install it (Debian: docker-compose, Ubuntu: docker-compose-v2, Docker's own: docker-compose-plugin).",
            )
        words = [word for word in error.command if word not in {"--file", str(self.file)}]
        program = " ".join(words[: 3 if words[0] == _PLUGIN[0] else 2])
        return RefnetError(
            f"{program} failed: {error.lines[-1] if error.lines else 'no message'}",
            f"Run it yourself: `{shlex.join(error.command)}`.",
        )


def _execute(command: Sequence[str]) -> str:
    try:
        ran = run(command, _UP_SECONDS, capture_output=True, text=True, errors="replace")
    except (FileNotFoundError, PermissionError):  # PermissionError: a folder on PATH may not be entered
        raise _CommandError(command, None, []) from None
    if ran.returncode:
        raise _CommandError(command, ran.returncode, ran.stderr.strip().splitlines())
    return str(ran.stdout)


def _services(text: str) -> list[dict[str, Any]]:
    """Parse the output of `ps`: a JSON array, or since 2.21 an object per line. ValueError if it is neither."""
    if text.lstrip().startswith("["):
        found = checked.parsed(text)
    else:
        found = [checked.parsed(line) for line in text.splitlines() if line.strip()]
    services: list[dict[str, Any]] = _SERVICES(found)
    return services


def _not_json(program: str) -> RefnetError:
    return RefnetError(
        f"the output of {program} is not JSON",
        "Run it yourself: `docker compose ps --format json`.",
    )


_WORD = checked.text(1000)
_SERVICE = checked.record({"Service": _WORD}, {"State": _WORD, "Health": checked.or_none(_WORD)}, more=True)
_SERVICES = checked.each(_SERVICE, 10_000)
#: The state of a container, from `docker inspect`.
_STATE = checked.record(
    {"Status": _WORD},
    {"Health": checked.or_none(checked.record({"Status": _WORD}, more=True))},
    more=True,
)


def _is_up(state: str, health: str | None) -> bool:
    return state == "running" and (health or "") in {"", "healthy"}
