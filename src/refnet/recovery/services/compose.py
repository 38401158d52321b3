"""Services of a Docker Compose project, by `docker compose` as a list of arguments."""

from __future__ import annotations

import json
import re
import shlex
import subprocess
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from refnet.errors import RefnetError

#: What docker answers where `compose` is none of its commands.
_NO_PLUGIN = re.compile(r"unknown (?:shorthand )?flag|is not a docker command")


@dataclass(frozen=True)
class Compose:
    """The project of `file`, by the program `docker` on PATH."""

    file: Path

    def start(self, names: Sequence[str]) -> None:
        self._run("up", "--detach", "--no-recreate", *names)

    def waiting(self, names: Sequence[str]) -> tuple[str, ...]:
        """A service is up when it runs and, where it has a health check, is healthy."""
        told = self._run("ps", "--all", "--format", "json", *names)
        up = {one["Service"] for one in _objects(told) if _is_up(one)}
        return tuple(name for name in names if name not in up)

    def _run(self, *arguments: str) -> str:
        command = ["docker", "compose", "--file", str(self.file), *arguments]
        try:
            ran = subprocess.run(command, capture_output=True, text=True, check=False)
        except FileNotFoundError:
            raise RefnetError(
                "docker is not on PATH",
                "Install Docker with its Compose plugin.",
            ) from None
        if ran.returncode:
            raise self._failure(ran.stderr.strip().splitlines(), arguments)
        return ran.stdout

    def _failure(self, said: list[str], arguments: tuple[str, ...]) -> RefnetError:
        if said and _NO_PLUGIN.search(said[0]):
            return RefnetError(
                "docker has no Compose plugin",
                "Install it (Debian: docker-compose, Ubuntu: docker-compose-v2, Docker's own: docker-compose-plugin).",
            )
        return RefnetError(
            f"docker compose {arguments[0]} failed: {said[-1] if said else 'it said nothing'}",
            f"Run it by hand: `{shlex.join(['docker', 'compose', '--file', str(self.file), *arguments])}`.",
        )


def _objects(text: str) -> list[dict[str, str]]:
    """Compose prints a JSON array, or since 2.21 an object a line."""
    if text.lstrip().startswith("["):
        return list(json.loads(text))
    return [json.loads(line) for line in text.splitlines() if line.strip()]


def _is_up(one: dict[str, str]) -> bool:
    return one.get("State") == "running" and one.get("Health", "") in {"", "healthy"}
